"""The gate whose two inputs are halves of one array."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from fastact.activations.directions import Direction
from fastact.activations.paired import Paired
from fastact.runtime import dlpack, elsewhere
from fastact.runtime.announce import announce
from fastact.runtime.functions import FLOATS, check_dtypes, foreign, function
from fastact.runtime.paired_docs import halves_docstring

HALVED = "glu"


class Halves(NamedTuple):
    """A gate that is called with one array."""

    gate: Callable[..., Any]  # the function of two


def half_axis(name: str, shape: tuple[int, ...], axis: Any) -> int:
    """The axis along which an array of this shape has two halves."""
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise TypeError(f"{name}: axis must be an integer, got {axis!r}")
    k: int = axis.__index__()
    if not -len(shape) <= k < len(shape):
        raise ValueError(f"{name}: axis {k} is out of bounds for x of shape {shape}")
    if shape[k] % 2:
        raise ValueError(f"{name}: x must have an even length along axis {k}, got shape {shape}")
    return k % len(shape)


def halves(name: str, x: Any, axis: Any) -> tuple[Any, Any]:
    """The two halves of an array along an axis."""
    if foreign(x):
        raise TypeError(f"{name}: x must be a NumPy array, got a {type(x).__name__}")
    check_dtypes(name, {"x": x})
    x = np.asanyarray(x)
    k = half_axis(name, x.shape, axis)
    before, middle = (slice(None),) * k, x.shape[k] // 2
    return x[(*before, slice(None, middle))], x[(*before, slice(middle, None))]


@cache
def paired_function(op: Paired, direction: Direction) -> Callable[..., Any]:
    """The public function of an op of two arrays; of one that is halved, if the op is glu."""
    if op.name != HALVED:
        return function(op, direction)
    gate = function(op, direction)
    name = op.name + direction.suffix

    def on_gpu(named: dict[str, Any], axis: Any, out: Any) -> Any:
        from fastact.gpu import call

        return call.halves(op, direction, named, axis, out)

    def glu(x: Any, axis: Any = -1, out: Any = None) -> Any:
        if elsewhere.on_gpu((x, out)):
            return on_gpu({"x": x}, axis, out)
        if dlpack.concerns((x, out)):
            return dlpack.call(glu, (x,), out, axis=axis)
        return gate(*halves(name, x, axis), out)

    def glu_backward(dy: Any, x: Any, axis: Any = -1, out: Any = None) -> Any:
        if elsewhere.on_gpu((dy, x, out)):
            return on_gpu({"dy": dy, "x": x}, axis, out)
        if dlpack.concerns((dy, x, out)):
            return dlpack.call(glu_backward, (dy, x), out, axis=axis)
        a, b = halves(name, x, axis)
        check_dtypes(name, {"dy": dy})
        if np.shape(dy) != a.shape:
            raise ValueError(f"{name}: dy has shape {np.shape(dy)}; it must have shape {a.shape}")
        x = np.asanyarray(x)
        if out is None:
            common = np.result_type(np.asanyarray(dy), x)
            dtype = common if common.name in FLOATS else np.exp(np.empty(0, common)).dtype
            out = np.empty(x.shape, dtype)
        elif np.shape(out) != x.shape:
            raise ValueError(f"{name}: out has shape {np.shape(out)}; it must have shape {x.shape}")
        gate(dy, a, b, halves(name, out, axis))
        return out

    made = glu_backward if direction.name == "backward" else glu
    made.__doc__ = halves_docstring(op, direction)
    made.__module__ = "fastact"
    announce(made, Halves(gate), direction)
    return made
