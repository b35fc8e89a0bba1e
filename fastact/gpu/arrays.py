"""Arrays of other libraries, through `__cuda_array_interface__`, versions 2 and 3.

What the interface does not say, the library does: on which stream its arrays are made, and how
to make another one of its kind.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastact.cuda.kinds import ITEMSIZE
from fastact.gpu.driver import LEGACY_STREAM
from fastact.gpu.plan import View
from fastact.runtime.elsewhere import INTERFACE, is_on_gpu

DTYPES = "float16, bfloat16, float32 or float64"


class Array(NamedTuple):
    """A GPU array as a call sees it."""

    value: Any  # the object itself
    address: int
    view: View
    readonly: bool
    stream: int | None  # that its contents are ready on; None: they are ready


def library_of(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def described(value: Any) -> str:
    """A value in an error message: what it is, and where."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    return f"{kind} on the {'GPU' if is_on_gpu(value) else 'host'}"


def torch_stream(value: Any) -> int:
    import torch

    return int(torch.cuda.current_stream(value.device).cuda_stream) or LEGACY_STREAM


# How to learn the stream of libraries whose interface does not tell it (version 2).
STREAMS: dict[str, Callable[[Any], int]] = {"torch": torch_stream}


def stream_of(value: Any, interface: dict[str, Any]) -> int | None:
    if interface.get("version", 0) >= 3:
        stream = interface.get("stream")
        if stream == 0:
            raise ValueError(f"{described(value)}: stream 0 is not allowed in {INTERFACE}")
        return stream
    known = STREAMS.get(library_of(value))
    return known(value) if known else LEGACY_STREAM


def itemsize(dtype: str) -> int:
    return 1 if dtype == "bool" else ITEMSIZE[dtype]


@lru_cache(maxsize=256)
def dtype_name(dtype: Any, typestr: str) -> str:
    """The name of a library's dtype; libraries disagree on the code of bfloat16."""
    return "bfloat16" if "bfloat16" in str(dtype) else np.dtype(typestr).name


def dtype_of(value: Any, typestr: str) -> str:
    return dtype_name(getattr(value, "dtype", None), typestr)


def array(op: str, name: str, value: Any, dtypes: tuple[str, ...] = tuple(ITEMSIZE)) -> Array:
    """An operand, checked."""
    interface = getattr(value, INTERFACE)
    if interface.get("mask") is not None:
        raise TypeError(f"{op}: {name} has a mask in {INTERFACE}; it must be a plain array")
    dtype = dtype_of(value, interface["typestr"])
    if dtype not in dtypes:
        allowed = DTYPES if dtypes == tuple(ITEMSIZE) else " or ".join(dtypes)
        raise TypeError(f"{op}: {name} has dtype {dtype}; on the GPU it may be {allowed}")
    if interface["typestr"][0] == ">":
        raise TypeError(f"{op}: {name} is big-endian; on the GPU it must be little-endian")
    size = itemsize(dtype)
    shape, address = tuple(interface["shape"]), interface["data"][0]
    strides = interface.get("strides")
    if strides is None:
        steps, n = [], 1
        for length in reversed(shape):
            steps.append(n)
            n *= max(length, 1)
        strides = tuple(reversed(steps))
    else:
        if address % size or any(s % size for s in strides):
            raise ValueError(f"{op}: {name} has elements that are not aligned to {size} bytes")
        strides = tuple(s // size for s in strides)
    view = View(dtype, shape, strides, address % 16 == 0)
    return Array(value, address, view, bool(interface["data"][1]), stream_of(value, interface))


def torch_empty(like: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    import torch

    kind = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    return torch.empty(shape, dtype=kind, device=like.device)


def cupy_empty(like: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    with like.device:
        return sys.modules["cupy"].empty(shape, dtype)


def numba_empty(like: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    from numba import cuda

    return cuda.device_array(shape, dtype)


def standard_empty(like: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """By the array API standard."""
    namespace = like.__array_namespace__()
    kind = getattr(namespace, dtype) if isinstance(dtype, str) else dtype
    return namespace.empty(shape, dtype=kind, device=like.device)


EMPTY: dict[str, Callable[[Any, tuple[int, ...], Any], Any]] = {
    "torch": torch_empty,
    "cupy": cupy_empty,
    "numba": numba_empty,
    "numba_cuda": numba_empty,
}


def empty_like(op: str, like: Array, shape: tuple[int, ...], dtype: str) -> Any:
    """A new array of the same library, on the same device."""
    make = EMPTY.get(library_of(like.value))
    if make is None:
        if not hasattr(like.value, "__array_namespace__"):
            raise TypeError(
                f"{op}: fastact cannot make a {type(like.value).__qualname__} for the result; "
                "pass out="
            )
        make = standard_empty
    return make(like.value, shape, like.value.dtype if dtype == like.view.dtype else dtype)
