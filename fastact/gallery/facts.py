"""What is good and bad about an activation, read from its values and slopes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

import fastact as fa
from fastact.plotting.curves import evaluated
from fastact.training.gains import mean_square
from fastact.training.saturation import THRESHOLD

END = 40.0  # where activations have reached their limits, as far as slopes tell
POINTS = 16_001
TINY = 1e-12


@dataclass(frozen=True)
class Facts:
    """What matters for training, with default parameters."""

    low: float  # the range of values
    high: float
    limits: tuple[float, float]
    slope_limits: tuple[float, float]
    largest_slope: float
    least_slope: float
    dead: tuple[tuple[float, float], ...]  # where the slope is exactly 0
    saturated: tuple[float, float]  # |f'| < 1/128 below the first and above the second
    mean: float  # E[f(z)] of a standard normal z; nan where it is none
    kinks: tuple[float, ...]
    jumps: bool  # whether the value itself jumps
    odd: bool
    from_output: bool
    domain: tuple[float, float]  # where the op is defined

    @property
    def everywhere_flat(self) -> bool:
        return self.largest_slope == 0 == self.least_slope

    @property
    def on_the_whole_line(self) -> bool:
        return self.domain == (-math.inf, math.inf)


def runs(inside: Any, x: Any) -> tuple[tuple[float, float], ...]:
    """The intervals of x where a condition holds; single points are none."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(np.int8)))
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return tuple((float(x[a]), float(x[b - 1])) for a, b in pairs if b - a > 2)


def reached(flat: Any, x: Any) -> tuple[float, float]:
    """Up to where, and from where on, a condition holds at the two ends of the line."""
    first = int(np.argmin(flat)) if not flat.all() else 0
    last = len(x) - int(np.argmin(flat[::-1])) if not flat.all() else len(x)
    below = float(x[first - 1]) if first else -math.inf
    above = float(x[last]) if last < len(x) else math.inf
    return below, above


@cache
def facts(name: str) -> Facts:
    """The facts of an elementwise op."""
    op = fa.get(name)
    record = op.record
    kinks = tuple(sorted(set(evaluated(record, record.kinks, {}))))
    beside = [np.nextafter(k, end) for k in kinks for end in (-math.inf, math.inf)]
    x = np.unique([*np.linspace(-END, END, POINTS), *beside])
    with np.errstate(all="ignore"):
        y, slope = op(x), op.grad(x)
    known = np.isfinite(y) & np.isfinite(slope)
    domain = (
        -math.inf if known[0] else float(x[known.argmax()]),
        math.inf if known[-1] else float(x[len(x) - 1 - known[::-1].argmax()]),
    )
    sides = [
        (float(op(np.nextafter(k, -math.inf))), float(op(np.nextafter(k, math.inf)))) for k in kinks
    ]
    below, above = (tuple(evaluated(record, e, {})) for e in (record.limits, record.grad_limits))
    x, y, slope = x[known], y[known], slope[known]
    # at the edge of a domain values may have no bound, and the grid does not see it
    edges = [] if domain == (-math.inf, math.inf) else [-math.inf, math.inf]
    ends = [v for v in below if not math.isnan(v)] + edges
    with np.errstate(all="ignore"):
        mean = mean_of(op, record) if domain == (-math.inf, math.inf) else math.nan
    return Facts(
        min([float(y.min()), *ends]),
        max([float(y.max()), *ends]),
        below,  # type: ignore[arg-type]
        above,  # type: ignore[arg-type]
        float(slope.max()),
        float(slope.min()),
        runs(slope == 0, x),
        reached(np.abs(slope) < THRESHOLD, x),
        mean,
        kinks,
        any(abs(a - b) > 1e-6 for a, b in sides),
        is_odd(record),
        op.backward_from_output is not None,
        domain,
    )


def is_odd(record: Any) -> bool:
    """Whether f(-x) = -f(x) with default parameters."""
    if isinstance(record.odd, str):
        return bool(eval(record.odd, {"__builtins__": {}}, record.parameter_values()))
    return bool(record.odd)


def mean_of(op: Any, record: Any) -> float:
    """E[f(z)] = (E[(f(z) + 1)^2] - E[f(z)^2] - 1) / 2, by the quadrature of the gain."""
    one = mean_square(lambda z: op(z) + 1.0, record, {})
    return (one - mean_square(op, record, {}) - 1.0) / 2


def number(value: float) -> str:
    """A number as it is read: 0.25, −1.28, ∞."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.3g}".replace("-", "−") if abs(value) > TINY else "0"


Rule = tuple[Callable[[Facts], bool], Callable[[Facts], str]]


def finite(*values: float) -> bool:
    return all(map(math.isfinite, values))


def lifts(f: Facts) -> bool:
    """Whether the slope stays away from 0 at one end at least."""
    return any(abs(v) > THRESHOLD for v in f.slope_limits if not math.isnan(v))


STRENGTHS: tuple[Rule, ...] = (
    (
        lambda f: finite(f.low, f.high) and f.high > f.low,
        lambda f: (
            f"Bounded: values lie between {number(f.low)} and {number(f.high)}, whatever comes in."
        ),
    ),
    (
        lambda f: f.odd or abs(f.mean) < 1e-9,
        lambda f: "Centred: a normal input leaves with mean 0.",
    ),
    (
        lambda f: (
            not math.isnan(f.slope_limits[1]) and f.slope_limits[1] == 1 and not f.everywhere_flat
        ),
        lambda f: "Large positive inputs keep their whole gradient: the slope tends to 1.",
    ),
    (
        lambda f: f.on_the_whole_line and f.least_slope > THRESHOLD,
        lambda f: f"Never flat: the slope is at least {number(f.least_slope)}, so no unit can die.",
    ),
    (
        lambda f: not f.kinks,
        lambda f: "Smooth: neither the function nor its slope jumps.",
    ),
    (
        lambda f: f.from_output,
        lambda f: (
            "The slope is a function of the output, so the input need not be kept for training."
        ),
    ),
)
WEAKNESSES: tuple[Rule, ...] = (
    (
        lambda f: f.everywhere_flat,
        lambda f: "The slope is 0 everywhere: gradient descent learns nothing through it.",
    ),
    (
        lambda f: not f.everywhere_flat and bool(f.dead),
        lambda f: (
            f"Exactly flat {' and '.join(map(span, f.dead))}: a unit whose inputs all lie there "
            "gets no gradient and stays dead."
        ),
    ),
    (
        lambda f: not f.everywhere_flat and not f.dead and finite_side(f),
        lambda f: (
            f"Saturates {sides_of(f)}: the slope falls under 1/128, and gradients vanish there."
        ),
    ),
    (
        lambda f: 0 < f.largest_slope < 0.6,
        lambda f: (
            f"The slope is at most {number(f.largest_slope)}: each layer shrinks the gradient "
            f"at least {1 / f.largest_slope:.3g} times, unless the weights make up for it."
        ),
    ),
    (
        lambda f: f.largest_slope > 1.2 and lifts(f),
        lambda f: (
            f"The slope reaches {'any size' if f.largest_slope > 5 else number(f.largest_slope)}: "
            "gradients can grow from layer to layer."
        ),
    ),
    (
        lambda f: math.isfinite(f.mean) and abs(f.mean) > 0.1,
        lambda f: f"Not centred: a normal input leaves with mean {number(f.mean)}.",
    ),
    (
        lambda f: f.least_slope < 0 < f.largest_slope,
        lambda f: f"Not monotonic: the slope falls to {number(f.least_slope)}.",
    ),
    (
        lambda f: f.jumps,
        lambda f: f"The value jumps at {' and '.join(map(number, f.kinks))}.",
    ),
    (
        lambda f: bool(f.kinks) and not f.jumps,
        lambda f: (
            f"Not smooth: the slope or its change jumps at {' and '.join(map(number, f.kinks))}."
        ),
    ),
    (
        lambda f: not f.on_the_whole_line,
        lambda f: "Not defined on the whole line.",
    ),
)


def finite_side(f: Facts) -> bool:
    return any(map(math.isfinite, f.saturated))


def span(ends: tuple[float, float]) -> str:
    low, high = ends
    if low <= -END:
        return f"below {number(round(high, 1))}"
    if high >= END:
        return f"above {number(round(low, 1))}"
    return f"between {number(round(low, 1))} and {number(round(high, 1))}"


def sides_of(f: Facts) -> str:
    below, above = f.saturated
    parts = []
    if math.isfinite(below):
        parts.append(f"below {number(round(below, 1))}")
    if math.isfinite(above):
        parts.append(f"above {number(round(above, 1))}")
    return " and ".join(parts)


def told(rules: tuple[Rule, ...], name: str) -> list[str]:
    """What holds of an op, one sentence each."""
    f = facts(name)
    return [say(f) for holds, say in rules if holds(f)]
