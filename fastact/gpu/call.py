"""A call on GPU arrays: checked, planned once per layout, launched on the producer's stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastact.activations.directions import Direction
from fastact.activations.paired import Pointwise
from fastact.cuda.kinds import COMPUTING
from fastact.gpu import arrays, kernels, plan
from fastact.gpu.arrays import Array, described
from fastact.gpu.driver import LEGACY_STREAM, Driver, driver
from fastact.rowwise.record import MASK, RowOp
from fastact.runtime.elsewhere import is_on_gpu, is_tracked
from fastact.runtime.functions import check_constraint, check_parameter


class Place(NamedTuple):
    """Where a call runs."""

    device: int
    stream: int
    others: tuple[int, ...]  # streams that the stream must wait for first


class Launch:
    """The launches of one layout of a call, ready to be repeated."""

    def __init__(self, plans: plan.Plans) -> None:
        self.workspace = plans.workspace
        self.steps = [
            (step.kernel, step.grid, step.kernel.block, kernels.packer(step))
            for step in plans.launches
        ]

    def __call__(
        self, gpu: Driver, place: Place, addresses: Sequence[int], values: Sequence[float]
    ) -> None:
        if not self.steps:
            return
        device, stream, others = place
        entered = gpu.enter(device)
        try:
            for other in others:
                gpu.wait_for(stream, other)
            space = gpu.allocate(self.workspace, stream) if self.workspace else 0
            try:
                for kernel, grid, block, pack in self.steps:
                    function = kernels.function(gpu, device, kernel)
                    gpu.launch(function, grid, block, stream, pack(addresses, values, space))
            finally:
                if space:
                    gpu.free(space, stream)
        finally:
            if entered:
                gpu.leave()


@lru_cache(maxsize=4096)
def elementwise_launch(
    record: Pointwise,
    direction: Direction,
    views: tuple[plan.View, ...],
    shape: Any,
    grouped: bool,
) -> Launch:
    return Launch(plan.elementwise(record, direction, views, shape, grouped))


@lru_cache(maxsize=4096)
def row_launch(op: RowOp, views: tuple[tuple[str, plan.View], ...], *flags: bool) -> Launch:
    return Launch(plan.rowwise(op, dict(views), *flags))


def all_on_gpu(op: str, named: dict[str, Any]) -> None:
    """Raise a TypeError that names an array on the GPU and a value that is not."""
    for name, value in named.items():
        if is_tracked(value):
            raise TypeError(
                f"{op}: {name} is a tensor that requires grad; use fastact.torch, whose functions "
                "autograd knows, or pass x.detach()"
            )
    inside = next(n for n, v in named.items() if is_on_gpu(v))
    for name, value in named.items():
        if not is_on_gpu(value):
            raise TypeError(
                f"{op}: {inside} is a {described(named[inside])}, but {name} is a "
                f"{described(value)}; copy one of them, fastact does not copy between the two"
            )


def place_of(op: str, gpu: Driver, operands: dict[str, Array]) -> Place:
    """The one device of all operands, the stream of the first, and those of the others."""
    filled = {n: a for n, a in operands.items() if a.address}
    devices = {n: gpu.device_of(a.address) for n, a in filled.items()}
    if len(set(devices.values())) > 1:
        listed = ", ".join(f"{n} on device {d}" for n, d in devices.items())
        raise ValueError(f"{op}: all arrays must be on one device: {listed}")
    streams = list(dict.fromkeys(a.stream for a in operands.values() if a.stream is not None))
    stream = streams[0] if streams else LEGACY_STREAM
    return Place(next(iter(devices.values()), 0), stream, tuple(streams[1:]))


def broadcast_shape(op: str, operands: dict[str, Array]) -> tuple[int, ...]:
    shapes = {n: a.view.shape for n, a in operands.items()}
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        listed = ", ".join(f"{n} {s}" for n, s in shapes.items())
        raise ValueError(f"{op}: shapes do not broadcast: {listed}") from None


def same_dtype(op: str, operands: dict[str, Array]) -> str:
    dtypes = {n: a.view.dtype for n, a in operands.items()}
    if len(set(dtypes.values())) > 1:
        listed = ", ".join(f"{n} {d}" for n, d in dtypes.items())
        raise TypeError(f"{op}: arrays on the GPU must have one dtype: {listed}")
    return next(iter(dtypes.values()))


def output(op: str, like: Array, given: Any, shape: tuple[int, ...], dtype: str) -> Array:
    """The array for a result: the one given, checked, or a new one."""
    if given is None:
        return arrays.array(op, "out", arrays.empty_like(op, like, shape, dtype))
    if not is_on_gpu(given):
        raise TypeError(
            f"{op}: the inputs are on the GPU, but out is a {described(given)}; it must be on the "
            "same device"
        )
    out = arrays.array(op, "out", given)
    if out.readonly:
        raise ValueError(f"{op}: out is read-only; it must be writeable")
    if out.view.shape != shape:
        raise ValueError(f"{op}: out has shape {out.view.shape}; it must have shape {shape}")
    if out.view.dtype != dtype:
        raise TypeError(f"{op}: out has dtype {out.view.dtype}; it must have dtype {dtype}")
    return out


def any_on_gpu(named: dict[str, Any], out: Any) -> bool:
    """Whether any operand lies on a GPU, or is a tensor that cannot be computed with here."""
    outs = out if isinstance(out, tuple) else (out,)
    return any(is_on_gpu(v) or is_tracked(v) for v in (*named.values(), *outs))


def refuse_options(op: str, where: Any, dtype: Any, casting: Any) -> None:
    """Raise a ValueError for an option of NumPy's that is not for arrays on a GPU."""
    defaults = {"where": where is True, "dtype": dtype is None, "casting": casting == "same_kind"}
    for name, unused in defaults.items():
        if not unused:
            raise ValueError(f"{op}: {name}= is for arrays on the host")


def overlapping(out: Array, others: Iterable[Array]) -> bool:
    """Whether an output shares memory with an input in another order than element by element."""
    low, high = extent(out)
    for other in others:
        start, stop = extent(other)
        same = other.address == out.address and other.view.strides == out.view.strides
        if start < high and low < stop and not same:
            return True
    return False


def extent(a: Array) -> tuple[int, int]:
    """The first byte of an array, and the one after the last."""
    size = arrays.itemsize(a.view.dtype)
    steps = [s * (n - 1) * size for s, n in zip(a.view.strides, a.view.shape, strict=True) if n]
    return a.address + sum(s for s in steps if s < 0), a.address + size + sum(
        s for s in steps if s > 0
    )


def refuse_overlap(op: str, outs: Sequence[Array], inputs: Iterable[Array]) -> None:
    for out in outs:
        if overlapping(out, inputs):
            raise ValueError(
                f"{op}: out overlaps an input in another layout; it must be that input, or apart"
            )


def elementwise(
    record: Pointwise,
    direction: Direction,
    named: dict[str, Any],
    out: Any,
    where: Any,
    dtype: Any,
    casting: Any,
) -> Any:
    """An elementwise op on GPU arrays; `named` has its arrays, then its parameters."""
    op = record.name + direction.suffix
    refuse_options(op, where=where, dtype=dtype, casting=casting)
    if not any_on_gpu(named, out):
        from fastact.gpu import host

        return host.elementwise(record, direction, named, out)
    inputs = {n: named[n] for n in direction.arrays}
    outs = out if isinstance(out, tuple) else (out,) * len(direction.outputs)
    extra = {f"out[{k}]" if len(outs) > 1 else "out": o for k, o in enumerate(outs)}
    extra |= {p.name: named[p.name] for p in record.parameters}
    all_on_gpu(op, inputs | {n: v for n, v in extra.items() if is_on_gpu(v)})
    operands = {n: arrays.array(op, n, v) for n, v in inputs.items()}
    kind = same_dtype(op, operands)
    first = operands[direction.arrays[0]]
    grouped = any(is_on_gpu(named[p.name]) for p in record.parameters)
    values: list[float] = []
    if grouped:
        for p in record.parameters:
            if not is_on_gpu(named[p.name]):
                raise TypeError(
                    f"{op}: if one parameter is an array on the GPU, all must be; {p.name} is a "
                    f"{described(named[p.name])}"
                )
            operands[p.name] = arrays.array(op, p.name, named[p.name], (COMPUTING[kind],))
    else:
        for p in record.parameters:
            value = check_parameter(op, p, named[p.name])
            if np.ndim(value):
                raise TypeError(
                    f"{op}: {p.name} is a {described(value)}; it must be a number, or an array on "
                    "the GPU"
                )
            values.append(float(value))
        if record.constraint:
            check_constraint(op, record, *values)
    shape = broadcast_shape(op, operands)
    gpu = driver()
    results = [output(op, first, o, shape, kind) for o in outs]
    refuse_overlap(op, [r for r, o in zip(results, outs, strict=True) if o is not None],
                   operands.values())  # fmt: skip
    every = [*operands.values(), *results]
    place = place_of(op, gpu, operands | {f"out{k}": r for k, r in enumerate(results)})
    launch = elementwise_launch(record, direction, tuple(a.view for a in every), shape, grouped)
    launch(gpu, place, [a.address for a in every], values)
    return results[0].value if len(results) == 1 else tuple(r.value for r in results)


def row_last(view: plan.View, axis: int) -> plan.View:
    """A view with this axis last."""
    shape, strides = list(view.shape), list(view.strides)
    shape.append(shape.pop(axis))
    strides.append(strides.pop(axis))
    return view._replace(shape=tuple(shape), strides=tuple(strides))


def check_row_shapes(op: RowOp, shapes: dict[str, Any], shape: Any, per_row: Any) -> None:
    """Raise a ValueError for an operand that has not the shape of the rows, or one per row."""
    for name, found in shapes.items():
        right = per_row if name in op.per_row else shape
        if found != right:
            raise ValueError(f"{op.name}: {name} has shape {found}; it must have shape {right}")


def row_values(empty: float, factor: float, scaled: bool, dtype: str) -> list[float]:
    """The numbers that a row kernel takes: the factor in two parts of the computing dtype."""
    high = float(np.dtype(COMPUTING[dtype]).type(factor))
    return [empty, high, factor - high] if scaled else [empty]


def rows(
    op: RowOp,
    given: tuple[Any, ...],
    axis: Any,
    out: Any,
    empty: float,
    factor: float,
    where: Any,
    keepdims: bool,
) -> Any:
    """A row op on GPU arrays."""
    named = dict(zip(op.inputs, given, strict=True))
    masked = where is not True
    if not any_on_gpu(named | {"where": where}, out):
        from fastact.gpu import host

        return host.rows(op, given, axis, out, empty, factor, where, keepdims)
    target = out[0] if isinstance(out, tuple) else out
    extra = ({"where": where} if masked else {}) | ({"out": target} if is_on_gpu(target) else {})
    all_on_gpu(op.name, named | extra)
    operands = {n: arrays.array(op.name, n, v) for n, v in named.items()}
    kind = same_dtype(op.name, operands)
    key = operands[op.inputs[-1]]
    shape = key.view.shape
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise TypeError(f"{op.name}: on the GPU axis must be an integer, got {axis!r}")
    if not shape or not -len(shape) <= axis < len(shape):
        raise ValueError(f"{op.name}: axis {axis} is out of bounds for x of shape {shape}")
    axis %= len(shape)
    shorter = shape[:axis] + shape[axis + 1 :]
    kept = (*shape[:axis], 1, *shape[axis + 1 :])
    per_row_shape = kept if keepdims else shorter
    check_row_shapes(op, {n: a.view.shape for n, a in operands.items()}, shape, per_row_shape)
    if masked:
        mask = arrays.array(op.name, "where", where, ("bool",))
        try:
            steps = plan.broadcast(mask.view, np.broadcast_shapes(mask.view.shape, shape))
        except ValueError:
            steps = ()
        if len(steps) != len(shape):
            raise ValueError(
                f"{op.name}: where of shape {mask.view.shape} does not broadcast against x of "
                f"shape {shape}"
            )
        view = plan.View("bool", shape, steps, False)
        operands[MASK.name] = mask._replace(view=view)
    (result,) = op.results()
    results = output(op.name, key, target,
                     shape if result.is_row else per_row_shape, result.dtype or kind)  # fmt: skip
    refuse_overlap(op.name, [results] if out is not None else [], operands.values())
    gpu = driver()
    place = place_of(op.name, gpu, operands | {"out": results})
    operands[result.name] = results
    views = []
    for n, a in operands.items():
        if a.view.shape == shape and n not in op.per_row:
            view = row_last(a.view, axis)
        elif keepdims and len(a.view.shape) == len(shape):
            moved = row_last(a.view, axis)
            view = moved._replace(shape=moved.shape[:-1], strides=moved.strides[:-1])
        else:
            view = a.view
        views.append((n, view))
    scaled = op.scalable and factor != 1.0
    launch = row_launch(op, tuple(views), masked, False, scaled)
    values = row_values(empty, factor, scaled, kind)
    launch(gpu, place, [a.address for a in operands.values()], values)
    return results.value
