"""From operands to launches: which kernel, how many blocks, which arguments. Pure arithmetic.

A plan depends on shapes, strides and alignment alone, so it is made once per combination of
them; a call fills in addresses and values. What an address is, the plan does not care: a number
on the GPU, an array and an offset in the simulator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from fastact.activations.directions import Direction
from fastact.activations.paired import Pointwise
from fastact.cuda import helpers, kinds, row_kinds
from fastact.rowwise.record import MASK, RowOp

FAR = 1 << 30  # offsets and counts up to this leave room for a step in 32 bits
Strides = tuple[int, ...]


class View(NamedTuple):
    """How an operand lies in memory. Strides are in elements; `aligned` to 16 bytes."""

    dtype: str
    shape: tuple[int, ...]
    strides: Strides
    aligned: bool = True


@dataclass(frozen=True)
class Plan:
    """One launch. An argument is a number, or a function of the call's operands."""

    kernel: Any
    grid: tuple[int, int, int]
    arguments: tuple[int | Slot, ...]


@dataclass(frozen=True)
class Slot:
    """An argument that a call fills in: its k-th address or value, or the workspace."""

    kind: str  # "address", "value", "workspace"
    number: int = 0


@dataclass(frozen=True)
class Plans:
    """The launches of a call, one after the other, and the bytes of workspace they share."""

    launches: tuple[Plan, ...]
    workspace: int = 0


def broadcast(view: View, shape: tuple[int, ...]) -> Strides:
    """The strides of a view in a shape that it broadcasts to."""
    missing = len(shape) - len(view.shape)
    own = (
        0 if length == 1 else stride
        for length, stride in zip(view.shape, view.strides, strict=True)
    )
    return (0,) * missing + tuple(own)


def collapsed(shape: tuple[int, ...], strides: Sequence[Strides]) -> tuple[Any, list[Strides]]:
    """The fewest dimensions that say the same, the one with the least strides last.

    Dimensions are ordered by the strides of the last operand, which is an output.
    """
    axes = [d for d, length in enumerate(shape) if length != 1]
    axes.sort(key=lambda d: [-abs(s[d]) for s in reversed(strides)])
    lengths: list[int] = []
    merged: list[list[int]] = [[] for _ in strides]
    for d in axes:
        if lengths and all(m[-1] == s[d] * shape[d] for m, s in zip(merged, strides, strict=True)):
            lengths[-1] *= shape[d]
            for m, s in zip(merged, strides, strict=True):
                m[-1] = s[d]
        else:
            lengths.append(shape[d])
            for m, s in zip(merged, strides, strict=True):
                m.append(s[d])
    if not lengths:
        lengths, merged = [1], [[1] for _ in strides]
    return tuple(lengths), [tuple(m) for m in merged]


def reach(lengths: Sequence[int], strides: Sequence[int]) -> int:
    """The largest distance of an element from the first."""
    return sum(abs(s) * (n - 1) for n, s in zip(lengths, strides, strict=True))


def stepping(views: Sequence[View], shape: tuple[int, ...]) -> tuple[Any, list[Strides], int]:
    """The lengths and strides of a loop over all elements, and the width of its indices."""
    lengths, strides = collapsed(shape, [broadcast(v, shape) for v in views])
    far = max(math.prod(shape), *(reach(lengths, s) for s in strides)) >= FAR
    return lengths, strides, 64 if far else 32


def placed(lengths: Sequence[int], strides: Sequence[Strides]) -> list[int | Slot]:
    """The arguments of a strided loop: sizes, then each address with its strides."""
    arguments: list[int | Slot] = [math.prod(lengths), *lengths[1:]]
    for k, steps in enumerate(strides):
        arguments += [Slot("address", k), *steps]
    return arguments


def copy(source: View, target: View, mask: View | None = None) -> Plans:
    """The launch that copies and converts; addresses: source, the mask if any, target."""
    if not math.prod(target.shape):
        return Plans(())
    views = [source, *((mask,) if mask else ()), target]
    lengths, strides, index = stepping(views, target.shape)
    kernel = helpers.Copy(len(lengths), index, source.dtype, target.dtype, mask is not None)
    grid = kernel.grid(math.prod(lengths))
    return Plans((Plan(kernel, grid, tuple(placed(lengths, strides))),))


def labels(label: View, own: str, weight: View | None, ignoring: bool) -> Plans:
    """The launch that prepares class ids; addresses: labels, ids, what rows count for, weights.

    Its values are the number of classes, the label to ignore if there is one, and the factor.
    """
    if not math.prod(label.shape):
        return Plans(())
    made = [contiguous(helpers.LABEL_TYPE, label.shape), contiguous(own, label.shape)]
    lengths, strides, index = stepping([label, *made], label.shape)
    kernel = helpers.Labels(
        len(lengths), index, label.dtype, own, weight.dtype if weight else "", ignoring
    )
    arguments = placed(lengths, strides)
    if weight:
        arguments += [Slot("address", 3), *weight.strides]
    numbers = [a for a in kernel.values if a.kind == "value"]
    arguments += [Slot("value", k) for k in range(len(numbers))]
    return Plans((Plan(kernel, kernel.grid(math.prod(lengths)), tuple(arguments)),))


def contiguous(dtype: str, shape: tuple[int, ...]) -> View:
    """An aligned array in C order."""
    strides, size = [], 1
    for length in reversed(shape):
        strides.append(size)
        size *= max(length, 1)
    return View(dtype, shape, tuple(reversed(strides)))


def elementwise(
    record: Pointwise,
    direction: Direction,
    views: Sequence[View],
    shape: tuple[int, ...],
    arrays: bool = False,
) -> Plans:
    """The launch of an elementwise op.

    `views` are the arrays, then the parameters if they are `arrays`, then the outputs; a call's
    addresses come in this order, its values are the parameters.
    """
    size = math.prod(shape)
    if not size:
        return Plans(())
    lengths, strides, index = stepping(views, shape)
    plain = all(s == (1,) for s in strides) and all(v.aligned for v in views) and not arrays
    layout = kinds.Layout(0 if plain else len(lengths), arrays, index)
    kernel = kinds.elementwise(record, direction, views[0].dtype, layout)
    if plain:
        lengths, strides = (size,), [() for _ in views]
    arguments = placed(lengths, strides)
    arguments += [Slot("value", k) for k in range(len(kernel.values))]
    return Plans((Plan(kernel, kernel.grid(size), tuple(arguments)),))


def rowwise(op: RowOp, views: dict[str, View], **flags: Any) -> Plans:
    """The launches of a row op, with flags of `Rows`.

    `views` has the operands by name: row operands with the row last, those with one value per
    row without it, all broadcast to one shape. A call's addresses come in this order, its values
    in that of `Rows.values`. The limit is a number in place of an address.
    """
    rowlike = {o.name for o in (*op.operands(False), *op.results(), MASK) if o.is_row}
    key = views[next(n for n in views if n in rowlike and n != MASK.name)]
    outer, length = key.shape[:-1], key.shape[-1]
    rows = math.prod(outer)
    if not rows or (not length and not op.value):
        return Plans(())
    names = list(views)
    per_row = {n: v.strides[:-1] if n in rowlike else v.strides for n, v in views.items()}
    inner = {n: v.strides[-1] for n, v in views.items() if n in rowlike}
    main = [n for n in names if n in rowlike and n != MASK.name][-1]
    order = [n for n in names if n != main] + [main]  # rows are ordered as they lie in this one
    lengths, ordered = collapsed(outer, [per_row[n] for n in order])
    strides = dict(zip(order, ordered, strict=True))
    own = [n for n in inner if n != MASK.name]
    columns = lengths[-1] > 1 and abs(strides[main][-1]) < abs(inner[main]) and length > 1
    far = (
        any(reach((*lengths, length), (*strides[n], inner.get(n, 0))) >= FAR for n in names)
        or max(rows, length) >= FAR
    )
    stages = row_kinds.chosen(op, key.dtype, length, columns)
    width = stages[0].width
    aligned = (
        not columns
        and length % width == 0
        and all(
            inner[n] == 1
            and views[n].aligned
            and (rows == 1 or not any(s % width for s in strides[n]))
            for n in own
        )
    )
    launches, workspace = [], 0
    for stage in stages:
        kernel = replace(
            stage, aligned=aligned, dimensions=len(lengths), index=64 if far else 32, **flags
        )
        arguments: list[int | Slot] = [rows, length]
        if kernel.stage != "whole":
            pieces = kernel.chunks(length)
            arguments.append(pieces)
        if kernel.cut:
            workspace = rows * pieces * kernel.partials * kinds.ITEMSIZE[kernel.computing]
            if rows * pieces * kernel.partials >= FAR:
                kernel = replace(kernel, index=64)
        arguments += lengths[1:]
        for operand in (*kernel.inputs, *kernel.outputs):
            arguments += [Slot("address", names.index(operand.name)), *strides[operand.name]]
            if operand.is_row and not (aligned and operand is not MASK):
                arguments.append(inner[operand.name])
        if kernel.cut:
            arguments.append(Slot("workspace"))
        arguments += [Slot("value", k) for k in range(len(kernel.values))]
        launches.append(Plan(kernel, kernel.grid(rows, length), tuple(arguments)))
    return Plans(tuple(launches), workspace)


def filled(
    plan: Plan, addresses: Sequence[Any], values: Sequence[Any], workspace: Any = None
) -> list[Any]:
    """The arguments of a launch, for a call's operands."""
    sources = {"address": addresses, "value": values, "workspace": [workspace]}
    return [a if isinstance(a, int) else sources[a.kind][a.number] for a in plan.arguments]
