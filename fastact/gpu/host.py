"""Calls on host arrays, computed on the GPU where the target "cuda" asks for it.

What a call is, NumPy's rules decide as on the CPU; its pieces then pass through the pipeline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastact.activations.directions import Direction
from fastact.activations.paired import Pointwise
from fastact.cuda.kinds import COMPUTING, SIZE
from fastact.gpu.arrays import Array
from fastact.gpu.call import outs_of
from fastact.gpu.layouts import Layouts, everywhere, framed
from fastact.gpu.operands import broadcast_shape, castable, grown
from fastact.gpu.others import handed_over, like_operands
from fastact.gpu.partials import Backward, fill
from fastact.gpu.pipeline import Operand, Piece, run
from fastact.gpu.rows import launched, limit_of, row_flags, row_values
from fastact.gpu.work import Work, elementwise_launch
from fastact.rowwise.losses import LABEL
from fastact.rowwise.record import IGNORED, LIMIT, MASK, RowOp
from fastact.runtime.functions import check_constraint, check_dtypes, foreign
from fastact.runtime.outputs import Options, computed_in
from fastact.runtime.partials import Partial
from fastact.runtime.row_functions import RowCall, check_mask
from fastact.runtime.ufuncs import gufunc, ufunc


def loop_dtype(call: np.ufunc, values: Sequence[Any], dtype: Any, casting: Any) -> np.dtype[Any]:
    """The dtype of the loop that NumPy would take; its own error where there is none."""
    kinds: list[Any] = [type(v) if type(v) in (int, float) else np.asarray(v).dtype for v in values]
    options: dict[str, Any] = {"casting": casting}
    if dtype is not None:
        options["signature"] = (None,) * call.nin + (np.dtype(dtype),) * call.nout
    found = call.resolve_dtypes((*kinds, *(None,) * call.nout), **options)
    return found[-1].newbyteorder("=")


def target(
    op: str, out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], casting: str
) -> np.ndarray:
    """The array that a caller has given for a result, checked."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{op}: out must be an array, got {out!r}")
    if not out.flags.writeable:
        raise ValueError(f"{op}: out is read-only; it must be writeable")
    if out.shape != shape:
        raise ValueError(f"{op}: out has shape {out.shape}; it must have shape {shape}")
    if not castable(dtype.name, out.dtype.name, casting):
        raise TypeError(f"{op}: out has dtype {out.dtype}, to which {dtype} cannot be cast")
    return out


def into(
    out: np.ndarray | None, shape: tuple[int, ...], dtype: np.dtype[Any], inputs: list[np.ndarray]
) -> np.ndarray:
    """Where to compute a result: in `out` if that can be; it may be any of the inputs."""
    if computed_in(out, shape, dtype, inputs, over=inputs):
        return np.asarray(out)
    return np.empty(shape, dtype)


def delivered(
    results: list[np.ndarray],
    outs: Sequence[np.ndarray | None],
    casting: Any = "same_kind",
    where: Any = True,
) -> list[Any]:
    """Results where the caller wants them; a 0-d result as a scalar, as NumPy returns it."""
    found: list[Any] = []
    for result, out in zip(results, outs, strict=True):
        if out is not None and out is not result:
            np.copyto(out, result, casting=casting, where=where)
        found.append(out if out is not None else result[()])
    return found


def padded(array: np.ndarray, dimensions: int) -> np.ndarray:
    """A view with axes of length 1 before its own."""
    return array.reshape((1,) * (dimensions - array.ndim) + array.shape)


def lengths_of(piece: Piece) -> tuple[int, ...]:
    return tuple([s.stop - s.start for s in piece])


def elementwise(
    record: Pointwise,
    direction: Direction,
    named: dict[str, Any],
    asked: Options,
) -> Any:
    """An elementwise op on host arrays, computed on the GPU."""
    op = record.name + direction.suffix
    arrays = {n: named[n] for n in direction.arrays}
    check_dtypes(op, arrays)
    own = [named[p.name] for p in record.parameters]
    check_constraint(op, record, *own)
    defaults = all(v is p.default for v, p in zip(own, record.parameters, strict=True))
    call = ufunc(record, direction, defaults and bool(own))
    values = list(arrays.values() if defaults else named.values())
    given_outs = outs_of(op, direction, asked.out)
    where, casting = asked.where, asked.casting
    if any(map(foreign, (*values, *given_outs))):

        def again(*pieces: Any, **options: Any) -> Any:
            piecewise = named | dict(zip(named, pieces, strict=False))
            return elementwise(record, direction, piecewise, Options(**options))

        told = asked._replace(out=None if asked.out is None else given_outs)
        return handed_over(call, again, values, told._asdict())
    kind = loop_dtype(call, values, asked.dtype, casting)
    computing = np.dtype(COMPUTING[kind.name])
    given = [(np.asarray(a), kind) for a in arrays.values()]
    parameters = [np.asarray(v) for v in own]
    grouped = any(p.ndim for p in parameters)
    if grouped:
        given += [(p, computing) for p in parameters]
    shapes = {n: np.shape(v) for n, v in named.items()}
    if where is not True:
        shapes["where"] = np.shape(where)
    shape = grown(broadcast_shape(op, shapes), given_outs)
    outs = [None if o is None else target(op, o, shape, kind, casting) for o in given_outs]
    sources = [a for a, _ in given]
    results = [into(o if where is True else None, shape, kind, sources) for o in outs]
    numbers = [] if grouped else [float(p) for p in parameters]

    def compute(work: Work, operands: list[Array], _: Piece) -> None:
        views = tuple([a.view for a in operands])
        launch = elementwise_launch(record, direction, views, views[-1].shape, grouped)
        work.run(launch, [a.address for a in operands], numbers)

    common = shape or (1,)
    inputs = [Operand(padded(a, len(common)), own) for a, own in given]
    run(common, inputs, [Operand(padded(r, len(common)), kind) for r in results], compute)
    made = like_operands(call, values, results, outs)
    found = delivered(made, outs, casting, where)
    return found[0] if len(found) == 1 else tuple(found)


def rows(call: RowCall) -> Any:
    """A row op on host arrays, computed on the GPU."""
    op = call.op
    named = dict(zip(op.inputs, call.arrays, strict=True))
    check_dtypes(op.name, named)
    ufunc_of_rows = gufunc(op, call.empty)
    alone = call.asked.where is True and call.offset is None and not call.keepdims
    if alone and any(map(foreign, (*call.arrays, call.target))):

        def again(*pieces: Any, **options: Any) -> Any:
            axis = options.pop("axis", -1)
            return rows(call._replace(arrays=pieces, axis=axis, asked=Options(**options)))

        told = call.asked._replace(out=None if call.target is None else (call.target,))
        options = told._asdict() | {"axis": call.axis}
        return handed_over(ufunc_of_rows, again, call.arrays, options)
    dtype = loop_dtype(ufunc_of_rows, call.arrays, call.asked.dtype, call.asked.casting)
    arrays = {n: np.asarray(a) for n, a in named.items()}
    x = arrays[op.inputs[-1]]
    lay = Layouts(call, framed(call, x.shape), {n: a.shape for n, a in arrays.items()})
    lead, length = lay.lead, lay.length
    axis = call.axis.__index__()  # of each operand: one with fewer axes is broadcast

    def laid(array: np.ndarray, is_row: bool) -> np.ndarray:
        """An operand with the axes of the rows first."""
        if not lay.frame.axes:
            return array.reshape((1,) * (1 + is_row))
        if is_row:
            return np.moveaxis(array, axis, -1)
        return np.squeeze(array, axis) if call.keepdims else array

    (result,) = op.results()
    if isinstance(call.target, np.ndarray):
        lead = lay.grown(call.target.shape, result)
    is_row = {n: n not in op.per_row for n in op.inputs} | {result.name: result.is_row}
    inputs = {n: (laid(a, is_row[n]), dtype) for n, a in arrays.items()}
    shape = lay.result(lead, result)
    wanted = call.target
    if wanted is not None:
        wanted = target(op.name, wanted, shape, dtype, call.asked.casting)
    sources = list(arrays.values())
    if call.asked.where is not True:
        mask = check_mask(op.name, call.asked.where, x.shape)
        sources.append(mask)
        inputs[MASK.name], is_row[MASK.name] = (laid(mask, True), np.dtype(bool)), True
    made = into(wanted, shape, dtype, sources)
    lead = lead or (1,)
    staged = [
        Operand(padded(a, len(lead) + is_row[n]), kind)
        for n, (a, kind) in (inputs | {result.name: (laid(made, result.is_row), dtype)}).items()
    ]

    def compute(work: Work, operands: list[Array], piece: Piece) -> None:
        lengths = lengths_of(piece)
        found = {
            n: everywhere(a, (*lengths, length) if is_row[n] else lengths)
            for n, a in zip((*inputs, result.name), operands, strict=True)
        }
        if call.offset is not None:
            one = x.shape[-2] == 1  # whose limit all rows have
            first = call.offset + (0 if one else piece[-1].start)  # of the piece's first row
            limit = limit_of(first, (1 if one else lengths[-1], length))
            found[LIMIT.name] = everywhere(limit, lengths)
        launched(work, op, found, row_values(call, dtype.name), **row_flags(call))

    run(lead, staged[:-1], staged[-1:], compute)
    results = like_operands(ufunc_of_rows, call.arrays, [made], [wanted])
    return delivered(results, [wanted], call.asked.casting)[0]


def run_rows(op: RowOp, operands: list[np.ndarray]) -> None:
    """A row op on all its operands, as `fastact.runtime.direct.run` takes them."""
    kinds = [*op.operands(False), *op.results()]
    along = [a for a, kind in zip(operands, kinds, strict=True) if kind.is_row]
    lead, length, dtype = along[0].shape[:-1], along[0].shape[-1], along[0].dtype
    computing = np.dtype(COMPUTING[dtype.name])
    outputs = len(op.results())
    if not math.prod(lead):
        return
    names, staged, values = [], [], [math.nan]
    ignoring = LABEL in kinds and (operands[kinds.index(LABEL)] == IGNORED).any()
    counted = op.extra[0].name if ignoring else ""
    for array, kind in zip(operands, kinds, strict=True):
        if kind.uniform:
            values.append(float(array.flat[0]))
            continue
        if kind.name == counted:  # a row that is ignored counts for nothing
            array = np.where(operands[kinds.index(LABEL)] == IGNORED, 0.0, array)
        own = dtype if kind.is_row else computing if kind.dtype != "int64" else np.dtype(np.int64)
        compact = once(array, len(lead))
        if not kind.is_row and kind in op.extra:
            with np.errstate(over="ignore"):  # as where the CPU computes with them
                compact = compact.astype(own)
        names.append(kind.name)
        staged.append(Operand(compact, own))
    flags = {"value_dtype": computing.name if op.value and computing != dtype else ""}
    rowlike = {kind.name for kind in kinds if kind.is_row}

    def compute(work: Work, arrays: list[Array], piece: Piece) -> None:
        lengths = lengths_of(piece)
        shapes = {n: (*lengths, length) if n in rowlike else lengths for n in names}
        found = {n: everywhere(a, shapes[n]) for n, a in zip(names, arrays, strict=True)}
        launched(work, op, found, values, **flags)

    run(lead or (1,), staged[:-outputs], staged[-outputs:], compute)


def once(array: np.ndarray, axes: int) -> np.ndarray:
    """An operand without the repetitions along its first axes; of one row, with an axis before."""
    if not axes:
        return array[None]
    return array[tuple([slice(None if step else 1) for step in array.strides[:axes]])]


def sums(
    record: Pointwise,
    direction: Direction,
    named: dict[str, np.ndarray | float],
    shape: tuple[int, ...],
    partials: list[Partial],
    computing: np.dtype[Any],
) -> None:
    """Fill the partials of a direction; every piece leaves its sums, added here in float64."""
    numbers = {p.name: named[p.name] for p in record.parameters}
    grouped = any(isinstance(v, np.ndarray) for v in numbers.values())
    values = [] if grouped else [float(v) for v in numbers.values()]
    what = Backward(record, direction, computing.name, values)
    names = [*direction.arrays, *(numbers if grouped else ())]
    inputs = [staged(np.asarray(named[n]), len(shape)) for n in names]
    outputs = [
        Operand(p.value, computing if p.axes else p.dtype, summed=bool(p.axes)) for p in partials
    ]

    def compute(work: Work, operands: list[Array], piece: Piece) -> None:
        arguments, targets = operands[: len(names)], operands[len(names) :]
        given = dict(zip(names, arguments, strict=True))
        fill(work, what, given, lengths_of(piece), targets)

    run(shape, inputs, outputs, compute)


def staged(array: np.ndarray, dimensions: int) -> Operand:
    """An operand that the GPU converts itself."""
    if array.dtype.name not in SIZE:
        raise TypeError(f"an array of {array.dtype} cannot be copied to the GPU")
    return Operand(padded(array, dimensions), array.dtype.newbyteorder("="))
