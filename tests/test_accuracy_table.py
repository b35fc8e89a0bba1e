"""What the records state about accuracy is what the exhaustive lane measured (ci/exhaustive.sh)."""

import json
import sys
from pathlib import Path

import numpy as np
import ops
import oracle
import pytest

import fastact as fa

pytest.importorskip("numba")
pytest.importorskip("rich")
CI = Path(__file__).resolve().parents[1] / "ci"
if not (CI / "exhaustive.py").exists():
    pytest.skip("only in the repository", allow_module_level=True)
sys.path.append(str(CI))

import exhaustive  # noqa: E402
import judge  # noqa: E402
import statements  # noqa: E402
import sweep  # noqa: E402

MEASURED = json.loads(exhaustive.TABLE.read_text())
EXHAUSTED = tuple(exhaustive.RECORDS)  # the ops of one input
FIELDS = tuple(statements.FIELDS)
every_op = pytest.mark.parametrize("op", EXHAUSTED)
every_field = pytest.mark.parametrize(
    ("op", "dtype", "field"),
    [(op, d.name, field) for op in EXHAUSTED for d in ops.NATIVE for field in FIELDS],
)


@every_field
def test_the_statement_is_the_measurement(op, dtype, field):
    """Not better than what was measured, and no looser than twice that: exact means exact."""
    stated = getattr(fa.get(op).accuracy[dtype], field)
    measured = statements.measured(MEASURED[op], dtype, field)
    assert measured <= stated <= 2 * measured


@every_field
def test_the_statement_keeps_the_promise(op, dtype, field):
    """One unit for elementary functions, two for composites and derivatives."""
    assert getattr(fa.get(op).accuracy[dtype], field) <= statements.bound(op, dtype, field)


def test_the_statements_are_fresh():
    assert not statements.differences(), "run python ci/statements.py"


@every_op
def test_the_measurement_is_of_this_implementation(op):
    measured = exhaustive.current(op, MEASURED[op])
    assert measured["fingerprint"] == exhaustive.fingerprint(op), (
        f"{op} computes other values than those measured: run ci/exhaustive.sh {op}"
    )


@every_op
def test_every_input_was_counted(op):
    for entry in statements.implementations(MEASURED[op]):
        check_counts(op, entry)


def check_counts(op, entry):
    assert [tuple(o["parameters"]) for o in entry["others"]] == exhaustive.others(op)
    for direction in exhaustive.directions(op):
        single, double = entry["float32"][direction], entry["float64"][direction]
        assert sum(single["histogram"]) == 1 << 32
        assert single["proxy_ulp"] <= 2
        assert sum(double["histogram"]) == double["points"] >= judge.POINTS
        for other in entry["others"]:
            assert sum(other["float32"][direction]["histogram"]) == (1 << 32) // exhaustive.SPARSE


def test_both_implementations_are_measured_where_there_are_two():
    two = {op for op in EXHAUSTED if len(statements.implementations(MEASURED[op])) == 2}
    assert two == {op for op in EXHAUSTED if exhaustive.looks_up(op)} >= {"gelu"}


def test_no_op_is_measured_that_is_gone():
    assert set(MEASURED) == set(EXHAUSTED)


class Wrong:
    """A function with one wrong value."""

    op, direction, parameters, formula = "tanh", "forward", (), "forward"

    def __call__(self, x, out=None):
        y = fa.tanh(x, out=out)
        if x.dtype == np.float32:
            y[x == np.float32(0.75)] = np.float32(0.25)
        return y


def test_a_sweep_finds_one_wrong_value_among_all():
    """0.75 is in the chunk 0x3f; all other values of the chunk are within a unit."""
    number = int(np.float32(0.75).view(np.uint32)) // sweep.CHUNK
    tally = sweep.Tally(chunk=number)
    tally.merge(sweep.Sweep(Wrong()).chunk(number, 0.0))
    assert tally.chunk == number + 1 and sum(tally.histogram) == sweep.CHUNK
    assert tally.histogram[-1] == 1
    (error, bits), (next_error, _) = tally.worst[:2]
    assert np.array(bits, np.uint32).view(np.float32) == 0.75
    assert error == pytest.approx((np.tanh(0.75) - 0.25) * 2**24, rel=1e-6) and next_error <= 1
    assert judge.judged(Wrong(), np.float32, np.array([0.75], np.float32)) == pytest.approx(error)


def test_errors_of_specials():
    got = np.array([np.inf, np.nan, np.nan, 1.0, np.inf, -np.inf, 1e-45, 1.0], np.float32)
    exact = np.array([np.inf, np.nan, 1.0, np.nan, 2.0**128, 1e300, 0.0, 1 + 2.0**-24])
    errors = np.empty(got.size)
    sweep.errors_of(got, exact, errors)
    assert errors.tolist() == [0, 0, np.inf, np.inf, 0, 2.0**25, 1, 0.5]
    counts = np.zeros(len(sweep.EDGES), np.int64)
    assert sweep.count(got, exact, counts) == np.inf
    assert counts.tolist() == [5, 4, 3, 3]


def test_zeros_of_derivatives_are_found():
    for op in EXHAUSTED:
        call = sweep.Function(op, "grad", fa.get(op).defaults)
        for zero in judge.zeros_of_derivative(call):
            grad = oracle.FORMULAS[op].grad
            left, right = (
                oracle.evaluate(grad, zero * (1 + d), *call.parameters) for d in (-0.01, 0.01)
            )
            assert left * right < 0
    assert len(judge.zeros_of_derivative(sweep.Function("swish", "grad", (1.0,)))) == 1
    assert judge.zeros_of_derivative(sweep.Function("relu", "grad")) == []
