"""How far fastact and its peers are from the exact value, over the floating-point line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastact.measure import reference
from fastact.measure.cases import Case
from fastact.measure.check import arrays_of, yardsticks
from fastact.measure.points import points
from fastact.measure.providers import PROVIDERS
from fastact.measure.ulp import ulp_error
from fastact.plotting.style import Theme, line

DIRECTIONS = {"forward": "f(x)", "backward": "f′(x)"}
SHOWN = ("fastact_serial", "numpy", "scipy", "torch_serial")
TITLES = tuple(PROVIDERS[name].title for name in SHOWN)
BINS = 72  # of the points on the axis; each shows the largest error in it
LEAST = 0.1  # where the axis of errors begins; exact results are drawn on it
WRONG = 1e20  # stands for infinite errors


@dataclass(frozen=True)
class Errors:
    """The largest errors of one provider in bins of x, in ULP."""

    provider: str
    x: Any
    ulp: Any


def along(x: Any) -> Any:
    """Where x lies on an axis that is linear up to 1 and logarithmic beyond."""
    a = np.abs(x)
    return np.copysign(np.where(a > 1, 1 + np.log10(np.maximum(a, 1)), a), x)


def binned(x: Any, ulp: Any) -> tuple[Any, Any]:
    """The largest error in each of equally wide bins of the axis, and where it is."""
    place = along(x)
    edges = np.linspace(place[0], place[-1], BINS + 1)[1:-1]
    groups = np.split(np.arange(x.size), np.searchsorted(place, edges))
    worst = [g[np.argmax(ulp[g])] for g in groups if g.size]
    return x[worst], ulp[worst]


def measured(op: str, direction: str, dtype: str) -> list[Errors]:
    """The errors of everyone who has the op in this direction."""
    case = Case(op, direction, dtype, ())
    x = points(op, dtype)
    ones = np.ones_like(x)
    with np.errstate(all="ignore"):
        y = reference.value(op, dtype, x=x).astype(x.dtype)
    names = {"x": x, "y": y, "dy": ones, "out": np.empty_like(x), "out2": np.empty_like(x)}
    exact = reference.reference(op, direction, dtype, names)
    if exact is None:
        return []
    found = []
    for provider in SHOWN:
        work = PROVIDERS[provider].build(case, lambda _, name: names[name])
        if work is None:
            continue
        with work.threads(), np.errstate(all="ignore"):
            (got,) = arrays_of(work.function()(), dtype)
            ulp = ulp_error(got, exact[0], dtype, *yardsticks(case, names)[0])
        wide, worst = binned(x.astype(np.float64), ulp)
        found.append(Errors(PROVIDERS[provider].title, wide, np.minimum(worst, WRONG)))
    return found


def draw(figure: Any, op: str, dtype: str, theme: Theme) -> None:
    """The errors of an op and of its derivative, one above the other."""
    panels = figure.subplots(2, 1, sharex=True)
    for axes, (direction, title) in zip(panels, DIRECTIONS.items(), strict=True):
        for errors in measured(op, direction, dtype):
            look = line(theme, TITLES.index(errors.provider), BINS)
            axes.plot(errors.x, np.maximum(errors.ulp, LEAST), label=errors.provider, **look)
        axes.axhline(1, color=theme.ink, linewidth=0.8, linestyle=":")
        axes.set_xscale("symlog", linthresh=1.0)
        axes.set_yscale("log")
        axes.set_ylim(LEAST, max(10.0, axes.get_ylim()[1]))
        axes.grid(True)
        axes.set_ylabel("error in ULP")
        axes.set_title(f"{op}: {title}, {dtype}")
        axes.legend(loc="best", fontsize=9)
    panels[1].set_xlabel("x (logarithmic beyond ±1)")
