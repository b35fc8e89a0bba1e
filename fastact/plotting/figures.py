"""The figures: one op, several, a family of parameters, the sigmoids, errors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
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
    y = op(rows)
    results = y.T if y.ndim == 2 else y[None]
    for k, result in enumerate(results):
        entry = f"entry {k + 1} of {name}" if len(results) > 1 else name
        axes.plot(x, result, label=entry, **line(theme, k, len(x)))
    if len(results) == 1:
        slope = op.backward(np.ones_like(x), rows)[:, 0]
        axes.plot(x, slope, label="derivative by x", **line(theme, 1, len(x)))
    axes.set_xlim(x[0], x[-1])
    axes.grid(True)
    axes.set_xlabel("x")
    axes.legend(loc="best", fontsize=9)
    fixed = ", ".join(fixed_entries())
    axes.set_title(f"{name} of the row (x, {fixed}):  {op.formula}", fontsize=10)


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


def alone(name: str) -> Any:
    """What draws an op that has a figure of its own; None for one that is drawn as a curve."""
    if is_row(name):
        return partial(row, name=name), (7.2, 4.4)
    if is_loss(name):
        return partial(loss, name=name), (10.5, 4.4)
    return None


def drawable(name: str) -> bool:
    """Whether there is a figure for an op."""
    return is_elementwise(name) or alone(name) is not None
