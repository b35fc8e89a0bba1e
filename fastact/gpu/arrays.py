"""Arrays of other libraries, through `__cuda_array_interface__`, versions 2 and 3.

What the interface does not say, the library does: on which stream its arrays are made, and how
to make another one of its kind.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastact.cuda.kinds import ITEMSIZE, SIZE, VECTOR_BYTES
from fastact.gpu import plan
from fastact.gpu.driver import LEGACY_STREAM
from fastact.runtime.elsewhere import INTERFACE, is_on_gpu

DTYPES = "bool, an integer, float16, bfloat16, float32 or float64"
NUMBERS = tuple(SIZE)
FLOATS = tuple(ITEMSIZE)


class Array(NamedTuple):
    """A GPU array as a call sees it."""

    value: Any  # the object itself
    address: int
    view: plan.View
    readonly: bool
    stream: int | None  # that its contents are ready on; None: they are ready


def library_of(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def described(value: Any) -> str:
    """A value in an error message: what it is, and where."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    return f"{kind} on the {'GPU' if is_on_gpu(value) else 'host'}"


def torch_stream(value: Any) -> int:
    torch = sys.modules["torch"]
    number = getattr(torch._C, "_cuda_getCurrentRawStream", None)  # as its own compiler asks
    if number is not None:
        return number(value.device.index) or LEGACY_STREAM
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
    return SIZE[dtype]


def interface_of(value: Any) -> dict[str, Any] | None:
    """How an array lies on a GPU, if it does. What libraries make anew each time is asked once."""
    if not hasattr(type(value), INTERFACE) or getattr(value, "is_cuda", None) is False:
        return None
    found: dict[str, Any] | None = getattr(value, INTERFACE, None)
    return found


@lru_cache(maxsize=256)
def dtype_name(dtype: Any, typestr: str) -> str:
    """The name of a library's dtype; libraries disagree on the code of bfloat16."""
    return "bfloat16" if "bfloat16" in str(dtype) else np.dtype(typestr).name


@lru_cache(maxsize=4096)
def view_of(
    dtype: Any, typestr: str, shape: tuple[int, ...], strides: tuple[int, ...] | None, start: int
) -> plan.View | str:
    """A layout, or what is wrong with it; `start` is the address modulo sixteen."""
    name = dtype_name(dtype, typestr)
    if name not in SIZE:
        return f"has dtype {name}; on the GPU it may be {DTYPES}"
    if typestr[0] == ">":
        return "is big-endian; on the GPU it must be little-endian"
    size = SIZE[name]
    if start % size or any(s % size for s in strides or ()):
        return f"has elements that are not aligned to {size} bytes"
    if strides is None:
        return plan.contiguous(name, shape)._replace(aligned=not start)
    return plan.View(name, shape, tuple(s // size for s in strides), not start)


def array(
    op: str,
    name: str,
    value: Any,
    dtypes: Container[str] = NUMBERS,
    interface: dict[str, Any] | None = None,
) -> Array:
    """An operand, checked."""
    if interface is None:
        interface = interface_of(value)
        assert interface is not None
    if interface.get("mask") is not None:
        raise TypeError(f"{op}: {name} has a mask in {INTERFACE}; it must be a plain array")
    address, readonly = interface["data"]
    strides = interface.get("strides")
    view = view_of(
        getattr(value, "dtype", None),
        interface["typestr"],
        tuple(interface["shape"]),
        None if strides is None else tuple(strides),
        address % 16,
    )
    if isinstance(view, str):
        kind = ValueError if "aligned" in view else TypeError
        raise kind(f"{op}: {name} {view}")
    if view.dtype not in dtypes:
        allowed = DTYPES if dtypes is NUMBERS else " or ".join(dtypes)  # type: ignore[arg-type]
        raise TypeError(f"{op}: {name} has dtype {view.dtype}; on the GPU it may be {allowed}")
    return Array(value, address, view, bool(readonly), stream_of(value, interface))


def placed(array: Array, offset: int, shape: Sequence[int], strides: Sequence[int]) -> Array:
    """Another view of an array, some elements further on."""
    address = array.address + offset * itemsize(array.view.dtype)
    view = plan.View(array.view.dtype, tuple(shape), tuple(strides), not address % VECTOR_BYTES)
    return array._replace(address=address, view=view)


def torch_empty(like: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    torch = sys.modules["torch"]
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


@lru_cache(maxsize=64)
def maker_of(module: str) -> Callable[[Any, tuple[int, ...], Any], Any]:
    """What makes arrays of the library of a module."""
    return EMPTY.get(module.partition(".")[0], standard_empty)


def make(like: Any, shape: tuple[int, ...], dtype: str, same: bool) -> Any:
    """A new array of the same library, on the same device; None if it cannot be made.

    `same`: of the same dtype.
    """
    maker = maker_of(type(like).__module__)
    if maker is standard_empty and not hasattr(like, "__array_namespace__"):
        return None
    return maker(like, shape, like.dtype if same else dtype)


def empty_like(op: str, like: Array, shape: tuple[int, ...], dtype: str) -> Any:
    """A new array of the same library, on the same device."""
    made = make(like.value, shape, dtype, dtype == like.view.dtype)
    if made is None:
        raise TypeError(
            f"{op}: fastact cannot make a {type(like.value).__qualname__} for the result; pass out="
        )
    return made
