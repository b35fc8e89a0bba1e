"""What mpmath says about an op: the worst of a sweep, and a million float64 inputs."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sweep import EDGES, INPUT_ULPS, KEPT, Function, Tally

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import joins  # noqa: E402
import oracle  # noqa: E402
import ulp  # noqa: E402

from fastact.measure import reference  # noqa: E402
from fastact.registry import RECORDS  # noqa: E402

NEAR_ZERO = 1 / 4  # in parts of x, as in tests/test_accuracy.py
POINTS = 1_000_000
FEWER = 100_000  # for other parameters than the defaults
AROUND = 20  # points within so many units of a join, either side
Stretches = tuple[tuple[float, float], ...]


def zeros_of_derivative(call: Function) -> list[float]:
    """Where f' changes sign without a jump, from a scan of the float64 derivative."""
    x = np.concatenate([-np.geomspace(50, 1e-3, 20000), np.geomspace(1e-3, 50, 20000)])
    with np.errstate(all="ignore"):
        g = Function(call.op, "grad", call.parameters)(x)
    at = np.flatnonzero((g[:-1] * g[1:] < 0) & (np.abs(g[:-1] - g[1:]) < 0.01))
    return [float(x[i]) for i in at]


def near_zeros(call: Function) -> Stretches:
    """The stretches where a derivative is judged by what two units of x make; else none."""
    found = zeros_of_derivative(call) if call.direction == "grad" else []
    reach = [(z, NEAR_ZERO * abs(z)) for z in found]
    return tuple((z - r, z + r) for z, r in reach)


def inside(x: Any, stretches: Stretches) -> Any:
    found = np.zeros(x.shape, bool)
    for low, high in stretches:
        found |= (x > low) & (x < high)
    return found


def judged(call: Function, dtype: Any, x: Any) -> Any:
    """The errors of these inputs against mpmath."""
    with np.errstate(all="ignore"):
        got = call(x)
    formula = getattr(oracle.FORMULAS[call.op], call.formula)
    errors = []
    for v, y, near in zip(x, got, inside(x, near_zeros(call)) & np.isfinite(x), strict=True):
        if not np.isfinite(v):
            errors.append(0.0)
            continue
        error = ulp.ulp_error(y, oracle.evaluate(formula, float(v), *call.parameters), dtype)
        if near:
            around = ulp.neighbours(v, (-INPUT_ULPS, INPUT_ULPS), dtype).tolist()
            ends = [oracle.evaluate(formula, w, *call.parameters) for w in around]
            error = min(error, ulp.ulp_interval_error(y, (ends[0], ends[1]), dtype))
        errors.append(error)
    return np.array(errors)


def rounded_up(error: float) -> float:
    """To four digits after the point."""
    return math.ceil(float(error) * 1e4) / 1e4 if math.isfinite(error) else float(error)


def summary(x: Any, errors: Any) -> dict[str, Any]:
    if not x.size:
        return {"ulp": 0.0, "at": None}
    i = int(np.argmax(errors))
    return {"ulp": rounded_up(errors[i]), "at": float(x[i]).hex()}


def measure_single(call: Function, tally: Tally) -> dict[str, Any]:
    """The entry of a finished sweep: the worst inputs and the proxy judged by mpmath."""
    x = np.array([b for _, b in tally.worst], np.uint32).view(np.float32)
    entry = summary(x, judged(call, np.float32, x))
    sample = ulp.samples(np.float32, KEPT, seed=1).astype(np.float64)
    proxy = judged(call, np.float64, sample)
    return entry | {"histogram": tally.histogram, "proxy_ulp": rounded_up(proxy.max())}


def double_inputs(call: Function, count: int) -> Any:
    """Evenly over the line, dense at kinks, joins of pieces and zeros of f'."""
    record = RECORDS[call.op]
    names = dict(zip(record.parameter_values(), call.parameters, strict=True))
    kinks = [float(eval(k, {"__builtins__": {}}, names)) for k in record.kinks]
    rng = np.random.default_rng(0)
    centres = (*kinks, *zeros_of_derivative(call), -1.0, 1.0, 0.5)
    dense = [c + rng.normal(0, 0.1, count // 50) for c in centres]
    direction = "value_and_grad" if call.direction == "joint" else call.direction
    met = joins.joins(call.op, direction, "float64", call.parameters)
    steps = rng.integers(-AROUND, AROUND + 1, (met.size, 2 * AROUND))
    at_joins = (met.view(np.int64)[:, None] + steps).ravel().view(np.float64)
    x = np.concatenate([ulp.samples(np.float64, count, around=kinks), *dense, at_joins])
    return x[np.isfinite(x) & ~np.isin(x, kinks)]


def double_errors(got: Any, exact: Any) -> Any:
    """float64 results against extended precision; infinite where one of the two alone is nan."""
    past = np.ldexp(np.longdouble(1), 1024)
    got, exact = (np.clip(v.astype(np.longdouble), -past, past) for v in (got, exact))
    unit = np.spacing(np.minimum(np.abs(exact), np.finfo(np.float64).max).astype(np.float64))
    error = (np.abs(got - exact) / unit).astype(np.float64)
    return np.where(np.isnan(got) & np.isnan(exact), 0.0, np.where(np.isnan(error), np.inf, error))


def measure_double(call: Function, count: int = POINTS) -> dict[str, Any]:
    """A million float64 inputs in extended precision, the worst of them in mpmath."""
    x = double_inputs(call, count)
    near = inside(x, near_zeros(call))
    names = RECORDS[call.op].parameter_values()
    given = dict(zip(names, map(np.longdouble, call.parameters), strict=True))
    of = reference.value if call.formula == "forward" else reference.grad
    with np.errstate(all="ignore"):
        got, exact = call(x), of(call.op, "float64", x=x.astype(np.longdouble), **given)
        error = np.where(near, 0.0, double_errors(got, exact))
    worst = np.argsort(-error)[:KEPT]
    histogram = [int(np.count_nonzero(error <= e)) for e in EDGES] + [error.size]
    histogram = [h - b for h, b in zip(histogram, [0, *histogram[:-1]], strict=True)]
    # near a zero of f' every point is judged by mpmath, as far as there are few enough
    judged_x = np.concatenate([x[worst], x[near][: KEPT // 2]])
    entry = summary(judged_x, judged(call, np.float64, judged_x))
    return entry | {"histogram": histogram, "points": int(x.size)}
