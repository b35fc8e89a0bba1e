"""XLA's foreign-function interface, spoken from Python: no compiler is needed at installation.

XLA calls a C function with one argument, a frame that lists the buffers of the operands and of
the results. Here that function is a ctypes callback which lays NumPy arrays over the buffers and
calls a function of fastact with `out`: nothing is copied. The layout is that of XLA's C header,
`xla/ffi/api/c_api.h`, major version 0, which is stable within a major version.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import POINTER, Structure, c_char_p, c_double, c_int, c_int64, c_size_t, c_void_p
from typing import Any, ClassVar

import jax
import ml_dtypes
import numpy as np

# XLA_FFI_DataType
DTYPES = {
    2: np.dtype(np.int8),
    3: np.dtype(np.int16),
    4: np.dtype(np.int32),
    5: np.dtype(np.int64),
    6: np.dtype(np.uint8),
    7: np.dtype(np.uint16),
    8: np.dtype(np.uint32),
    9: np.dtype(np.uint64),
    10: np.dtype(np.float16),
    11: np.dtype(np.float32),
    12: np.dtype(np.float64),
    16: np.dtype(ml_dtypes.bfloat16),
}
SCALARS: dict[int, Any] = {5: c_int64, 12: c_double}
METADATA = 1  # XLA_FFI_Extension_Type
EXECUTE = 3  # XLA_FFI_ExecutionStage
INTERNAL = 13  # XLA_FFI_Error_Code
MAJOR = 0  # XLA_FFI_API_MAJOR


class Sized(Structure):
    """How every struct begins."""

    _fields_: ClassVar[Sequence[tuple[str, Any]]] = (
        ("struct_size", c_size_t),
        ("extension", c_void_p),
    )


class Version(Sized):
    _fields_ = (("major", c_int), ("minor", c_int))


class Metadata(Structure):
    _fields_ = (("struct_size", c_size_t), ("version", Version), ("traits", ctypes.c_uint32))


class Extension(Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        ("type", c_int),
        ("next", c_void_p),
        ("metadata", POINTER(Metadata)),
    )


class ErrorArguments(Sized):
    _fields_ = (("message", c_char_p), ("code", c_int))


CREATE_ERROR = ctypes.CFUNCTYPE(c_void_p, POINTER(ErrorArguments))


class Api(Sized):
    _fields_ = (("version", Version), ("internal", c_void_p), ("create_error", CREATE_ERROR))


class Buffer(Sized):
    _fields_ = (
        ("dtype", c_int),
        ("data", c_void_p),
        ("rank", c_int64),
        ("dims", POINTER(c_int64)),
    )


class Buffers(Sized):
    _fields_ = (("size", c_int64), ("types", c_void_p), ("items", POINTER(POINTER(Buffer))))


class Name(Structure):
    _fields_ = (("pointer", c_void_p), ("length", c_size_t))


class Scalar(Structure):
    _fields_ = (("dtype", c_int), ("value", c_void_p))


class Attributes(Sized):
    _fields_ = (
        ("size", c_int64),
        ("types", c_void_p),
        ("names", POINTER(POINTER(Name))),
        ("items", POINTER(POINTER(Scalar))),
    )


class Frame(Sized):
    _fields_ = (
        ("api", POINTER(Api)),
        ("context", c_void_p),
        ("stage", c_int),
        ("arguments", Buffers),
        ("results", Buffers),
        ("attributes", Attributes),
    )


HANDLER = ctypes.CFUNCTYPE(c_void_p, POINTER(Frame))


def arrays(buffers: Buffers) -> list[np.ndarray]:
    """Arrays over the memory of buffers."""
    made = []
    for k in range(buffers.size):
        buffer = buffers.items[k].contents
        shape = tuple(buffer.dims[: buffer.rank])
        dtype = DTYPES[buffer.dtype]
        size = dtype.itemsize * int(np.prod(shape))
        memory = (ctypes.c_char * size).from_address(buffer.data) if size else b""
        made.append(np.ndarray(shape, dtype, memory))
    return made


def numbers(attributes: Attributes) -> dict[str, float | int]:
    """The attributes of a call: numbers by name."""
    made = {}
    for k in range(attributes.size):
        name = attributes.names[k].contents
        scalar = attributes.items[k].contents
        key = ctypes.string_at(name.pointer, name.length).decode()
        made[key] = SCALARS[scalar.dtype].from_address(scalar.value).value
    return made


def handler(function: Callable[..., Any]) -> Any:
    """A C function by which XLA calls `function(*arrays, **numbers, out=...)`."""

    def handle(pointer: Any) -> int | None:
        frame = pointer.contents
        try:
            if frame.extension:  # XLA asks what this is
                extension = Extension.from_address(frame.extension)
                if extension.type == METADATA:
                    version = extension.metadata.contents.version
                    own = frame.api.contents.version  # what is used here is in all of them
                    version.major, version.minor = MAJOR, own.minor
                return None
            if frame.stage == EXECUTE:
                out = arrays(frame.results)
                function(
                    *arrays(frame.arguments),
                    **numbers(frame.attributes),
                    out=out[0] if len(out) == 1 else tuple(out),
                )
            return None
        except BaseException as error:
            message = f"fastact: {type(error).__name__}: {error}".encode()
            arguments = ErrorArguments(ctypes.sizeof(ErrorArguments), None, message, INTERNAL)
            made: int | None = frame.api.contents.create_error(ctypes.byref(arguments))
            return made

    return HANDLER(handle)


_targets: dict[str, Any] = {}


def target(name: str, function: Callable[..., Any]) -> str:
    """The name under which XLA on the CPU knows a function, registered when first asked for."""
    full = f"fastact_{name}"
    if full not in _targets:
        made = _targets[full] = handler(function)  # kept: XLA has its address
        jax.ffi.register_ffi_target(full, jax.ffi.pycapsule(made), platform="cpu")
    return full
