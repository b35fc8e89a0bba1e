"""The fused losses on GPU arrays. Nothing is waited for: a loss is an array on the GPU too.

So what is in an array is not checked, as the CPU does. A label out of range makes the loss and
the gradient of its row nan, and the sum or mean that it enters; weights count as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Any

from fastact.cuda import helpers
from fastact.cuda.kinds import COMPUTING, INTEGERS, ITEMSIZE, SIZE
from fastact.cuda.row_kinds import TOTAL as DIVISOR
from fastact.gpu import plan
from fastact.gpu.arrays import Array, placed
from fastact.gpu.layouts import everywhere, permuted
from fastact.gpu.operands import gathered, loop_dtype, output
from fastact.gpu.plan import View
from fastact.gpu.repeated import attempt, perform
from fastact.gpu.rows import launched, total
from fastact.gpu.work import Work, labels_launch
from fastact.rowwise.losses import CLASS, PROBABILITIES, SIGMOID, SMOOTHED, WEIGHTED_SIGMOID
from fastact.runtime.loss_arguments import (
    check_ids_shape,
    check_ignore_index,
    check_probabilities_shape,
    check_reduction,
    check_smoothing,
    check_weight_shape,
    class_axis,
)
from fastact.runtime.sigmoid_loss import ROW


class Loss:
    """A call of a loss: its operands, and the arrays for its value and its gradient."""

    def __init__(
        self,
        name: str,
        gradient: bool,
        reduction: Any,
        named: dict[str, Any],
        out: Any,
    ) -> None:
        check_reduction(name, reduction)
        self.name, self.gradient = name, gradient
        self.mean, self.each = reduction == "mean", reduction == "none"
        given = {n: v for n, v in named.items() if v is not None}
        self.operands = gathered(name, given, {"out": out})
        self.x = self.operands["logits"]
        self.shape = self.x.view.shape
        self.kind = loop_dtype(name, {"logits": self.x})
        self.computing = COMPUTING[self.kind]
        self.out = out

    def results(self, losses: tuple[int, ...]) -> None:
        """Make the arrays for what is returned; `losses`: the shape if they are not reduced."""
        shape = losses if self.each else ()
        self.made = {"value": output(self.name, self.x, None, shape, self.kind)}
        if self.gradient:
            given = output(self.name, self.x, self.out, self.shape, self.kind, "equiv")
            self.made["out"] = given

    def perform(self, what: Hashable, compute: Callable[[Work], None]) -> Any:
        """What is returned, computed with operands and results as a recording knows them."""
        operands, made = self.operands, self.made

        def recorded(work: Work, own: dict[str, Array], results: list[Array]) -> None:
            self.operands, self.made = own, dict(zip(made, results, strict=True))
            compute(work)

        outs = (None, self.out)[: len(made)]
        perform(self.name, what, operands, outs, list(made.values()), recorded)
        found = tuple(a.value for a in made.values())
        return found if self.gradient else found[0]

    def values_for(self, work: Work, shape: tuple[int, ...]) -> tuple[Array, str]:
        """Where the losses of rows go, and the dtype to tell the kernel: all, or to be added up."""
        if self.each:
            return self.made["value"], ""
        dtype = "" if self.kind == self.computing else self.computing
        return work.temporary(self.computing, shape), dtype

    def add_up(self, work: Work, losses: Array) -> None:
        """The losses of rows as one."""
        if not self.each:
            flat = losses._replace(view=plan.contiguous(self.computing, (size_of(losses),)))
            total(work, flat, self.made["value"], math.nan if self.mean else 0.0)


def what_of(name: str, named: dict[str, Any], *options: Any) -> Hashable:
    """What a call asks for, apart from its arrays; True is no number, though it equals 1."""
    return (name, *(v is None for v in named.values()), *options, *map(type, options))


def repeated(what: Hashable, gradient: bool, named: dict[str, Any], out: Any) -> Any:
    """A loss of GPU arrays, if a call like it has been made; else None."""
    given = [v for v in named.values() if v is not None]
    made = attempt(what, given, (None, out) if gradient else (None,))
    return made and (tuple(made) if gradient else made[0])


def size_of(array: Array) -> int:
    return math.prod(array.view.shape)


def last(view: View, axis: int) -> View:
    """A view with this axis last."""
    order = [k for k in range(len(view.shape)) if k != axis]
    return permuted(view, [*order, axis])


def softmax_loss(
    name: str,
    gradient: bool,
    logits: Any,
    labels: Any,
    axis: Any,
    weight: Any,
    ignore_index: Any,
    label_smoothing: Any,
    reduction: Any,
    out: Any = None,
) -> Any:
    """softmax_cross_entropy on the GPU."""
    named = {"logits": logits, "labels": labels, "weight": weight}
    what = what_of(name, named, axis, ignore_index, label_smoothing, reduction)
    if (made := repeated(what, gradient, named, out)) is not None:
        return made
    call = Loss(name, gradient, reduction, named, out)
    smoothing = check_smoothing(name, label_smoothing)
    shape = call.shape
    axis = class_axis(name, axis, shape)
    lead, classes = shape[:axis] + shape[axis + 1 :], shape[axis]
    weights, given = call.operands.get("weight"), call.operands["labels"]
    if weights:
        check_weight_shape(name, weights.view.shape, classes)
    ids = given.view.dtype in INTEGERS
    if not ids and given.view.dtype not in ITEMSIZE:
        raise TypeError(
            f"{name}: labels have dtype {given.view.dtype}; they may be integers (class ids) or"
            " floating point (probabilities)"
        )
    if ids:
        check_ids_shape(name, given.view.shape, lead)
    else:
        check_probabilities_shape(name, given.view.shape, shape)
    check_ignore_index(name, ignore_index, ids, given.view.dtype)
    call.results(lead)
    count = math.prod(lead)

    def compute(work: Work) -> None:
        weights, given = call.operands.get("weight"), call.operands["labels"]
        x = work.converted(call.operands["logits"], call.kind)
        rows = {"x": x._replace(view=last(x.view, axis))}
        flags: dict[str, Any] = {}
        share = smoothing / classes
        if ids and not smoothing:
            op = CLASS[gradient]
        else:
            op = (SMOOTHED if ids else PROBABILITIES)[gradient]
            if weights:
                own = work.converted(weights, call.kind)
                rows["w"] = everywhere(own, (*lead, classes))
            else:
                flags["ones"] = ("w",)
        if ids:
            counted = call.mean and (weights is not None or ignore_index is not None)
            whole = 1.0 / count if call.mean and not counted and count else 1.0
            prepared = Labels(call, given, weights, ignore_index, classes)
            own, number = prepared.made(work, (1.0 - smoothing) * whole)
            rows |= {op.extra[0].name: own, "label": number}
            if counted:
                every = own if not smoothing else prepared.made(work, 1.0)[0]
                rows[DIVISOR.name] = divisor(work, every, lead)
                flags["averaged"] = True
            values = [math.nan, share * whole] if smoothing else [math.nan]
        else:
            p = work.converted(given, call.kind)
            rows["p"] = p._replace(view=last(p.view, axis))
            values = [math.nan, 1.0 - smoothing, share, 1.0 / count if call.mean and count else 1.0]
        losses, flags["value_dtype"] = call.values_for(work, lead)
        if gradient:
            made = call.made["out"]
            rows["out0"] = made._replace(view=last(made.view, axis))
        launched(work, op, rows | {"value": losses}, values, **flags)
        call.add_up(work, losses)

    return call.perform(what, compute)


def divisor(work: Work, own: Array, lead: tuple[int, ...]) -> Array:
    """What the mean is divided by, as one value for all rows."""
    made = work.temporary(own.view.dtype, ())
    flat = own._replace(view=plan.contiguous(own.view.dtype, (size_of(own),)))
    total(work, flat, made)
    return everywhere(made, lead)


class Labels:
    """Class ids, to be prepared for the kernel of the loss."""

    def __init__(
        self, call: Loss, labels: Array, weight: Array | None, ignored: Any, classes: int
    ) -> None:
        self.computing, self.labels, self.weight = call.computing, labels, weight
        self.ignored, self.classes = ignored, classes

    def made(self, work: Work, factor: float) -> tuple[Array, Array]:
        """What each row counts for, times a factor, and its class id."""
        shape = self.labels.view.shape
        ids = work.temporary(helpers.LABEL_TYPE, shape)
        own = work.temporary(self.computing, shape)
        weight = self.weight.view if self.weight else None
        ignored: list[float] = []
        if self.ignored is not None:
            # beyond 64 bits there is no label to be ignored
            index = self.ignored.__index__()
            ignored = [index if -(1 << 63) <= index < 1 << 63 else -(1 << 63)]
        launch = labels_launch(self.labels.view, self.computing, weight, bool(ignored))
        every = [self.labels, ids, own, *((self.weight,) if self.weight else ())]
        work.run(launch, [a.address for a in every], [self.classes, *ignored, factor])
        return own, ids


# Sigmoid


def sigmoid_loss(
    name: str,
    gradient: bool,
    logits: Any,
    targets: Any,
    weight: Any,
    pos_weight: Any,
    reduction: Any,
    out: Any = None,
) -> Any:
    """sigmoid_cross_entropy on the GPU: entries are rows of some length, as they lie."""
    named = {"logits": logits, "targets": targets, "weight": weight, "pos_weight": pos_weight}
    what = what_of(name, named, reduction)
    if (made := repeated(what, gradient, named, out)) is not None:
        return made
    call = Loss(name, gradient, reduction, named, out)
    shape, given = call.shape, call.operands
    if given["targets"].view.shape != shape:
        raise ValueError(
            f"{name}: targets of shape {given['targets'].view.shape} do not match logits of "
            f"shape {shape}"
        )
    for word in ("weight", "pos_weight"):
        if word in given and not broadcasts(given[word].view.shape, shape):
            raise ValueError(
                f"{name}: {word} of shape {given[word].view.shape} does not broadcast against "
                f"logits of shape {shape}"
            )
    call.results(shape)
    letters = {"pos_weight": "p", "weight": "w", "targets": "t", "logits": "x"}
    weighted = "weight" in given or "pos_weight" in given
    family = WEIGHTED_SIGMOID if weighted else SIGMOID
    op = family[not call.each, gradient]
    flags: dict[str, Any] = {
        "ones": tuple(n for n in op.inputs if n not in {letters[w] for w in given})
    }
    size = math.prod(shape)
    values = [math.nan]
    if not call.each:
        values.append(1.0 / size if call.mean and size else 1.0)

    def compute(work: Work) -> None:
        entries = {
            letters[w]: everywhere(work.converted(call.operands[w], call.kind), shape)
            for w in letters
            if w in given
        }
        words = ("value",) * call.each + ("out",) * gradient
        results = [call.made[w] for w in words]
        entries |= {f"out{k}": r for k, r in enumerate(results)}
        parts = in_rows(entries)
        count = sum(math.prod(part["x"].view.shape[:-1]) for part in parts)
        losses, flags["value_dtype"] = call.made["value"], ""
        if not call.each:
            losses, flags["value_dtype"] = call.values_for(work, (count,))
        start = 0
        for part in parts:
            lead = part["x"].view.shape[:-1]
            if not call.each:
                view = plan.contiguous(call.computing, lead)
                address = losses.address + start * SIZE[call.computing]
                part["value"] = losses._replace(view=view, address=address)
            launched(work, op, part, values, **flags)
            start += math.prod(lead)
        call.add_up(work, losses)

    return call.perform(what, compute)


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether an array of a shape can be broadcast to another one."""
    ends = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(n in (1, m) for n, m in ends)


def in_rows(entries: dict[str, Array]) -> list[dict[str, Array]]:
    """The entries of arrays of one shape as rows: those of ROW that run on through all arrays,

    and what is left; or those along the axis that has the least strides.
    """
    shape = entries["x"].view.shape
    if not math.prod(shape):
        return []
    lengths, strides = plan.collapsed(shape, [a.view.strides for a in entries.values()])
    if len(lengths) > 1:
        return [
            {
                n: placed(a, 0, lengths, s)
                for (n, a), s in zip(entries.items(), strides, strict=True)
            }
        ]
    count, rest = divmod(lengths[0], ROW)
    parts = []
    for first, rows, length in ((0, count, ROW), (count * ROW, 1, rest)):
        if rows and length:
            parts.append({
                n: placed(a, first * s, (rows, length), (s * length, s))
                for (n, a), (s,) in zip(entries.items(), strides, strict=True)
            })  # fmt: skip
    return parts
