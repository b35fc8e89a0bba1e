"""Stand-ins for a GPU: a driver library that records, and arrays that say where they lie.

What looks like device memory is a number; nothing is computed. The kernels themselves are run by
the simulator and by the PTX interpreter.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import numpy as np

from fastact.gpu import driver, kernels, repeated, work

PAGE = 1 << 20  # devices own ranges of addresses, a gigabyte each
DEVICE = 1 << 30


class Launched:
    """A launch as the driver saw it."""

    def __init__(self, name: str, grid: Any, block: Any, stream: int, packed: bytes) -> None:
        self.name, self.grid, self.block = name, grid, block
        self.stream, self.packed = stream, packed

    def arguments(self, kernel: Any) -> dict[str, Any]:
        """The arguments by name."""
        codes = "".join(kernels.letter(kernel, a) for a in kernel.arguments)
        values = struct.unpack("@" + codes, self.packed)
        return dict(zip((a.name for a in kernel.arguments), values, strict=True))


class Library:
    """The functions of libcuda that fastact calls."""

    def __init__(self, devices: int = 1, version: int = 13000, capability: Any = (9, 0)) -> None:
        self.devices, self.version, self.capability = devices, version, capability
        self.launches: list[Launched] = []
        self.log: list[Any] = []
        self.names: list[str] = []
        self.stack: list[int] = []
        self.next = PAGE
        self.fails: dict[str, int] = {}
        self.pools = 1  # whether the devices have any

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("cu") and name in object.__getattribute__(self, "fails"):
            return lambda *_: self.fails[name]
        return object.__getattribute__(self, name)

    def write(self, where: Any, value: Any) -> int:
        where._obj.value = value
        return 0

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return 0

    def cuGetErrorString(self, code: int, text: Any) -> int:  # noqa: N802
        return self.write(text, b"a made-up failure")

    def cuDriverGetVersion(self, result: Any) -> int:  # noqa: N802
        return self.write(result, self.version)

    def cuDeviceGetCount(self, result: Any) -> int:  # noqa: N802
        return self.write(result, self.devices)

    def cuDeviceGetName(self, text: Any, size: int, device: int) -> int:  # noqa: N802
        text.value = b"Made-up GPU"
        return 0

    def cuDeviceGetAttribute(self, result: Any, attribute: int, device: int) -> int:  # noqa: N802
        found = {driver.MAJOR: self.capability[0], driver.MINOR: self.capability[1]}
        found[driver.HAS_POOLS] = self.pools
        return self.write(result, found[attribute])

    def cuPointerGetAttribute(self, result: Any, attribute: int, address: Any) -> int:  # noqa: N802
        assert attribute == driver.DEVICE_ORDINAL
        return self.write(result, address.value // DEVICE)

    def cuDevicePrimaryCtxRetain(self, result: Any, device: int) -> int:  # noqa: N802
        return self.write(result, 0xC0 + device)

    def cuCtxGetCurrent(self, result: Any) -> int:  # noqa: N802
        return self.write(result, self.stack[-1] if self.stack else None)

    def cuCtxPushCurrent_v2(self, context: Any) -> int:  # noqa: N802
        self.stack.append(context.value)
        return 0

    def cuCtxPopCurrent_v2(self, result: Any) -> int:  # noqa: N802
        return self.write(result, self.stack.pop())

    def cuModuleLoadData(self, result: Any, code: bytes) -> int:  # noqa: N802
        self.log.append(("load", code))
        return self.write(result, 0xD0)

    def cuModuleGetFunction(self, result: Any, module: Any, name: bytes) -> int:  # noqa: N802
        self.names.append(name.decode())
        return self.write(result, len(self.names))

    def cuLaunchKernel(self, function: Any, *rest: Any) -> int:  # noqa: N802
        assert self.stack, "no context is current"
        grid, block, (shared, stream, parameters, extra) = rest[:3], rest[3:6], rest[6:]
        assert parameters is None and shared == 0
        assert (extra[0], extra[2], extra[4]) == (driver.ARGUMENTS, driver.ARGUMENTS_SIZE, None)
        size = ctypes.c_size_t.from_address(extra[3]).value
        packed = ctypes.string_at(extra[1], size)
        name = self.names[function.value - 1]
        self.launches.append(Launched(name, grid, block, stream, packed))
        self.log.append(("launch", name))
        return 0

    def cuEventCreate(self, result: Any, flags: int) -> int:  # noqa: N802
        assert self.stack and flags == driver.NO_TIMING
        return self.write(result, 0xE0)

    def cuEventRecord(self, event: Any, stream: Any) -> int:  # noqa: N802
        self.log.append(("record", stream.value))
        return 0

    def cuStreamWaitEvent(self, stream: Any, event: Any, flags: int) -> int:  # noqa: N802
        self.log.append(("wait", stream.value))
        return 0

    def cuEventDestroy_v2(self, event: Any) -> int:  # noqa: N802
        return 0

    def cuMemPoolCreate(self, result: Any, properties: Any) -> int:  # noqa: N802
        where = properties if isinstance(properties, int) else ctypes.addressof(properties)
        raw = ctypes.string_at(where, driver.POOL_PROPERTIES)
        *kind, device = struct.unpack_from("4i", raw)
        assert kind == [driver.PINNED, 0, driver.ON_DEVICE] and not any(raw[16:])
        return self.write(result, 0xF0 + device)

    def cuMemPoolSetAttribute(self, pool: Any, attribute: int, value: Any) -> int:  # noqa: N802
        assert attribute == driver.KEPT
        self.log.append(("pool", pool.value))
        return 0

    def cuMemAllocFromPoolAsync(  # noqa: N802
        self, result: Any, size: Any, pool: Any, stream: Any
    ) -> int:
        assert pool == 0xF0 + (self.stack[-1] - 0xC0), "the pool of another device"
        self.next += PAGE
        self.log.append(("allocate", size, stream))
        return self.write(result, self.next)

    def cuMemFreeAsync(self, address: Any, stream: Any) -> int:  # noqa: N802
        self.log.append(("free", address, stream))
        return 0


def install(monkeypatch: Any, library: Library) -> Library:
    """Make fastact believe in a GPU."""
    found = driver.Driver(library)
    for cached in (
        work.copy_launch,
        work.elementwise_launch,
        work.labels_launch,
        work.row_launch,
    ):
        cached.cache_clear()
    repeated.forget()
    monkeypatch.setattr(driver, "missing", lambda: "")
    monkeypatch.setattr(driver, "open_driver", lambda: found)
    driver.driver.cache_clear()
    monkeypatch.setattr(kernels, "cubin", lambda kernel, cc: f"{kernel.name} {cc}".encode())
    return library


class Namespace:
    """The part of the array API standard that makes results."""

    def __init__(self, kind: type[GpuArray]) -> None:
        self.kind = kind

    def __getattr__(self, name: str) -> Any:
        return np.dtype(name)

    def empty(self, shape: Any, dtype: Any, device: Any) -> GpuArray:
        return self.kind(shape, dtype, device=device)


class GpuArray:
    """An array on a stand-in GPU."""

    count = 16

    def __init__(
        self,
        shape: Any,
        dtype: Any = "float32",
        *,
        strides: Any = None,  # in elements
        offset: int = 0,  # in bytes
        stream: Any = None,
        version: int = 3,
        readonly: bool = False,
        device: int = 0,
        mask: Any = None,
    ) -> None:
        type(self).count += 1
        self.shape, self.device, self.stream, self.version = tuple(shape), device, stream, version
        self.dtype = np.dtype(dtype)
        self.address = device * DEVICE + GpuArray.count * PAGE + offset
        self.strides, self.readonly, self.mask = strides, readonly, mask

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        size = self.dtype.itemsize
        interface = {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address if 0 not in self.shape else 0, self.readonly),
            "version": self.version,
            "strides": None if self.strides is None else tuple(size * s for s in self.strides),
        }
        if self.version >= 3:
            interface["stream"] = self.stream
        if self.mask is not None:
            interface["mask"] = self.mask
        return interface

    def __array_namespace__(self) -> Namespace:
        return Namespace(type(self))
