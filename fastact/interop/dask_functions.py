"""Dask: the functions over chunked arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import dask.array as da
import numpy as np
from dask.graph_manipulation import bind

import fastact as fa
from fastact.interop import chunks
from fastact.interop.catalogue import elementwise, rowwise
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


def documented(function: Any, op: Any, more: str) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = op.name
    function.__module__ = "fastact.dask"
    function.__doc__ = DOC.format(
        name=op.name, summary=op.record.summary, formula=op.record.formula, more=more
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


REDUCTIONS = ("mean", "sum", "none")


def cross_entropy(
    logits: Any,
    labels: Any,
    axis: int,
    weight: Any,
    ignore_index: int | None,
    reduction: str,
) -> tuple[Any, ...]:
    """(loss, logits, pairs, labels, factor per row); the last four with the axis kept."""
    name = "softmax_cross_entropy"
    if reduction not in REDUCTIONS:
        words = ", ".join(map(repr, REDUCTIONS))
        raise ValueError(f"{name}: reduction must be one of {words}, got {reduction!r}")
    x = chunked(name, logits)
    axis = along(name, x, axis)
    rows = tuple(c for k, c in enumerate(x.chunks) if k != axis)
    lead = tuple(map(sum, rows))
    ids = da.asarray(labels)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{name}: labels must be class ids (integers), got dtype {ids.dtype}")
    if ids.shape != lead:
        raise ValueError(f"{name}: labels have shape {ids.shape}; they must have shape {lead}")
    ids = da.expand_dims(ids.rechunk(rows), axis)
    classes = x.shape[axis]
    if weight is not None:
        weight = np.asarray(weight)
        if weight.shape != (classes,):
            raise ValueError(
                f"{name}: weight has shape {weight.shape}; it must have shape ({classes},)"
            )
    factor = blocks(
        chunks.factor_chunk,
        ids,
        weight=weight,
        ignore_index=ignore_index,
        classes=classes,
        dtype=np.float64,
        meta=np.zeros((0,) * x.ndim),
    )
    pairs = pairs_of(x, axis, ids)
    loss = blocks(chunks.loss_chunk, pairs, factor, dtype=np.float64, meta=np.zeros((0,) * x.ndim))
    if reduction == "mean":
        total = factor.sum()
        loss, factor = loss.sum() / total, factor / total
    elif reduction == "sum":
        loss = loss.sum()
    else:
        loss = da.squeeze(loss, axis)
    return loss.astype(x.dtype), x, pairs, ids, factor


def softmax_cross_entropy(
    logits: Any,
    labels: Any,
    axis: int = -1,
    *,
    weight: Any = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Any:
    """`fastact.softmax_cross_entropy` for class ids, also along an axis split into chunks.

    The probabilities are never made, and the axis is never gathered.
    """
    return cross_entropy(logits, labels, axis, weight, ignore_index, reduction)[0]


def softmax_cross_entropy_value_and_grad(
    logits: Any,
    labels: Any,
    axis: int = -1,
    *,
    weight: Any = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
    recompute: bool = False,
) -> tuple[Any, Any]:
    """(loss, its gradient in the logits), as `softmax_cross_entropy`; `recompute` as in softmax."""
    loss, x, pairs, ids, factor = cross_entropy(
        logits, labels, axis, weight, ignore_index, reduction
    )
    again = second_pass(x, pairs, recompute)
    axis = along("softmax_cross_entropy", x, axis)
    gradient = blocks(
        chunks.gradient_chunk,
        again,
        pairs,
        factor,
        ids,
        chunks.beginnings(x, axis),
        axis=axis,
        dtype=x.dtype,
    )
    return loss, gradient
