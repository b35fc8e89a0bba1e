"""The compiled row kernels, executed: every way of giving rows to threads, and no fault."""

import itertools
import math
from dataclasses import replace

import numpy as np
import ops
import oracle
import pytest
import ulp
from mpmath import mp

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

import gpu
from gpu import Operand, launch
from ptx.memory import GlobalMemory

import fastact as fa
from fastact.cuda import row_kinds
from fastact.registry import ROW_OPS

# Largest error in units in the last place of the terms, as the records state it. Causal and
# grouped forms are the same kernels with other arguments.
BOUND = {"softmax": 4.0, "softmin": 4.0, "log_softmax": 3.0, "logsumexp": 1.5}
OPS = {op.name: op for op in ROW_OPS if op.name.partition("_backward")[0] in BOUND}
every_dtype = pytest.mark.parametrize("dtype", gpu.DTYPES)
CC = (9, 0)


def run(op, views, out, kernels=None, cc=CC, mask=None, limit=None, scale=None, empty=math.nan,
        index=32, grid=None, columns=False, **options):  # fmt: skip
    """A row op on operands of shape (…, length); the row ones and `out` are views of memory.

    `views` and `out` map the names of operands to (whole, view) pairs.
    """
    key = views[op.inputs[-1]][1] if op.inputs[-1] in views else next(iter(out.values()))[1]
    *shape, length = key.shape
    dtype = str(key.dtype)
    rows = math.prod(shape)
    held = {name: Operand(*pair) for name, pair in views.items()}
    held |= {name: Operand(*pair, role="out") for name, pair in out.items()}
    width = 16 // key.dtype.itemsize
    whole_vectors = length % width == 0 and all(
        operand.strides[-1] == 1 and all(s % width == 0 for s in operand.strides[:-1])
        for name, operand in held.items()
        if name != "mask" and operand.view.ndim == key.ndim
    )
    numbers = {"rows": rows, "length": length, "empty": empty}
    numbers |= {f"length_{d}": n for d, n in enumerate(shape)}
    if mask is not None:
        held["mask"] = Operand(mask, np.broadcast_to(mask, key.shape))
    if limit is not None:
        held["limit"] = Operand(limit, np.broadcast_to(limit, shape))
    if scale is not None:
        numbers["scale"] = np.dtype(row_kinds.COMPUTING[dtype]).type(scale)
        numbers["scale_tail"] = scale - float(numbers["scale"])
    for name, operand in held.items():
        numbers |= {f"{name}_stride_{d}": s for d, s in enumerate(operand.strides[: len(shape)])}
        if operand.view.ndim == key.ndim:
            numbers[f"{name}_inner"] = operand.strides[-1]
    memory = GlobalMemory()
    for chosen in kernels or row_kinds.chosen(op, dtype, length, columns):
        kernel = replace(
            chosen,
            aligned=chosen.aligned and whole_vectors,
            masked=mask is not None,
            limited=limit is not None,
            scaled=scale is not None,
            dimensions=max(1, len(shape)),
            index=index,
        )
        numbers["chunks"] = chunks = kernel.chunks(length)
        if kernel.stage == "partial":
            size = rows * chunks * kernel.partials
            held["partials"] = Operand(np.zeros(size, kernel.computing), role="out")
        blocks = grid or kernel.grid(rows, length)
        launch(kernel, cc, held, numbers, blocks, memory=memory, **options)
    for name in out:
        held[name].check_written()
    if "partials" in held:
        held["partials"].check_written()
    return {name: held[name].result() for name in out}, memory.traffic


def plain(op, arrays, **options):
    """On contiguous arrays: all outputs as arrays."""
    views = {name: (a, a) for name, a in zip(op.inputs, arrays, strict=True)}
    x = arrays[-1]
    out = {}
    for result in op.results():
        dtype = result.dtype or x.dtype
        room = np.zeros(x.shape if result.is_row else x.shape[:-1], dtype)
        out[result.name] = (room, room)
    results, traffic = run(op, views, out, **options)
    return list(results.values()), traffic


def operands(op, dtype, shape, spread=4.0, seed=0):
    rng = np.random.default_rng(seed)
    arrays = []
    for name in op.inputs:
        own = shape[:-1] if name in op.per_row else shape
        a = rng.normal(0, 1 if name == "dy" else spread, own)
        if name == "y":  # an output of the op's forward
            forward = getattr(fa, op.name.partition("_backward")[0])
            a = forward(rng.normal(0, spread, own))
        arrays.append(a.astype(dtype))
    return arrays


def reference(op, arrays, **options):
    """(the CPU's values in float64, the size of the terms that make each up)."""
    wide = [a.astype(np.float64) for a in arrays]
    with np.errstate(all="ignore"):
        exact = getattr(fa, op.name)(*wide, **options)
        if "_backward" not in op.name or op.name == "logsumexp_backward":
            return exact, np.abs(exact)
        dy, source = wide
        if op.name.endswith("_from_output"):
            p = np.exp(source) if op.name.startswith("log") else source
        else:
            p = (fa.softmin if op.name.startswith("softmin") else fa.softmax)(source, **options)
        if options.get("where") is not None:
            dy = np.where(options["where"], dy, 0)
        if op.name.startswith("log_softmax"):
            return exact, np.abs(dy) + p * np.abs(dy).sum(-1, keepdims=True)
        return exact, p * (np.abs(dy) + (p * np.abs(dy)).sum(-1, keepdims=True))


# In a backward pass, y is rounded besides, and a difference and a product.
MORE = 2.5
HALF_BOUND = 0.55  # the rounding of the float32 result, which is hardly ever a tie


def spacing(exact, dtype):
    """The unit in the last place of float64 values in a dtype."""
    info = ulp.info(dtype)
    _, exponent = np.frexp(exact)
    return np.ldexp(1.0, np.maximum(exponent - 1, int(info.minexp)) - int(info.nmant))


def check(op, got, arrays, note="", **options):
    exact, size = reference(op, arrays, **options)
    dtype = arrays[-1].dtype
    assert got.dtype == dtype and got.shape == exact.shape
    values = got.astype(np.float64)
    odd = ~np.isfinite(exact)
    assert np.array_equal(values[odd], exact[odd], equal_nan=True), (note, values[odd], exact[odd])
    forward = op.name.partition("_backward")[0]
    half = dtype.itemsize == 2
    bound = HALF_BOUND if half else BOUND[forward] + MORE * ("_backward" in op.name)
    if dtype.itemsize == 8:
        bound *= 2  # the CPU's own error
    unit = spacing(np.where(odd, 1, np.abs(exact) if half else size), dtype)
    slack = 8 * size * np.finfo(np.float32).eps if half else 0
    exact, values, slack = (np.where(odd, 0, v) for v in (exact, values, slack))
    error = (np.abs(values - exact) - slack) / unit
    worst = np.unravel_index(error.argmax(), error.shape)
    assert error[worst] <= bound, (note, error[worst], worst, values[worst], exact[worst])


def covered(*axes):
    """All combinations, or by default as many as the longest axis has, each value occurring."""
    if gpu.FULL:
        return list(itertools.product(*axes))
    count = max(map(len, axes))
    return [tuple(axis[(i + i // len(axis)) % len(axis)] for axis in axes) for i in range(count)]


# rows of a few entries, of a warp, of a block, in chunks
LENGTHS = (1, 3, 8, 31, 64, 100, 256, 1000, 1024, 1500, 5000)


@pytest.mark.parametrize(("name", "dtype", "length"), covered(list(OPS), list(gpu.DTYPES), LENGTHS))
def test_every_op(name, dtype, length):
    op = OPS[name]
    shape = (3 if length > 1024 else 11, length)
    arrays = operands(op, gpu.DTYPES[dtype], shape, seed=length)
    (got,), _ = plain(op, arrays, cc=gpu.CAPABILITIES[length % 5])
    check(op, got, arrays, f"rows of {length}")


@pytest.mark.parametrize(
    ("name", "dtype", "length"), covered(list(OPS), list(gpu.DTYPES), (8, 64, 1024, 2048))
)
def test_bytes_moved(name, dtype, length):
    """Rows that fill their blocks: each operand is moved once, sixteen bytes at a time."""
    op = OPS[name]
    (kernel,) = row_kinds.chosen(op, dtype, length)
    arrays = operands(op, gpu.DTYPES[dtype], (kernel.rows_per_block, length))
    (got,), traffic = plain(op, arrays)
    minimum = {"load": sum(a.nbytes for a in arrays if a.ndim == 2), "store": got.nbytes}
    if got.ndim == 2:
        assert traffic["store", 16] == minimum["store"]
    assert traffic["load", 16] == minimum["load"]
    per_row = sum(a.nbytes for a in arrays if a.ndim == 1)
    # a value per row is asked for by each thread of the row, and served from the cache
    more = sum(traffic.values()) - sum(traffic[way, 16] for way in minimum)
    assert more <= per_row * kernel.lanes + (got.nbytes if got.ndim == 1 else 0)


@pytest.mark.parametrize(("name", "dtype"), covered(list(OPS), list(gpu.DTYPES)))
def test_chunks(name, dtype):
    """Rows cut into chunks, which are combined in a second kernel."""
    op, dtype = OPS[name], gpu.DTYPES[dtype]
    arrays = operands(op, dtype, (2, 2003))
    kernel = row_kinds.Rows(op, str(dtype), 64, 1, "block", aligned=False)
    kernels = [replace(kernel, stage=stage) for stage in ("partial", "apply")]
    chunks = kernels[0].chunks(2003)
    # one row after the other; chunks in two layers, with a block too many where they are odd
    (got,), _ = plain(op, arrays, kernels=kernels, grid=(1, -(-chunks // 2), 2))
    check(op, got, arrays)


@every_dtype
def test_grids_that_can_be_launched(dtype):
    """The longest rows: no more blocks along y and z than a grid may have."""
    for columns in (False, True):
        for length in (1 << 20, 1 << 27, 1 << 31, 1 << 36):
            for kernel in row_kinds.chosen(OPS["softmax_backward"], dtype, length, columns):
                _, y, z = kernel.grid(1, length)
                assert 0 < y <= 65535 and 0 < z <= 65535
                assert kernel.chunks(length) <= y * z < kernel.chunks(length) + z


@pytest.mark.parametrize(("name", "dtype", "length"), covered(list(OPS), list(gpu.DTYPES), LENGTHS))
def test_columns(name, dtype, length):
    """Along axis 0: neighbouring threads take neighbouring columns."""
    op = OPS[name]
    arrays = operands(op, gpu.DTYPES[dtype], (37, min(length, 1500)), seed=length)
    laid = [np.ascontiguousarray(a.T) for a in arrays]
    views = {n: (a, a.T if a.ndim == 2 else a) for n, a in zip(op.inputs, laid, strict=True)}
    (result,) = op.results()
    room = np.zeros(laid[-1].shape if result.is_row else (37,), gpu.DTYPES[dtype])
    out = {result.name: (room, room.T if result.is_row else room)}
    results, _ = run(op, views, out, columns=True, cc=gpu.CAPABILITIES[length % 5])
    check(op, results[result.name], arrays, f"columns of {length}")


@pytest.mark.parametrize(("dtype", "length"), covered(list(gpu.DTYPES), (5, 200, 1500)))
def test_against_the_oracle(length, dtype):
    """Softmax, independent of the CPU's code."""
    dtype = gpu.DTYPES[dtype]
    x = operands(OPS["softmax"], dtype, (1, length), 3.0)[0]
    (y,), _ = plain(OPS["softmax"], [x])
    (log,), _ = plain(OPS["log_softmax"], [x])
    exact = oracle.softmax(x[0].astype(np.float64).tolist())
    with mp.workprec(oracle.GUARD_BITS):
        logs = [mp.log(p) for p in exact]
    for got, values, bound in ((y, exact, BOUND["softmax"]), (log, logs, BOUND["log_softmax"])):
        if dtype.itemsize == 2:
            rounded = np.array([float(v) for v in values])
            error = np.abs(got[0].astype(np.float64) - rounded) / spacing(rounded, dtype)
            assert error.max() <= HALF_BOUND
        else:
            assert ulp.ulp_errors(got[0], values).max() <= bound


def special_rows(dtype, length):
    x = np.zeros((7, length), dtype)
    x[0] = -np.inf
    x[1, 1] = np.inf
    x[2, :2] = np.inf
    x[3, 0] = np.nan
    x[4, 1:] = -np.inf
    x[5, 0], x[5, -1] = np.nan, np.inf
    x[6, ::2] = -np.inf
    return x


@pytest.mark.parametrize(
    ("name", "dtype", "length"),
    covered([n for n in OPS if not n.endswith("_from_output")], list(gpu.DTYPES), (3, 64, 1500)),
)
def test_infinities_and_nan(name, dtype, length):
    op = OPS[name]
    x = special_rows(gpu.DTYPES[dtype], length)
    arrays = [*operands(op, gpu.DTYPES[dtype], x.shape)[:-1], x]
    empty = op.empty if op.policy == "zero" else math.nan
    (got,), _ = plain(op, arrays, empty=empty)
    check(op, got, arrays)


@pytest.mark.parametrize(
    ("name", "dtype", "length"), covered(list(OPS), list(gpu.DTYPES), (9, 300, 1500))
)
def test_masks(name, dtype, length):
    """Masked entries count for nothing, whatever they hold; rows with nothing left."""
    op, dtype = OPS[name], gpu.DTYPES[dtype]
    arrays = operands(op, dtype, (5, length))
    mask = np.random.default_rng(1).random((5, length)) < 0.6
    mask[2] = False
    poisoned = [a if a.ndim < 2 else np.where(mask, a, np.array(np.nan, dtype)) for a in arrays]
    options = {"where": mask} | ({"empty": "zero"} if op.policy else {})
    (got,), _ = plain(op, poisoned, mask=mask, empty=op.empty if op.policy else math.nan)
    check(op, got, arrays, **options)


@pytest.mark.parametrize("name", ["softmax", "softmax_backward", "softmin", "softmin_backward"])
@pytest.mark.parametrize("length", [20, 1500])
def test_temperature(name, length):
    op = OPS[name]
    arrays = operands(op, np.dtype(np.float32), (3, length))
    (got,), _ = plain(op, arrays, scale=1 / 0.3)
    exact = getattr(fa, name)(*[a.astype(np.float64) for a in arrays], temperature=0.3)
    np.testing.assert_allclose(got, exact, rtol=2e-6, atol=3e-6 * np.abs(exact).max())


@pytest.mark.parametrize(
    ("name", "dtype", "index"),
    covered(["softmax", "softmax_backward", "logsumexp_backward"], list(gpu.DTYPES), (64, 32)),
)
def test_any_strides(name, dtype, index):
    """Two dimensions of rows, gaps, reversed rows, broadcast dy."""
    op, dtype = OPS[name], gpu.DTYPES[dtype]
    whole = np.random.default_rng(3).normal(0, 3, (4, 10, 30)).astype(dtype)
    x = whole[::-1, ::3, 1::2]
    views = {"x": (whole, x)}
    if "dy" in op.inputs:
        few = np.random.default_rng(4).normal(0, 1, (4, 1) if op.per_row else (1, 4, 1))
        few = few.astype(dtype)
        views = {"dy": (few, np.broadcast_to(few, x.shape[:2] if op.per_row else x.shape))} | views
    room = np.zeros((4, 15, 4), dtype)
    out = {"out0": (room, room.transpose(0, 2, 1))}
    results, _ = run(op, views, out, index=index)
    check(op, results["out0"], [np.array(v) for _, v in views.values()])


@pytest.mark.parametrize(("dtype", "length"), covered(list(gpu.DTYPES), (64, 1024, 3000)))
def test_few_blocks_do_all_rows(length, dtype):
    """A block takes row after row; the same bits as with a block for each."""
    op = OPS["softmax_backward"]
    arrays = operands(op, gpu.DTYPES[dtype], (19, length))
    (expected,), _ = plain(op, arrays)
    (got,), _ = plain(op, arrays, grid=(2, 1, 1))
    ops.assert_same_bits(got, expected)


@pytest.mark.parametrize("length", [64, 3000])
def test_a_row_does_not_depend_on_its_neighbours(length):
    op = OPS["softmax"]
    (x,) = operands(op, np.dtype(np.float32), (13, length))
    (whole,), _ = plain(op, [x])
    for rows in (1, 2, 5):
        (part,), _ = plain(op, [x[:rows].copy()])
        ops.assert_same_bits(part, whole[:rows])


@pytest.mark.parametrize(("dtype", "length"), covered(list(gpu.DTYPES), (7, 64, 1024, 1500)))
def test_in_place(length, dtype):
    """dx over x: every entry is read before it is written, and written by one thread only."""
    op = OPS["softmax_backward"]
    dy, x = operands(op, gpu.DTYPES[dtype], (9, length))
    (expected,), _ = plain(op, [dy, x])
    shared = Operand(x, role="inout")
    width = 16 // x.dtype.itemsize
    (chosen,) = row_kinds.chosen(op, str(x.dtype), length)
    kernel = replace(chosen, aligned=length % width == 0)
    numbers = {"rows": 9, "length": length, "empty": math.nan}
    for name in ("dy", "x", "out0"):
        numbers |= {f"{name}_stride_0": length, f"{name}_inner": 1}
    held = {"dy": Operand(dy), "x": shared, "out0": shared}
    grid = kernel.grid(9, length)
    blocks = range(math.prod(grid))[::-1]  # one after the other
    launch(kernel, CC, held, numbers, grid, together=1, order=blocks)
    shared.check_written()
    ops.assert_same_bits(shared.result(), expected)


def test_partials_hold_what_they_must():
    """The workspace of a cut row: a maximum and the sums of each chunk."""
    op = OPS["softmax"]
    (x,) = operands(op, np.dtype(np.float32), (1, 1024))
    kernel = row_kinds.Rows(op, "float32", 64, 1, "block", "partial", aligned=False)
    numbers = {"rows": 1, "length": 1024, "chunks": 4, "empty": math.nan}
    numbers |= {"x_stride_0": 1024, "x_inner": 1}
    partials = Operand(np.zeros(4 * kernel.partials, np.float32), role="out")
    launch(kernel, CC, {"x": Operand(x), "partials": partials}, numbers, (1, 4, 1))
    got = partials.result().reshape(4, -1)
    assert (got[:, 0] == x.reshape(4, 256).max(axis=1)).all()
