"""An op as curves: its values and slopes on a grid, its kinks, limits and saturated regions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastact as fa
from fastact.training.saturation import THRESHOLD

Array = Any
SPAN = (-6.0, 6.0)  # where the shapes of the usual activations are seen
MARGIN = 2.0  # beyond a kink that lies outside
POINTS = 601
JUMP = 1e-3  # a smaller step between neighbours is drawn as a line

# Values of a parameter that show what it does; other parameters are halved and doubled.
FAMILIES: dict[str, tuple[float, ...]] = {
    "negative_slope": (0.01, 0.1, 0.3),
    "weight": (0.01, 0.25, 0.5),
    "alpha": (0.5, 1.0, 2.0),
    "beta": (0.5, 1.0, 2.0, 10.0),
    "steepness": (0.5, 1.0, 2.0, 5.0),
    "threshold": (-1.0, 0.0, 1.0),
}


@dataclass(frozen=True)
class Kink:
    """A place where the value or the slope jumps: what is left of it, at it and right of it."""

    x: float
    value: tuple[float, float, float]
    slope: tuple[float, float, float]


@dataclass(frozen=True)
class Curve:
    """One op with fixed parameters over a range; nan separates pieces that do not meet."""

    name: str
    label: str
    x: Array
    value: Array
    slope: Array
    kinks: tuple[Kink, ...]
    limits: tuple[float, float]  # at -inf and inf; nan where there is none
    saturated: tuple[tuple[float, float], ...]


def is_elementwise(name: str) -> bool:
    """Whether an op takes one input and has a derivative: what can be drawn as a curve."""
    op = fa.get(name)
    return getattr(op, "grad", None) is not None and hasattr(op.record, "limits")


def scope(record: Any, parameters: dict[str, float]) -> dict[str, Any]:
    """Names for the expressions of a record."""
    return {"inf": math.inf, "nan": math.nan} | record.parameter_values(**parameters)


def evaluated(record: Any, expressions: Sequence[str], parameters: dict[str, float]) -> list[float]:
    """Limits or kinks of a record, for these parameters."""
    names = scope(record, parameters)
    return [float(eval(e, {"__builtins__": {}}, names)) for e in expressions]


def span_of(name: str, parameters: dict[str, float]) -> tuple[float, float]:
    """Where an op is drawn unless it is said: around 0, its kinks, and where it is defined."""
    record = fa.get(name).record
    low, high = SPAN
    for kink in evaluated(record, record.kinks, parameters):
        low, high = min(low, kink - MARGIN), max(high, kink + MARGIN)
    with np.errstate(all="ignore"):
        grid = np.linspace(low, high, POINTS)
        defined = grid[np.isfinite(fa.get(name)(grid, **parameters))]
    if 0 < defined.size < POINTS:  # a domain that is a part of the line, and its edges
        step = grid[1] - grid[0]
        low, high = max(low, defined[0] - step), min(high, defined[-1] + step)
    return float(low), float(high)


def label_of(name: str, parameters: dict[str, float]) -> str:
    given = ", ".join(f"{p}={v:g}" for p, v in parameters.items())
    return f"{name}({given})" if given else name


def pieces(span: tuple[float, float], kinks: Sequence[float]) -> list[Array]:
    """A grid over the span, cut just left and right of every kink."""
    low, high = span
    inside = [k for k in kinks if low < k < high]
    starts = [low, *(np.nextafter(k, math.inf) for k in inside)]
    ends = [*(np.nextafter(k, -math.inf) for k in inside), high]
    grid = POINTS / (high - low)
    return [
        np.linspace(a, b, max(2, round(grid * (b - a)))) for a, b in zip(starts, ends, strict=True)
    ]


def joined(parts: list[Array], broken: list[bool]) -> Array:
    """The pieces one after another, a nan between those that do not meet."""
    out = [parts[0]]
    for part, gap in zip(parts[1:], broken, strict=True):
        out += [[np.nan], part] if gap else [part]
    return np.concatenate(out)


def regions(x: Array, slope: Array, threshold: float) -> tuple[tuple[float, float], ...]:
    """The intervals of x in which |slope| stays under the threshold, zero crossings left out."""
    inside = np.concatenate([[False], np.abs(slope) < threshold, [False]])
    edges = np.flatnonzero(np.diff(inside.astype(np.int8)))
    pairs = zip(edges[::2], edges[1::2] - 1, strict=True)
    return tuple(
        (float(x[a]), float(x[b]))
        for a, b in pairs
        if x[b] > x[a] and not slope[a : b + 1].min() < 0 < slope[a : b + 1].max()
    )


def curve(
    name: str,
    parameters: dict[str, float] | None = None,
    span: tuple[float, float] | None = None,
    threshold: float = THRESHOLD,
) -> Curve:
    """An elementwise op as a curve."""
    parameters = parameters or {}
    op = fa.get(name)
    span = span or span_of(name, parameters)
    corners = sorted(set(evaluated(op.record, op.record.kinks, parameters)))
    grids = pieces(span, corners)
    with np.errstate(all="ignore"):
        values = [op(g, **parameters) for g in grids]
        slopes = [op.grad(g, **parameters) for g in grids]
        kinks = []
        for k, (i, x) in enumerate((i, c) for i, c in enumerate(corners) if span[0] < c < span[1]):
            at = float(op(x, **parameters)), float(op.grad(x, **parameters))
            sides = (values[k][-1], values[k + 1][0]), (slopes[k][-1], slopes[k + 1][0])
            kinks.append(
                Kink(
                    corners[i],
                    (float(sides[0][0]), at[0], float(sides[0][1])),
                    (float(sides[1][0]), at[1], float(sides[1][1])),
                )
            )
    broken = [
        any(abs(part[0] - part[2]) > JUMP for part in (kink.value, kink.slope)) for kink in kinks
    ]
    flat = np.concatenate(grids), np.concatenate(slopes)
    return Curve(
        op.record.name,
        label_of(op.record.name, parameters),
        joined(grids, broken),
        joined(values, broken),
        joined(slopes, broken),
        tuple(kinks),
        tuple(evaluated(op.record, op.record.limits, parameters)),  # type: ignore[arg-type]
        regions(*flat, threshold),
    )


def family(name: str, parameter: str = "") -> list[dict[str, float]]:
    """Values of a parameter of an op that show what it does; its first one unless it is named.

    Raises
    ------
    ValueError
        If the op has no parameter, or none of that name.
    """
    record = fa.get(name).record
    known = {p.name: p for p in getattr(record, "parameters", ())}
    chosen = parameter or next(iter(known), "")
    if chosen not in known:
        has = f"has {', '.join(known)}" if known else "has no parameter"
        raise ValueError(f"plot: no family of {parameter or 'curves'!r}: {record.name} {has}")
    default = known[chosen].default
    around = (default / 2, default, default * 2) if default else (-1.0, 0.0, 1.0)
    return [{chosen: value} for value in FAMILIES.get(chosen, around)]
