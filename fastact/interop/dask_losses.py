"""Dask: the losses over chunked arrays, the classes split into chunks too.

With target weights q and Q = sum(q) the loss of a row is sum(q (m - x)) + Q log(sum(exp(x - m))),
its gradient Q softmax(x) - q: sums that merge from chunk to chunk with those of softmax.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import dask.array as da
import numpy as np

import fastact as fa
from fastact.interop.catalogue import losses, with_signature
from fastact.interop.chunks import beginnings, blocks, log_total, pairs_of, softmax_chunk
from fastact.interop.dask_functions import AGAIN, along, chunked, documented, second_pass
from fastact.runtime.loss_arguments import check_reduction

SOFTMAX, SIGMOID = "softmax_cross_entropy", "sigmoid_cross_entropy"


@dataclass(frozen=True, eq=False)
class Targets:
    """What the targets of a loss are made from."""

    axis: int
    classes: int
    are_ids: bool
    weight: np.ndarray | None
    ignore_index: int | None
    smoothing: float

    def own(self, ids: np.ndarray) -> np.ndarray:
        """What a row counts for by its class id; 0 for an ignored one."""
        ignored = (
            np.zeros(ids.shape, bool) if self.ignore_index is None else ids == self.ignore_index
        )
        wrong = ((ids < 0) | (ids >= self.classes)) & ~ignored
        if wrong.any():
            raise ValueError(
                f"{SOFTMAX}: labels must be at least 0 and below {self.classes}, "
                f"got {ids[wrong][0]}"
            )
        place = np.where(ignored, 0, ids)
        counted = np.ones(ids.shape) if self.weight is None else self.weight[place]
        return np.where(ignored, 0.0, counted)

    def of_chunk(self, x: np.ndarray, labels: np.ndarray, first: np.ndarray) -> np.ndarray:
        """q of one chunk, which begins at `first` of the axis."""
        length = x.shape[self.axis]
        start = int(first.ravel()[0])
        along_axis = [1] * x.ndim
        along_axis[self.axis] = length
        weight = np.ones(length) if self.weight is None else self.weight[start : start + length]
        weight = weight.reshape(along_axis)
        share = self.smoothing / self.classes
        if not self.are_ids:
            return weight * ((1 - self.smoothing) * labels.astype(np.float64) + share)
        own = self.own(labels)
        kept = True if self.ignore_index is None else labels != self.ignore_index
        q = np.broadcast_to(share * weight * kept, x.shape).copy()
        inside = (labels >= start) & (labels < start + length)
        place = np.where(inside, labels - start, 0)
        more = np.where(inside, (1 - self.smoothing) * own, 0.0)
        np.put_along_axis(q, place, np.take_along_axis(q, place, self.axis) + more, self.axis)
        return q

    def against(self, x: np.ndarray, m: np.ndarray, *targets: np.ndarray) -> Any:
        """sum(q (m - x)) and sum(q) of one chunk."""
        q = self.of_chunk(x, *targets)
        with np.errstate(invalid="ignore"):
            parts = np.where(q == 0, 0.0, q * (m - x))
        return tuple(np.sum(a, self.axis, keepdims=True) for a in (parts, q))


def loss_chunk(pairs: np.ndarray) -> np.ndarray:
    """The losses of rows."""
    weight = pairs["weight"]
    with np.errstate(all="ignore"):
        return np.where(weight == 0, 0.0, pairs["against"] + weight * log_total(pairs))


def gradient_chunk(
    x: np.ndarray,
    pairs: np.ndarray,
    factor: np.ndarray,
    *chunk: np.ndarray,
    targets: Targets,
) -> np.ndarray:
    """(Q softmax(x) - q) * factor"""
    y = softmax_chunk(x, pairs, targets.axis, math.nan)
    q = targets.of_chunk(x, *chunk)
    weight = pairs["weight"]
    # a row that counts for nothing has no gradient, whatever is in it
    return np.where(weight == 0, 0.0, (weight * y - q) * factor).astype(x.dtype)


@dataclass(frozen=True, eq=False)
class Rows:
    """A loss of rows that is still to be reduced, and what its gradient needs."""

    x: Any
    targets: Targets
    chunk: tuple[Any, ...]
    pairs: Any
    value: Any
    factor: Any

    def gradient(self, recompute: bool) -> Any:
        return blocks(
            gradient_chunk,
            second_pass(self.x, self.pairs, recompute),
            self.pairs,
            self.factor,
            *self.chunk,
            targets=self.targets,
            dtype=self.x.dtype,
            meta=np.zeros((0,) * self.x.ndim, self.x.dtype),
        )


def check_weight(weight: Any, classes: int) -> np.ndarray | None:
    if weight is None:
        return None
    found = np.asarray(weight, np.float64)
    if found.shape != (classes,):
        raise ValueError(
            f"{SOFTMAX}: weight has shape {found.shape}; it must have shape ({classes},)"
        )
    return found


def softmax_rows(
    logits: Any,
    labels: Any,
    axis: int,
    weight: Any,
    ignore_index: int | None,
    label_smoothing: float,
    reduction: str,
) -> Rows:
    check_reduction(SOFTMAX, reduction)
    x = chunked(SOFTMAX, logits)
    # every check of the options that needs no data, in the words of the function itself
    fa.softmax_cross_entropy(np.zeros((1, 1)), [0], label_smoothing=label_smoothing)
    axis = along(SOFTMAX, x, axis)
    rows = tuple(c for k, c in enumerate(x.chunks) if k != axis)
    lead = tuple(map(sum, rows))
    given = da.asarray(labels)
    are_ids = given.dtype.kind in "iu"
    if not are_ids:
        given = chunked(SOFTMAX, given)
        if ignore_index is not None:
            raise ValueError(f"{SOFTMAX}: ignore_index needs class ids, labels are {given.dtype}")
    wanted = lead if are_ids else x.shape
    if given.shape != wanted:
        raise ValueError(
            f"{SOFTMAX}: labels have shape {given.shape}; they must have shape {wanted}"
        )
    classes = x.shape[axis]
    targets = Targets(
        axis, classes, are_ids, check_weight(weight, classes), ignore_index, float(label_smoothing)
    )
    if are_ids:
        given = da.expand_dims(given.rechunk(rows), axis)
        own = blocks(targets.own, given, dtype=np.float64, meta=np.zeros((0,) * x.ndim))
        count = own.sum()
    else:
        given = given.rechunk(x.chunks)
        count = math.prod(lead)
    chunk = (given, beginnings(x, axis))
    pairs = pairs_of(x, axis, *chunk, against=targets.against)
    loss = blocks(loss_chunk, pairs, dtype=np.float64, meta=np.zeros((0,) * x.ndim))
    factor = da.ones((1,) * x.ndim, chunks=1)
    if reduction == "mean":
        loss, factor = loss.sum() / count, factor / count
    elif reduction == "sum":
        loss = loss.sum()
    else:
        loss = da.squeeze(loss, axis)
    return Rows(x, targets, chunk, pairs, loss.astype(x.dtype), factor)


def softmax_value(*given: Any) -> Any:
    return softmax_rows(*given).value


def softmax_both(*given: Any, recompute: bool) -> tuple[Any, Any]:
    made = softmax_rows(*given)
    return made.value, made.gradient(recompute)


def sigmoid_chunk(x: np.ndarray, t: np.ndarray, *weights: Any, part: int, which: Any) -> Any:
    """The losses of one chunk, or their gradient."""
    named = dict(zip(which, weights, strict=True))
    made = fa.sigmoid_cross_entropy_value_and_grad(x, t, reduction="none", **named)
    return made[part]


def sigmoid_parts(
    logits: Any, targets: Any, weight: Any, pos_weight: Any, reduction: str
) -> tuple[Any, Any, float]:
    """The losses of all entries, their gradient, and what the mean divides by."""
    check_reduction(SIGMOID, reduction)
    x = chunked(SIGMOID, logits)
    t = chunked(SIGMOID, da.asarray(targets))
    if t.shape != x.shape:
        raise ValueError(
            f"{SIGMOID}: targets of shape {t.shape} do not match logits of shape {x.shape}"
        )
    weights = {"weight": weight, "pos_weight": pos_weight}
    given = {name: da.asarray(w) for name, w in weights.items() if w is not None}
    spread = [da.broadcast_to(w, x.shape).rechunk(x.chunks) for w in given.values()]
    losses, gradient = (
        blocks(
            sigmoid_chunk,
            x,
            t.rechunk(x.chunks),
            *spread,
            part=k,
            which=tuple(given),
            dtype=x.dtype,
        )
        for k in (0, 1)
    )
    return losses, gradient, float(x.size) if reduction == "mean" else 1.0


def reduced(losses: Any, reduction: str, count: float) -> Any:
    if reduction == "none":
        return losses
    return (losses.sum(dtype=np.float64) / count).astype(losses.dtype)


def sigmoid_value(*given: Any) -> Any:
    losses, _, count = sigmoid_parts(*given)
    return reduced(losses, given[-1], count)


def sigmoid_both(*given: Any, recompute: bool) -> tuple[Any, Any]:
    """Every entry is read once: there is nothing to recompute."""
    losses, gradient, count = sigmoid_parts(*given)
    return reduced(losses, given[-1], count), gradient / count


FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    SOFTMAX: (softmax_value, softmax_both),
    SIGMOID: (sigmoid_value, sigmoid_both),
}
MORE = """

The classes may be split into chunks: the axis is never gathered, no probabilities are stored
except as the gradient."""


@cache
def loss_function(name: str) -> Callable[..., Any]:
    """A loss of chunked arrays."""
    loss = losses()[name]
    made = with_signature("fastact.dask", name, loss.signature, FUNCTIONS[name][0])
    return documented(made, loss, MORE)


@cache
def loss_with_gradient(name: str) -> Callable[..., Any]:
    """(loss, its gradient in the logits); `recompute` as in softmax."""
    loss, both = losses()[name], FUNCTIONS[name][1]
    arguments = (*loss.signature, ("recompute", "False"))
    made = with_signature(
        "fastact.dask",
        f"{name}_value_and_grad",
        arguments,
        lambda *given: both(*given[:-1], recompute=given[-1]),
    )
    return documented(made, loss, MORE + AGAIN, f"{name}_value_and_grad")
