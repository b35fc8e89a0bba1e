"""A call of a row op on GPU arrays: every operand brought to rows, planned once, launched."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import numpy as np

from fastact.cuda.kinds import COMPUTING
from fastact.gpu.arrays import Array
from fastact.gpu.layouts import Layouts, everywhere, framed, merged
from fastact.gpu.operands import check_casting, gathered, loop_dtype, output
from fastact.gpu.plan import View, broadcast
from fastact.gpu.repeated import attempt, perform
from fastact.gpu.work import Work, row_launch
from fastact.rowwise.losses import TOTAL
from fastact.rowwise.record import LIMIT, MASK, RowOp
from fastact.runtime.elsewhere import is_on_gpu, on_gpu
from fastact.runtime.row_functions import RowCall


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
        "masked": call.asked.where is not True,
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


def in_rows(work: Work, array: Array, count: int) -> Array:
    """An operand with its last axes as one, copied if one stride does not tell it."""
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
    given = call.arrays if call.asked.where is True else (*call.arrays, call.asked.where)
    made = what and attempt(what, given, (call.target,))
    return made and made[0]


def rows(call: RowCall) -> Any:
    """A row op on GPU arrays that is not like an earlier call."""
    op, where, out = call.op, call.asked.where, call.target
    named = dict(zip(op.inputs, call.arrays, strict=True))
    if not on_gpu((*named.values(), where, out)):
        from fastact.gpu import host

        return host.rows(call)
    check_casting(op.name, call.asked.casting)
    given = named if where is True else named | {"where": where}
    operands = gathered(op.name, given, {"out": out})
    mask = operands.pop("where", None)
    kind = loop_dtype(op.name, operands, call.asked.dtype, call.asked.casting)
    key = operands[op.inputs[-1]]
    frame = framed(call, key.view.shape)
    every = dict(operands)
    if mask:
        every[MASK.name] = spread(op, mask, key.view.shape)
    shapes = {n: a.view.shape for n, a in operands.items()}
    lay = Layouts(call, frame, shapes)
    lead = lay.lead
    (result,) = op.results()
    if is_on_gpu(out):
        lead = lay.grown(tuple(out.shape), result)
    made = output(op.name, key, out, lay.result(lead, result), kind, call.asked.casting)

    def compute(work: Work, every: dict[str, Array], results: list[Array]) -> None:
        laid: dict[str, Array] = {}
        for name, array in every.items():
            own = array if name == MASK.name else work.converted(array, kind)
            own = lay.of(name, own)
            if name not in op.per_row:
                own = in_rows(work, own, len(frame.axes))
            laid[name] = everywhere(own, lead if name in op.per_row else (*lead, lay.length))
        if call.offset is not None:
            limit = limit_of(call.offset, key.view.shape)
            laid[LIMIT.name] = everywhere(limit, lead)
        (made,) = results
        made_last = lay.of_result(made, result)
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
    op, _, axis, (_, where, dtype, casting), empty, factor, keepdims, offset, groups = call
    if isinstance(axis, list):
        return None
    kinds = type(axis), type(groups)  # True is no axis, though it equals 1
    options = (dtype, casting, empty == empty, factor, where is not True, keepdims, offset)
    return (op, axis, groups, kinds, options)


def total(work: Work, x: Array, result: Array, empty: float = math.nan) -> None:
    """The sum along the last axis of an array of a computing dtype; of no entries, `empty`."""
    own = "" if result.view.dtype == x.view.dtype else result.view.dtype
    launched(work, TOTAL, {"x": x, "value": result}, [empty], value_dtype=own)
