"""Host arrays on the GPU, where the target "cuda" asks for it: copied in and out in chunks.

Two chunks are under way at once, each with a stream of its own and with page-locked memory for
what it copies: while one is computed, the other one's copies run in both directions.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fastact.activations.directions import Direction
from fastact.activations.paired import Pointwise
from fastact.cuda.kinds import COMPUTING
from fastact.gpu.driver import Driver, driver
from fastact.gpu.operands import broadcast_shape, castable, check_casting
from fastact.gpu.plan import View, contiguous
from fastact.gpu.rows import check_row_shapes, framed, row_flags, row_values
from fastact.gpu.work import Launch, Place, Work, elementwise_launch, row_launch
from fastact.rowwise.record import MASK
from fastact.runtime.functions import check_constraint, check_dtypes, check_parameter
from fastact.runtime.row_functions import RowCall, check_mask, result_dtype

CHUNK = 1 << 24  # bytes of all operands of a chunk; copies of this size run at full speed
ALIGNED = 256  # where an operand begins in a chunk
DEVICE = 0


class Slot:
    """What one chunk needs: a stream, page-locked memory, as much memory on the device."""

    def __init__(self, gpu: Driver, size: int) -> None:
        self.gpu, self.size = gpu, size
        self.stream = gpu.create_stream()
        self.pinned = gpu.allocate_pinned(size)
        self.device = gpu.allocate_plain(size)
        self.finish: Callable[[], None] = lambda: None

    def view(self, offset: int, shape: Any, dtype: Any) -> np.ndarray:
        """A part of the page-locked memory as an array."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        raw = (ctypes.c_char * size).from_address(self.pinned + offset)
        return np.frombuffer(raw, dtype).reshape(shape)


class Pipeline:
    """Two slots of a device."""

    def __init__(self, gpu: Driver, size: int) -> None:
        self.gpu, self.size = gpu, size
        self.lock = threading.Lock()
        self.slots = [Slot(gpu, size) for _ in range(2)]

    def run(
        self,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        launch_of: Callable[[int], Launch],
        values: Sequence[float],
    ) -> None:
        """Compute outputs from inputs, all contiguous, a number of their first axis at a time."""
        every = [*inputs, *outputs]
        units = len(every[0])
        unit = sum(a.nbytes // units for a in every)
        step = max(1, (self.size - ALIGNED * len(every)) // unit)
        with self.lock:
            for k, start in enumerate(range(0, units, step)):
                self.chunk(self.slots[k % 2], inputs, outputs, start, step, launch_of, values)
            for slot in self.slots:
                slot.finish()

    def chunk(
        self,
        slot: Slot,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        start: int,
        step: int,
        launch_of: Callable[[int], Launch],
        values: Sequence[float],
    ) -> None:
        slot.finish()
        offset, addresses, staged = 0, [], []
        for array in (*inputs, *outputs):
            part = array[start : start + step]
            staged.append((part, slot.view(offset, part.shape, part.dtype), offset))
            addresses.append(slot.device + offset)
            offset += -(-part.nbytes // ALIGNED) * ALIGNED
        gpu, count = self.gpu, len(inputs)
        for part, pinned, at in staged[:count]:
            np.copyto(pinned, part)
            gpu.copy_in(slot.device + at, slot.pinned + at, part.nbytes, slot.stream)
        units = len(staged[0][0])
        with Work(gpu, Place(DEVICE, slot.stream, ())) as work:
            work.run(launch_of(units), addresses, values)
        for part, _, at in staged[count:]:
            gpu.copy_out(slot.pinned + at, slot.device + at, part.nbytes, slot.stream)

        def finish() -> None:
            gpu.synchronize(slot.stream)
            for part, pinned, _ in staged[count:]:
                np.copyto(part, pinned)
            slot.finish = lambda: None

        slot.finish = finish


@lru_cache(maxsize=8)
def pipeline(gpu: Driver, size: int) -> Pipeline:
    return Pipeline(gpu, size)


def computed(
    inputs: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    launch_of: Callable[[int], Launch],
    values: Sequence[float],
) -> None:
    """Run a pipeline large enough for the operands."""
    if not outputs[0].size:
        return
    gpu = driver()
    every = [*inputs, *outputs]
    unit = sum(a.nbytes // len(a) for a in every) + ALIGNED * len(every)
    entered = gpu.enter(DEVICE)
    try:
        pipeline(gpu, max(CHUNK, unit)).run(inputs, outputs, launch_of, values)
    finally:
        if entered:
            gpu.leave()


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


def delivered(
    results: list[np.ndarray],
    outs: Sequence[np.ndarray | None],
    casting: Any = "same_kind",
    where: Any = True,
) -> list[Any]:
    """Results where the caller wants them; a 0-d result as a scalar, as NumPy returns it."""
    found: list[Any] = []
    for result, out in zip(results, outs, strict=True):
        if out is not None:
            np.copyto(out, result, casting=casting, where=where)
        found.append(out if out is not None else result[()])
    return found


def elementwise(
    record: Pointwise,
    direction: Direction,
    named: dict[str, Any],
    out: Any,
    where: Any = True,
    dtype: Any = None,
    casting: Any = "same_kind",
) -> Any:
    """An elementwise op on host arrays, computed on the GPU."""
    op = record.name + direction.suffix
    check_dtypes(op, {n: named[n] for n in direction.arrays})
    given = [np.asarray(named[n]) for n in direction.arrays]
    kind = result_dtype(given, dtype)
    if dtype is not None:
        check_casting(op, casting)
        for name, array in zip(direction.arrays, given, strict=True):
            if not castable(array.dtype.name, kind.name, casting):
                raise TypeError(
                    f"{op}: {name} has dtype {array.dtype}, which casting={casting!r} does not "
                    f"let become {kind}"
                )
    computing = np.dtype(COMPUTING[kind.name])
    parameters = [np.asarray(check_parameter(op, p, named[p.name])) for p in record.parameters]
    if record.constraint:
        check_constraint(op, record, *parameters)
    grouped = any(p.ndim for p in parameters)
    if grouped:
        given += parameters
    kinds = [kind] * len(direction.arrays) + [computing] * grouped * len(parameters)
    shapes = {n: np.shape(v) for n, v in named.items()}
    if where is not True:
        shapes["where"] = np.shape(where)
    shape = broadcast_shape(op, shapes)
    given_outs = out if isinstance(out, tuple) else (out,) * len(direction.outputs)
    outs = [None if o is None else target(op, o, shape, kind, casting) for o in given_outs]
    inputs = [
        np.ascontiguousarray(np.broadcast_to(a, shape), own).reshape(-1)
        for a, own in zip(given, kinds, strict=True)
    ]
    results = [np.empty(shape, kind) for _ in outs]
    views = [k.name for k in kinds] + [kind.name] * len(outs)

    def launch_of(count: int) -> Launch:
        plain = tuple(View(name, (count,), (1,)) for name in views)
        return elementwise_launch(record, direction, plain, (count,), grouped)

    values = [] if grouped else [float(p) for p in parameters]
    computed(inputs, [r.reshape(-1) for r in results], launch_of, values)
    found = delivered(results, outs, casting, where)
    return found[0] if len(found) == 1 else tuple(found)


def rows(call: RowCall) -> Any:
    """A row op on host arrays, computed on the GPU."""
    op = call.op
    named = dict(zip(op.inputs, call.arrays, strict=True))
    check_dtypes(op.name, named)
    arrays = {n: np.asarray(a) for n, a in named.items()}
    dtype = result_dtype(list(arrays.values()), call.dtype)
    x = arrays[op.inputs[-1]]
    frame = framed(call, x.shape)
    per_row_shape = frame.shape_per_row(x.shape)
    check_row_shapes(op, {n: a.shape for n, a in arrays.items()}, x.shape, per_row_shape)
    axis = frame.axes[0] if frame.axes else -1
    flat: dict[str, np.ndarray] = {}
    for n, a in arrays.items():
        if n in op.per_row:
            flat[n] = np.ascontiguousarray(a, dtype).reshape(-1)
        else:
            flat[n] = as_rows(a, axis, dtype)
    if call.where is not True:
        flat[MASK.name] = as_rows(check_mask(op.name, call.where, x.shape), axis, np.dtype(bool))
    (result,) = op.results()
    shape = x.shape if result.is_row else per_row_shape
    wanted = call.target
    if wanted is not None:
        wanted = target(op.name, wanted, shape, dtype, call.casting)
    rowed = flat[op.inputs[-1]].shape
    made = np.empty(rowed if result.is_row else rowed[:1], dtype)

    def launch_of(rows: int) -> Launch:
        views = []
        for n, a in [*flat.items(), (result.name, made)]:
            lengths = (rows, *a.shape[1:])
            views.append((n, contiguous(a.dtype.name, lengths)))
        flags = tuple((n, f) for n, f in row_flags(call).items() if f)
        return row_launch(op, tuple(views), flags)

    computed(list(flat.values()), [made], launch_of, row_values(call, dtype.name))
    if result.is_row and frame.axes:
        moved = made.reshape(np.moveaxis(x, axis, -1).shape)
        final = np.ascontiguousarray(np.moveaxis(moved, -1, axis))
    else:
        final = made.reshape(shape)
    return delivered([final], [wanted], call.casting)[0]


def as_rows(array: np.ndarray, axis: int, dtype: Any) -> np.ndarray:
    """An array as contiguous rows, in C order of the other axes."""
    if not array.ndim:
        return np.ascontiguousarray(array, dtype).reshape(1, 1)
    moved = np.moveaxis(array, axis, -1)
    return np.ascontiguousarray(moved, dtype).reshape(-1, array.shape[axis])
