"""The figures: one op, several, a family of parameters, the sigmoids, errors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from inspect import signature
from typing import Any

import numpy as np

import fastact as fa
from fastact.plotting.curves import Curve, curve, is_elementwise, span_of
from fastact.plotting.drawing import draw_one, draw_several, frame, mark_saturation_rows
from fastact.plotting.style import Theme, line
from fastact.training.saturation import THRESHOLD

Request = tuple[str, dict[str, float]]  # an op and its parameters
ROW = (1.0, -1.0)  # the fixed entries of a row whose first entry moves
CLASSES = (0, 1, 2)  # of that row
TARGETS = (0.0, 0.5, 1.0)
# Values of one array of an op of two, while the other moves.
FIXED = {"a": (-1.0, 1.0, 2.0), "weight": (0.0, 0.25, 0.5), "b": (-2.0, 0.0, 2.0)}


def curves_of(requests: Sequence[Request], span: tuple[float, float] | None) -> list[Curve]:
    """All curves over one range."""
    if span is None:
        spans = [span_of(*request) for request in requests]
        span = min(s[0] for s in spans), max(s[1] for s in spans)
    return [curve(name, parameters, span) for name, parameters in requests]


def one(figure: Any, request: Request, span: Any, theme: Theme, derivative: bool) -> None:
    """One op with all that is special about it."""
    axes = figure.subplots()
    (drawn,) = curves_of([request], span)
    draw_one(axes, drawn, theme, derivative)
    axes.set_title(f"{drawn.label}:  {fa.get(request[0]).formula}", fontsize=10)


def several(
    figure: Any, requests: list[Request], span: Any, theme: Theme, derivative: bool
) -> None:
    """Several ops: the functions on the left, the derivatives on the right."""
    curves = curves_of(requests, span)
    panels = figure.subplots(1, 2 if derivative else 1, squeeze=False)[0]
    titles = {"value": "f(x)", "slope": "f′(x)"}
    for axes, part in zip(panels, titles, strict=False):
        draw_several(axes, curves, part, theme)
        axes.set_title(titles[part])
    panels[0].legend(loc="best", fontsize=9)
    if derivative:
        mark_saturation_rows(panels[1], curves, theme)
        panels[1].set_xlabel(f"x;  bars: saturated, |f′| < 1/{1 / THRESHOLD:.0f}")


def sigmoids(figure: Any, theme: Theme) -> None:
    """How the binary and the bipolar sigmoid and tanh are one curve, moved and stretched."""
    left, right = figure.subplots(1, 2)
    span = (-6.0, 6.0)
    curves = [
        curve("sigmoid", span=span),
        curve("bipolar_sigmoid", {"steepness": 1.0}, span),
        curve("bipolar_sigmoid", {"steepness": 2.0}, span),
        curve("tanh", span=span),
    ]
    frame(left, curves, ("value",), theme)
    for k, c in enumerate(curves[:3]):
        left.plot(c.x, c.value, label=c.label, **line(theme, k, len(c.x)) | {"marker": ""})
    x = np.linspace(*span, 25)
    dots = {"linestyle": "", "color": theme.ink, "markerfacecolor": theme.paper, "markersize": 5}
    left.plot(x, 2 * fa.sigmoid(x) - 1, marker="o", label="2 sigmoid(x) − 1", **dots)
    left.plot(x, fa.tanh(x), marker="s", label="tanh(x)", **dots)
    left.legend(loc="lower right", fontsize=8.5)
    left.set_title("bipolar_sigmoid(x) = 2 sigmoid(x) − 1 = tanh(x/2)")

    pair = [curves[0], curves[3]]
    draw_several(right, pair, "slope", theme)
    for c, side in zip(pair, (1.9, 0.25), strict=True):
        peak = float(np.nanmax(c.slope))
        right.text(side, peak + 0.02, f"largest slope of {c.name}: {peak:g}", fontsize=9)
    mark_saturation_rows(right, pair, theme)
    right.set_xlabel(f"x;  bars: saturated, |f′| < 1/{1 / THRESHOLD:.0f}")
    right.set_title("tanh beside sigmoid: derivatives")
    right.legend(loc="upper left", fontsize=9)


def row(figure: Any, name: str, theme: Theme) -> None:
    """A row op: what becomes of a row of three when its first entry moves."""
    axes = figure.subplots()
    op = fa.get(name)
    x = np.linspace(-6.0, 6.0, 241)
    rows = np.column_stack([x, *(np.full_like(x, v) for v in ROW)])
    y = row_values(name, rows)
    results = y.T if y.ndim == 2 else y[None]
    for k, result in enumerate(results):
        entry = f"entry {k + 1} of {name}" if len(results) > 1 else name
        axes.plot(x, result, label=entry, **line(theme, k, len(x)))
    axes.set_xlim(x[0], x[-1])
    axes.grid(True)
    axes.set_xlabel("x")
    axes.legend(loc="best", fontsize=9)
    where = " (second row of a matrix)" if getattr(op.record, "causal", False) else ""
    fixed = ", ".join(fixed_entries())
    axes.set_title(f"{name} of the row (x, {fixed}){where}:  {op.formula}", fontsize=10)


def row_values(name: str, rows: Any) -> Any:
    """A row op of these rows, its results along the last axis."""
    op = fa.get(name)
    if getattr(op.record, "causal", False):
        return op(np.repeat(rows[:, None], rows.shape[1], axis=1))[:, 1]
    if getattr(op.record, "groups", False):
        return op(rows, groups=1)
    return op(rows)


def pair(figure: Any, name: str, theme: Theme) -> None:
    """An op of two arrays by one of them, for several values of the other."""
    panels = figure.subplots(1, 2)
    names = fa.get(name).form.arrays
    fixed = names[0] if names[0] in FIXED else names[1]
    moving = names[1 - names.index(fixed)]
    x = np.linspace(-6.0, 6.0, 601)
    for k, value in enumerate(FIXED[fixed]):
        values = {moving: x, fixed: np.full_like(x, value)}
        y, partials = pair_values(name, values[names[0]], values[names[1]])
        label = f"{fixed} = {value:g}".replace("-", "−")
        shown = y, partials[names.index(moving)]
        for axes, part in zip(panels, shown, strict=True):
            axes.plot(x, part, label=label, **line(theme, k, len(x)))
    for axes, title in zip(panels, (name, f"its derivative by {moving}"), strict=True):
        axes.set_xlim(x[0], x[-1])
        axes.grid(True)
        axes.set_xlabel(moving)
        axes.set_title(f"{title}:  {fa.get(name).formula}" if title == name else title, fontsize=10)
    panels[0].legend(loc="best", fontsize=9)


def pair_values(name: str, first: Any, second: Any) -> tuple[Any, tuple[Any, Any]]:
    """An op of two arrays, or of their halves side by side, and both partials."""
    op = fa.get(name)
    ones = np.ones_like(first)
    if "axis" not in signature(op.forward).parameters:
        return op(first, second), op.backward(ones, first, second)
    halves = np.stack([first, second], axis=-1)
    partials = op.backward(ones[:, None], halves)
    return op(halves)[:, 0], (partials[:, 0], partials[:, 1])


def loss(figure: Any, name: str, theme: Theme) -> None:
    """A loss and its gradient by one logit, for several labels or targets."""
    panels = figure.subplots(1, 2)
    op = fa.get(name)
    x = np.linspace(-6.0, 6.0, 241)
    logits = np.column_stack([x, *(np.full_like(x, v) for v in ROW)]) if is_classes(name) else x
    for k, target in enumerate(CLASSES if is_classes(name) else TARGETS):
        targets = np.full(x.shape, target)
        values, grads = op.value_and_grad(logits, targets, reduction="none")
        slopes = grads[:, 0] if is_classes(name) else grads
        label = f"{op.inputs[1].rstrip('s')} {target:g}"
        for axes, shown in zip(panels, (values, slopes), strict=True):
            axes.plot(x, shown, label=label, **line(theme, k, len(x)))
    for axes, title in zip(panels, ("loss", "derivative by x"), strict=True):
        axes.set_xlim(x[0], x[-1])
        axes.grid(True)
        axes.set_xlabel(
            f"x;  logits ({', '.join(['x', *fixed_entries()])})" if is_classes(name) else "x"
        )
        axes.set_title(f"{name}: {title}")
    panels[0].legend(loc="best", fontsize=9)


def fixed_entries() -> list[str]:
    return [f"{v:g}".replace("-", "−") for v in ROW]


def is_classes(name: str) -> bool:
    return fa.get(name).record.inputs[1] == "labels"


def is_loss(name: str) -> bool:
    return getattr(fa.get(name).record, "inputs", ("",))[0] == "logits"


def is_row(name: str) -> bool:
    """Whether an op takes rows, and nothing else."""
    return getattr(fa.get(name).record, "inputs", ()) == ("x",)


def is_pair(name: str) -> bool:
    """Whether an op takes two arrays."""
    return hasattr(fa.get(name).record, "form")


def alone(name: str) -> Any:
    """What draws an op that has a figure of its own; None for one that is drawn as a curve."""
    if is_row(name):
        return partial(row, name=name), (7.2, 4.4)
    if is_pair(name):
        return partial(pair, name=name), (10.5, 4.4)
    if is_loss(name):
        return partial(loss, name=name), (10.5, 4.4)
    return None


def drawable(name: str) -> bool:
    """Whether there is a figure for an op."""
    return is_elementwise(name) or alone(name) is not None
