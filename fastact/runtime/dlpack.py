"""Arrays of other libraries on the CPU, through DLPack, there and back.

NumPy itself takes what has `__array_ufunc__`, `__array__`, `__array_interface__` or a buffer, and
returns the caller's kind where that has `__array_ufunc__` or `__array_wrap__`. For what is left
there is DLPack. It is tried only where NumPy has failed, or a call is on its slower path already:
a call with NumPy's own arrays pays nothing for it. So arrays that NumPy reads but cannot give
back, such as those of JAX, come back as NumPy's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

HOST = (1, 3)  # kDLCPU, kDLCUDAHost (dlpack.h)
NUMPY_READS = ("__array__", "__array_interface__", "__buffer__")
# Types of which nothing need be asked: asking NumPy's own arrays takes 0.3 us each.
PLAIN = frozenset({np.ndarray, type(None), bool, int, float, str, list, tuple})


def unknown(values: Iterable[Any]) -> list[Any]:
    """The values about which something is to be asked."""
    return [value for value in values if type(value) not in PLAIN]


def is_read(value: Any) -> bool:
    """Whether NumPy reads a value without DLPack."""
    return any(hasattr(type(value), name) for name in NUMPY_READS)


def is_foreign(value: Any) -> bool:
    """Whether a value is an array on the host that is for DLPack to take, or to give back."""
    kind = type(value)
    if not hasattr(kind, "__dlpack__") or hasattr(kind, "__array_ufunc__"):
        return False
    if is_read(value) and not hasattr(kind, "__array_wrap__"):
        return False
    return int(value.__dlpack_device__()[0]) in HOST


def concerns(values: Iterable[Any]) -> bool:
    """Whether one of these is such an array."""
    asked = unknown(values)
    return bool(asked) and any(map(is_foreign, asked))


def as_numpy(value: Any) -> Any:
    """NumPy's view of such an array; any other value as it is."""
    if not is_foreign(value):
        return value
    return np.asarray(value) if is_read(value) else np.from_dlpack(value)


def like(value: Any, result: Any) -> Any:
    """A result as an array of the kind of `value`; NumPy's, if its library cannot make one."""
    if hasattr(value, "__array_namespace__"):
        library = value.__array_namespace__()
    else:
        library = sys.modules.get(type(value).__module__.partition(".")[0])
    array = np.asarray(result)
    for maker in ("from_dlpack", "asarray"):
        if hasattr(library, maker):
            try:
                return getattr(library, maker)(array)
            except (BufferError, TypeError, ValueError, RuntimeError):
                continue
    return result


def call(function: Callable[..., Any], arrays: Iterable[Any], out: Any, **options: Any) -> Any:
    """Call a function of NumPy arrays and return what it returns in the kind of its operands."""
    arrays = tuple(arrays)
    outs = out if isinstance(out, tuple) else (out,)
    first = next(a for a in (*arrays, *outs) if is_foreign(a))
    target = tuple(map(as_numpy, outs))
    given = target if isinstance(out, tuple) else target[0]
    options = {name: as_numpy(value) for name, value in options.items()}
    result = function(*map(as_numpy, arrays), out=given, **options)
    if out is not None:
        return out
    if isinstance(result, tuple):
        return tuple(like(first, r) for r in result)
    return like(first, result)
