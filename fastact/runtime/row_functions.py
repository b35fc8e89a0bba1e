"""Row ops -> the public Python functions, with an axis."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from fastact.rowwise.record import RowOp
from fastact.runtime.docs import row_docstring
from fastact.runtime.functions import check_dtypes, on_first_call
from fastact.runtime.ufuncs import gufunc

TEMPLATE = """
def {name}({arrays}, axis=-1, *, out=None, dtype=None, casting="same_kind"):
    try:
        if axis == -1 and dtype is None and casting == "same_kind":
            return _rows({arrays}, out=out)
        return _rows({arrays}, axis=_axis(axis), out=out, dtype=dtype, casting=casting)
    except (TypeError, ValueError) as error:
        return _retry(error, ({arrays},), axis, out, dtype, casting)
"""


def make_check_axis(name: str) -> Callable[[Any], int]:
    def check_axis(axis: Any) -> int:
        if isinstance(axis, bool) or not hasattr(axis, "__index__"):
            raise TypeError(f"{name}: axis must be an integer, got {axis!r}")
        return int(axis.__index__())

    return check_axis


def make_retry(op: RowOp) -> Callable[..., Any]:
    """What happens after an error: a scalar is a row of one; else an answer."""

    def retry(
        error: Exception, arrays: tuple[Any, ...], axis: Any, out: Any, dtype: Any, casting: Any
    ) -> Any:
        options = {"dtype": dtype, "casting": casting}
        if axis in (-1, 0) and all(np.ndim(a) == 0 for a in arrays):
            check_dtypes(op.name, dict(zip(op.inputs, arrays, strict=True)))
            result = gufunc(op, math.nan)(*(np.reshape(a, (1,)) for a in arrays), **options)
            if out is None:
                return result[0]
            target = out[0] if isinstance(out, tuple) else out
            target[...] = result[0]
            return target
        if isinstance(error, TypeError):
            check_dtypes(op.name, dict(zip(op.inputs, arrays, strict=True)))
        shapes = " and ".join(
            f"{name} of shape {np.shape(a)}" for name, a in zip(op.inputs, arrays, strict=True)
        )
        if isinstance(error, np.exceptions.AxisError):
            raise ValueError(f"{op.name}: axis {axis} is out of bounds for {shapes}") from None
        if len({np.shape(a)[-1:] for a in arrays}) > 1:
            raise ValueError(f"{op.name}: {shapes} do not match") from None
        raise error

    return retry


@cache
def row_function(op: RowOp) -> Callable[..., Any]:
    """The public function of a row op."""
    scope: dict[str, Any] = {
        "_axis": make_check_axis(op.name),
        "_retry": make_retry(op),
        "__name__": "fastact",
    }
    on_first_call(scope, "_rows", partial(gufunc, op, math.nan))
    exec(TEMPLATE.format(name=op.name, arrays=", ".join(op.inputs)), scope)
    made: Callable[..., Any] = scope[op.name]
    made.__doc__ = row_docstring(op)
    made.__module__ = "fastact"
    return made
