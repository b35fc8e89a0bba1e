"""The host's part of a call on GPU arrays, without a GPU: the driver is functions that return.

    PYTHONPATH=tests python bench/launches.py

Each is a foreign function reached through ctypes, as the driver's are, so what is measured is
fastact's own work and that of ctypes; a real driver adds its part of a launch, a library what its
arrays take to describe themselves and to be made. Beside the time of a call stand what reading the
operands' interfaces and making the result take here.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any

from numba import carray, cfunc, types
from stand_ins import GpuArray, Library, install

import fastact as fa
from fastact.gpu import driver

CONTEXT = 0xC0  # the stand-in's, of device 0
MEMORY = 1 << 29


@cfunc(types.intc(types.CPointer(types.uint64)))
def current(result: Any) -> int:
    """cuCtxGetCurrent"""
    carray(result, 1)[0] = CONTEXT
    return 0


@cfunc(types.intc(types.voidptr, *[types.uintc] * 7, *[types.voidptr] * 3))
def launch(f, x, y, z, i, j, k, shared, stream, parameters, extra):  # type: ignore[no-untyped-def]
    """cuLaunchKernel"""
    return 0


@cfunc(types.intc(types.CPointer(types.uint64), types.uintp, types.voidptr, types.voidptr))
def allocate(result: Any, size: Any, pool: Any, stream: Any) -> int:
    """cuMemAllocFromPoolAsync"""
    carray(result, 1)[0] = MEMORY
    return 0


@cfunc(types.intc(types.uint64, types.voidptr))
def free(address: Any, stream: Any) -> int:
    """cuMemFreeAsync"""
    return 0


FUNCTIONS = {
    "cuCtxGetCurrent": current,
    "cuLaunchKernel": launch,
    "cuMemAllocFromPoolAsync": allocate,
    "cuMemFreeAsync": free,
}


class Returning(Library):
    """The stand-in, with foreign functions for what every call needs."""

    def __init__(self) -> None:
        super().__init__()
        for name, function in FUNCTIONS.items():
            kinds = driver.HOT[name]
            setattr(self, name, ctypes.CFUNCTYPE(ctypes.c_int, *kinds)(function.address))


class Now:
    """What `install` needs of pytest's monkeypatch."""

    def setattr(self, place: Any, name: str, value: Any) -> None:
        setattr(place, name, value)


def microseconds(call: Callable[[], Any], calls: int = 2000, rounds: int = 7) -> float:
    """The best mean of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        best = min(best, (time.perf_counter() - start) / calls)
        GpuArray.count = 20  # addresses begin anew
    return best * 1e6


def main() -> None:
    install(Now(), Returning())
    x, dy, out = (GpuArray((64, 256)) for _ in range(3))
    labels = GpuArray((64,), "int64")
    cases: dict[str, Callable[[], Any]] = {
        "reading an interface": lambda: x.__cuda_array_interface__,
        "making an array": lambda: x.__array_namespace__().empty(
            (64, 256), dtype=x.dtype, device=x.device
        ),
        "sigmoid(x, out=out)": lambda: fa.sigmoid(x, out=out),
        "sigmoid(x)": lambda: fa.sigmoid(x),
        "swish(x, 1.5, out=out)": lambda: fa.swish(x, 1.5, out=out),
        "leaky_relu(x, 0.1)": lambda: fa.leaky_relu(x, 0.1),
        "sigmoid_backward(dy, x, out=out)": lambda: fa.sigmoid_backward(dy, x, out=out),
        "softmax(x, out=out)": lambda: fa.softmax(x, out=out),
        "softmax_backward(dy, x, out=out)": lambda: fa.softmax_backward(dy, x, out=out),
        "softmax_cross_entropy(x, labels)": lambda: fa.softmax_cross_entropy(x, labels),
    }
    for name, call in cases.items():
        call()
        print(f"{name:36} {microseconds(call):7.2f} us")


if __name__ == "__main__":
    main()
