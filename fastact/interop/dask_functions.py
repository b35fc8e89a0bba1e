"""Dask: the functions over chunked arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import dask.array as da
import numpy as np
from dask.graph_manipulation import bind

import fastact as fa
from fastact.interop import chunks
from fastact.interop.catalogue import checked, elementwise, fused, rowwise, with_signature
from fastact.interop.chunks import blocks, pairs_of

DOC = """{summary}

    {formula}

The same as `fastact.{name}`, for a Dask array of any chunks.{more}"""
REDUCED = """

Along a split axis each chunk gives a maximum and a sum, which are merged in a tree; the axis is
never gathered."""
AGAIN = """ The second pass needs the chunks of x again. By default Dask keeps them meanwhile; with
`recompute=True` they are computed, or read, a second time, and memory stays bounded by a few
chunks however long the axis is."""


def chunked(name: str, x: Any) -> Any:
    """x as a Dask array of a floating dtype."""
    if not isinstance(x, da.Array):
        raise TypeError(f"{name}: x must be a dask array, got {type(x).__name__}")
    dtype = fa.identity(np.zeros(0, x.dtype)).dtype  # raises for dtypes that are not real
    return x if x.dtype == dtype else x.astype(dtype)


def along(name: str, x: Any, axis: Any) -> int:
    """The axis, counted from the front."""
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise TypeError(f"{name}: axis must be an integer, got {axis!r}")
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"{name}: axis {axis} is out of bounds for x of shape {x.shape}")
    return int(axis) % x.ndim


def is_split(x: Any, axis: int) -> bool:
    return bool(x.numblocks[axis] > 1)


def second_pass(x: Any, pairs: Any, recompute: bool) -> Any:
    """x for the second pass: itself, or made anew once the first pass is over."""
    return bind(x, pairs) if recompute else x


@cache
def function(name: str) -> Callable[..., Any]:
    """An elementwise op of chunked arrays."""
    op = elementwise()[name]

    def made(x: Any, *parameters: Any, **named: Any) -> Any:
        x = chunked(name, x)
        op.forward(np.zeros(0, x.dtype), *parameters, **named)  # raises now what it would raise
        return blocks(op.forward, x, *parameters, dtype=x.dtype, **named)

    return documented(made, op, "")


def documented(function: Any, op: Any, more: str, name: str = "") -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name or op.name
    function.__module__ = "fastact.dask"
    function.__doc__ = DOC.format(
        name=name or op.name, summary=op.record.summary, formula=op.record.formula, more=more
    )
    made: Callable[..., Any] = function
    return made


def empty_number(name: str, empty: Any, zero: float) -> float:
    if empty not in ("nan", "zero"):
        raise ValueError(f"{name}: empty must be 'nan' or 'zero', got {empty!r}")
    return math.nan if empty == "nan" else zero


def softmax(x: Any, axis: int, empty: str, recompute: bool) -> Any:
    pairs = pairs_of(x, axis)
    again = second_pass(x, pairs, recompute)
    value = empty_number("softmax", empty, 0.0)
    return blocks(chunks.softmax_chunk, again, pairs, axis=axis, empty=value, dtype=x.dtype)


def softmin(x: Any, axis: int, empty: str, recompute: bool) -> Any:
    return softmax(-x, axis, empty, recompute)


def log_softmax(x: Any, axis: int, empty: str, recompute: bool) -> Any:
    pairs = pairs_of(x, axis)
    again = second_pass(x, pairs, recompute)
    value = empty_number("log_softmax", empty, -math.inf)
    return blocks(chunks.log_softmax_chunk, again, pairs, axis=axis, empty=value, dtype=x.dtype)


SPLIT: dict[str, Callable[..., Any]] = {
    "softmax": softmax,
    "softmin": softmin,
    "log_softmax": log_softmax,
}


def logsumexp(x: Any, axis: int = -1, *, keepdims: bool = False, empty: str = "zero") -> Any:
    x = chunked("logsumexp", x)
    axis = along("logsumexp", x, axis)
    value = empty_number("logsumexp", empty, -math.inf)
    options: dict[str, Any] = {"keepdims": keepdims, "empty": empty}
    whole, call = x, rowwise()["logsumexp"].forward
    if is_split(x, axis):
        options |= {"empty": value, "kind": x.dtype}
        whole, call = pairs_of(x, axis), chunks.logsumexp_chunk
    if keepdims:
        kept = tuple((1,) if k == axis else c for k, c in enumerate(x.chunks))
        options |= {"chunks": kept}
    else:
        options |= {"drop_axis": axis}
    meta = np.zeros((0,) * (x.ndim - (not keepdims)), x.dtype)
    return blocks(call, whole, axis=axis, dtype=x.dtype, meta=meta, **options)


@cache
def row_function(name: str) -> Callable[..., Any]:
    """A row op of chunked arrays."""
    op = rowwise()[name]
    if name == "logsumexp":
        return documented(logsumexp, op, REDUCED)

    def made(x: Any, axis: int = -1, *, empty: str = "nan", recompute: bool = False) -> Any:
        x = chunked(name, x)
        axis = along(name, x, axis)
        empty_number(name, empty, 0.0)
        if not is_split(x, axis):
            options = {"empty": empty} if name in SPLIT else {}
            return blocks(op.forward, x, axis=axis, dtype=x.dtype, **options)
        if name not in SPLIT:
            raise ValueError(
                f"{name}: axis {axis} is split into {x.numblocks[axis]} chunks; rechunk it into "
                f"one. Only {', '.join((*SPLIT, 'logsumexp'))} work along a split axis"
            )
        return SPLIT[name](x, axis, empty, recompute)

    return documented(made, op, REDUCED + AGAIN)


@cache
def fused_function(name: str) -> Callable[..., Any]:
    """A fused op of chunked arrays: what it needs together must lie in one chunk."""
    op = fused()[name]
    count = len(op.arrays)

    def call(*given: Any) -> Any:
        numbers = checked(op, op.numbers, given[count:])
        if count > 1:
            arrays = [chunked(name, a) if isinstance(a, da.Array) else a for a in given[:count]]
            run = partial(chunks.in_task, lambda *a: op.forward(*a, *numbers))
            meta = op.forward(*(np.zeros(0, np.asarray(a[:0]).dtype) for a in arrays), *numbers)
            return da.core.elemwise(run, *arrays, dtype=meta.dtype)
        x = chunked(name, given[0])
        named = dict(zip((n.name for n in op.numbers), numbers, strict=True))
        axes = (along(name, x, named["axis"]),) if "axis" in named else (x.ndim - 2, x.ndim - 1)
        for axis in axes:
            if is_split(x, axis):
                raise ValueError(
                    f"{name}: axis {axis} is split into {x.numblocks[axis]} chunks; rechunk it "
                    "into one"
                )
        shape = op.shape(x.shape, *numbers)
        kept = tuple((shape[k],) if k in axes else c for k, c in enumerate(x.chunks))
        return blocks(op.forward, x, *numbers, chunks=kept, dtype=x.dtype)

    return documented(with_signature("fastact.dask", name, op.signature, call), op, "")
