"""Ops along an axis that is split into chunks, without ever gathering it: the two passes.

Each chunk gives, per row, its maximum m and the sum of exp(x - m): how many entries are the
largest, and the sum over the others, apart so that a logarithm near 0 keeps its digits. These
pairs merge, in a tree: the larger maximum, and the sums scaled to it. What an op needs of a whole
row follows from the merged pair, and a second pass over the chunks computes the entries.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import dask.array as da
import numpy as np

from fastact.numerics.language import scalar
from fastact.rowwise.logarithmic import nothing, others, others_merged
from fastact.rowwise.record import Operand, RowOp
from fastact.runtime.state import serial_task
from fastact.runtime.ufuncs import gufunc

TREE = 16  # so many pairs are merged by one task
# Of a row, or of a chunk of it: maximum, how often it occurs, the sum of exp(x - maximum) over the
# other entries; of a loss with target weights q also sum(q (maximum - x)) and sum(q).
PAIR = np.dtype(
    [(name, np.float64) for name in ("maximum", "largest", "others", "against", "weight")]
)


def in_task(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What Dask runs: its workers share out the threads already."""
    with serial_task():
        return function(*args, **options)


def blocks(function: Callable[..., Any], *arrays: Any, **options: Any) -> Any:
    """`da.map_blocks` of a function of fastact."""
    return da.map_blocks(partial(in_task, function), *arrays, **options)


# ------------------------------------------------- two private row ops, in the compiled engine


@scalar
def sum_of_others(s0, unit):
    return s0 * unit


@scalar
def scaled_by(factor, unit):
    return factor, unit


@scalar
def scaled_weight(e, c0, c1):
    return (e * c1) * c0  # in this order: factor * unit may underflow


OTHERS = RowOp(
    name="sum_of_others",
    summary="Sum of exp(x - max(x)) along an axis over all entries but the largest, in float64.",
    formula="sum(exp(x - max(x)))",
    inputs=("x",),
    terms=others,
    merge=others_merged,
    finish=nothing,
    value=sum_of_others,
    value_dtype="float64",
    policy="",
    sources=(),
)
SCALED = RowOp(
    name="scaled_exponentials",
    summary="exp(x - max(x)) along an axis, times a factor per row.",
    formula="exp(x - max(x)) * factor",
    inputs=("x",),
    extra=(Operand("factor", False, "float64"),),
    terms=None,
    finish=scaled_by,
    apply=scaled_weight,
    policy="",
    sources=(),
)


def maximum(x: np.ndarray, axis: int) -> np.ndarray:
    """The largest entries, in float64, with the axis kept; -inf where there is none."""
    with np.errstate(invalid="ignore"):  # a nan among them
        return np.max(x, axis, keepdims=True, initial=-np.inf).astype(np.float64)


# ------------------------------------------------------------------------------- first pass


def pair(
    x: np.ndarray, *targets: np.ndarray, axis: int, against: Callable[..., Any] | None = None
) -> np.ndarray:
    """The pair of one chunk; the axis is kept, with one entry.

    `against(x, m, *targets)` is what a loss adds to it, for a finite m in place of -inf.
    """
    made = np.zeros(tuple(1 if k == axis else n for k, n in enumerate(x.shape)), PAIR)
    m = maximum(x, axis)
    made["maximum"] = m
    made["largest"] = np.where(m == -np.inf, 0, np.sum(x == m, axis, keepdims=True))
    made["others"] = np.expand_dims(gufunc(OTHERS, math.nan)(x, axis=axis), axis)
    if against:
        made["against"], made["weight"] = against(x, finite(m), *targets)
    return made


def finite(m: np.ndarray) -> np.ndarray:
    """A maximum that can be subtracted: 0 for that of nothing."""
    return np.where(m == -np.inf, 0.0, m)


def merge(pairs: np.ndarray, axis: Any, keepdims: bool = True, **_: Any) -> np.ndarray:
    """The pair of several chunks together."""
    (axis,) = axis
    m = np.max(pairs["maximum"], axis, keepdims=True, initial=-np.inf)
    is_largest = pairs["maximum"] == m
    with np.errstate(invalid="ignore"):  # inf - inf, where the factor is not asked for
        scaled = total(pairs) * np.exp(pairs["maximum"] - m)
        gap = finite(m) - finite(pairs["maximum"])
        more = np.where((pairs["weight"] == 0) | is_largest, 0, pairs["weight"] * gap)
    parts = {
        "largest": np.where(is_largest, pairs["largest"], 0),
        "others": np.where(is_largest, pairs["others"], scaled),
        "against": pairs["against"] + more,
        "weight": pairs["weight"],
    }
    made = np.zeros(m.shape, PAIR)
    made["maximum"] = m
    for name, part in parts.items():
        made[name] = np.sum(part, axis, keepdims=True)
    return made


def total(pairs: np.ndarray) -> np.ndarray:
    """sum(exp(x - m))"""
    made: np.ndarray = pairs["others"] + pairs["largest"]
    return made


def log_total(pairs: np.ndarray) -> np.ndarray:
    """log(sum(exp(x - m))); of an empty row -inf."""
    with np.errstate(all="ignore"):
        return np.log1p(pairs["others"] + (pairs["largest"] - 1))


def beginnings(x: Any, axis: int) -> Any:
    """Where the chunks begin along an axis: a number for each chunk."""
    first = np.cumsum([0, *x.chunks[axis][:-1]])
    return da.from_array(first.reshape([-1 if k == axis else 1 for k in range(x.ndim)]), chunks=1)


def pairs_of(x: Any, axis: int, *targets: Any, against: Callable[..., Any] | None = None) -> Any:
    """The pairs of whole rows: an array with one entry along the axis."""
    chunks = tuple((1,) * len(c) if k == axis else c for k, c in enumerate(x.chunks))
    meta = np.zeros((0,) * x.ndim, PAIR)
    each = blocks(
        pair, x, *targets, axis=axis, against=against, chunks=chunks, dtype=PAIR, meta=meta
    )
    return da.reduction(
        each,
        chunk=merge,
        combine=merge,
        aggregate=merge,
        axis=axis,
        keepdims=True,
        concatenate=True,
        split_every=TREE,
        dtype=PAIR,
        meta=meta,
    )


# ------------------------------------------------------------------------------ second pass


def softmax_chunk(x: np.ndarray, pairs: np.ndarray, axis: int, empty: float) -> np.ndarray:
    """The entries of one chunk: exp(x - m) / s."""
    own, m, s = maximum(x, axis), pairs["maximum"], total(pairs)
    with np.errstate(all="ignore"):
        factor = np.where(own == m, 1.0, np.exp(own - m)) / s
    factor = np.where(m == -np.inf, empty, factor)
    y: np.ndarray = gufunc(SCALED, math.nan)(x, np.squeeze(factor, axis), axis=axis)
    if (m == np.inf).any():  # the limit: 1 at the one infinity, 0 elsewhere
        limit = np.where(pairs["largest"] == 1, x == m, np.nan).astype(x.dtype)
        y = np.where(m == np.inf, limit, y)
    return y


def log_softmax_chunk(x: np.ndarray, pairs: np.ndarray, axis: int, empty: float) -> np.ndarray:
    """x - m - log(s)"""
    m, logarithm = pairs["maximum"], log_total(pairs)
    with np.errstate(all="ignore"):
        y = np.subtract(x, m.astype(x.dtype))
        if np.isinf(m).any():
            y = np.where(x == m, x.dtype.type(0), y)
    logarithm = np.where((m == np.inf) & (pairs["largest"] > 1), np.nan, logarithm)
    logarithm = np.where(m == -np.inf, -empty, logarithm)
    return np.subtract(y, logarithm.astype(x.dtype), out=y)


def logsumexp_chunk(
    pairs: np.ndarray, axis: int, keepdims: bool, empty: float, kind: Any
) -> np.ndarray:
    """m + log(s)"""
    m = pairs["maximum"]
    value = np.where(np.isinf(m), m, m + log_total(pairs))
    value = np.where(m == -np.inf, empty, value).astype(kind)
    return value if keepdims else np.squeeze(value, axis)
