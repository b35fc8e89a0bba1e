"""The oracle itself: derivatives against numerical differentiation, and known values."""

import numpy as np
import oracle
import pytest
import ulp
from mpmath import mp

DOMAIN = {"log1mexp": (0.05, 30.0), "logit": (0.02, 0.98)}
PARAMETERS = {
    "binary_step": (0.5,),
    "bipolar_step": (0.5,),
    "bipolar_sigmoid": (0.75,),
    "leaky_relu": (0.125,),
    "prelu": (0.125,),
    "threshold": (0.5, -2.0),
    "elu": (1.5,),
    "celu": (1.5,),
    "swish": (1.25,),
    "softplus": (0.75,),
    "hard_tanh": (-1.5, 2.0),
    "clipped_linear": (0.5, 0.25, -1.5, 2.0),
    "soft_shrink": (0.75,),
    "hard_shrink": (0.75,),
    "squareplus": (2.0,),
}


def points(name):
    low, high = DOMAIN.get(name, (-12.0, 12.0))
    return np.random.default_rng(7).uniform(low, high, 40).tolist()


@pytest.mark.parametrize("name", sorted(oracle.FORMULAS))
def test_derivative_is_the_derivative(name):
    formula, parameters = oracle.FORMULAS[name], PARAMETERS.get(name, ())
    for x in points(name):
        exact = oracle.evaluate(formula.grad, x, *parameters)
        with mp.workprec(600):
            h = mp.ldexp(1, -150)
            f = [formula.forward(x + s * h, *map(mp.mpf, parameters)) for s in (-1, 1)]
            slope = (f[1] - f[0]) / (2 * h)
            assert abs(slope - exact) <= mp.ldexp(1, -140) * (1 + abs(exact)), (name, x)


@pytest.mark.parametrize(
    "name", sorted(n for n, f in oracle.FORMULAS.items() if f.grad_from_output is not None)
)
def test_derivative_from_output_is_the_derivative(name):
    formula, parameters = oracle.FORMULAS[name], PARAMETERS.get(name, ())
    for x in points(name):
        y = oracle.evaluate(formula.forward, x, *parameters)
        exact = oracle.evaluate(formula.grad, x, *parameters)
        with mp.workprec(oracle.GUARD_BITS):
            from_output = formula.grad_from_output(y, *map(mp.mpf, parameters))
            assert abs(from_output - exact) <= mp.ldexp(1, -100), (name, x)


def test_selu_constants_are_the_printed_ones():
    with mp.workprec(oracle.GUARD_BITS):
        scale, alpha = oracle.selu_constants()
    assert float(scale) == 1.0507009873554805
    assert float(alpha) == 1.6732632423543772


def test_precision_survives_cancellation():
    # tanhshrink(x) = x^3/3 - ... : of x - tanh x, all of the first 2000 bits cancel
    with mp.workprec(oracle.GUARD_BITS):
        x = 2.0**-1000
        ratio = oracle.evaluate(oracle.FORMULAS["tanhshrink"].forward, x) / (mp.mpf(x) ** 3 / 3)
        assert abs(ratio - 1) < mp.ldexp(1, -100)
        x = -(2.0**500)
        ratio = oracle.evaluate(oracle.FORMULAS["squareplus"].forward, x, 4.0) * mp.mpf(2) ** 500
        assert abs(ratio - 1) < mp.ldexp(1, -100)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_ulp_error(dtype):
    info = np.finfo(dtype)
    one, eps, tiny = mp.mpf(1), mp.mpf(float(info.eps)), mp.mpf(float(info.smallest_subnormal))
    with mp.workprec(oracle.GUARD_BITS):
        above, below = one + eps / 2, one - eps / 2
    assert ulp.ulp_error(dtype(1), one, dtype) == 0
    assert ulp.ulp_error(dtype(1), above, dtype) == 0.5
    assert ulp.ulp_error(dtype(1), below, dtype) == 1.0  # the binade of the exact value
    assert ulp.ulp_error(dtype(0), tiny, dtype) == 1.0
    assert ulp.ulp_error(dtype(0), tiny / 4, dtype) == 0.25
    assert ulp.ulp_error(info.max, mp.inf, dtype) == 1.0
    assert ulp.ulp_error(dtype(np.inf), 2 * mp.mpf(float(info.max)), dtype) == 0
    assert ulp.ulp_error(dtype(np.inf), mp.mpf(float(info.max)), dtype) == 1.0
    assert ulp.ulp_error(dtype(np.nan), one, dtype) == np.inf
    assert ulp.ulp_error(-info.smallest_subnormal, tiny, dtype) == 2.0


def test_ulp_interval_error():
    ends = (mp.mpf(-1), mp.mpf(1))
    assert ulp.ulp_interval_error(np.float32(0.5), ends, np.float32) == 0
    assert ulp.ulp_interval_error(np.float32(1), ends, np.float32) == 0
    assert ulp.ulp_interval_error(np.nextafter(np.float32(1), np.float32(2)), ends, np.float32) == 1
    assert ulp.ulp_interval_error(np.float32(np.nan), ends, np.float32) == np.inf


def test_neighbours_cross_zero():
    tiny = np.float32(1e-45)
    assert ulp.neighbours(np.float32(0), [-2, -1, 0, 1], np.float32).tolist() == [
        -2 * tiny, -tiny, 0, tiny,
    ]  # fmt: skip
    assert ulp.neighbours(np.float64(-1), [1], np.float64)[0] == np.nextafter(-1, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_reach_everywhere(dtype):
    x = ulp.samples(dtype, 2000, around=[0.5])
    info = np.finfo(dtype)
    size = np.abs(x)
    assert x.dtype == dtype and np.isfinite(x).all()
    assert {0.0, info.max, -info.max, info.smallest_subnormal, 0.5} <= set(x.tolist())
    assert np.nextafter(dtype(0.5), dtype(1)) in x
    assert ((size > 0) & (size < info.smallest_normal)).sum() > 5
    for sign in (x > 0, x < 0):
        assert (sign & (size > 1e30)).sum() > 20
        assert (sign & (size > 2.0**-8) & (size < 24)).sum() > 400
    assert np.signbit(x[x == 0]).any()
