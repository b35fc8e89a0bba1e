"""Errors against the oracle stay within what the record states."""

import itertools

import numpy as np
import ops
import oracle
import pytest
import ulp
from mpmath import mp

from fastact.activations.directions import DIRECTIONS

POINTS = 2000
# A few roundings: 1 - y or its like, the products; each half a unit, a whole one in the next
# lower binade. They seldom add up.
FROM_OUTPUT_BOUND = 3.0
# "Near a zero of f'": where f' changes sign within this part of x. There f' loses digits in
# proportion to 1 / distance, whatever the method, unless x itself has more digits.
NEAR_ZERO = 1 / 4  # inside, an ulp of x moves the derivative of swish by three ulp and more
INPUT_ULPS = 2


def sign_changes(x, values, kinks):
    """Brackets of the zeros where a derivative changes sign without a jump."""
    order = np.argsort(x, kind="stable")
    for i, j in itertools.pairwise(order):
        low, high = float(x[i]), float(x[j])
        if mp.sign(values[i]) * mp.sign(values[j]) < 0 and not any(low <= k <= high for k in kinks):
            yield low, high


def errors_near_zeros(case, dtype, x, got, values, errors):
    """Errors with those near a zero of f' measured against f' of x moved by INPUT_ULPS."""
    near = np.zeros(x.size, bool)
    for low, high in sign_changes(x, values, case.kinks):
        reach = NEAR_ZERO * max(abs(low), abs(high))
        near |= (x > low - reach) & (x < high + reach)
    for i in np.flatnonzero(near):
        ends = ulp.neighbours(x[i], (-INPUT_ULPS, INPUT_ULPS), dtype)
        interval = ops.exact(case, dtype, "grad", ends)
        errors[i] = min(errors[i], ulp.ulp_interval_error(got[i], (*interval,), dtype))
    return errors


def assert_within(bound, errors, x, got, values):
    i = int(np.argmax(errors))
    assert errors[i] <= bound, (
        f"{errors[i]:.3g} ulp at x = {x[i]!r} ({float(x[i]).hex()}): got {got[i]!r}, "
        f"exactly {mp.nstr(values[i], 20)}; {np.sum(errors > bound)} of {x.size} exceed {bound}"
    )


@pytest.mark.parametrize("op", ops.ELEMENTWISE)
def test_oracle_knows_the_op(op):
    formula = oracle.FORMULAS[op]
    assert ops.function(op, "backward_from_output") is None or formula.grad_from_output is not None


@pytest.mark.parametrize("dtype", ops.NATIVE, ids=str)
@pytest.mark.parametrize("case", ops.all_cases(), ids=str)
def test_forward(case, dtype):
    x = ops.inputs(case, dtype, POINTS)
    got = ops.function(case.op, "forward")(x, *case.parameters)
    values = ops.exact(case, dtype, "forward", x)
    assert got.dtype == dtype
    bound = case.record.accuracy[dtype.name].forward
    assert_within(bound, ulp.ulp_errors(got, values), x, got, values)


@pytest.mark.parametrize("dtype", ops.NATIVE, ids=str)
@pytest.mark.parametrize("case", ops.all_cases(), ids=str)
def test_grad(case, dtype):
    x = ops.inputs(case, dtype, POINTS)
    got = ops.function(case.op, "grad")(x, *case.parameters)
    values = ops.exact(case, dtype, "grad", x)
    assert got.dtype == dtype
    errors = errors_near_zeros(case, dtype, x, got, values, ulp.ulp_errors(got, values))
    assert_within(case.record.accuracy[dtype.name].grad, errors, x, got, values)


@pytest.mark.parametrize("dtype", ops.NATIVE, ids=str)
@pytest.mark.parametrize("case", ops.all_cases(), ids=str)
def test_backward_is_dy_times_grad(case, dtype):
    dy, x = ops.operands("backward", ops.inputs(case, dtype, POINTS))
    grad = ops.function(case.op, "grad")(x, *case.parameters)
    got = ops.function(case.op, "backward")(dy, x, *case.parameters)
    with np.errstate(all="ignore"):
        ops.assert_same_bits(got, dy * grad)


@pytest.mark.parametrize("dtype", ops.NATIVE, ids=str)
@pytest.mark.parametrize("case", ops.all_cases(), ids=str)
def test_value_and_grad_are_value_and_grad(case, dtype):
    """Bit by bit; where an op computes the two in a way of its own, within the same bounds."""
    x = ops.inputs(case, dtype, POINTS)
    value, grad = ops.function(case.op, "value_and_grad")(x, *case.parameters)
    ops.assert_same_bits(grad, ops.function(case.op, "grad")(x, *case.parameters))
    if case.record.joint is None:
        ops.assert_same_bits(value, ops.function(case.op, "forward")(x, *case.parameters))
    else:
        values = ops.exact(case, dtype, "forward", x)
        bound = case.record.accuracy[dtype.name].forward
        assert_within(bound, ulp.ulp_errors(value, values), x, value, values)


@pytest.mark.parametrize("dtype", ops.NATIVE, ids=str)
@pytest.mark.parametrize(
    "case", [c for c in ops.all_cases() if "backward_from_output" in c.directions], ids=str
)
def test_backward_from_output(case, dtype):
    x = ops.inputs(case, dtype, POINTS // 2)
    y = ops.function(case.op, "forward")(x, *case.parameters)
    dy, y = ops.operands("backward", y[np.isfinite(y)])
    got = ops.function(case.op, "backward_from_output")(dy, y, *case.parameters)
    formula = oracle.FORMULAS[case.op].grad_from_output
    parameters = case.rounded(dtype)
    with mp.workprec(oracle.GUARD_BITS):
        values = [
            mp.mpf(d) * oracle.evaluate(formula, v, *parameters)
            for d, v in zip(dy.tolist(), y.tolist(), strict=True)
        ]
    assert_within(FROM_OUTPUT_BOUND, ulp.ulp_errors(got, values), y, got, values)


def every_value(dtype):
    return np.arange(1 << 16, dtype=np.uint16).view(dtype)


def rounded(outcome, dtype):
    with np.errstate(all="ignore"):
        return tuple(r.astype(dtype) for r in ops.results(outcome))


@pytest.mark.parametrize("dtype", ops.HALVES, ids=str)
@pytest.mark.parametrize(("case", "direction"), ops.directed(ops.all_cases()), ids=lambda v: str(v))
def test_half_is_the_rounded_single(case, direction, dtype):
    """All 65,536 values; the float32 results are checked against the oracle above."""
    with np.errstate(all="ignore"):  # signalling nans
        half = ops.operands(direction, every_value(dtype))
        single = [a.astype(np.float32) for a in half]
    call = ops.function(case.op, direction)
    got = call(*half, *case.parameters)
    expected = call(*single, *case.parameters)
    assert len(ops.results(got)) == len(DIRECTIONS[direction].outputs)
    ops.assert_same_bits(got, rounded(expected, dtype))
