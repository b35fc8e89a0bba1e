"""The measuring harness: what it builds and how it judges, without timing anything."""

import mpmath
import numpy as np
import pytest

import fastact as fa
from fastact.measure import normal, reference
from fastact.measure.cases import Case, cases_of, size_name
from fastact.measure.catalogue import (
    directions_of,
    is_loss,
    is_measured,
    is_paired,
    operations,
)
from fastact.measure.check import PROVIDERS_CHECKED, arrays_of, check
from fastact.measure.expressions import with_out
from fastact.measure.operands import operand
from fastact.measure.providers import PROVIDERS, works_of
from fastact.measure.ulp import spacing, ulp_error

OPERATIONS = tuple(filter(is_measured, operations()))
PAIRED = tuple(filter(is_paired, operations()))
OURS = ("fastact_serial", "fastact_parallel")


def test_spacing_is_numpys():
    x = np.array([1.0, 1.5, 2.0, 3e38, 1e-45, 1.2e-38, 0.1], np.float32)
    assert np.array_equal(spacing(x.astype(np.float64), "float32"), np.spacing(x))


def test_ulp_error_of_specials():
    exact = np.array([np.inf, -np.inf, np.nan, 1.0, 1e39, 0.0], np.float64)
    got = np.array([np.inf, np.inf, np.nan, np.nan, np.inf, 0.0], np.float32)
    assert list(ulp_error(got, exact, "float32")) == [0, np.inf, 0, np.inf, 0, 0]


def test_ulp_error_counts_units():
    one = np.float32(1)
    got = np.array([np.nextafter(one, np.float32(2)), 1 - 2.0**-24], np.float32)
    assert list(ulp_error(got, np.ones(2), "float32")) == [1.0, 0.5]


def test_out_goes_to_single_ufunc_calls_only():
    assert with_out("np.tanh(x)", np=np) == "np.tanh(x, out=out)"
    assert with_out("1 / (1 + np.exp(-x))", np=np) == "1 / (1 + np.exp(-x))"
    assert with_out("np.where(x > 0, x, 0)", np=np) == "np.where(x > 0, x, 0)"
    assert with_out("(x > 0).astype(x.dtype)", np=np) == "(x > 0).astype(x.dtype)"


def test_complex_step_is_the_derivative():
    x = np.array([-600.0, -30.0, -1.0, -1e-3, 1e-3, 1.0, 30.0])
    exact = 1 / (2 * np.cosh(x.astype(np.longdouble) / 2)) ** 2
    assert np.allclose(reference.grad("sigmoid", "float64", x), exact, rtol=1e-15, atol=0)


def test_normal_distribution_is_exact():
    """Against mpmath, in units of float64: real arguments, and the slope by a complex step."""
    x = np.array([-36.5, -20.3, -5.1, -1.6, -1.5, -1.4, -1e-3, 1e-9, 1.0, 1.7, 8.0])
    with mpmath.workdps(40):
        for v, g in zip(x.tolist(), normal.ndtr(x.astype(np.longdouble)), strict=True):
            high = float(g)
            got = high + mpmath.mpf(float(g - high))
            assert abs(got / mpmath.ncdf(v) - 1) < 1e-16
    slope = np.imag(normal.ndtr(x + 1j * reference.STEP)) / reference.STEP
    exact = [float(mpmath.npdf(v)) for v in x.tolist()]
    np.testing.assert_allclose(slope.astype(float), exact, rtol=3e-16)


@pytest.mark.parametrize(("size", "name"), [(16, "16"), (16384, "16 Ki"), (1 << 24, "16 Mi")])
def test_size_names(size, name):
    assert size_name(size) == name


@pytest.mark.parametrize("op", OPERATIONS)
def test_every_provider_computes_the_right_shape(op):
    for direction in directions_of(op):
        for case in cases_of(op, direction, "float32", 1 << 10):
            for work in works_of(case).values():
                with work.threads(), np.errstate(all="ignore"):
                    result = work.function()()
                if result is not None:  # a copy returns nothing
                    parts = result if isinstance(result, tuple) else (result,)
                    shapes = [case.shape_of(name) for name in case.results]
                    expected = [(), *shapes] if is_loss(op) else shapes
                    assert [tuple(np.shape(part)) for part in parts] == expected


@pytest.mark.parametrize("op", OPERATIONS)
def test_fastact_is_as_exact_as_stated(op):
    for direction in directions_of(op):
        for verdict in check(op, direction, "float32", OURS):
            assert verdict.passed, verdict


@pytest.mark.parametrize("op", PAIRED)
def test_forms_of_ops_of_two_arrays_compute_them(op):
    """Those of every library, in float64: where they do not cancel they have nearly all digits."""
    for direction in directions_of(op):
        (case,) = cases_of(op, direction, "float64", 1 << 11)
        found = {}
        for name in PROVIDERS_CHECKED:
            work = PROVIDERS[name].build(case, lambda c, n: np.maximum(operand(c, n), -2.0))
            if work is not None:
                with work.threads():
                    found[name] = arrays_of(work.function()(), "float64")
        assert {"fastact_serial", "numpy", "torch_serial"} <= set(found)
        for results in found.values():
            for got, ours in zip(results, found["fastact_serial"], strict=True):
                np.testing.assert_allclose(got, ours, rtol=1e-5, atol=1e-11)


@pytest.mark.parametrize("op", ["sigmoid", "gelu", "logit"])
def test_every_library_is_measured(op):
    """Forward and backward, JAX in double precision where that is asked for."""
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    for direction in ("forward", "backward"):
        for dtype, digits in (("float32", 23), ("float64", 52)):
            found = {v.provider: v.ulp for v in check(op, direction, dtype)}
            assert set(PROVIDERS_CHECKED) - set(found) <= {
                "scipy",
                "numpy_stable",
                "torch_autograd",
            }
            assert all(error >= 0 for error in found.values())
            given = {"x": np.linspace(0.1, 0.9, 5).astype(dtype), "dy": np.ones(5, dtype)}
            case = Case(op, direction, dtype, (5,))
            work = PROVIDERS["jax"].build(case, lambda _, name, given=given: given[name])
            with work.threads():
                (got,) = arrays_of(work.function()(), dtype)
            function = getattr(fa, op if direction == "forward" else f"{op}_grad")
            np.testing.assert_allclose(got, function(given["x"]), rtol=2.0 ** (4 - digits))


def test_a_provider_without_the_op_gives_no_work():
    assert PROVIDERS["scipy"].build(Case("relu", shape=(16,)), operand) is None
