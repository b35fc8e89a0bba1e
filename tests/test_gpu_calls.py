"""Calls on GPU arrays, whole, their kernels executed by the PTX interpreter: the CPU's results."""

import numpy as np
import ops
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from executing import executing, place  # noqa: F401

import fastact as fa

pytestmark = pytest.mark.usefixtures("executing")
BFLOAT16 = ops.BFLOAT16[0] if ops.BFLOAT16 else None


def normal(shape, dtype="float32", seed=0, spread=3.0):
    return np.random.default_rng(seed).normal(0, spread, shape).astype(dtype)


def on_gpu(values):
    return {name: place(v) if isinstance(v, np.ndarray) else v for name, v in values.items()}


def both(function, *arrays, **options):
    """(results on the GPU, results on the CPU) as lists of arrays."""
    there = function(*map(place, arrays), **on_gpu(options))
    with np.errstate(all="ignore"):
        here = function(*arrays, **options)
    pairs = zip(*(r if isinstance(r, tuple) else (r,) for r in (there, here)), strict=True)
    return [(t.numpy(), np.asarray(h)) for t, h in pairs]


def check(function, *arrays, ulp=4, terms=1.0, **options):
    """Results differ by some units in the last place of the terms that they are sums of."""
    for got, right in both(function, *arrays, **options):
        assert got.dtype == right.dtype and got.shape == right.shape
        eps = float(ops.ulp.info(right.dtype).eps)
        g, r = got.astype(np.float64), right.astype(np.float64)
        np.testing.assert_array_equal(np.isnan(g), np.isnan(r))
        size = np.maximum(np.abs(r), terms)
        assert np.all(np.isnan(r) | (g == r) | (np.abs(g - r) <= ulp * eps * size)), (g, r)


def same_bits(function, *arrays, **options):
    for got, right in both(function, *arrays, **options):
        ops.assert_same_bits(got, right)


# Losses


def labels(rows, classes, dtype="int64", seed=1):
    return np.random.default_rng(seed).integers(0, classes, rows).astype(dtype)


def weights(shape, dtype="float32"):
    return np.random.default_rng(2).uniform(0.1, 2, shape).astype(dtype)


CLASSES = {
    "mean": (normal((6, 10)), labels(6, 10), {}),
    "each": (normal((6, 10)), labels(6, 10), {"reduction": "none", "ignore_index": 3,
             "weight": weights(10)}),
    "weighted mean": (normal((6, 10), "float64"), labels(6, 10, "int32"), {"ignore_index": -7,
                      "weight": weights(10, "float64"), "label_smoothing": 0.2}),
    "half": (normal((9, 4), "float16"), labels(4, 9, "uint8"), {"reduction": "sum", "axis": 0,
             "label_smoothing": 0.1}),
    "long": (normal((2, 17000)), labels(2, 17000), {}),
    "nothing": (normal((3, 4)), np.array([2, 2, 2]), {"ignore_index": 2}),
}  # fmt: skip


@pytest.mark.parametrize("case", CLASSES)
def test_class_ids(case):
    x, t, options = CLASSES[case]
    if case == "weighted mean":
        t[[1, 4]] = -7
    # an entry is small beside the row's share of the mean
    check(fa.softmax_cross_entropy_value_and_grad, x, t, **options, terms=1 / t.size)


def test_class_ids_without_gradient_and_in_place():
    x, t = normal((6, 10)), labels(6, 10)
    check(fa.softmax_cross_entropy, x, t, reduction="sum")
    there = place(x)
    _, gradient = fa.softmax_cross_entropy_value_and_grad(there, place(t), out=there)
    _, expected = fa.softmax_cross_entropy_value_and_grad(x, t)
    assert gradient is there
    np.testing.assert_allclose(there.numpy(), expected, rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("wrong", [10, -1, 1 << 40])
def test_labels_out_of_range_are_nan(wrong):
    """The CPU raises; here nothing waits for the GPU, so their rows say it."""
    x, t = normal((6, 10)), labels(6, 10)
    t[2] = wrong
    options = {"reduction": "none"}
    losses, gradient = fa.softmax_cross_entropy_value_and_grad(place(x), place(t), **options)
    expected = fa.softmax_cross_entropy_value_and_grad(x, np.where(t == wrong, 0, t), **options)
    for got, right in zip((losses.numpy(), gradient.numpy()), expected, strict=True):
        assert np.isnan(got[2]).all()
        np.testing.assert_allclose(np.delete(got, 2, 0), np.delete(right, 2, 0), rtol=2e-6)
    assert np.isnan(fa.softmax_cross_entropy(place(x), place(t)).numpy())


PROBABILITIES = {
    "mean": ((6, 10), "float32", {"label_smoothing": 0.1, "axis": 0}),
    "weighted": ((5, 12), "float64", {"reduction": "sum", "weight": weights(12, "float64")}),
    "long": ((2, 9000), BFLOAT16, {"reduction": "none"}),
}


@pytest.mark.parametrize("case", PROBABILITIES)
def test_probabilities(case):
    shape, dtype, options = PROBABILITIES[case]
    if dtype is None:
        pytest.skip("ml_dtypes is not installed")
    q = fa.softmax(normal(shape, "float64", 3), axis=options.get("axis", -1)).astype(dtype)
    x = normal(shape, dtype)
    check(fa.softmax_cross_entropy_value_and_grad, x, q, **options, terms=0.1)


SIGMOID = {
    "mean": ((5000,), "float32", {}),
    "each": ((7, 3), "float16", {"reduction": "none", "pos_weight": weights((3,), "float16")}),
    "sum": ((4, 6), "float64", {"reduction": "sum", "weight": weights((4, 1), "float64")}),
    "one": ((), "float32", {}),
    "none": ((0, 3), "float32", {}),
}


@pytest.mark.parametrize("case", SIGMOID)
def test_sigmoid_cross_entropy(case):
    shape, dtype, options = SIGMOID[case]
    t = np.random.default_rng(4).uniform(0, 1, shape).astype(dtype)
    terms = 1 / max(1, t.size) if case == "mean" else 0.1
    check(fa.sigmoid_cross_entropy_value_and_grad, normal(shape, dtype), t, **options, terms=terms)


def test_sigmoid_cross_entropy_of_views():
    """Rows as they lie where the entries do not run on."""
    whole = normal((6, 40))
    x, t = whole[::2, ::2], np.abs(np.tanh(whole[1::2, 1::2]))
    check(fa.sigmoid_cross_entropy, x, t)


# Partials


def test_partials_of_parameters():
    x, dy = normal((6, 5)), normal((6, 5), seed=1)
    check(fa.swish_backward, dy, x, beta=1.5, wrt=("x", "beta"), terms=9.0)


@pytest.mark.parametrize("shape", [(5,), (3, 1, 1), ()], ids=str)
def test_slopes(shape):
    """Summed over the axes along which the weight was broadcast: before, after, around it."""
    x, dy = normal((2, 3, 4, 5)), normal((2, 3, 4, 5), seed=1)
    check(fa.prelu_backward, dy, x, normal(shape, seed=2), terms=30.0)


def test_biases_of_halves():
    """Half types are summed in float32."""
    x, dy = normal((6, 5), "float16"), normal((6, 5), "float16", 1)
    check(fa.bias_relu_backward, dy, x, normal(5, "float16", 2))


# Options and dtypes of elementwise ops


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int32", "uint64"])
def test_integers(dtype):
    same_bits(fa.relu, np.arange(-5, 6).astype(dtype))


def test_mixed_dtypes():
    same_bits(fa.relu_backward, normal((4, 6)), normal((4, 6), "float16"))


def test_dtype():
    same_bits(fa.relu, normal((4, 6), "float16"), dtype="float64")


def test_where_and_out_of_another_dtype():
    x = normal((4, 6))
    out, expected = (np.full((4, 6), 7.0) for _ in range(2))
    there = place(out)
    assert fa.sigmoid(place(x), where=place(x > 0), out=there) is there
    fa.sigmoid(x, where=x > 0, out=expected)
    ops.assert_same_bits(there.numpy(), expected)


def test_parameters_too_large_for_the_dtype():
    same_bits(fa.leaky_relu, normal((8,)), negative_slope=1e300)


@pytest.mark.parametrize("axis", [0, -1])
def test_halves(axis):
    x = normal((4, 6))
    same_bits(fa.glu, x, axis=axis)
    dy = normal((2, 6) if axis == 0 else (4, 3), seed=1)
    same_bits(fa.glu_backward, dy, x, axis=axis)


# Rows


@pytest.mark.parametrize("axis", [None, (0, 1), (0, 2), (1,), ()], ids=str)
def test_several_axes(axis):
    """Axes that run on through each other, and such as must be copied first; all dimensions."""
    x = normal((3, 4, 5))
    check(fa.logsumexp, x, axis=axis, keepdims=True)
    dy = np.asarray(fa.logsumexp(x, axis=axis))
    check(fa.logsumexp_backward, dy, x, axis=axis)


def test_rows_of_integers_and_of_another_dtype():
    check(fa.softmax, np.arange(12).reshape(3, 4), axis=0)
    out = place(np.zeros((3, 4), np.float16))
    x = normal((3, 4))
    fa.softmax(place(x), out=out)
    np.testing.assert_array_equal(out.numpy(), fa.softmax(x).astype(np.float16))
    check(fa.softmax, np.float32(3.0), axis=0)


@pytest.mark.parametrize("offset", [0, -2, 1, 10])
def test_causal(offset):
    x = normal((2, 4, 5))
    x[1, 2, 1] = np.nan
    check(fa.causal_softmax, x, offset=offset, empty="zero")
    # rows in another order in memory
    turned = np.ascontiguousarray(x.transpose(1, 0, 2)).transpose(1, 0, 2)
    check(fa.causal_softmax_backward, turned, turned, offset=offset)


@pytest.mark.parametrize("axis", [-1, 0])
def test_groups(axis):
    x = normal((6, 3, 6))
    x[0, 0, 0] = np.nan
    check(fa.maxout, x, groups=2, axis=axis)
    dy = normal((2, 3, 6) if axis == 0 else (6, 3, 2), seed=1)
    check(fa.maxout_backward, dy, x, groups=2, axis=axis)


# a warp, a block, chunks; columns, and chunks of them
SPARSE = {3: -1, 1100: -1, 17000: -1, 40: 0, 600: 0}


@pytest.mark.parametrize("length", SPARSE)
def test_rounds(length):
    axis = SPARSE[length]
    x = normal((4, length), spread=0.5)
    x[1] = -np.inf
    x[2, 0] = np.nan
    check(fa.sparsemax, x if axis else x.T.copy(), axis=axis)


def test_rounds_backward():
    x, dy = normal((9, 40), spread=0.3), normal((9, 40), seed=1)
    check(fa.sparsemax_backward, dy, x, terms=2.0)
    check(fa.sparsemax_backward_from_output, dy, fa.sparsemax(x), terms=2.0)
