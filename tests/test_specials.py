"""Infinities, nan, signed zeros, subnormals and the largest numbers."""

import math

import numpy as np
import ops
import oracle
import pytest
import ulp
from mpmath import mp

import fastact as fa

both = pytest.mark.parametrize(
    ("direction", "field"), [("forward", "limits"), ("grad", "grad_limits")]
)
every_dtype = pytest.mark.parametrize("dtype", ops.DTYPES, ids=str)
every_case = pytest.mark.parametrize("case", ops.all_cases(), ids=str)


@both
@every_dtype
@every_case
def test_infinities_give_the_limits(case, dtype, direction, field):
    x = np.array([-np.inf, np.inf]).astype(dtype)
    got = ops.function(case.op, direction)(x, *case.parameters)
    computing = dtype if dtype in ops.NATIVE else ops.SINGLE
    expected = np.array(case.values(getattr(case.record, field))).astype(computing).astype(dtype)
    assert got.dtype == dtype
    # bfloat16 does not compare nans as equal
    np.testing.assert_array_equal(got.astype(np.float64), expected.astype(np.float64))


@both
@every_case
def test_the_stated_limits_are_the_limits(case, direction, field):
    """Far out, the textbook formula is at the limit, or beyond every bound."""
    formula = getattr(oracle.FORMULAS[case.op], direction)
    far = float(np.finfo(np.float64).max)
    for x, limit in zip((-far, far), case.values(getattr(case.record, field)), strict=True):
        value = oracle.evaluate(formula, x, *case.parameters)
        if math.isnan(limit):
            assert mp.isnan(value), (x, value)
        elif math.isfinite(limit):
            assert float(value) == limit or abs(value - limit) < 1e-300, (x, limit)
        else:
            assert mp.sign(value) == mp.sign(limit) and abs(value) > 1e300, (x, limit)


@every_dtype
@pytest.mark.parametrize(("case", "direction"), ops.directed(ops.all_cases()), ids=str)
def test_nan_gives_nan(case, direction, dtype):
    one, nan = np.ones(3, dtype), np.full(3, np.nan).astype(dtype)
    arrays = ops.operands(direction, one)
    for i in range(len(arrays)):
        with_nan = [nan if i == j else one for j in range(len(arrays))]
        got = ops.function(case.op, direction)(*with_nan, *case.parameters)
        for result in ops.results(got):
            assert np.isnan(result.astype(np.float64)).all(), (direction, i, result)


@every_dtype
@pytest.mark.parametrize("case", [c for c in ops.all_cases() if c.odd], ids=str)
def test_odd_functions_keep_the_sign(case, dtype):
    f = ops.function(case.op, "forward")
    zero = np.array([0.0, -0.0]).astype(dtype)
    assert np.signbit(f(zero, *case.parameters)).tolist() == [False, True]
    x = ops.mixed(dtype, 2000)
    ops.assert_same_bits(f(-x, *case.parameters), -f(x, *case.parameters))


@every_case
def test_odd_is_stated_where_it_holds(case):
    forward = oracle.FORMULAS[case.op].forward
    with mp.workprec(oracle.GUARD_BITS):
        sums = [
            oracle.evaluate(forward, x, *case.parameters)
            + oracle.evaluate(forward, -x, *case.parameters)
            for x in (0.0, 0.375, 2.0, 9.5)
        ]
    assert case.odd == all(abs(s) < mp.ldexp(1, -100) for s in sums)


@every_dtype
@pytest.mark.parametrize(("case", "direction"), ops.directed(ops.all_cases()), ids=str)
def test_both_zeros_give_the_same_value(case, direction, dtype):
    zero, minus = (np.full(3, z).astype(dtype) for z in (0.0, -0.0))
    call = ops.function(case.op, direction)
    first, second = (
        ops.results(call(*ops.operands(direction, z), *case.parameters)) for z in (zero, minus)
    )
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ops.NATIVE, ids=str)
@every_case
def test_subnormals_are_not_flushed(case, dtype):
    """Where f(x) = cx near zero, subnormal x gives subnormal results."""
    info = np.finfo(dtype)
    x = np.array([1, 2, 3, 1000, 2**info.nmant - 1]) * np.float64(info.smallest_subnormal)
    x = np.concatenate([x, -x]).astype(dtype)
    values = ops.exact(case, dtype, "forward", x)
    got = ops.function(case.op, "forward")(x, *case.parameters)
    errors = ulp.ulp_errors(got, values)
    bound = case.record.accuracy[dtype.name].forward
    assert errors.max() <= bound, (x[errors.argmax()], got[errors.argmax()])


@pytest.mark.parametrize("dtype", ops.NATIVE, ids=str)
@every_case
def test_values_at_the_kinks(case, dtype):
    """At a kink, the value and the derivative of the chosen side, exactly as declared."""
    x = np.array(case.kinks or [0.0]).astype(dtype)
    for direction in ("forward", "grad"):
        got = ops.function(case.op, direction)(x, *case.parameters)
        values = ops.exact(case, dtype, direction, x)
        stated = getattr(case.record.accuracy[dtype.name], direction)
        assert ulp.ulp_errors(got, values).max() <= stated, (direction, x, got)


def jumps(case):
    """Where the oracle's value or derivative jumps, on a grid of eighths."""
    h = 2.0**-40
    found = set()
    for x in np.arange(-8, 8, 0.125).tolist():
        for direction in ("forward", "grad"):
            formula = getattr(oracle.FORMULAS[case.op], direction)
            left, right = (oracle.evaluate(formula, v, *case.parameters) for v in (x - h, x + h))
            if abs(right - left) > 1e-6:
                found.add(x)
    return found


@pytest.mark.parametrize("op", ops.ELEMENTWISE)
def test_kinks_are_stated_where_they_are(op):
    """Every jump is a stated kink; every stated kink jumps for some value of the parameters."""
    cases = [c for c in ops.all_cases() if c.op == op]
    found = [(jumps(case), set(case.kinks)) for case in cases]
    assert all(seen <= stated for seen, stated in found)
    assert len(fa.get(op).kinks) == max(len(seen) for seen, _ in found)
