"""How the operands of a row op are made of rows, as NumPy's rules for an axis have it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from fastact.gpu.arrays import Array
from fastact.gpu.plan import View, broadcast, contiguous
from fastact.rowwise.record import MASK, Operand
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

    def of(self, ndim: int, known: int) -> Frame:
        """The frame of an array of other dimensions than the `known` that this one was made for.

        Several axes are counted from the last one.
        """
        return replace(self, axes=tuple([a + ndim - known for a in self.axes]))

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


def everywhere(array: Array, shape: tuple[int, ...]) -> Array:
    """An array broadcast to a shape."""
    strides = broadcast(array.view, shape)
    return array._replace(view=array.view._replace(shape=shape, strides=strides))


class Layouts:
    """How the operands of a call are made of rows: each along its own axis, as NumPy takes them.

    `lead`: the shape of the rows, to which all operands are broadcast; `length`: of a row.
    """

    def __init__(self, call: RowCall, frame: Frame, shapes: dict[str, tuple[int, ...]]) -> None:
        self.call, self.op, self.frame, self.shapes = call, call.op, frame, shapes
        shape = shapes[self.op.inputs[-1]]
        self.dimensions = len(shape)
        moved = frame.moved(contiguous("bool", shape)).shape
        count = len(moved) - len(frame.axes)
        self.own_lead, self.length = moved[:count], math.prod(moved[count:])
        if frame.groups:
            self.check(all(s == self.exact(n) for n, s in shapes.items()))
        leads = []
        for name, own in shapes.items():
            view = self.laid(name, contiguous("bool", own))
            outer = len(view.shape) - self.count(name)
            self.check(name in self.op.per_row or math.prod(view.shape[outer:]) == self.length)
            leads.append(view.shape[:outer])
        try:
            self.lead = np.broadcast_shapes(*leads)
        except ValueError:
            self.check(False)
        self.check(len(frame.axes) == 1 or self.lead == self.own_lead)

    def exact(self, name: str) -> tuple[int, ...]:
        """The shape of an operand that is not broadcast."""
        shape = self.shapes[self.op.inputs[-1]]
        return self.frame.shape_per_row(shape) if name in self.op.per_row else shape

    def check(self, right: bool) -> None:
        """Raise a ValueError for the first operand of another shape than the rows have."""
        if right:
            return
        wrong = [n for n, found in self.shapes.items() if found != self.exact(n)]
        name = wrong[0] if wrong else self.op.inputs[0]
        raise ValueError(
            f"{self.op.name}: {name} has shape {self.shapes[name]}; it must have shape "
            f"{self.exact(name)}, or one that is broadcast with it"
        )

    def count(self, name: str) -> int:
        """How many axes of a laid operand make a row."""
        return 0 if name in self.op.per_row else len(self.frame.axes)

    def frame_of(self, shape: tuple[int, ...]) -> Frame:
        """The frame of an array of the call that has its rows along the axes."""
        frame, ndim = self.frame, len(shape)
        if len(frame.axes) != 1 or frame.groups:
            self.check(ndim >= self.dimensions or not frame.axes)
            return frame.of(ndim, self.dimensions) if frame.axes else frame
        if self.call.axis is None or isinstance(self.call.axis, tuple):
            return frame.of(ndim, self.dimensions)
        axis = self.call.axis.__index__()
        self.check(-ndim <= axis < ndim)
        return replace(frame, axes=(axis % ndim,))

    def laid(self, name: str, view: View) -> View:
        """A view of an operand with its rows last, or without what was kept of them."""
        if name == MASK.name:
            return self.frame.moved(view)
        if name in self.op.per_row:
            return self.squeezed(view)
        if not self.dimensions:  # a number, or an array of one
            self.check(math.prod(view.shape) == 1)
            return view._replace(shape=(), strides=())
        return self.frame_of(view.shape).moved(view)

    def squeezed(self, view: View) -> View:
        """A view of one value per row, without the axes of length 1 that were kept."""
        if not self.frame.keepdims or not self.frame.axes:
            return view
        frame = self.frame_of(view.shape)
        self.check(all(view.shape[k] == 1 for k in frame.axes))
        return frame.per_row(view)

    def of(self, name: str, array: Array) -> Array:
        return array._replace(view=self.laid(name, array.view))

    def of_result(self, array: Array, result: Operand) -> Array:
        """The array of the result with its rows last, or without what was kept of them."""
        if not result.is_row:
            return array._replace(view=self.squeezed(array.view))
        if not self.frame.axes:
            return array
        return array._replace(view=self.frame_of(array.view.shape).moved(array.view))

    def result(self, lead: tuple[int, ...], result: Operand) -> tuple[int, ...]:
        """The shape of the result for rows of a shape."""
        frame, shape = self.frame, self.shapes[self.op.inputs[-1]]
        if lead == self.own_lead:
            return shape if result.is_row else frame.shape_per_row(shape)
        if not frame.axes:
            return lead
        if len(frame.axes) > 1 or frame.groups:
            more = lead[: len(lead) - len(self.own_lead)]
            return (*more, *(shape if result.is_row else frame.shape_per_row(shape)))
        own = (self.length,) if result.is_row else (1,) * frame.keepdims
        k = self.frame_of((0,) * (len(lead) + 1)).axes[0]
        return (*lead[:k], *own, *lead[k:])

    def grown(self, out: tuple[int, ...], result: Operand) -> tuple[int, ...]:
        """The shape of the rows of a result that may be larger than what operands come to."""
        if self.frame.groups or len(out) < len(self.result(self.lead, result)):
            return self.lead
        like = Array(None, 0, contiguous("bool", out), False, None)
        try:
            view = self.of_result(like, result).view
        except ValueError:
            return self.lead
        outer = len(view.shape) - (len(self.frame.axes) if result.is_row else 0)
        own = view.shape[:outer]
        fits = zip(reversed(own), reversed(self.lead), strict=False)
        larger = len(own) >= len(self.lead) and all(n in (1, m) for m, n in fits)
        return own if larger else self.lead
