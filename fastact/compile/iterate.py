"""A loop run over arrays of any shape and strides: what NumPy's iterator does for a ufunc.

It serves compiled code that calls fastact without NumPy between them. The caller describes the
arrays in a plan; axes are put in the order of memory, and merged where they are one there.
"""

from __future__ import annotations

from fastact.compile.abi import (
    MAX_OPERANDS,
    PLAN_ALONG,
    PLAN_AXES,
    PLAN_INNER,
    PLAN_LENGTH,
    PLAN_MAX_AXES,
    PLAN_OPERANDS,
    PLAN_POINTERS,
    PLAN_SHAPE,
    PLAN_STEPS,
)
from fastact.compile.machine import call4, stack
from fastact.compile.slots import compiled, set_slot, slot

ARGUMENT_BYTES = 8 * MAX_OPERANDS
STEP_BYTES = 2 * ARGUMENT_BYTES
INDEX_BYTES = 8 * PLAN_MAX_AXES


@compiled
def step_slot(operand, axis):
    return PLAN_STEPS + operand * PLAN_MAX_AXES + axis


@compiled
def swap(plan, a, b):
    first, second = slot(plan, a), slot(plan, b)
    set_slot(plan, a, second)
    set_slot(plan, b, first)


@compiled
def reach(plan, operands, axis):
    """How far one step along an axis goes, over all operands."""
    total = 0
    for k in range(operands):
        total += abs(slot(plan, step_slot(k, axis)))
    return total


@compiled
def sort_axes(plan, axes, operands):
    """The axis with the shortest steps last: it becomes the inner loop."""
    for last in range(1, axes):
        axis = last
        while axis > 0 and reach(plan, operands, axis) > reach(plan, operands, axis - 1):
            swap(plan, PLAN_SHAPE + axis, PLAN_SHAPE + axis - 1)
            for k in range(operands):
                swap(plan, step_slot(k, axis), step_slot(k, axis - 1))
            axis -= 1


@compiled
def drop_axis(plan, axes, operands, axis):
    for later in range(axis, axes - 1):
        set_slot(plan, PLAN_SHAPE + later, slot(plan, PLAN_SHAPE + later + 1))
        for k in range(operands):
            set_slot(plan, step_slot(k, later), slot(plan, step_slot(k, later + 1)))


@compiled
def merge_axes(plan, axes, operands):
    """Neighbouring axes that are one in memory, for all operands, as one; how many remain."""
    axis = axes - 2
    while axis >= 0:
        length = slot(plan, PLAN_SHAPE + axis + 1)
        one = True
        for k in range(operands):
            whole = slot(plan, step_slot(k, axis + 1)) * length
            one = one and slot(plan, step_slot(k, axis)) == whole
        if one and length != 1:
            for k in range(operands):
                set_slot(plan, step_slot(k, axis), slot(plan, step_slot(k, axis + 1)))
            set_slot(plan, PLAN_SHAPE + axis, slot(plan, PLAN_SHAPE + axis) * length)
        if one or length == 1:
            drop_axis(plan, axes, operands, axis + 1)
            axes -= 1
        axis -= 1
    return axes


@compiled
def iterate(loop, data, plan):
    """Run a loop over a plan, which is used up."""
    axes, operands = slot(plan, PLAN_AXES), slot(plan, PLAN_OPERANDS)
    along = slot(plan, PLAN_ALONG)
    for axis in range(axes):
        if slot(plan, PLAN_SHAPE + axis) == 0:
            return 0
    sort_axes(plan, axes, operands)
    axes = merge_axes(plan, axes, operands)
    arguments, dimensions = stack(ARGUMENT_BYTES), stack(16)
    steps, index = stack(STEP_BYTES), stack(INDEX_BYTES)
    inner = axes - 1
    count = 1
    if axes > 0:
        count = slot(plan, PLAN_SHAPE + inner)
    set_slot(dimensions, 0, count)
    set_slot(dimensions, 1, slot(plan, PLAN_LENGTH))
    rows = operands  # NumPy lists the steps along the row after the others
    for k in range(operands):
        step = 0
        if axes > 0:
            step = slot(plan, step_slot(k, inner))
        set_slot(steps, k, step)
        if along >> k & 1 != 0:
            set_slot(steps, rows, slot(plan, PLAN_INNER + k))
            rows += 1
    for axis in range(axes):
        set_slot(index, axis, 0)
    axis = 0
    while axis >= 0:
        for k in range(operands):
            set_slot(arguments, k, slot(plan, PLAN_POINTERS + k))
        call4(loop, arguments, dimensions, steps, data)
        axis = inner - 1
        while axis >= 0:
            length, done = slot(plan, PLAN_SHAPE + axis), slot(index, axis) + 1
            back = 0
            if done == length:
                back = length
            for k in range(operands):
                moved = slot(plan, step_slot(k, axis)) * (1 - back)
                set_slot(plan, PLAN_POINTERS + k, slot(plan, PLAN_POINTERS + k) + moved)
            if done < length:
                set_slot(index, axis, done)
                break
            set_slot(index, axis, 0)
            axis -= 1
    return 0
