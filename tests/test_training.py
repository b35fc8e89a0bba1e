"""Gains against closed forms and mpmath, saturation by count, clipping against exact sums."""

import math
from fractions import Fraction

import numpy as np
import ops
import oracle
import pytest
from mpmath import mp

import fastact as fa

PLAIN = [op for op in ops.ELEMENTWISE if hasattr(fa.get(op).record, "limits")]


def expectation(function, kinks):
    """E[function(z)^2] of a standard normal z, in high precision."""
    with mp.workdps(30):
        cuts = sorted({-12.0, -4.0, 0.0, 4.0, 12.0, *kinks})
        return mp.quad(lambda z: mp.mpf(function(z)) ** 2 * oracle.normal_pdf(z), cuts)


@pytest.mark.parametrize("derivative", [False, True])
@pytest.mark.parametrize("op", ["sigmoid", "tanh", "elu", "swish", "leaky_relu", "bipolar_sigmoid"])
def test_gain_against_mpmath(op, derivative):
    (case,) = (c for c in ops.default_cases() if c.op == op)
    formula = oracle.FORMULAS[op]
    function = formula.grad if derivative else formula.forward
    exact = expectation(lambda z: function(z, *map(mp.mpf, case.parameters)), case.kinks)
    assert fa.gain(op, derivative) == pytest.approx(float(1 / mp.sqrt(exact)), rel=1e-14)


def test_known_gains():
    """relu and its relatives: He et al., 2015; identity trivially; selu: Klambauer et al., 2017."""
    assert fa.gain("relu") == pytest.approx(math.sqrt(2), rel=1e-14)
    assert fa.gain("relu", derivative=True) == pytest.approx(math.sqrt(2), rel=1e-14)
    assert fa.gain("identity") == pytest.approx(1, rel=1e-14)
    for slope in (0.01, 0.2, 1.5):
        expected = math.sqrt(2 / (1 + slope**2))
        assert fa.gain("leaky_relu", negative_slope=slope) == pytest.approx(expected, rel=1e-14)
    assert fa.gain("tanh") == pytest.approx(1.592537419722831, rel=1e-12)
    if "selu" in fa.names():
        assert fa.gain("selu") == pytest.approx(1, rel=1e-7)


def test_gains_of_pytorch():
    """The same where its table is derived; tanh's 5/3 there is a convention."""
    nn = pytest.importorskip("torch.nn")
    for op, name, options in (
        ("relu", "relu", {}),
        ("identity", "linear", {}),
        ("leaky_relu", "leaky_relu", {"negative_slope": 0.3}),
    ):
        known = nn.init.calculate_gain(name, *options.values())
        assert fa.gain(op, **options) == pytest.approx(known, rel=1e-14)
    assert nn.init.calculate_gain("tanh") == 5 / 3 != pytest.approx(fa.gain("tanh"), rel=0.04)


@pytest.mark.parametrize("op", PLAIN)
def test_gain_keeps_the_size_of_a_random_signal(op):
    """The definition, sampled: every op that passes a normal signal on."""
    z = np.random.default_rng(1).standard_normal(400_000)
    for derivative in (False, True):
        function = fa.get(op).grad if derivative else fa.get(op)
        with np.errstate(all="ignore"):
            square = float(np.mean(function(z) ** 2))
        if not 0 < square < math.inf:
            with pytest.raises(ValueError, match="mean square"):
                fa.gain(op, derivative)
            continue
        assert fa.gain(op, derivative) == pytest.approx(1 / math.sqrt(square), rel=0.02)


def test_gain_refuses():
    with pytest.raises(KeyError, match="sigmoid"):
        fa.gain("sigmod")
    with pytest.raises(TypeError, match="softmax"):
        fa.gain("softmax")
    with pytest.raises(TypeError, match="alpha"):
        fa.gain("relu", alpha=1.0)
    with pytest.raises(ValueError, match="derivative of binary_step is 0"):
        fa.gain("binary_step", derivative=True)


@pytest.mark.parametrize("dtype", ops.DTYPES, ids=str)
def test_saturation_counts(dtype):
    x = np.random.default_rng(0).normal(0, 4, (700, 301)).astype(dtype)
    for op in ("sigmoid", "relu", "tanh", "elu"):
        small = np.abs(fa.get(op).grad(x)).astype(np.float64) < 2.0**-7
        assert fa.saturation(x, op) == small.sum() / small.size
        assert fa.saturation(x.T, op) == small.sum() / small.size
        for axis in (0, 1, -1):
            np.testing.assert_array_equal(fa.saturation(x, op, axis), small.mean(axis=axis))
    assert fa.saturation(x, "leaky_relu") == 0.0  # a slope of 0.01 lies above 1/128
    assert fa.saturation(x, "leaky_relu", negative_slope=1e-3) == (x <= 0).mean()
    assert fa.saturation(x, "leaky_relu", threshold=0.5) == (x <= 0).mean()


def test_saturation_in_chunks_is_the_same():
    x = np.random.default_rng(0).normal(0, 4, 200_000)
    assert fa.saturation(x, "tanh") == (fa.tanh_grad(x) < 2.0**-7).mean()
    tall = x.reshape(-1, 2)
    np.testing.assert_array_equal(
        fa.saturation(tall, "tanh", axis=0), (fa.tanh_grad(tall) < 2.0**-7).mean(axis=0)
    )


def test_saturation_of_nothing_and_of_nan():
    assert math.isnan(fa.saturation([], "relu"))
    assert np.isnan(fa.saturation(np.zeros((0, 3)), "relu", axis=0)).tolist() == [True] * 3
    assert fa.saturation(np.zeros((2, 0)), "relu", axis=0).shape == (0,)
    assert fa.saturation([math.nan, -1.0], "relu") == 0.5
    assert fa.saturation(-3.0, "relu") == 1.0


def test_saturation_refuses():
    with pytest.raises(KeyError, match="sigmoid"):
        fa.saturation([1.0], "sigmod")
    with pytest.raises(TypeError, match="softmax"):
        fa.saturation([1.0], "softmax")
    with pytest.raises(ValueError, match="threshold"):
        fa.saturation([1.0], "relu", threshold=-1)
    with pytest.raises(ValueError, match="threshold"):
        fa.saturation([1.0], "relu", threshold=math.nan)
    with pytest.raises(ValueError, match="axis"):
        fa.saturation([1.0], "relu", axis=1)
    with pytest.raises(TypeError, match="complex"):
        fa.saturation([1j], "relu")


def exact_norm(grads):
    """The norm by exact rational arithmetic, rounded at the end."""
    total = sum((Fraction(float(v)) ** 2 for g in grads for v in np.ravel(g)), Fraction(0))
    with mp.workprec(200):
        return float(mp.sqrt(mp.mpf(total.numerator) / total.denominator))


def gradients(dtype):
    rng = np.random.default_rng(3)
    shapes = ((3, 7), (1001,), (), (0,), (31,), (64,))
    return [
        *(rng.standard_normal(shape).astype(dtype) for shape in shapes),
        rng.standard_normal((40, 50)).astype(dtype).T[::2],
    ]


@pytest.mark.parametrize("dtype", ops.DTYPES, ids=str)
def test_clipping(dtype):
    grads = gradients(dtype)
    before = [g.copy() for g in grads]
    clipped, norm = fa.clip_by_global_norm(grads, 1.5)
    assert norm == pytest.approx(exact_norm(grads), rel=2.0**-52)  # rounded twice
    steps = {"float64": 4, "float32": 4, "float16": 2, "bfloat16": 2}[dtype.name]
    for g, old, new in zip(grads, before, clipped, strict=True):
        ops.assert_same_bits(g, old)
        assert new.dtype == dtype and new.shape == g.shape
        expected = old.astype(np.float64) * (1.5 / norm)
        eps = float(
            2.0 ** {"float64": -53, "float32": -24, "float16": -11, "bfloat16": -8}[dtype.name]
        )
        got = new.astype(np.float64)
        np.testing.assert_allclose(got, expected, rtol=steps * eps, atol=1e-7 if eps > 1e-4 else 0)
    same, norm = fa.clip_by_global_norm(grads, norm)
    assert all(a is b for a, b in zip(same, grads, strict=True))
    clipped_again, _ = fa.clip_by_global_norm(grads, 1.5, out=grads)
    assert all(a is b for a, b in zip(clipped_again, grads, strict=True))
    for a, b in zip(clipped, grads, strict=True):
        ops.assert_same_bits(a, b)


def test_clipping_agrees_with_pytorch():
    torch = pytest.importorskip("torch")
    grads = gradients(np.dtype(np.float64))
    parameters = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in grads]
    for p, g in zip(parameters, grads, strict=True):
        p.grad = torch.tensor(g.copy())
    norm = torch.nn.utils.clip_grad_norm_(parameters, 2.0)
    clipped, ours = fa.clip_by_global_norm(grads, 2.0)
    assert ours == pytest.approx(float(norm), rel=1e-14)
    for p, g in zip(parameters, clipped, strict=True):  # it divides by the norm plus 1e-6
        np.testing.assert_allclose(g, p.grad.numpy(), rtol=1e-6)


def test_a_long_sum_keeps_its_digits():
    """One large entry and many small ones that a plain float32 sum would lose."""
    x = np.full(1 << 20, 1e-3, np.float32)
    x[0] = 1e4
    _, norm = fa.clip_by_global_norm([x], 1.0)
    small = float(np.float32(1e-3))
    exact = math.sqrt(math.fsum([float(x[0]) ** 2, small**2 * (x.size - 1)]))
    assert norm == pytest.approx(exact, rel=1e-15)


@pytest.mark.parametrize("size", [1e300, 1e-300, 2.0**-1074])
def test_squares_may_leave_the_range(size):
    clipped, norm = fa.clip_by_global_norm([np.full(100, size)], size)
    assert norm == pytest.approx(10 * size, rel=1e-15)
    if size > 1e-307:
        np.testing.assert_allclose(clipped[0], size / 10, rtol=1e-15)


def test_the_norm_itself_may_leave_the_range():
    clipped, norm = fa.clip_by_global_norm([np.full(100, 1.7e308)], 1.0)
    assert norm == math.inf
    np.testing.assert_allclose(clipped[0], 0.1, rtol=1e-15)
    single, norm = fa.clip_by_global_norm([np.full(4, 3e38, np.float32)], 1.0)
    np.testing.assert_allclose(single[0], 0.5, rtol=1e-6)
    tiny, _ = fa.clip_by_global_norm([np.full(4, 3e38, np.float32)], 1e-3)
    np.testing.assert_allclose(tiny[0], 0.5e-3, rtol=1e-6)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_norm_that_is_not_finite_shows_everywhere(bad):
    clipped, norm = fa.clip_by_global_norm([np.ones(3), np.array([1.0, bad])], 1.0)
    assert not math.isfinite(norm)
    assert all(np.isnan(g).all() for g in clipped)


def test_clipping_of_nothing():
    assert fa.clip_by_global_norm([], 1.0) == ([], 0.0)
    clipped, norm = fa.clip_by_global_norm([np.zeros(3), np.zeros((0, 2))], 1.0)
    assert norm == 0 and clipped[0].tolist() == [0, 0, 0]


def test_clipping_refuses():
    good = [np.ones(3)]
    for limit in (0, -1.0, math.inf, math.nan, "1", None):
        with pytest.raises(ValueError, match="max_norm"):
            fa.clip_by_global_norm(good, limit)
    with pytest.raises(TypeError, match="list or tuple"):
        fa.clip_by_global_norm(np.ones(3), 1.0)
    with pytest.raises(TypeError, match=r"grads\[1\] has dtype complex128"):
        fa.clip_by_global_norm([np.ones(3), np.ones(3) * 1j], 1.0)
    with pytest.raises(ValueError, match="out must be 1"):
        fa.clip_by_global_norm(good, 1.0, out=[])
    for target in (np.ones(2), np.ones(3, np.float32), [1.0, 2.0, 3.0]):
        with pytest.raises(ValueError, match=r"out\[0\]"):
            fa.clip_by_global_norm(good, 1.0, out=[target])
