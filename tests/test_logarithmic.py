"""log_softmax, logsumexp, softmin, and the options that all row ops share."""

import math

import numpy as np
import pytest
from mpmath import mp

import fastact as fa

DTYPES = ("float32", "float64")
SHAPES = ((1, 1), (7, 2), (40, 9), (3, 33), (5, 128), (2, 1000), (1, 5000))


def rows(dtype, shape, spread=6.0, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) * spread).astype(dtype)


def exact(row):
    """(maximum, sum of exp(x - maximum)) of a row without infinities, exactly."""
    values = [mp.mpf(float(v)) for v in row]
    top = max(values)
    return values, top, mp.fsum(mp.exp(v - top) for v in values)


def worst(got, expected, dtype):
    """Largest error in ulp of the expected values."""
    largest = 0.0
    for g, e in zip(np.ravel(got), expected, strict=True):
        unit = mp.mpf(float(np.spacing(np.abs(np.dtype(dtype).type(float(e))))))
        largest = max(largest, float(abs(mp.mpf(float(g)) - e) / unit))
    return largest


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_values(dtype, shape):
    x = rows(dtype, shape)
    with mp.workprec(200):
        logs, sums, minima = [], [], []
        for row in x:
            values, top, total = exact(row)
            sums.append(top + mp.log(total))
            logs += [v - sums[-1] for v in values]
            _, low, below = exact(-row)
            minima += [mp.exp(-v - low) / below for v in values]
        assert worst(fa.logsumexp(x), sums, dtype) <= 1.5
        assert worst(fa.log_softmax(x), logs, dtype) <= 3
        assert worst(fa.softmin(x), minima, dtype) <= 4


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_entry_keeps_its_digits(dtype):
    x = np.array([0.0, -30.0, -25.0], dtype)
    with mp.workprec(200):
        log = mp.log1p(mp.exp(-30) + mp.exp(-25))
        assert worst(fa.log_softmax(x)[:1], [-log], dtype) <= 3
        assert worst(fa.logsumexp(x), [log], dtype) <= 1.5


@pytest.mark.parametrize("name", ["softmax", "softmin", "log_softmax"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_backward_against_the_jacobian(name, dtype):
    x, dy = rows(dtype, (4, 11)), rows(dtype, (4, 11), 1.0, 1)
    sign = -1 if name == "softmin" else 1
    got = getattr(fa, f"{name}_backward")(dy, x)
    from_output = getattr(fa, f"{name}_backward_from_output")(dy, getattr(fa, name)(x))
    tolerance = 4 * np.finfo(dtype).eps
    with mp.workprec(200):
        for g, o, gradient, row in zip(got, from_output, dy, x, strict=True):
            values, top, total = exact(sign * row)
            p = [mp.exp(v - top) / total for v in values]
            d = [mp.mpf(float(v)) for v in gradient]
            if name == "log_softmax":
                expected = [a - b * mp.fsum(d) for a, b in zip(d, p, strict=True)]
            else:
                dot = mp.fsum(a * b for a, b in zip(d, p, strict=True))
                expected = [sign * b * (a - dot) for a, b in zip(d, p, strict=True)]
            # dy less a mean of dy cancels: the error is measured on the scale of its terms.
            scale = float(max(map(abs, d)))
            for found in (g, o):
                np.testing.assert_allclose(
                    found, [float(e) for e in expected], rtol=0, atol=tolerance * scale
                )


@pytest.mark.parametrize("dtype", DTYPES)
def test_logsumexp_backward_is_softmax(dtype):
    x, dy = rows(dtype, (4, 11)), rows(dtype, (4,), 1.0, 1)
    np.testing.assert_allclose(
        fa.logsumexp_backward(dy, x),
        dy[:, None] * fa.softmax(x),
        rtol=8 * np.finfo(dtype).eps,
    )


def test_axes_of_logsumexp():
    x = rows("float64", (3, 4, 5))
    assert fa.logsumexp(x, axis=0).shape == (4, 5)
    assert fa.logsumexp(x, axis=-2, keepdims=True).shape == (3, 1, 5)
    whole = fa.logsumexp(x.reshape(-1))
    np.testing.assert_array_max_ulp(fa.logsumexp(x, axis=(0, 1, 2)), whole, 2)
    flat = fa.logsumexp(np.moveaxis(x, 1, -1).reshape(3, -1))
    np.testing.assert_array_max_ulp(fa.logsumexp(x, axis=(1, 2)), flat, 2)
    assert fa.logsumexp(x, axis=(0, 2), keepdims=True).shape == (1, 4, 1)
    np.testing.assert_array_equal(fa.logsumexp(np.zeros((3, 0))), [-math.inf] * 3)
    assert fa.logsumexp(2.0) == 2.0


@pytest.mark.parametrize("name", ["softmax", "softmin", "log_softmax"])
@pytest.mark.parametrize("axis", [-1, 0])
def test_masks(name, axis):
    rng = np.random.default_rng(5)
    x = rows("float64", (6, 50))
    x[1, 3] = math.nan
    mask = rng.random(x.shape) > 0.4
    mask[1, 3] = False  # a nan under the mask is ignored
    mask[2] = True
    mask[:, 7] = True
    f = getattr(fa, name)
    missing = -math.inf if name == "log_softmax" else 0.0
    got = np.moveaxis(f(x, axis=axis, where=mask), axis, -1)
    lines = zip(got, np.moveaxis(x, axis, -1), np.moveaxis(mask, axis, -1), strict=True)
    for found, row, kept in lines:
        if kept.any():
            np.testing.assert_allclose(found[kept], f(row[kept]), rtol=1e-14)
            assert (found[~kept] == missing).all()
        else:
            assert np.isnan(found).all()


def test_nothing_left_in_a_row():
    x, nothing = np.ones((2, 3)), np.array([[True] * 3, [False] * 3])
    assert np.isnan(fa.softmax(x, where=nothing)[1]).all()
    assert (fa.softmax(x, where=nothing, empty="zero")[1] == 0).all()
    assert (fa.log_softmax(x, where=nothing, empty="zero")[1] == -math.inf).all()
    assert (fa.softmax(np.full((2, 3), -math.inf), empty="zero") == 0).all()
    shown = fa.softmax(np.array([math.nan, -math.inf]), empty="zero")
    assert np.isnan(shown).all()
    with pytest.raises(ValueError, match=r"softmax: empty must be 'nan' or 'zero', got 'none'"):
        fa.softmax(x, empty="none")


@pytest.mark.parametrize("dtype", DTYPES)
def test_temperature_and_scale(dtype):
    x = rows(dtype, (5, 40))
    with mp.workprec(200):
        expected = []
        for row in x:
            values, top, _ = exact(row)
            e = [mp.exp((v - top) * 3 / mp.mpf(0.75)) for v in values]
            expected += [v / mp.fsum(e) for v in e]
        got = fa.softmax(x, temperature=0.75, scale=3.0)
        assert worst(got, expected, dtype) <= 5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["log_softmax", "softmin", "logsumexp"])
def test_halves_are_the_rounded_float32(name, dtype):
    pytest.importorskip("ml_dtypes")
    x = rows("float32", (6, 77)).astype(dtype)
    f = getattr(fa, name)
    got, wide = f(x), f(x.astype(np.float32)).astype(dtype)
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got.astype(np.float32), wide.astype(np.float32))


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmin", "logsumexp"])
def test_layouts_give_the_same_bits(name):
    x = rows("float32", (37, 301))
    f = getattr(fa, name)
    expected = f(x)
    for turned in (f(np.asfortranarray(x)), f(x.T.copy(), axis=0).T, f(x[::-1])[::-1]):
        np.testing.assert_array_equal(turned, expected)
    with fa.use_target("parallel"):
        np.testing.assert_array_equal(f(x), expected)


def test_against_scipy():
    special = pytest.importorskip("scipy.special")
    x = rows("float64", (6, 50))
    np.testing.assert_allclose(fa.log_softmax(x, axis=0), special.log_softmax(x, axis=0), 1e-10)
    np.testing.assert_allclose(fa.logsumexp(x), special.logsumexp(x, axis=-1), 1e-14)
