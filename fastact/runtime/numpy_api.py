"""The three entries of NumPy's C API that make and extend ufuncs, called through ctypes."""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_int, c_void_p, py_object
from typing import Any

import numpy as np
from numpy._core._multiarray_umath import _UFUNC_API  # type: ignore[import-not-found]

# Positions in the _UFUNC_API table; part of NumPy's stable ABI (numpy/__ufunc_api.h).
REGISTER_LOOP_FOR_TYPE = 2
FROM_FUNC_AND_DATA_AND_SIGNATURE = 31

IDENTITY_NONE = -1

# Prototypes of our own: attributes of `ctypes.pythonapi` are one for the whole process, and other
# libraries set other argument types on them.
new_capsule = ctypes.PYFUNCTYPE(py_object, c_void_p, c_char_p, c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_get_pointer = ctypes.PYFUNCTYPE(c_void_p, py_object, c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_table = ctypes.cast(_get_pointer(_UFUNC_API, None), ctypes.POINTER(c_void_p))
_from_func_and_data_and_signature = ctypes.PYFUNCTYPE(
    py_object,
    c_void_p,  # loops
    c_void_p,  # data
    c_void_p,  # type numbers
    c_int,  # number of loops
    c_int,  # inputs
    c_int,  # outputs
    c_int,  # identity
    c_void_p,  # name
    c_void_p,  # doc
    c_int,  # unused
    c_void_p,  # signature of a gufunc, or null
)(_table[FROM_FUNC_AND_DATA_AND_SIGNATURE])
_register_loop_for_type = ctypes.PYFUNCTYPE(
    c_int, py_object, c_int, c_void_p, ctypes.POINTER(c_int), c_void_p
)(_table[REGISTER_LOOP_FOR_TYPE])

# NumPy keeps pointers to what it is given for as long as the process lives.
_kept: list[Any] = []


def keep(thing: Any) -> Any:
    """Keep a buffer alive for the life of the process."""
    _kept.append(thing)
    return thing


def words(count: int) -> Any:
    """A zeroed array of 64-bit slots that is never freed."""
    return keep((ctypes.c_int64 * count)())


def text(value: str) -> int:
    return ctypes.addressof(keep(ctypes.create_string_buffer(value.encode())))


def make_ufunc(
    name: str,
    doc: str,
    inputs: int,
    outputs: int,
    loops: Any,
    data: Any,
    types: list[list[str]],
    signature: str | None = None,
) -> np.ufunc:
    """A numpy.ufunc (or, with a signature, a gufunc) over loops that stay ours to change.

    `loops` and `data` are ctypes arrays of addresses, one per row of `types`.
    """
    numbers = [np.dtype(t).num for row in types for t in row]
    ufunc: np.ufunc = _from_func_and_data_and_signature(
        ctypes.addressof(loops),
        ctypes.addressof(data),
        ctypes.addressof(keep((ctypes.c_byte * len(numbers))(*numbers))),
        len(types),
        inputs,
        outputs,
        IDENTITY_NONE,
        text(name),
        text(doc),
        0,
        text(signature) if signature else None,
    )
    return ufunc


def register_loop(ufunc: np.ufunc, loop: int, data: int, types: list[Any]) -> None:
    """Add a loop for a dtype that is not NumPy's own; `types` are dtypes, the first decides."""
    numbers = [np.dtype(t).num for t in types]
    array = keep((c_int * len(numbers))(*numbers))
    _register_loop_for_type(ufunc, numbers[0], loop, array, data)
