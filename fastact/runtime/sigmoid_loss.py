"""sigmoid_cross_entropy: targets, weights and reduction brought into the form of a row op."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastact.rowwise.losses import SIGMOID, WEIGHTED_SIGMOID
from fastact.runtime import elsewhere
from fastact.runtime.direct import run
from fastact.runtime.loss_arguments import (
    added,
    check_out,
    check_reduction,
    delivered,
    finite,
    floating,
    rounded,
    target,
)

# Entries of a flat array that are taken as one row: what a row reads and writes stays in the
# first cache, and its sum is one of several that threads can share.
ROW = 2048
SHORT = 64  # a last axis from this length on is a row as it is


def broadcast(name: str, word: str, value: Any, x: np.ndarray) -> np.ndarray:
    """A weight for every entry."""
    if value is None:
        return np.broadcast_to(np.ones((), x.dtype), x.shape)
    array = finite(name, word, floating(name, word, value).astype(x.dtype, copy=False))
    try:
        return np.broadcast_to(array, x.shape)
    except ValueError:
        raise ValueError(
            f"{name}: {word} of shape {array.shape} does not broadcast against logits of"
            f" shape {x.shape}"
        ) from None


def by_rows(x: np.ndarray) -> bool:
    """Whether the last axis is long enough to be summed by itself.

    It depends on the shape alone: the order of the sum is the same for every layout.
    """
    return x.ndim > 1 and x.shape[-1] >= SHORT


def in_rows(arrays: list[np.ndarray], as_they_are: bool) -> list[list[np.ndarray]]:
    """The same entries as rows: those there are, or rows of ROW entries and what is left."""
    if not arrays[0].size:
        return []
    if as_they_are:
        return [arrays]
    if arrays[0].size <= ROW:
        return [[a.reshape(1, -1) for a in arrays]]
    flat = [a.reshape(-1) for a in arrays]
    whole = flat[0].size // ROW * ROW
    parts = [[a[:whole].reshape(-1, ROW) for a in flat], [a[whole:].reshape(1, -1) for a in flat]]
    return [part for part in parts if part[0].size]


def sigmoid_loss(
    name: str,
    gradient: bool,
    logits: Any,
    targets: Any,
    weight: Any,
    pos_weight: Any,
    reduction: Any,
    out: Any = None,
) -> Any:
    """The loss, with its gradient if that is wanted."""
    if elsewhere.on_gpu((logits, targets, weight, pos_weight, out)):
        from fastact.gpu import losses as on_gpu

        options = (weight, pos_weight, reduction, out)
        return on_gpu.sigmoid_loss(name, gradient, logits, targets, *options)
    check_reduction(name, reduction)
    x = floating(name, "logits", logits)
    t = floating(name, "targets", targets)
    if t.shape != x.shape:
        raise ValueError(
            f"{name}: targets of shape {t.shape} do not match logits of shape {x.shape}"
        )
    arrays = [t if t.dtype is x.dtype else t.astype(x.dtype, copy=False), x]
    family = SIGMOID
    if weight is not None or pos_weight is not None:
        family = WEIGHTED_SIGMOID
        arrays = [
            broadcast(name, "pos_weight", pos_weight, x),
            broadcast(name, "weight", weight, x),
            *arrays,
        ]
    check_out(name, out, x)
    summed, as_they_are = reduction != "none", by_rows(x)
    results = [] if summed else [np.empty(x.shape, x.dtype)]
    in_place = False
    if gradient:
        dlogits = target(out, x, arrays)
        if not as_they_are and not dlogits.flags.c_contiguous:
            dlogits = np.empty(x.shape, x.dtype)  # it is to be written as if it were flat
        results += [dlogits]
        in_place = out is not None and any(np.may_share_memory(dlogits, a) for a in arrays)
    factor = np.float64(1.0 / x.size if reduction == "mean" and x.size else 1.0)
    total = 0.0
    for rows in in_rows([*arrays, *results], as_they_are):
        inputs, outputs = rows[: len(arrays)], rows[len(arrays) :]
        lead = rows[0].shape[:-1]
        if summed:
            sums = np.zeros(lead)
            run(family[True, gradient], [*inputs, factor], [*outputs, sums], in_place)
            total += added(sums)
        else:
            run(family[False, gradient], inputs, outputs, in_place)
    if summed:
        value = rounded(total if x.size or reduction == "sum" else math.nan, x.dtype)
    else:
        value = results[0][()]
    return (value, delivered(results[-1], out)) if gradient else value
