"""Errors where an implementation goes from one piece to the next, and at kinks: one unit around."""

import joins
import numpy as np
import ops
import oracle
import pytest
import ulp
from test_accuracy import assert_within, errors_near_zeros

import fastact as fa
from fastact.activations.directions import program

FEW = 40  # joins of one function: those of small arguments, and some of the many others
by_dtype = pytest.mark.parametrize("dtype", ops.NATIVE, ids=str)


def chosen(found):
    """The joins nearest to 0, and others evenly among the rest."""
    found = found[np.argsort(np.abs(found), kind="stable")]
    rest = np.linspace(FEW // 2, max(found.size - 1, FEW // 2), FEW // 2).astype(int)
    return found if found.size <= FEW else found[np.unique([*range(FEW // 2), *rest])]


def points(case, dtype, direction):
    """Three numbers at each join and kink."""
    found = joins.joins(case.op, direction, dtype.name, case.rounded(dtype))
    centres = np.concatenate([chosen(found), np.array(case.kinks, dtype)])
    near = [ulp.neighbours(c, (-1, 0, 1), dtype) for c in centres]
    return np.unique(np.concatenate([*near, np.zeros(1, dtype)])).astype(dtype)


@by_dtype
@pytest.mark.parametrize("direction", ["forward", "grad"])
@pytest.mark.parametrize("case", ops.all_cases(), ids=str)
def test_errors_at_joins_and_kinks(case, direction, dtype):
    x = points(case, dtype, direction)
    x = x[np.isfinite(x)]
    got = ops.function(case.op, direction)(x, *case.parameters)
    values = ops.exact(case, dtype, direction, x)
    errors = ulp.ulp_errors(got, values)
    if direction == "grad":
        errors = errors_near_zeros(case, dtype, x, got, values, errors)
    assert_within(getattr(case.record.accuracy[dtype.name], direction), errors, x, got, values)


@by_dtype
@pytest.mark.parametrize("case", [c for c in ops.all_cases() if c.record.joint], ids=str)
def test_errors_of_joint_forms_at_joins(case, dtype):
    x = points(case, dtype, "value_and_grad")
    got, _ = ops.function(case.op, "value_and_grad")(x, *case.parameters)
    values = ops.exact(case, dtype, "forward", x)
    bound = case.record.accuracy[dtype.name].forward
    assert_within(bound, ulp.ulp_errors(got, values), x, got, values)


@by_dtype
@pytest.mark.parametrize("case", ops.default_cases(), ids=str)
def test_every_kink_is_a_join(case, dtype):
    """What the record calls a kink is a condition of the source, found without being told."""
    found = np.concatenate(
        [joins.joins(case.op, d, dtype.name, case.rounded(dtype)) for d in ("forward", "grad")]
    )
    for kink in np.array(case.kinks, dtype):
        assert np.isin(ulp.neighbours(kink, (0, 1), dtype), found).any(), kink


def test_pieces_of_the_exponential():
    """Between two joins of elu the exponent n is the same: they lie at odd halves of ln 2."""
    found = joins.joins("elu", "grad", "float64", (1.0,))
    found = found[(found > -700) & (found < 0)] / np.log(2)
    np.testing.assert_allclose(found, np.rint(found - 0.5) + 0.5, atol=1e-9)
    assert found.size == 1010


@by_dtype
def test_the_watched_source_computes_the_op(dtype):
    """Running a source on arrays gives the function, but for rounding."""
    x = np.linspace(-20, 20, 4001).astype(dtype)
    for op in ("tanh", "gelu", "mish", "softplus", "elu"):
        case = ops.Case(op, fa.get(op).defaults)
        (source,) = program(fa.get(op).record, joins.DIRECTIONS["forward"]).sources.values()
        parameters = [dtype.type(p) for p in case.parameters]
        with np.errstate(over="ignore"):  # both sides of a choice are computed
            got = joins.specialize(source, dtype.name, joins.WATCHED)(x, *parameters)
        np.testing.assert_allclose(
            got, getattr(fa, op)(x), rtol=8 * float(np.finfo(dtype).eps), atol=1e-300
        )


def test_joins_differ_from_what_is_below():
    """At thresholds of clipped_linear that are easily found: 3.5 + 2**-51 still rounds to max."""
    parameters = (0.5, 0.25, -1.0, 2.0)
    found = joins.joins("clipped_linear", "forward", "float64", parameters)
    assert found.tolist() == [-2.5, 3.5 + 2.0**-50]
    formula = oracle.FORMULAS["clipped_linear"].forward
    assert oracle.evaluate(formula, -2.5, *parameters) == -1
