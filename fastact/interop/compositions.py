"""What the fused ops are made of: the same values, in steps that a library can differentiate.

A fused op has one derivative, its own backward pass. Where a library asks for more (a second
derivative, forward mode, a batch, the gradient of a target) these compositions answer, over
the adapter's own functions. `Library` is what they need of an array library.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

from fastact.activations.paired import BIAS, GATE, SLOPE, Form, Paired

Array = Any


class Library(Protocol):
    """The operations of an array library; rows run along the last axis."""

    def activation(self, name: str) -> Callable[..., Array]: ...
    def where(self, condition: Array, yes: Array, no: Array) -> Array: ...
    def moved(self, x: Array, axis: int, to: int) -> Array: ...
    def largest(self, x: Array) -> Array: ...
    def total(self, x: Array) -> Array: ...
    def summed(self, x: Array) -> Array: ...
    def softmax(self, x: Array) -> Array: ...
    def log_softmax(self, x: Array) -> Array: ...
    def arange(self, n: int, like: Array) -> Array: ...
    def cast(self, values: Array, like: Array) -> Array: ...


PAIRS: dict[Form, Callable[..., Array]] = {
    GATE: lambda library, f, a, b: a * f(b),
    BIAS: lambda library, f, x, b: f(x + b),
    SLOPE: lambda library, f, x, weight: library.where(x > 0, x, weight * x),
}


def pair(op: Paired, library: Library, *arrays: Array) -> Array:
    """An op of two arrays and the parameters of its activation."""
    first, second, *parameters = arrays
    activation = library.activation(op.activation.name)
    return PAIRS[op.form](library, lambda x: activation(x, *parameters), first, second)


def halves(op: Paired, library: Library, x: Array, axis: int) -> Array:
    """A gate of the two halves of an array along an axis."""
    x = library.moved(x, axis, -1)
    middle = x.shape[-1] // 2
    return library.moved(pair(op, library, x[..., :middle], x[..., middle:]), -1, axis)


def maxout(library: Library, x: Array, groups: int, axis: int) -> Array:
    """The largest entry of each group of neighbours along an axis."""
    x = library.moved(x, axis, -1)
    grouped = x.reshape((*x.shape[:-1], groups, x.shape[-1] // groups))
    return library.moved(library.largest(grouped), -1, axis)


def causal_softmax(library: Library, x: Array, offset: int) -> Array:
    """The softmax of the entries of row i up to i + offset."""
    rows, columns = x.shape[-2:]
    is_open = library.arange(columns, x) <= library.arange(rows, x)[:, None] + offset
    return library.softmax(library.where(is_open, x, -math.inf))


def softmax_backward(library: Library, dy: Array, y: Array, *_: Any) -> Array:
    """The backward pass of a softmax from its output, of whatever entries it is over."""
    return y * (dy - library.total(dy * y)[..., None])


def reduced(library: Library, losses: Array, reduction: str, count: Array) -> Array:
    if reduction == "none":
        return losses
    return library.summed(losses) / count if reduction == "mean" else library.summed(losses)


def softmax_cross_entropy(
    library: Library,
    logits: Array,
    labels: Array,
    *,
    axis: int,
    weight: Array,
    ignore_index: int | None,
    label_smoothing: float,
    reduction: str,
) -> Array:
    """The sum of q times the negative log_softmax, q the smoothed and weighted targets."""
    x = library.moved(logits, axis, -1)
    classes = x.shape[-1]
    each = library.cast(library.arange(classes, x) * 0 + 1, x) if weight is None else weight
    if len(labels.shape) == len(x.shape):
        p = library.moved(labels, axis, -1)
        q = each * ((1 - label_smoothing) * p + label_smoothing / classes)
        count = max(1, math.prod(x.shape[:-1]))
    else:
        kept = labels == labels if ignore_index is None else labels != ignore_index
        ids = library.arange(classes, x)
        at = library.cast((labels[..., None] == ids) & kept[..., None], x)
        own = library.total(at * each)[..., None]
        any_ = library.total(at)[..., None]
        q = (1 - label_smoothing) * own * at + label_smoothing / classes * any_ * each
        count = library.summed(own)
    losses = library.total(library.where(q == 0, 0 * q, -q * library.log_softmax(x)))
    return reduced(library, losses, reduction, count)


def sigmoid_cross_entropy(
    library: Library,
    logits: Array,
    targets: Array,
    *,
    weight: Array,
    pos_weight: Array,
    reduction: str,
) -> Array:
    """w (p t softplus(-x) + (1 - t) softplus(x))"""
    softplus = library.activation("softplus")
    yes = targets if pos_weight is None else pos_weight * targets
    losses = yes * softplus(-logits) + (1 - targets) * softplus(logits)
    losses = losses if weight is None else weight * losses
    return reduced(library, losses, reduction, max(1, math.prod(logits.shape)))


LOSSES: dict[str, Callable[..., Array]] = {
    "softmax_cross_entropy": softmax_cross_entropy,
    "sigmoid_cross_entropy": sigmoid_cross_entropy,
}
