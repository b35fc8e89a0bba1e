"""A GPU made of the PTX interpreter: calls run whole, from the public function to the result.

What the driver is asked to launch is compiled and executed on memory that knows its bounds, so a
wrong argument, a workspace too small or read before it is written shows as a fault.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any

import gpu
import numpy as np
import pytest
from ptx import Buffer, Machine
from ptx.memory import GlobalMemory
from stand_ins import GpuArray, Library, install

from fastact.gpu import driver, kernels


class Executing(Library):
    """The driver library; its capability is 9.0."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = GlobalMemory()
        self.kernels: dict[str, Any] = {}
        self.temporaries: dict[int, Buffer] = {}
        self.most = 0  # bytes of them at a time
        # what streams of fastact's own have still to do: as late as the driver may do it
        self.queues: dict[int, list[Callable[[], Any]]] = {}
        self.kept: dict[int, Any] = {}  # memory that is not a call's own, by address
        self.copied = 0  # bytes, in both directions

    def later(self, stream: int, action: Callable[[], Any]) -> int:
        if stream in self.queues:
            self.queues[stream].append(action)
        else:
            action()
        return 0

    def remember(self, kernel: Any, cc: Any) -> bytes:
        self.kernels[kernel.name] = kernel
        return kernel.name.encode()

    def cuLaunchKernel(self, function: Any, *rest: Any) -> int:  # noqa: N802
        super().cuLaunchKernel(function, *rest)
        launched = self.launches[-1]
        kernel = self.kernels[launched.name]
        codes = "".join(kernels.letter(kernel, a) for a in kernel.arguments)
        arguments = struct.unpack("@" + codes, launched.packed)
        machine = Machine(gpu.module(kernel, self.capability), memory=self.memory)
        return self.later(
            launched.stream, lambda: machine.launch(launched.grid, launched.block, arguments)
        )

    def cuMemAllocFromPoolAsync(  # noqa: N802
        self, result: Any, size: Any, pool: Any, stream: Any
    ) -> int:
        buffer = self.memory.place(Buffer(np.zeros(size, np.uint8), "out"))
        self.temporaries[buffer.address] = buffer
        self.most = max(self.most, sum(b.nbytes for b in self.temporaries.values()))
        return self.write(result, buffer.address)

    def cuMemFreeAsync(self, address: Any, stream: Any) -> int:  # noqa: N802
        buffer = self.temporaries.pop(address)
        return self.later(stream, lambda: self.memory.buffers.remove(buffer))

    def cuStreamCreate(self, result: Any, flags: int) -> int:  # noqa: N802
        assert flags == driver.NON_BLOCKING
        stream = 100 + len(self.queues)
        self.queues[stream] = []
        return self.write(result, stream)

    def cuStreamSynchronize(self, stream: Any) -> int:  # noqa: N802
        queue = self.queues[stream.value]
        self.log.append(("synchronize", stream.value))
        while queue:
            queue.pop(0)()
        return 0

    def cuMemHostAlloc(self, result: Any, size: Any, flags: int) -> int:  # noqa: N802
        area = ctypes.create_string_buffer(size.value)
        self.kept[ctypes.addressof(area)] = area
        return self.write(result, ctypes.addressof(area))

    def cuMemFreeHost(self, address: Any) -> int:  # noqa: N802
        del self.kept[address.value]
        return 0

    def cuMemAlloc_v2(self, result: Any, size: Any) -> int:  # noqa: N802
        buffer = self.memory.place(Buffer(np.zeros(size.value, np.uint8), "out"))
        self.kept[buffer.address] = buffer
        return self.write(result, buffer.address)

    def cuMemFree_v2(self, address: Any) -> int:  # noqa: N802
        self.memory.buffers.remove(self.kept.pop(address.value))
        return 0

    def area(self, address: int, size: int) -> tuple[Buffer, slice]:
        """The buffer of the device, and the part of it, that a copy concerns."""
        buffer = next(b for b in self.memory.buffers if 0 <= address - b.base < b.bytes.size)
        start = address - buffer.base
        assert start + size <= buffer.nbytes, "a copy beyond the end"
        return buffer, slice(start, start + size)

    def cuMemcpyHtoDAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> int:  # noqa: N802
        at, host, count = to.value, source.value, size.value

        def copy() -> None:
            buffer, part = self.area(at, count)
            if part.start == 0:  # a new piece: nothing is known of the one before
                buffer.initialised[:] = False
            buffer.bytes[part] = np.frombuffer(ctypes.string_at(host, count), np.uint8)
            buffer.initialised[part] = True

        self.copied += count
        return self.later(stream.value, copy)

    def cuMemcpyDtoHAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> int:  # noqa: N802
        host, at, count = to.value, source.value, size.value

        def copy() -> None:
            buffer, part = self.area(at, count)
            assert buffer.initialised[part].all(), "a result that was not written"
            ctypes.memmove(host, buffer.bytes[part].tobytes(), count)

        self.copied += count
        return self.later(stream.value, copy)


class Real(GpuArray):
    """An array in the interpreter's memory."""

    library: Executing

    def __init__(self, shape: Any, dtype: Any, whole: Any = None, **options: Any) -> None:
        options.pop("device", None)
        super().__init__(shape, dtype, **options)
        role = "out" if whole is None else "inout"
        whole = np.zeros(self.shape, self.dtype) if whole is None else whole
        self.buffer = self.library.memory.place(Buffer(whole, role))
        self.start = 0
        self.address = self.buffer.address

    def numpy(self) -> np.ndarray:
        """The values now; reading what was never written is a fault."""
        flat = self.buffer.array.reshape(-1)
        known = self.buffer.initialised[: self.buffer.nbytes].reshape(-1, self.dtype.itemsize)
        steps = self.strides
        if steps is None:
            steps = tuple(np.zeros(self.shape, np.int8).strides)
        places = self.start + sum(
            (np.arange(n).reshape(-1, *(1,) * (len(self.shape) - 1 - d)) * s)
            for d, (n, s) in enumerate(zip(self.shape, steps, strict=True))
        )
        assert known.all(axis=1)[places].all(), "a result that was not written"
        return flat[places].reshape(self.shape)


def place(array: Any, **options: Any) -> Real:
    """A NumPy array, or a view of one, on the GPU."""
    view = np.asarray(array)
    base = view
    while base.base is not None:
        base = base.base
    whole = base.ravel(order="K")
    size = view.dtype.itemsize
    made = Real(
        view.shape, view.dtype, whole, strides=tuple(s // size for s in view.strides), **options
    )
    made.start = (
        view.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    ) // size
    made.address += made.start * size
    return made


@pytest.fixture
def executing(monkeypatch):
    """The GPU; after the test, all temporary memory must have been given back."""
    library = install(monkeypatch, Executing())
    monkeypatch.setattr(kernels, "cubin", library.remember)
    monkeypatch.setattr(Real, "library", library, raising=False)
    yield library
    assert not library.temporaries and not library.stack
    driver.driver.cache_clear()
