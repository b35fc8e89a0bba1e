"""A call of a row op on GPU arrays: every operand brought to rows, planned once, launched."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastact.cuda.kinds import COMPUTING
from fastact.gpu.arrays import Array
from fastact.gpu.operands import check_casting, gathered, loop_dtype, output
from fastact.gpu.plan import View, broadcast
from fastact.gpu.repeated import attempt, perform
from fastact.gpu.work import Work, row_launch
from fastact.rowwise.losses import TOTAL
from fastact.rowwise.record import LIMIT, MASK, RowOp
from fastact.runtime.elsewhere import on_gpu
from fastact.runtime.row_functions import RowCall, check_axis, check_groups, positive_axes


def permuted(view: View, order: list[int]) -> View:
    """A view with these of its axes, in this order."""
    return view._replace(
        shape=tuple([view.shape[k] for k in order]), strides=tuple([view.strides[k] for k in order])
    )


def merged(view: View, count: int) -> View | None:
    """A view with its last `count` axes as one; None if one stride does not tell it."""
    outer = len(view.shape) - count
    length, step = 1, 1
    if 0 in view.shape[outer:]:
        length = 0
    else:
        for k in reversed(range(outer, outer + count)):
            n, s = view.shape[k], view.strides[k]
            if n > 1 and length > 1 and s != step * length:
                return None
            step = s if length == 1 and n > 1 else step
            length *= n
    return view._replace(shape=(*view.shape[:outer], length), strides=(*view.strides[:outer], step))


@dataclass(frozen=True)
class Frame:
    """How an array is made of rows: some of its axes, after one of them was cut into groups."""

    axes: tuple[int, ...]
    keepdims: bool = False
    groups: int = 0  # into which the axis before the only one of the rows was cut

    def moved(self, view: View) -> View:
        """A view with the axes of the rows last."""
        if self.groups:
            k = self.axes[0] - 1
            length, step = view.shape[k] // self.groups, view.strides[k]
            view = view._replace(
                shape=(*view.shape[:k], self.groups, length, *view.shape[k + 1 :]),
                strides=(*view.strides[:k], step * length, step, *view.strides[k + 1 :]),
            )
        outer = [k for k in range(len(view.shape)) if k not in self.axes]
        return permuted(view, [*outer, *self.axes])

    def per_row(self, view: View) -> View:
        """A view of one value per row, without the axes of length 1 that were kept."""
        if not self.keepdims:
            return view
        return permuted(view, [k for k in range(len(view.shape)) if k not in self.axes])

    def shape_per_row(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what has one value per row."""
        if self.groups:
            k = self.axes[0] - 1
            return (*shape[:k], self.groups, *shape[k + 1 :])
        if self.keepdims:
            return tuple([1 if k in self.axes else n for k, n in enumerate(shape)])
        return tuple([n for k, n in enumerate(shape) if k not in self.axes])


def framed(call: RowCall, shape: tuple[int, ...]) -> Frame:
    """The rows of an array of this shape, the arguments checked."""
    op, axis = call.op, call.axis
    if op.many_axes and (axis is None or isinstance(axis, tuple)):
        return Frame(positive_axes(op.name, shape, axis), call.keepdims)
    axis = check_axis(op.name, axis)
    if not shape and axis in (-1, 0):
        return Frame(())  # a number is a row of one entry
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"{op.name}: axis {axis} is out of bounds for x of shape {shape}")
    axis %= len(shape)
    if call.groups is not None:
        return Frame((axis + 1,), False, check_groups(op, shape, call.groups, axis))
    return Frame((axis,), call.keepdims)


def check_row_shapes(op: RowOp, shapes: dict[str, Any], shape: Any, per_row: Any) -> None:
    """Raise a ValueError for an operand that has not the shape of the rows, or one per row."""
    for name, found in shapes.items():
        right = per_row if name in op.per_row else shape
        if found != right:
            raise ValueError(f"{op.name}: {name} has shape {found}; it must have shape {right}")


def spread(op: RowOp, mask: Array, shape: tuple[int, ...]) -> Array:
    """A mask of the shape of x."""
    if mask.view.dtype != "bool":
        raise TypeError(f"{op.name}: where has dtype {mask.view.dtype}; it must be boolean")
    try:
        steps = broadcast(mask.view, np.broadcast_shapes(mask.view.shape, shape))
    except ValueError:
        steps = ()
    if len(steps) != len(shape):
        raise ValueError(
            f"{op.name}: where of shape {mask.view.shape} does not broadcast against x of shape "
            f"{shape}"
        )
    return mask._replace(view=View("bool", shape, steps, False))


def row_flags(call: RowCall) -> dict[str, Any]:
    """Which kernel is wanted, as far as the options tell."""
    return {
        "masked": call.where is not True,
        "limited": call.offset is not None,
        "scaled": call.op.scalable and call.factor != 1.0,
    }


def row_values(call: RowCall, dtype: str = "float64") -> list[float]:
    """The numbers that a row kernel takes: the factor in two parts of the computing dtype."""
    if not row_flags(call)["scaled"]:
        return [call.empty]
    high = float(np.dtype(COMPUTING[dtype]).type(call.factor))
    return [call.empty, high, call.factor - high]


def launched(
    work: Work, op: RowOp, operands: dict[str, Array], values: list[float], **flags: Any
) -> None:
    """Run the kernels of a row op on operands whose views are rows."""
    views = tuple([(n, a.view) for n, a in operands.items()])
    launch = row_launch(op, views, tuple([(n, f) for n, f in flags.items() if f]))
    work.run(launch, [a.address for a in operands.values()], values)


def in_rows(work: Work, frame: Frame, array: Array) -> Array:
    """An operand along the rows, copied if its rows cannot be told by one stride."""
    array = array._replace(view=frame.moved(array.view))
    count = len(frame.axes)
    view = merged(array.view, count)
    if view is None:
        copied = work.temporary(array.view.dtype, array.view.shape)
        work.copy(array, copied)
        array, view = copied, merged(copied.view, count)
        assert view is not None
    return array._replace(view=view)


def limit_of(offset: int, shape: tuple[int, ...]) -> Array:
    """The number of entries of row i, i + offset + 1, as the place of a view that is not loaded."""
    *outer, columns = shape
    first = min(max(offset + 1, -outer[-1]), columns)
    view = View("int64", tuple(outer), (*(0 for _ in outer[1:]), 1))
    return Array(None, first, view, True, None)


def repeated(call: RowCall) -> Any:
    """A row op on GPU arrays, if a call like it has been made; else None."""
    what = what_of(call)
    given = call.arrays if call.where is True else (*call.arrays, call.where)
    made = what and attempt(what, given, (call.target,))
    return made and made[0]


def rows(call: RowCall) -> Any:
    """A row op on GPU arrays that is not like an earlier call."""
    op, where, out = call.op, call.where, call.target
    named = dict(zip(op.inputs, call.arrays, strict=True))
    if not on_gpu((*named.values(), where, out)):
        from fastact.gpu import host

        return host.rows(call)
    check_casting(op.name, call.casting)
    given = named if where is True else named | {"where": where}
    operands = gathered(op.name, given, {"out": out})
    mask = operands.pop("where", None)
    kind = loop_dtype(op.name, operands, call.dtype, call.casting)
    key = operands[op.inputs[-1]]
    shape = key.view.shape
    frame = framed(call, shape)
    per_row_shape = frame.shape_per_row(shape)
    check_row_shapes(op, {n: a.view.shape for n, a in operands.items()}, shape, per_row_shape)
    every = dict(operands)
    if mask:
        every[MASK.name] = spread(op, mask, shape)
    (result,) = op.results()
    made = output(op.name, key, out, shape if result.is_row else per_row_shape, kind, call.casting)

    def compute(work: Work, every: dict[str, Array], results: list[Array]) -> None:
        laid: dict[str, Array] = {}
        for name, array in every.items():
            own = array if name == MASK.name else work.converted(array, kind)
            if name in op.per_row:
                laid[name] = own._replace(view=frame.per_row(own.view))
            else:
                laid[name] = in_rows(work, frame, own)
        if call.offset is not None:
            laid[LIMIT.name] = limit_of(call.offset, shape)
        (made,) = results
        made_last = made._replace(
            view=frame.moved(made.view) if result.is_row else frame.per_row(made.view)
        )
        count = len(frame.axes) if result.is_row else -1
        written = made_last
        if made.view.dtype != kind or (count >= 0 and merged(made_last.view, count) is None):
            written = work.temporary(kind, made_last.view.shape)
        view = merged(written.view, count) if count >= 0 else written.view
        assert view is not None
        laid[result.name] = written._replace(view=view)
        launched(work, op, laid, row_values(call, kind), **row_flags(call))
        if written is not made_last:
            work.copy(written, made_last)

    perform(op.name, what_of(call), every, [out], [made], compute)
    return made.value


def what_of(call: RowCall) -> Hashable | None:
    """What a call asks for, apart from its arrays; None for what cannot be told so."""
    op, _, axis, _, dtype, casting, empty, factor, where, keepdims, offset, groups = call
    if isinstance(axis, list):
        return None
    kinds = type(axis), type(groups)  # True is no axis, though it equals 1
    options = (dtype, casting, empty == empty, factor, where is not True, keepdims, offset)
    return (op, axis, groups, kinds, options)


def total(work: Work, x: Array, result: Array, empty: float = math.nan) -> None:
    """The sum along the last axis of an array of a computing dtype; of no entries, `empty`."""
    own = "" if result.view.dtype == x.view.dtype else result.view.dtype
    launched(work, TOTAL, {"x": x, "value": result}, [empty], value_dtype=own)
