"""Records -> the public Python functions: NumPy's ufunc call with named, checked parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from fastact.activations.directions import DIRECTIONS, Direction
from fastact.activations.record import Activation, Parameter
from fastact.runtime.docs import docstring
from fastact.runtime.ufuncs import ufunc

FLOATS = ("float16", "bfloat16", "float32", "float64")
ALLOWED = "bool, an integer, float16, bfloat16, float32 or float64"
DOMAINS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "finite": ("finite", np.isfinite),
    "nonnegative": ("finite and not negative", lambda v: np.isfinite(v) & (v >= 0)),
    "positive": ("finite and positive", lambda v: np.isfinite(v) & (v > 0)),
}

# The call costs about 60 ns beside the ufunc's own 250: each option that has its usual value
# is not passed on, since NumPy spends longer parsing it than Python does comparing it.
TEMPLATE = """
def {name}({arrays}{signature}, *, out=None, where=True, dtype=None, casting="same_kind"):
    try:
        if where is True and dtype is None and casting == "same_kind":
            {shortcut}
            return _general({arrays}{checked}, out={out})
        return _general(
            {arrays}{checked}, out={out}, where=where, dtype=dtype, casting=casting
        )
    except TypeError as error:
        return _explain("{name}", _names, ({arrays},), error)
"""


def check_parameter(op: str, parameter: Parameter, value: Any) -> Any:
    """The value, if it lies in the parameter's domain; an array is checked as a whole."""
    words, holds = DOMAINS[parameter.domain]
    if type(value) is float or type(value) is int:
        good = math.isfinite(value) and holds(value)
    elif hasattr(value, "__array_ufunc__") and not isinstance(value, np.ndarray | np.generic):
        return value  # another library's array: it will call back with its own pieces
    else:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
            raise TypeError(
                f"{op}: {parameter.name} must be a real number or an array of them, got {value!r}"
            )
        good = bool(np.all(holds(array)))
    if not good:
        raise ValueError(f"{op}: {parameter.name} must be {words}, got {value!r}")
    return value


def explain(
    op: str, names: tuple[str, ...], arrays: tuple[Any, ...], error: TypeError | None
) -> None:
    """Raise a TypeError that names the argument at fault, if one is; else the error itself."""
    for name, value in zip(names, arrays, strict=True):
        if hasattr(value, "__array_ufunc__") and not isinstance(value, np.ndarray | np.generic):
            continue
        kind = np.asarray(value).dtype
        if kind.kind not in "biu" and kind.name not in FLOATS:
            raise TypeError(f"{op}: {name} has dtype {kind}; it may be {ALLOWED}") from None
    if error is not None:
        raise error


@cache
def function(record: Activation, direction: Direction) -> Callable[..., Any]:
    """The public function of one direction of an op."""
    name = record.name + direction.suffix
    general = ufunc(record, direction, defaults=False)
    scope: dict[str, Any] = {
        "_general": general,
        "_explain": explain,
        "_names": direction.arrays,
        "__name__": "fastact",
    }
    signature = checked = ""
    out = "out" if len(direction.outputs) == 1 else "(None, None) if out is None else out"
    shortcut = "pass"
    if record.parameters:
        scope["_default"] = ufunc(record, direction, defaults=True)
        tests = []
        for k, p in enumerate(record.parameters):
            scope[f"_d{k}"] = p.default
            scope[f"_check{k}"] = lambda value, p=p: check_parameter(name, p, value)
            signature += f", {p.name}=_d{k}"
            checked += f", _check{k}({p.name})"
            tests.append(f"{p.name} is _d{k}")
        arrays = ", ".join(direction.arrays)
        shortcut = f"if {' and '.join(tests)}: return _default({arrays}, out={out})"
    exec(
        TEMPLATE.format(
            name=name,
            arrays=", ".join(direction.arrays),
            signature=signature,
            shortcut=shortcut,
            checked=checked,
            out=out,
        ),
        scope,
    )
    made: Callable[..., Any] = scope[name]
    made.__doc__ = docstring(record, direction)
    made.__module__ = "fastact"
    return made


def directions_of(record: Activation) -> list[Direction]:
    """The directions that an op has."""
    return [
        d
        for d in DIRECTIONS.values()
        if d.name != "backward_from_output" or record.grad_from_output is not None
    ]
