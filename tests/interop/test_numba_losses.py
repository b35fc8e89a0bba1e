"""Losses, and the gate of one array, inside Numba's compiled code."""

import numpy as np
import ops
import pytest
import samples
from numba import njit, prange
from numba.core.errors import TypingError

import fastact as fa

X = np.random.default_rng(0).normal(0, 2, (4, 6))


def caller(loss, names, literals):
    """A compiled function of logits, target and the arrays among the options; numbers written."""
    given = "".join(f", {n}={n}" for n in names)
    written = "".join(f", {n}={v!r}" for n, v in literals.items())
    scope = {"fa": fa}
    exec(
        f"def f(x, q{''.join(f', {n}' for n in names)}):\n"
        f"    return (fa.{loss}(x, q{given}{written}),"
        f" fa.{loss}_value_and_grad(x, q{given}{written}))",
        scope,
    )
    return njit(scope["f"])


@pytest.mark.parametrize(("loss", "x", "target", "options"), samples.LOSSES, ids=samples.case_id)
def test_losses(loss, x, target, options):
    arrays = {n: v for n, v in options.items() if isinstance(v, np.ndarray)}
    literals = {n: v for n, v in options.items() if n not in arrays}
    f = caller(loss.name, arrays, literals)
    expected, gradient = loss.value_and_grad(x, target, **options)
    value, (again, dx) = f(x, target, *arrays.values())
    # The losses are summed one after the other, by the library in pairs
    np.testing.assert_allclose([value, again], [expected] * 2, rtol=1e-15)
    np.testing.assert_allclose(dx, gradient, rtol=1e-15)


def test_float32_and_a_cube():
    x = np.random.default_rng(1).normal(0, 2, (3, 4, 5)).astype(np.float32)
    ids = np.random.default_rng(2).integers(0, 5, (3, 4))
    f = njit(lambda x, ids: fa.softmax_cross_entropy_value_and_grad(x, ids, reduction="none"))
    expected = fa.softmax_cross_entropy_value_and_grad(x, ids, reduction="none")
    for got, wanted in zip(f(x, ids), expected, strict=True):
        ops.assert_same_bits(got, wanted)
    g = njit(lambda x, t: fa.sigmoid_cross_entropy_value_and_grad(x, t, reduction="none"))
    t = (ids % 2).repeat(5).reshape(x.shape)
    expected = fa.sigmoid_cross_entropy_value_and_grad(x, t, reduction="none")
    for got, wanted in zip(g(x, t), expected, strict=True):
        ops.assert_same_bits(got, wanted)


@pytest.mark.parametrize("axis", [0, 1, 2, -3])
def test_any_axis_of_a_cube(axis):
    """Written in the call and known only when it runs; the gradient has the shape of the logits."""
    x = np.random.default_rng(1).normal(0, 2, (3, 4, 5))
    p = np.random.default_rng(2).uniform(0.1, 1, x.shape)
    w = np.random.default_rng(3).uniform(0.5, 2, x.shape[axis])
    ids = np.random.default_rng(4).integers(0, x.shape[axis], np.take(x, 0, axis).shape)

    def f(x, labels, w, k):
        return (
            fa.softmax_cross_entropy_value_and_grad(x, labels, k, reduction="none"),
            fa.softmax_cross_entropy_value_and_grad(x, labels, k, w, label_smoothing=0.1),
        )

    source = f"lambda x, labels, w: fa.softmax_cross_entropy(x, labels, axis={axis}, weight=w)"
    for labels in (ids, p):
        for got, expected in zip(njit(f)(x, labels, w, axis), f(x, labels, w, axis), strict=True):
            np.testing.assert_allclose(got[0], expected[0], rtol=1e-14)
            np.testing.assert_allclose(got[1], expected[1], rtol=1e-14, atol=1e-17)
        written = eval(source, {"fa": fa})
        np.testing.assert_allclose(njit(written)(x, labels, w), written(x, labels, w), rtol=1e-14)


def test_smoothing_and_ignored_class_known_only_when_called():
    @njit
    def f(x, ids, smoothing, ignored):
        return fa.softmax_cross_entropy(x, ids, label_smoothing=smoothing, ignore_index=ignored)

    ids = np.array([0, 5, 3, 3])
    for smoothing, ignored in ((0.0, 3), (0.3, -1)):
        expected = fa.softmax_cross_entropy(X, ids, label_smoothing=smoothing, ignore_index=ignored)
        np.testing.assert_allclose(f(X, ids, smoothing, ignored), expected, rtol=1e-15)
    assert np.isnan(f(X, np.full(4, 3), 0.0, 3))


def test_in_a_parallel_loop():
    @njit(parallel=True)
    def losses(batches, ids):
        found = np.empty(len(batches))
        for k in prange(len(batches)):
            found[k] = fa.softmax_cross_entropy(batches[k], ids, reduction="sum")
        return found

    ids = np.array([0, 1, 2, 3])
    expected = [fa.softmax_cross_entropy(b, ids, reduction="sum") for b in (X, -X, 2 * X)]
    np.testing.assert_allclose(losses(np.stack([X, -X, 2 * X]), ids), expected, rtol=1e-15)


def test_glu_of_one_array():
    @njit
    def both(dy, x):
        return fa.glu(x), fa.glu_backward(dy, x), fa.glu(x, axis=0), fa.glu_backward(dy, x, 1)

    dy = X[:, :3].copy()
    y, dx, rows, same = both(dy, X)
    ops.assert_same_bits(y, fa.glu(X))
    ops.assert_same_bits(dx, fa.glu_backward(dy, X))
    ops.assert_same_bits(same, dx)
    ops.assert_same_bits(rows, fa.glu(X, axis=0))


def test_causal_softmax_with_its_default():
    ops.assert_same_bits(njit(lambda x: fa.causal_softmax(x))(X), fa.causal_softmax(X))


IDS = np.array([0, 1, 2, 3])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: njit(lambda x: fa.glu(x))(X[:, :5]), ValueError, "even length along the axis"),
        (lambda: njit(lambda x: fa.glu(x))(1.0), TypingError, "x must be an array with an axis"),
        (lambda: njit(lambda x, k: fa.glu(x, k))(X, 1), TypingError, "written out in the call"),
        (
            lambda: njit(lambda x, q: fa.softmax_cross_entropy(x, q))(X, IDS + 3),
            ValueError,
            "a label is out of range",
        ),
        (
            lambda: njit(lambda x, q: fa.softmax_cross_entropy(x, q))(X, X[:2]),
            ValueError,
            "must have the shape of logits",
        ),
        (
            lambda: njit(lambda x, q: fa.softmax_cross_entropy(x, q))(X[0], IDS),
            TypingError,
            "logits must have two or more dimensions",
        ),
        (
            lambda: njit(lambda x, q: fa.softmax_cross_entropy(x, q, axis=0.0))(X, IDS),
            TypingError,
            "axis must be an integer, got float64",
        ),
        (
            lambda: njit(lambda x, q, k: fa.softmax_cross_entropy(x, q, axis=k))(X, IDS, 2),
            ValueError,
            "axis is out of bounds for logits",
        ),
        (
            lambda: njit(lambda x, q: fa.softmax_cross_entropy(x, q, axis=0))(X, IDS),
            ValueError,
            "do not match",
        ),
        (
            lambda: njit(lambda x, q, r: fa.softmax_cross_entropy(x, q, reduction=r))(X, IDS, "a"),
            TypingError,
            "reduction must be 'mean' or 'sum' or 'none', written out in the call",
        ),
        (
            lambda: njit(lambda x, q, s: fa.softmax_cross_entropy(x, q, label_smoothing=s))(
                X, IDS, 2.0
            ),
            ValueError,
            "label_smoothing must lie between 0 and 1",
        ),
        (
            lambda: njit(lambda x, q, w: fa.softmax_cross_entropy(x, q, weight=w))(
                X, IDS, X[0, :2]
            ),
            ValueError,
            "weight must have one number per class",
        ),
        (
            lambda: njit(lambda x, q: fa.sigmoid_cross_entropy(x, q))(X, X[:2]),
            ValueError,
            "targets must have the shape of logits",
        ),
        (
            lambda: njit(lambda x, q: fa.sigmoid_cross_entropy(x, q))(X, IDS),
            TypingError,
            "targets must be an array of numbers with 2 dimensions",
        ),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
