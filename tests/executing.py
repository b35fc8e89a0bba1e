"""A GPU made of the PTX interpreter: calls run whole, from the public function to the result.

What the driver is asked to launch is compiled and executed on memory that knows its bounds, so a
wrong argument, a workspace too small or read before it is written shows as a fault.
"""

from __future__ import annotations

import struct
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
        machine.launch(launched.grid, launched.block, arguments)
        return 0

    def cuMemAllocAsync(self, result: Any, size: Any, stream: Any) -> int:  # noqa: N802
        buffer = self.memory.place(Buffer(np.zeros(size.value, np.uint8), "out"))
        self.temporaries[buffer.address] = buffer
        return self.write(result, buffer.address)

    def cuMemFreeAsync(self, address: Any, stream: Any) -> int:  # noqa: N802
        self.memory.buffers.remove(self.temporaries.pop(address.value))
        return 0


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
