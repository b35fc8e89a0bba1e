"""sparsemax and maxout, with their backward passes."""

from fractions import Fraction

import numpy as np
import ops
import pytest

import fastact as fa

every_dtype = pytest.mark.parametrize("dtype", ops.DTYPES, ids=str)
native_dtype = pytest.mark.parametrize("dtype", ops.NATIVE, ids=str)
LENGTHS = [1, 2, 3, 8, 16, 17, 31, 64, 65, 200, 2500]


def rows(dtype, shape, spread=1.0, seed=0):
    return np.random.default_rng(seed).normal(0, spread, shape).astype(dtype)


def projection(row):
    """The nearest point of the simplex in rational numbers, by sorting."""
    x = [Fraction(v) for v in row]
    total, threshold = Fraction(0), None
    for k, v in enumerate(sorted(x, reverse=True), 1):
        total += v
        if v * k > total - 1:
            threshold = (total - 1) / k
    return [max(v - threshold, Fraction(0)) for v in x]


@native_dtype
@pytest.mark.parametrize("spread", [0.001, 0.1, 1.0, 100.0])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_nearest_point_of_the_simplex(length, spread, dtype):
    x = rows(dtype, (2, length), spread, length)
    got = fa.sparsemax(x)
    for row, y in zip(x, got, strict=True):
        exact = projection(row.tolist())
        worst = max(abs(Fraction(v) - e) for v, e in zip(y.tolist(), exact, strict=True))
        assert worst <= np.finfo(dtype).eps
        # What is clearly outside is exactly 0, what is clearly inside is not.
        for v, e in zip(y.tolist(), exact, strict=True):
            assert (v > 0) == (e > 0) or e <= np.finfo(dtype).eps


@native_dtype
@pytest.mark.parametrize("length", LENGTHS)
def test_sparsemax_backward(length, dtype):
    """dy less its mean over the support, there; the support is that of the forward pass."""
    x, dy = rows(dtype, (3, length), 0.5, length), rows(dtype, (3, length), 1.0, 5)
    y = fa.sparsemax(x)
    inside = [[v > 0 for v in projection(row.tolist())] for row in x]
    for got in (fa.sparsemax_backward(dy, x), fa.sparsemax_backward_from_output(dy, y)):
        for i, row in enumerate(got.tolist()):
            if inside[i] != (y[i] > 0).tolist():
                continue  # an entry within rounding of the threshold
            chosen = [Fraction(v) for v, s in zip(dy[i].tolist(), inside[i], strict=True) if s]
            mean = sum(chosen) / len(chosen)
            for v, d, s in zip(row, dy[i].tolist(), inside[i], strict=True):
                exact = Fraction(d) - mean if s else Fraction(0)
                assert abs(Fraction(v) - exact) <= 2 * np.finfo(dtype).eps * (1 + abs(Fraction(d)))


def forms(x, axis):
    dy = rows(x.dtype, x.shape, 1.0, 5)
    yield fa.sparsemax, (x,)
    yield fa.sparsemax_backward, (dy, x)
    yield fa.sparsemax_backward_from_output, (dy, fa.sparsemax(x, axis=axis))


@every_dtype
@pytest.mark.parametrize("shape", [(7, 1), (6, 33), (70, 9), (3, 4, 5), (9, 130)], ids=str)
def test_any_axis_layout_and_thread_count(shape, dtype):
    x = rows(dtype, shape)
    for axis in range(-x.ndim, x.ndim):
        for function, arrays in forms(x, axis):
            moved = [np.ascontiguousarray(np.moveaxis(a, axis, -1)) for a in arrays]
            expected = np.moveaxis(function(*moved), -1, axis)
            for other in (
                arrays,
                tuple(map(np.asfortranarray, arrays)),
                tuple(np.repeat(a, 2, -1)[..., ::2] for a in arrays),
            ):
                for target in ("serial", "parallel"):
                    with fa.use_target(target):
                        ops.assert_same_bits(function(*other, axis=axis), expected, str(axis))


@every_dtype
def test_long_rows(dtype):
    """Rows that are cut into blocks, and go through several rounds."""
    x = rows(dtype, (2, 200_001), 0.1)
    y = fa.sparsemax(x)
    total = y.astype(np.longdouble).sum(1)
    assert np.abs(total - 1).max() < 1e-6 if dtype.itemsize > 2 else 1e-2
    with fa.use_target("parallel"):
        ops.assert_same_bits(fa.sparsemax(x), y)
        dx = fa.sparsemax_backward(x, x)
    with fa.use_target("serial"):
        ops.assert_same_bits(fa.sparsemax_backward(x, x), dx)
    if dtype.itemsize > 2:
        short = np.sort(x, axis=1)[:, -2000:]  # the support is among the largest
        np.testing.assert_array_equal(np.sort(y, 1)[:, -2000:], fa.sparsemax(short))


@every_dtype
def test_special_rows(dtype):
    inf, nan = np.inf, np.nan
    x = np.array([[0, -inf, 0.5], [inf, 0, 1], [-inf] * 3, [inf, inf, 0], [0, nan, 1]], dtype)
    with np.errstate(all="raise", under="ignore"):
        y = fa.sparsemax(x).astype(float)
        zero = fa.sparsemax(x, empty="zero")
    assert y[0].tolist() == [0.25, 0, 0.75] and y[1].tolist() == [1, 0, 0]
    assert np.isnan(y[2:4]).all() and np.isnan(y[4]).any()
    # beside rows that take more rounds
    beside = np.concatenate([x, np.tile(np.asarray([0.4, 0.1, -0.4], dtype), (4, 1))])
    np.testing.assert_array_equal(fa.sparsemax(beside)[:5].astype(float), y)
    assert (zero[2] == 0).all()
    mask = np.array([[True, False, True]] * 5)
    got = fa.sparsemax(np.ones((5, 3), dtype), where=mask)
    assert (got == np.array([0.5, 0, 0.5], dtype)).all()
    assert fa.sparsemax(dtype.type(3)) == 1 and fa.sparsemax(np.empty((2, 0), dtype)).shape == (
        2,
        0,
    )


@pytest.mark.parametrize("dtype", ops.HALVES, ids=str)
def test_half_is_the_rounded_single(dtype):
    x = rows(dtype, (9, 70))
    wide = fa.sparsemax(x.astype(np.float32))
    ops.assert_same_bits(fa.sparsemax(x), wide.astype(dtype))


# ------------------------------------------------------------------------------ maxout


def groups_of(x, groups, axis):
    moved = np.moveaxis(x, axis, -1)
    return moved.reshape(*moved.shape[:-1], groups, -1)


@every_dtype
@pytest.mark.parametrize(
    ("shape", "axis", "groups"),
    [((6,), 0, 2), ((5, 12), -1, 4), ((12, 5), 0, 3), ((2, 6, 7), 1, 6), ((3, 400), 1, 2),
     ((4, 5000), 1, 1), ((40, 6, 33), 1, 2)],
    ids=str,
)  # fmt: skip
def test_maxout(shape, axis, groups, dtype):
    x = rows(dtype, shape)
    exact = groups_of(x, groups, axis).max(-1)
    for other in (x, np.asfortranarray(x), np.repeat(x, 2, -1)[..., ::2]):
        y = fa.maxout(other, groups, axis)
        ops.assert_same_bits(np.moveaxis(y, axis, -1), exact)
        dy = rows(dtype, y.shape, 1.0, 3)
        dx = groups_of(fa.maxout_backward(dy, other, groups, axis), groups, axis)
        first = groups_of(x, groups, axis)
        chosen = first == exact[..., None]
        count = chosen.sum(-1, keepdims=True)
        each = np.moveaxis(dy, axis, -1)[..., None] / count
        expected = np.where(chosen, each, 0).astype(dtype)
        np.testing.assert_allclose(dx.astype(float), expected.astype(float), rtol=1e-2)
        if (count == 1).all():
            ops.assert_same_bits(dx, expected)
        out = np.zeros_like(y)
        assert fa.maxout(other, groups, axis, out=out) is out
        ops.assert_same_bits(out, y)
        place = other.copy()
        assert fa.maxout_backward(dy, place, groups, axis, out=place) is place
        ops.assert_same_bits(groups_of(place, groups, axis), dx)


@every_dtype
def test_maxout_of_ties_infinities_and_nan(dtype):
    inf, nan = np.inf, np.nan
    x = np.array([3, 3, -inf, -inf, inf, 0, inf, inf, nan, 1, 2, nan], dtype)
    with np.errstate(all="raise", under="ignore"):
        y = fa.maxout(x, 6).astype(float)
        dx = fa.maxout_backward(np.ones(6, dtype), x, 6).astype(float)
    np.testing.assert_array_equal(y, [3, -inf, inf, inf, nan, nan])
    np.testing.assert_array_equal(dx[:8], [0.5, 0.5, 0.5, 0.5, 1, 0, 0.5, 0.5])
    assert np.isnan(dx[8:10]).any() and np.isnan(dx[10:]).any()


def test_maxout_of_integers_and_against_torch():
    torch = pytest.importorskip("torch")
    assert fa.maxout(np.arange(6), 3).tolist() == [1.0, 3.0, 5.0]
    x = np.random.default_rng(0).integers(0, 3, (50, 12)).astype(float)
    tensor = torch.tensor(x, requires_grad=True)
    y = torch.amax(tensor.reshape(50, 4, 3), -1)
    y.backward(torch.ones_like(y))
    np.testing.assert_array_equal(fa.maxout(x, 4), y.detach().numpy())
    np.testing.assert_allclose(fa.maxout_backward(np.ones((50, 4)), x, 4), tensor.grad.numpy())


def test_wrong_arguments():
    x = np.ones((4, 6))
    for groups in (0, -1, 4, 7):
        with pytest.raises(ValueError, match="maxout: groups must divide the 6 entries of axis -1"):
            fa.maxout(x, groups)
    for groups in (2.0, None, True):
        with pytest.raises(TypeError, match="groups must be an integer"):
            fa.maxout(x, groups)
    with pytest.raises(ValueError, match="axis 2 is out of bounds for x of shape \\(4, 6\\)"):
        fa.maxout(x, 2, 2)
    with pytest.raises(ValueError, match="dy has shape \\(4, 3\\); it must have shape \\(4, 2\\)"):
        fa.maxout_backward(np.ones((4, 3)), x, 2)
    out = np.full((4, 3), 7.0)
    with pytest.raises(ValueError, match="out has shape \\(4, 3\\)"):
        fa.maxout(x, 2, out=out)
    assert (out == 7).all()
    with pytest.raises(TypeError, match="x has dtype complex"):
        fa.maxout(x * 1j, 2)
    with pytest.raises(ValueError, match="groups must divide the 0 entries"):
        fa.maxout(np.ones((4, 0)), 1)
    with pytest.raises(ValueError, match="sparsemax: axis 5"):
        fa.sparsemax(x, axis=5)
    with pytest.raises(TypeError, match="sparsemax: x has dtype complex"):
        fa.sparsemax(x * 1j)
