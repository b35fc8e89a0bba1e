"""NVIDIA's driver library through ctypes: the few functions that launching a kernel takes.

No package is needed to run kernels that are in the store. Everything that touches a GPU goes
through `Driver.call`, so a test puts a stand-in there.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from functools import cache, cached_property
from typing import Any

from fastact.runtime import state

LIBRARY = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
MULTIPROCESSORS, MAJOR, MINOR = 16, 75, 76  # CUdevice_attribute
DEVICE_ORDINAL = 9  # CUpointer_attribute
ARGUMENTS, ARGUMENTS_SIZE = 1, 2  # CU_LAUNCH_PARAM_BUFFER_POINTER, ..._SIZE
NO_TIMING = 2  # CU_EVENT_DISABLE_TIMING
MOST_ARGUMENTS = 4096  # bytes (CUDA programming guide, kernel parameters)
NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
LEGACY_STREAM = 1  # CU_STREAM_LEGACY; 2 is the default stream of the thread
HAS_POOLS = 115  # CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED
PINNED, ON_DEVICE = 1, 1  # CU_MEM_ALLOCATION_TYPE_PINNED, CU_MEM_LOCATION_TYPE_DEVICE
POOL_PROPERTIES = 128  # bytes, all that are not written 0; CUmemPoolProps has 88 of them
KEPT = 4  # CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
# Bytes of free memory that stay with the pool when the host waits for the GPU. By default none do:
# the first call after each wait would have the driver map its memory anew.
MOST_KEPT = 1 << 26


class CudaError(RuntimeError):
    """The driver refused something."""


class CudaUnavailable(RuntimeError):  # noqa: N818
    """There is no GPU to compute on; the message says what is missing."""


# The argument types of the functions that every call needs: ctypes then converts numbers itself.
HOT: dict[str, tuple[Any, ...]] = {
    "cuCtxGetCurrent": (ctypes.c_void_p,),
    "cuLaunchKernel": (ctypes.c_void_p, *[ctypes.c_uint] * 7, *[ctypes.c_void_p] * 3),
    "cuMemAllocFromPoolAsync": (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_void_p] * 2),
    "cuMemFreeAsync": (ctypes.c_uint64, ctypes.c_void_p),
}


def open_library() -> Any:
    library = ctypes.CDLL(LIBRARY)
    for name, kinds in HOT.items():
        getattr(library, name).argtypes = kinds
    return library


class Arguments(threading.local):
    """Where a thread puts the arguments of a launch; the driver copies them."""

    def __init__(self) -> None:
        self.buffer = ctypes.create_string_buffer(MOST_ARGUMENTS)
        self.size = ctypes.c_size_t()
        self.extra = (ctypes.c_void_p * 5)(
            ARGUMENTS,
            ctypes.addressof(self.buffer),
            ARGUMENTS_SIZE,
            ctypes.addressof(self.size),
            0,
        )
        self.context = ctypes.c_void_p()
        self.context_place = ctypes.byref(self.context)
        self.memory = ctypes.c_uint64()
        self.memory_place = ctypes.byref(self.memory)


class Driver:
    """The driver, initialised; functions and contexts per device."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.lock = threading.RLock()
        self.contexts: dict[int, int] = {}  # device -> its primary context
        self.functions: dict[tuple[int, str], Any] = {}  # (device, kernel) -> function
        self.pools: dict[int, int] = {}  # device -> what temporary memory is taken from; 0: none
        self.arguments = Arguments()
        self.call("cuInit", 0)

    def call(self, name: str, *args: Any) -> None:
        code = getattr(self.library, name)(*args)
        if code:
            self.fail(name, code)

    def fail(self, name: str, code: int) -> None:
        text = ctypes.c_char_p()
        self.library.cuGetErrorString(code, ctypes.byref(text))
        said = text.value.decode() if text.value else "unknown error"
        raise CudaError(f"{name}: {said} (CUDA error {code})")

    def number(self, name: str, *args: Any, kind: Any = ctypes.c_int) -> int:
        """What a function writes through its first argument."""
        result = kind()
        self.call(name, ctypes.byref(result), *args)
        return result.value or 0

    @property
    def version(self) -> int:
        """1000 times the major version of CUDA plus 10 times the minor one."""
        return self.number("cuDriverGetVersion")

    def devices(self) -> int:
        return self.number("cuDeviceGetCount")

    @cached_property
    def count(self) -> int:
        return self.devices()

    def name(self, device: int) -> str:
        text = ctypes.create_string_buffer(128)
        self.call("cuDeviceGetName", text, 128, device)
        return text.value.decode()

    def attribute(self, attribute: int, device: int) -> int:
        return self.number("cuDeviceGetAttribute", attribute, device)

    def capability(self, device: int) -> tuple[int, int]:
        return self.attribute(MAJOR, device), self.attribute(MINOR, device)

    def device_of(self, address: int) -> int:
        """The device that holds this address."""
        return self.number("cuPointerGetAttribute", DEVICE_ORDINAL, ctypes.c_uint64(address))

    def enter(self, device: int) -> bool:
        """Make the device's primary context current; whether it has to be left again."""
        context = self.contexts.get(device)
        if context is None:
            context = self.number("cuDevicePrimaryCtxRetain", device, kind=ctypes.c_void_p)
            self.contexts[device] = context
        arguments = self.arguments
        if code := self.library.cuCtxGetCurrent(arguments.context_place):
            self.fail("cuCtxGetCurrent", code)
        if arguments.context.value == context:
            return False
        self.call("cuCtxPushCurrent_v2", ctypes.c_void_p(context))
        return True

    def leave(self) -> None:
        self.number("cuCtxPopCurrent_v2", kind=ctypes.c_void_p)

    def load(self, cubin: bytes, name: str) -> Any:
        """A function of a module, in the current context; it stays loaded."""
        module = self.number("cuModuleLoadData", cubin, kind=ctypes.c_void_p)
        arguments = (ctypes.c_void_p(module), name.encode())
        return ctypes.c_void_p(self.number("cuModuleGetFunction", *arguments, kind=ctypes.c_void_p))

    def launch(
        self,
        function: Any,
        geometry: tuple[int, ...],
        stream: int,
        size: int,
        pack: Any,
        *operands: Any,
    ) -> None:
        """Launch a kernel whose `size` bytes of arguments `pack` makes of its operands."""
        arguments = self.arguments
        pack(arguments.buffer, *operands)
        arguments.size.value = size
        code = self.library.cuLaunchKernel(function, *geometry, 0, stream, None, arguments.extra)
        if code:
            self.fail("cuLaunchKernel", code)

    def wait_for(self, stream: int, other: int) -> None:
        """Let a stream wait for what another has been given so far; the host does not wait."""
        event = ctypes.c_void_p(self.number("cuEventCreate", NO_TIMING, kind=ctypes.c_void_p))
        self.call("cuEventRecord", event, ctypes.c_void_p(other))
        self.call("cuStreamWaitEvent", ctypes.c_void_p(stream), event, 0)
        self.call("cuEventDestroy_v2", event)  # lives on until it has happened

    def pool(self, device: int) -> int:
        """A pool of memory of fastact's own: the one that a device has, others have set up."""
        with self.lock:
            if device not in self.pools:
                made = 0
                if self.attribute(HAS_POOLS, device):
                    properties = ctypes.create_string_buffer(POOL_PROPERTIES)
                    struct.pack_into("4i", properties, 0, PINNED, 0, ON_DEVICE, device)
                    made = self.number("cuMemPoolCreate", properties, kind=ctypes.c_void_p)
                    most = ctypes.c_uint64(MOST_KEPT)
                    handle = ctypes.c_void_p(made)
                    self.call("cuMemPoolSetAttribute", handle, KEPT, ctypes.byref(most))
                self.pools[device] = made
            return self.pools[device]

    def allocate(self, device: int, size: int, stream: int) -> int:
        """Memory that is ready when the stream gets there."""
        pool = self.pools.get(device)
        if pool is None:
            pool = self.pool(device)
        if not pool:
            return self.allocate_plain(size)
        arguments = self.arguments
        place = arguments.memory_place
        if code := self.library.cuMemAllocFromPoolAsync(place, size, pool, stream):
            self.fail("cuMemAllocFromPoolAsync", code)
        return arguments.memory.value

    def free(self, device: int, address: int, stream: int) -> None:
        """Give memory back when the stream gets there."""
        if not self.pools[device]:
            self.synchronize(stream)
            self.free_plain(address)
            return
        if code := self.library.cuMemFreeAsync(address, stream):
            self.fail("cuMemFreeAsync", code)

    def create_stream(self) -> int:
        return self.number("cuStreamCreate", NON_BLOCKING, kind=ctypes.c_void_p)

    def synchronize(self, stream: int) -> None:
        """Wait until a stream has done all that it was given."""
        self.call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def allocate_pinned(self, size: int) -> int:
        """Page-locked memory of the host."""
        return self.number("cuMemHostAlloc", ctypes.c_size_t(size), 0, kind=ctypes.c_void_p)

    def allocate_plain(self, size: int) -> int:
        """Memory of the device, kept."""
        return self.number("cuMemAlloc_v2", ctypes.c_size_t(size), kind=ctypes.c_uint64)

    def free_pinned(self, address: int) -> None:
        self.call("cuMemFreeHost", ctypes.c_void_p(address))

    def free_plain(self, address: int) -> None:
        self.call("cuMemFree_v2", ctypes.c_uint64(address))

    def copy_in(self, device: int, host: int, size: int, stream: int) -> None:
        addresses = ctypes.c_uint64(device), ctypes.c_void_p(host)
        self.call(
            "cuMemcpyHtoDAsync_v2", *addresses, ctypes.c_size_t(size), ctypes.c_void_p(stream)
        )

    def copy_out(self, host: int, device: int, size: int, stream: int) -> None:
        addresses = ctypes.c_void_p(host), ctypes.c_uint64(device)
        self.call(
            "cuMemcpyDtoHAsync_v2", *addresses, ctypes.c_size_t(size), ctypes.c_void_p(stream)
        )


def toolkit() -> int:
    """The major version of the CUDA toolkit that compiles kernels; 0 if there is none."""
    from importlib import metadata

    for package in ("nvidia-nvvm", "nvidia-cuda-nvcc-cu12"):
        try:
            return int(metadata.version(package).split(".")[0])
        except metadata.PackageNotFoundError:
            continue
    return 0


def missing() -> str:
    """What keeps fastact from computing on a GPU, and what to do; "" if nothing does."""
    from importlib.util import find_spec

    if _forked:
        return FORKED
    if find_spec("numba_cuda") is None:
        return "numba-cuda is not installed: pip install 'fastact[cuda]'"
    try:
        found = open_driver()
    except OSError:
        return f"no NVIDIA driver: {LIBRARY} is not found; install a driver for your GPU"
    except CudaError as error:
        return f"the NVIDIA driver does not start: {error}; is there a GPU in this machine?"
    if not found.devices():
        return "the NVIDIA driver finds no GPU"
    needed = toolkit() * 1000
    if found.version < needed:
        have = f"{found.version // 1000}.{found.version % 1000 // 10}"
        return (
            f"the NVIDIA driver is too old: it supports CUDA {have}, the installed compiler makes "
            f"code for CUDA {needed // 1000}; install a newer driver, or numba-cuda[cu12]"
        )
    return ""


@cache
def open_driver() -> Driver:
    return Driver(open_library())


FORKED = (
    "this process was forked after its parent had begun to use CUDA, which does not work in such a "
    "process; start it with the method 'spawn' or 'forkserver' of multiprocessing"
)
_forked = False


def after_in_child() -> None:
    """What CUDA knew is of no use in a child, and NVIDIA's driver forbids to begin anew.

    Host arrays are computed on the CPU there.
    """
    global _forked
    if not open_driver.cache_info().currsize:
        return
    _forked = True
    driver.cache_clear()
    state.forget_target("cuda")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=after_in_child)


@cache
def driver() -> Driver:
    """The driver, if fastact can compute on a GPU here; else one error that says what to do."""
    if problem := missing():
        raise CudaUnavailable(f"no CUDA target: {problem}")
    return open_driver()
