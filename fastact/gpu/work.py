"""What one call does on a GPU: where it runs, what it launches, what it needs meanwhile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from fastact.activations.directions import Direction
from fastact.activations.paired import Pointwise
from fastact.gpu import kernels, plan
from fastact.gpu.arrays import Array, itemsize
from fastact.gpu.driver import LEGACY_STREAM, Driver
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
    """The launches of one layout of a call, ready to be repeated."""

    def __init__(self, plans: plan.Plans) -> None:
        self.workspace = plans.workspace
        self.steps = [(step.kernel, *kernels.packer(step)) for step in plans.launches]
        self.geometry = [(*step.grid, *step.kernel.block) for step in plans.launches]
        self.functions: dict[tuple[Driver, int], list[Any]] = {}

    def ready(self, gpu: Driver, device: int) -> list[Any]:
        """The kernels on a device."""
        found = self.functions.get((gpu, device))
        if found is None:
            found = [kernels.function(gpu, device, kernel) for kernel, *_ in self.steps]
            self.functions[gpu, device] = found
        return found


class Work:
    """The part of a call that runs on a GPU; temporary memory is given back at its end.

    Without launches, nothing is asked of the driver.
    """

    def __init__(self, gpu: Driver, place: Place) -> None:
        self.gpu = gpu
        self.device, self.stream, self.others = place
        self.temporaries: list[int] = []
        self.begun = self.entered = False

    def __enter__(self) -> Work:
        return self

    def begin(self) -> None:
        """Make the device current, and let the stream wait for the others, once."""
        if self.begun:
            return
        self.begun = True
        self.entered = self.gpu.enter(self.device)
        for other in self.others:
            self.gpu.wait_for(self.stream, other)

    def __exit__(self, *_: Any) -> None:
        try:
            for address in self.temporaries:
                self.gpu.free(address, self.stream)
        finally:
            if self.entered:
                self.gpu.leave()

    def allocate(self, size: int) -> int:
        self.begin()
        address = self.gpu.allocate(size, self.stream)
        self.temporaries.append(address)
        return address

    def run(self, launch: Launch, addresses: Sequence[int], values: Sequence[float] = ()) -> None:
        if not launch.steps:
            return
        if not self.begun:
            self.begin()
        space = self.allocate(launch.workspace) if launch.workspace else 0
        functions = launch.ready(self.gpu, self.device)
        for function, geometry, (_, size, pack) in zip(
            functions, launch.geometry, launch.steps, strict=True
        ):
            self.gpu.launch(function, geometry, self.stream, size, pack, addresses, values, space)

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
