"""What a call does on a GPU: recorded once per layout, then done with each call's arrays.

A recording knows operands by numbers, and addresses as distances from where they begin. What
comes of it, a recipe, holds for all calls that differ in where their operands lie and in the
parameters alone; its temporary memory is one block, asked for and given back on the stream.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, NamedTuple

from fastact.activations.directions import Direction
from fastact.activations.paired import Pointwise
from fastact.gpu import kernels, plan
from fastact.gpu.arrays import Array, itemsize
from fastact.gpu.driver import LEGACY_STREAM, CudaError, Driver
from fastact.rowwise.record import RowOp


class Place(NamedTuple):
    """Where a call runs."""

    device: int
    stream: int
    others: tuple[int, ...]  # streams that the stream must wait for first


def place_of(op: str, gpu: Driver, operands: dict[str, Array]) -> Place:
    """The one device of all operands, the stream of the first, and those of the others."""
    device = 0
    if gpu.count > 1:
        devices = {n: gpu.device_of(a.address) for n, a in operands.items() if a.address}
        if len(set(devices.values())) > 1:
            listed = ", ".join(f"{n} on device {d}" for n, d in devices.items())
            raise ValueError(f"{op}: all arrays must be on one device: {listed}")
        device = next(iter(devices.values()), 0)
    streams = [a.stream for a in operands.values() if a.stream is not None]
    if not streams:
        return Place(device, LEGACY_STREAM, ())
    first = streams[0]
    others = () if streams.count(first) == len(streams) else tuple(dict.fromkeys(streams))[1:]
    return Place(device, first, others)


class Launch:
    """The launches of one layout of a part of a call."""

    def __init__(self, plans: plan.Plans) -> None:
        self.workspace = plans.workspace
        self.steps = [
            (step.kernel, (*step.grid, *step.kernel.block), *kernels.packer(step))
            for step in plans.launches
        ]


# A recording's addresses: SPAN * k + distance is that far from the beginning of base k, and of
# base 0 it is the number itself. Base 1 is the temporary memory, the others are the operands.
SPAN = 1 << 64
TEMPORARY, OPERANDS = 1, 2
# Where temporary arrays begin: large ones where whole lines of the cache do, small ones where a
# vector does.
LINES, LARGE = 256, 4096


class Step(NamedTuple):
    """One launch of a recipe."""

    kernel: Any
    geometry: tuple[int, ...]
    size: int  # bytes of the arguments
    pack: kernels.Pack
    places: tuple[tuple[int, int], ...] | None  # (base, distance) each; None: those of the call
    values: tuple[float, ...] | None  # None: those of the call
    space: int  # where its workspace begins in the temporary memory


class Recipe:
    """What a call comes to, whatever the addresses of its operands."""

    def __init__(self, steps: Sequence[Step], temporary: int) -> None:
        self.steps, self.temporary = steps, temporary
        self.functions: dict[int, list[tuple[Any, Step]]] = {}  # by device

    def ready(self, gpu: Driver, device: int) -> list[tuple[Any, Step]]:
        """The steps with their functions on a device, in whose context the caller is."""
        made = [(kernels.function(gpu, device, step.kernel), step) for step in self.steps]
        self.functions[device] = made
        return made

    def perform(
        self, gpu: Driver, place: Place, addresses: Sequence[int], values: Sequence[float] = ()
    ) -> None:
        """Launch it with operands at these addresses. Without launches, no driver is asked."""
        if not self.steps:
            return
        device, stream, others = place
        entered = gpu.enter(device)
        try:
            for other in others:
                gpu.wait_for(stream, other)
            steps = self.functions.get(device) or self.ready(gpu, device)
            if self.temporary:
                self.with_memory(gpu, steps, place, addresses, values)
            else:
                for function, (_, geometry, size, pack, places, own, _) in steps:
                    found = addresses if places is None else located(places, 0, addresses)
                    numbers = values if own is None else own
                    gpu.launch(function, geometry, stream, size, pack, found, numbers, 0)
            for other in others:  # what it is given next may overwrite or free what is read here
                gpu.wait_for(other, stream)
        finally:
            if entered:
                gpu.leave()

    def with_memory(
        self,
        gpu: Driver,
        steps: Sequence[tuple[Any, Step]],
        place: Place,
        addresses: Sequence[int],
        values: Sequence[float],
    ) -> None:
        device, stream, _ = place
        memory = gpu.allocate(device, self.temporary, stream)
        try:
            for function, (_, geometry, size, pack, places, own, space) in steps:
                found = addresses if places is None else located(places, memory, addresses)
                numbers = values if own is None else own
                gpu.launch(function, geometry, stream, size, pack, found, numbers, memory + space)
        except BaseException:
            with suppress(CudaError):  # a failure of the card: the first error says it
                gpu.free(device, memory, stream)
            raise
        gpu.free(device, memory, stream)


def located(places: Sequence[tuple[int, int]], memory: int, addresses: Sequence[int]) -> list[int]:
    bases = (0, memory, *addresses)
    return [bases[k] + distance for k, distance in places]


class Work:
    """A recording of what a call launches, and of the memory that it takes meanwhile.

    `values` are the numbers that calls of one recipe differ in: launched with this very object,
    a kernel gets the call's own.
    """

    def __init__(self, values: Sequence[float] = ()) -> None:
        self.values = values
        self.steps: list[Step] = []
        self.beginnings = [0, 0]  # of each base, modulo the alignment of lines
        self.top = self.most = 0  # bytes of temporary memory in use now, and at most

    def operand(self, array: Array) -> Array:
        """An operand of the call as the recording knows it; they are numbered as they come."""
        beginning = array.address % LINES
        address = SPAN * len(self.beginnings) + beginning
        self.beginnings.append(beginning)
        return array._replace(address=address)

    def recipe(self) -> Recipe:
        return Recipe(self.steps, self.most)

    def place(self, address: int) -> tuple[int, int]:
        """(base, distance) of a recorded address; operands reach in both directions."""
        base = (address + SPAN // 2) // SPAN
        return base, address - SPAN * base - self.beginnings[base]

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Temporary memory that is taken in the block is free again after it."""
        top = self.top
        try:
            yield
        finally:
            self.top = top

    def allocate(self, size: int) -> int:
        """The recorded address of temporary memory."""
        unit = LINES if size >= LARGE else plan.kinds.VECTOR_BYTES
        start = -(-self.top // unit) * unit
        self.top = start + size
        self.most = max(self.most, self.top)
        return SPAN * TEMPORARY + start

    def run(self, launch: Launch, addresses: Sequence[int], values: Sequence[float] = ()) -> None:
        """Record a launch. What it needs for itself is free again after it."""
        places: Any = tuple(map(self.place, addresses))
        if places == tuple([(k, 0) for k in range(OPERANDS, len(self.beginnings))]):
            places = None
        own = None if values is self.values else tuple(values)
        with self.scope():
            space = self.allocate(launch.workspace) - SPAN if launch.workspace else 0
        for kernel, geometry, size, pack in launch.steps:
            self.steps.append(Step(kernel, geometry, size, pack, places, own, space))

    def temporary(self, dtype: str, shape: tuple[int, ...]) -> Array:
        """An array of this call alone, in C order."""
        size = math.prod(shape) * itemsize(dtype)
        address = self.allocate(size) if size else 0
        return Array(None, address, plan.contiguous(dtype, shape), False, None)

    def copy(self, source: Array, target: Array, mask: Array | None = None) -> None:
        """Copy and convert, where the mask holds."""
        operands = [source, *((mask,) if mask else ()), target]
        launch = copy_launch(source.view, target.view, mask.view if mask else None)
        self.run(launch, [a.address for a in operands])

    def converted(self, array: Array, dtype: str) -> Array:
        """An array of this dtype: this one, or a copy."""
        if array.view.dtype == dtype:
            return array
        made = self.temporary(dtype, array.view.shape)
        self.copy(array, made)
        return made


@lru_cache(maxsize=4096)
def copy_launch(source: plan.View, target: plan.View, mask: plan.View | None) -> Launch:
    return Launch(plan.copy(source, target, mask))


@lru_cache(maxsize=1024)
def labels_launch(label: plan.View, own: str, weight: plan.View | None, ignoring: bool) -> Launch:
    return Launch(plan.labels(label, own, weight, ignoring))


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
def row_launch(
    op: RowOp, views: tuple[tuple[str, plan.View], ...], flags: tuple[tuple[str, Any], ...]
) -> Launch:
    return Launch(plan.rowwise(op, dict(views), **dict(flags)))
