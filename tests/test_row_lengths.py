"""Short rows of every length, in rows and in columns: the bits of each row computed alone."""

import numpy as np
import ops
import pytest

import fastact as fa
from fastact.registry import ROW_OPS

OPS = [op for op in ROW_OPS if not (op.groups or op.causal or op.per_row or op.extra)]
ALONG = [op for op in ROW_OPS if op.apply and not (op.groups or op.causal)]
COUNT = 75  # vectors of rows, and some more


def same(a, b):
    bits = f"u{a.itemsize}"
    return bool(np.all((a.view(bits) == b.view(bits)) | ((a != a) & (b != b))))


@pytest.mark.parametrize("special", (False, True), ids=("usual", "special"))
@pytest.mark.parametrize("dtype", ops.DTYPES, ids=str)
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_short_rows(op, dtype, special):
    f = getattr(fa, op.name)
    rng = np.random.default_rng(len(op.name))
    for n in range(1, 36):
        arrays = [(3 * rng.standard_normal((COUNT, n))).astype(dtype) for _ in op.inputs]
        x = arrays[-1]
        if special:
            x[5, 0], x[37], x[9, n - 1] = np.inf, -np.inf, np.nan
            x[20] = arrays[0][22] = -0.0
        with np.errstate(all="ignore"):
            alone = np.stack([np.asarray(f(*(a[k] for a in arrays))) for k in range(COUNT)])
            rows = f(*arrays)
            columns = f(*(np.ascontiguousarray(a.T) for a in arrays), axis=0)
        assert same(rows, alone), n
        assert same(np.ascontiguousarray(columns.T), alone), n


@pytest.mark.parametrize("special", (False, True), ids=("usual", "special"))
@pytest.mark.parametrize("dtype", ops.DTYPES, ids=str)
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_long_columns(op, dtype, special):
    """Around the lengths at which sums are folded, after other columns and in part of a tile.

    What one tile leaves in the areas that sums are taken in is not to be seen in the next.
    """
    f = getattr(fa, op.name)
    rng = np.random.default_rng(len(op.name))
    for n in (63, 64, 65, 127, 128, 129, 160, 257):
        for count in (8, 150):
            arrays = [(3 * rng.standard_normal((count, n))).astype(dtype) for _ in op.inputs]
            x = arrays[-1]
            if special:
                x[5, n // 2], x[-1], x[-2, n - 1], x[:, 0] = np.nan, -np.inf, np.nan, -np.inf
                x[3] = arrays[0][4] = -0.0
            with np.errstate(all="ignore"):
                rows = f(*arrays)
                columns = f(*(np.ascontiguousarray(a.T) for a in arrays), axis=0)
            assert same(np.ascontiguousarray(columns.T), rows), (n, count)


@pytest.mark.parametrize("dtype", ops.DTYPES, ids=str)
@pytest.mark.parametrize("op", ALONG, ids=lambda op: op.name)
def test_a_new_result_is_laid_out_like_the_input(op, dtype):
    """Along any axis, whatever that axis is; and the same bits as in an array that is given."""
    f = getattr(fa, op.name)
    x = np.random.default_rng(5).standard_normal((4, 5, 6)).astype(dtype)
    for layout in (x, np.asfortranarray(x), x.transpose(1, 2, 0), x[::-1, ::2]):
        for axis in range(-3, 3):
            per_row = np.ascontiguousarray(layout.sum(axis, dtype=np.float32).astype(dtype))
            arrays = [per_row if name in op.per_row else layout for name in op.inputs]
            out = np.empty(layout.shape, dtype)
            made = f(*arrays, axis=axis)
            assert same(made, f(*arrays, axis=axis, out=out)), axis
            if axis not in (-1, 2):
                assert made.strides == np.empty_like(layout).strides
