"""Curves on axes: lines, shaded regions, kinks and limits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastact.plotting.curves import Curve
from fastact.plotting.style import Theme, line
from fastact.training.saturation import THRESHOLD

ROOM = 0.08  # of the height, left free above and below


def heights(curves: list[Curve], parts: tuple[str, ...]) -> tuple[float, float]:
    """The range of y: all values, but no taller than the range of x is wide."""
    drawn = np.concatenate([getattr(c, part) for c in curves for part in parts])
    drawn = drawn[np.isfinite(drawn)]
    wide = max(abs(float(v)) for c in curves for v in (c.x[0], c.x[-1]))
    low, high = max(drawn.min(), -wide), min(drawn.max(), wide)
    room = ROOM * max(high - low, 0.5)
    return float(low - room), float(high + room)


def frame(axes: Any, curves: list[Curve], parts: tuple[str, ...], theme: Theme) -> None:
    """The range, a grid, and the two lines through the origin."""
    axes.set_xlim(min(c.x[0] for c in curves), max(c.x[-1] for c in curves))
    axes.set_ylim(*heights(curves, parts))
    axes.grid(True)
    axes.set_xlabel("x")
    for draw in (axes.axhline, axes.axvline):
        draw(0, color=theme.ink, linewidth=0.8, alpha=0.6, zorder=1.5)


def shade(axes: Any, curve: Curve, theme: Theme) -> None:
    """Shade and hatch where the slope is next to nothing."""
    for k, (low, high) in enumerate(curve.saturated):
        axes.axvspan(
            low,
            high,
            facecolor=theme.shade,
            edgecolor=theme.faint,
            hatch="//",
            linewidth=0,
            zorder=0.5,
            label=f"saturated: |f′| < 1/{1 / THRESHOLD:.0f}" if k == 0 else None,
        )


def mark_kinks(axes: Any, curve: Curve, part: str, colour: str, theme: Theme) -> None:
    """A full dot for the value taken at a kink, open dots for the limits of its sides."""
    for kink in curve.kinks:
        axes.axvline(kink.x, color=theme.faint, linestyle=":", linewidth=1.2, zorder=1)
        left, at, right = getattr(kink, part)
        dot = {"marker": "o", "markersize": 5.5, "linestyle": "", "color": colour, "zorder": 4}
        for side in (left, right):
            if not math.isclose(side, at, abs_tol=1e-9):
                axes.plot([kink.x], [side], **dot | {"markerfacecolor": theme.paper})
        axes.plot([kink.x], [at], **dot)


def mark_limits(axes: Any, curve: Curve, theme: Theme) -> None:
    """The finite limits, as lines on their side with their value."""
    low, high = axes.get_xlim()
    bottom, top = axes.get_ylim()
    sides = ((low, (low, 0.0), "left", "−∞"), (high, (0.0, high), "right", "∞"))
    for value, (edge, ends, side, name) in zip(curve.limits, sides, strict=True):
        if not math.isfinite(value) or not bottom <= value <= top:
            continue
        axes.plot(ends, [value, value], color=theme.ink, linestyle=(0, (1, 2)), linewidth=1.1)
        # inside the frame: above the line, or below it where there is more room
        above = value < (bottom + top) / 2 or top - value > 0.12 * (top - bottom)
        axes.annotate(
            f"f({name}) = {value:g}".replace("-", "−"),
            (edge, value),
            xytext=(4 if side == "left" else -4, 3 if above else -3),
            textcoords="offset points",
            ha=side,
            va="bottom" if above else "top",
            fontsize=8,
            zorder=5,
        )


def draw_one(axes: Any, curve: Curve, theme: Theme, derivative: bool = True) -> None:
    """One op: the function, its derivative, and all that is special about them."""
    parts = ("value", "slope") if derivative else ("value",)
    frame(axes, [curve], parts, theme)
    shade(axes, curve, theme)
    mark_limits(axes, curve, theme)
    names = {"value": "f(x)", "slope": "f′(x)"}
    for k, part in enumerate(parts):
        look = line(theme, k, len(curve.x)) | ({"marker": ""} if k == 0 else {"markersize": 3.5})
        axes.plot(curve.x, getattr(curve, part), label=names[part], zorder=3, **look)
        mark_kinks(axes, curve, part, theme.lines[k], theme)
    axes.legend(loc="best", fontsize=9)


def draw_several(axes: Any, curves: list[Curve], part: str, theme: Theme) -> None:
    """The functions, or the derivatives, of several ops on one pair of axes."""
    frame(axes, curves, (part,), theme)
    for k, curve in enumerate(curves):
        look = line(theme, k, len(curve.x))
        axes.plot(curve.x, getattr(curve, part), label=curve.label, zorder=3 - 0.01 * k, **look)
        mark_kinks(axes, curve, part, theme.lines[k % len(theme.lines)], theme)


def mark_saturation_rows(axes: Any, curves: list[Curve], theme: Theme) -> None:
    """Under several derivatives: a bar per op, where it is saturated."""
    low, high = axes.get_ylim()
    step = 0.035 * (high - low)
    axes.set_ylim(low - step * (len(curves) + 1), high)
    for k, curve in enumerate(curves):
        y = low - step * (k + 1)
        for start, end in curve.saturated:
            axes.plot(
                [start, end],
                [y, y],
                color=theme.lines[k % len(theme.lines)],
                linewidth=4,
                alpha=0.75,
                solid_capstyle="butt",
            )
        axes.plot([curve.x[0]], [y], clip_on=False, **line(theme, k, 1) | {"linestyle": ""})
