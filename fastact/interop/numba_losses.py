"""The losses inside Numba's compiled code.

What Python does around a loss (weights by label, factors, the reduction) is compiled with the
caller; the pass over the rows is a call of the library's own loop.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import overload, register_jitable
from numba.np.numpy_support import as_dtype

from fastact.interop.numba_rows import resolver
from fastact.interop.numba_typing import UNKNOWN, given_value, install, is_array, make_known
from fastact.rowwise.losses import (
    CLASS,
    PROBABILITIES,
    SIGMOID,
    SMOOTHED,
    WEIGHTED_SIGMOID,
)
from fastact.rowwise.record import Loss, RowOp
from fastact.runtime.loss_arguments import REDUCTIONS

NOTHING = types.none


@cache
def row_call(op: RowOp, along: bool = False) -> Any:
    """A function that compiled code calls for a private row op: its inputs, then the others.

    Then the axis, which is used if rows run `along` another one than the last.
    """
    names = ", ".join((*op.inputs, *(o.name for o in op.extra)))
    scope: dict[str, Any] = {}
    exec(f"def {op.name}({names}, axis=-1):\n    raise NotImplementedError", scope)
    install(scope[op.name], resolver(op))
    passed = f"{names}, axis" if along else names
    exec(f"def call({names}, axis=-1):\n    return {op.name}({passed})", scope)
    return register_jitable(scope["call"])


@cache
def shapes(axes: int) -> tuple[Any, Any, Any]:
    """Functions that compiled code calls for an array with so many axes.

    `chosen(axis)` is the axis, not negative; `without(shape, axis)` the shape but for it;
    `only(length, axis)` the shape of an array along it.
    """
    left = [f"shape[{k}] if {k} < axis else shape[{k + 1}]" for k in range(axes - 1)]
    lone = [f"length if axis == {k} else 1" for k in range(axes)]
    source = f"""
def chosen(axis):
    if not -{axes} <= axis < {axes}:
        raise ValueError("softmax_cross_entropy: axis is out of bounds for logits")
    return axis + {axes} if axis < 0 else axis
def without(shape, axis):
    return ({", ".join(left)},)
def only(length, axis):
    return ({", ".join(lone)},)
"""
    scope: dict[str, Any] = {}
    exec(source, scope)
    chosen, without, only = (register_jitable(scope[n]) for n in ("chosen", "without", "only"))
    return chosen, without, only


def check_array(name: str, argument: str, given: Any, axes: int | None, kinds: str) -> None:
    words = {"f": "float32 or float64", "iu": "integers", "fiu": "numbers"}[kinds]
    right = is_array(given) and as_dtype(given.dtype).kind in kinds
    if not right or (axes is not None and given.ndim != axes):
        shape = "" if axes is None else f" with {axes} dimensions"
        raise TypingError(f"{name}: {argument} must be an array of {words}{shape}, got {given}")


def known_reduction(name: str, given: Any) -> str:
    value = given if isinstance(given, str) else given_value(given)
    if value is UNKNOWN or value not in REDUCTIONS:
        words = " or ".join(map(repr, REDUCTIONS))
        raise TypingError(f"{name}: reduction must be {words}, written out in the call")
    return str(value)


def is_none(given: Any) -> bool:
    return given is None or given == NOTHING or given_value(given) is None


# ------------------------------------------------------------ compiled with the caller


@register_jitable
def weight_of(weights, label):
    return 1.0 if weights is None else weights[label]


@register_jitable
def is_ignored(label, ignore_index):
    return False if ignore_index is None else label == ignore_index


@register_jitable
def class_ids(labels, classes, ignore_index):
    """The labels, -1 for ignored ones."""
    ids = np.empty(labels.shape, np.int64)
    flat = ids.ravel()
    for k, label in enumerate(labels.ravel()):
        if is_ignored(label, ignore_index):
            flat[k] = -1
        elif label < 0 or label >= classes:
            raise ValueError("softmax_cross_entropy: a label is out of range")
        else:
            flat[k] = label
    return ids


@register_jitable
def own_weights(ids, weights):
    """What each row counts for."""
    own = np.empty(ids.shape, np.float64)
    flat = own.ravel()
    for k, label in enumerate(ids.ravel()):
        flat[k] = 0.0 if label < 0 else weight_of(weights, label)
    return own


@register_jitable
def class_weights(weights, x, classes, shape):
    """The weights of the classes for every row; `shape` has them along the axis of the classes."""
    row = np.ones(classes, x.dtype)
    if weights is not None:
        for k in range(row.size):
            row[k] = weights[k]
    return np.broadcast_to(row.reshape(shape), x.shape)


@register_jitable
def check_classes(classes, weights):
    if classes == 0:
        raise ValueError("softmax_cross_entropy: logits have no classes")
    if weights is not None and len(weights) != classes:
        raise ValueError("softmax_cross_entropy: weight must have one number per class")


@register_jitable
def check_smoothing(smoothing):
    if not 0.0 <= smoothing <= 1.0:
        raise ValueError("softmax_cross_entropy: label_smoothing must lie between 0 and 1")


@register_jitable
def inverse(total):
    return 1.0 / total if total > 0.0 else np.nan


@register_jitable
def everywhere(value, shape):
    return np.full(shape, value)


# -------------------------------------------------------------------------------- bodies


def finished(reduction: str, gradient: bool) -> Callable[..., Any]:
    """What a call returns for the losses of its rows, the total of a mean, and the gradient."""

    @register_jitable
    def value(x, losses, total):
        if reduction == "none":
            return losses.astype(x.dtype)
        found = np.sum(losses)
        if reduction == "mean" and not total > 0.0:
            found = np.nan
        return x.dtype.type(found)

    return value


def class_body(
    op: Any, gradient: bool, reduction: str, smoothed: bool, axes: int, along: bool
) -> Callable[..., Any]:
    """Class ids."""
    value = finished(reduction, gradient)
    run = row_call(op[gradient], along)
    chosen, _, only = shapes(axes)
    mean = reduction == "mean"

    def plain(logits, labels, axis, weight, ignore_index, smoothing):
        axis = chosen(axis)
        classes = logits.shape[axis]
        check_classes(classes, weight)
        ids = class_ids(labels, classes, ignore_index)
        own = own_weights(ids, weight)
        total = np.sum(own)
        found = run(logits, own * inverse(total) if mean else own, ids, axis)
        if gradient:
            return value(logits, found[1], total), found[0]
        return value(logits, found, total)

    def smooth(logits, labels, axis, weight, ignore_index, smoothing):
        axis = chosen(axis)
        classes = logits.shape[axis]
        check_classes(classes, weight)
        check_smoothing(smoothing)
        ids = class_ids(labels, classes, ignore_index)
        own = own_weights(ids, weight)
        total = np.sum(own)
        factor = inverse(total) if mean else 1.0
        share = everywhere(smoothing / classes * factor, ids.shape)
        kept = own * ((1.0 - smoothing) * factor)
        weights = class_weights(weight, logits, classes, only(classes, axis))
        found = run(weights, logits, kept, share, ids, axis)
        if gradient:
            return value(logits, found[1], total), found[0]
        return value(logits, found, total)

    return smooth if smoothed else plain


def probability_body(gradient: bool, reduction: str, axes: int, along: bool) -> Callable[..., Any]:
    value = finished(reduction, gradient)
    run = row_call(PROBABILITIES[gradient], along)
    chosen, without, only = shapes(axes)
    mean = reduction == "mean"

    def body(logits, labels, axis, weight, ignore_index, smoothing):
        axis = chosen(axis)
        classes = logits.shape[axis]
        check_classes(classes, weight)
        check_smoothing(smoothing)
        if labels.shape != logits.shape:
            raise ValueError("softmax_cross_entropy: probabilities must have the shape of logits")
        lead = without(logits.shape, axis)
        total = float(logits.size // classes)
        found = run(
            labels.astype(logits.dtype),
            class_weights(weight, logits, classes, only(classes, axis)),
            logits,
            everywhere(1.0 - smoothing, lead),
            everywhere(smoothing / classes, lead),
            everywhere(inverse(total) if mean else 1.0, lead),
            axis,
        )
        if gradient:
            return value(logits, found[1], total), found[0]
        return value(logits, found, total)

    return body


def sigmoid_body(gradient: bool, reduction: str, weighted: bool) -> Callable[..., Any]:
    family = WEIGHTED_SIGMOID if weighted else SIGMOID
    run = row_call(family[reduction != "none", gradient])
    mean, summed = reduction == "mean", reduction != "none"

    @register_jitable
    def spread(weight, x):
        if weight is None:
            return np.broadcast_to(np.ones(1, x.dtype), x.shape)
        return np.broadcast_to(np.asarray(weight).astype(x.dtype), x.shape)

    @register_jitable
    def value(x, losses):
        found = np.sum(losses)
        return x.dtype.type(found if x.size or not mean else np.nan)

    @register_jitable
    def factors(x):
        return everywhere(1.0 / x.size if mean and x.size else 1.0, x.shape[:-1])

    def plain(logits, targets, weight, pos_weight):
        if targets.shape != logits.shape:
            raise ValueError("sigmoid_cross_entropy: targets must have the shape of logits")
        t = targets.astype(logits.dtype)
        if not summed:
            return run(t, logits)
        found = run(t, logits, factors(logits))
        if gradient:
            return value(logits, found[1]), found[0]
        return value(logits, found)

    def with_weights(logits, targets, weight, pos_weight):
        if targets.shape != logits.shape:
            raise ValueError("sigmoid_cross_entropy: targets must have the shape of logits")
        t, p, w = targets.astype(logits.dtype), spread(pos_weight, logits), spread(weight, logits)
        if not summed:
            return run(p, w, t, logits)
        found = run(p, w, t, logits, factors(logits))
        if gradient:
            return value(logits, found[1]), found[0]
        return value(logits, found)

    return with_weights if weighted else plain


# ------------------------------------------------------------------------------ overloads


def softmax_resolve(name: str, gradient: bool, given: dict[str, Any]) -> Callable[..., Any]:
    logits, labels = given["logits"], given["labels"]
    check_array(name, "logits", logits, None, "f")
    if logits.ndim < 2:
        raise TypingError(f"{name}: logits must have two or more dimensions, got {logits}")
    axis = -1 if given["axis"] == -1 else given_value(given["axis"])
    if axis is UNKNOWN and not isinstance(given["axis"], types.Integer):
        raise TypingError(f"{name}: axis must be an integer, got {given['axis']}")
    if axis is not UNKNOWN and (isinstance(axis, bool) or not isinstance(axis, int)):
        raise TypingError(f"{name}: axis must be an integer, got {axis!r}")
    along = axis is UNKNOWN or axis not in (-1, logits.ndim - 1)
    if not is_none(given["weight"]):
        check_array(name, "weight", given["weight"], 1, "fiu")
    ids = is_array(labels) and as_dtype(labels.dtype).kind in "iu"
    if ids:
        check_array(name, "labels", labels, logits.ndim - 1, "iu")
    else:
        check_array(name, "labels", labels, logits.ndim, "f")
        if not is_none(given["ignore_index"]):
            raise TypingError(f"{name}: ignore_index needs class ids, labels are {labels}")
    reduction = known_reduction(name, given["reduction"])
    if not ids:
        return probability_body(gradient, reduction, logits.ndim, along)
    smoothing = given["label_smoothing"]
    value = smoothing if isinstance(smoothing, float) else given_value(smoothing)
    smoothed = value is UNKNOWN or value != 0
    op = SMOOTHED if smoothed else CLASS
    return class_body(op, gradient, reduction, smoothed, logits.ndim, along)


def sigmoid_resolve(name: str, gradient: bool, given: dict[str, Any]) -> Callable[..., Any]:
    check_array(name, "logits", given["logits"], None, "f")
    if given["logits"].ndim < 1:
        raise TypingError(f"{name}: logits must have an axis, got {given['logits']}")
    check_array(name, "targets", given["targets"], given["logits"].ndim, "fiu")
    weighted = not (is_none(given["weight"]) and is_none(given["pos_weight"]))
    return sigmoid_body(gradient, known_reduction(name, given["reduction"]), weighted)


def teach_loss(function: Any, loss: Loss, gradient: bool) -> None:
    """Teach Numba a loss, or a loss with its gradient."""
    name = function.__name__
    if loss.name == "softmax_cross_entropy":

        @overload(function, prefer_literal=True)
        def softmax(
            logits,
            labels,
            axis=-1,
            weight=None,
            ignore_index=None,
            label_smoothing=0.0,
            reduction="mean",
        ):
            given = {
                "logits": logits,
                "labels": labels,
                "axis": axis,
                "weight": weight,
                "ignore_index": ignore_index,
                "label_smoothing": label_smoothing,
                "reduction": reduction,
            }
            body = register_jitable(softmax_resolve(name, gradient, given))

            def call(
                logits,
                labels,
                axis=-1,
                weight=None,
                ignore_index=None,
                label_smoothing=0.0,
                reduction="mean",
            ):
                return body(logits, labels, axis, weight, ignore_index, label_smoothing)

            return call

    else:

        @overload(function, prefer_literal=True)
        def sigmoid(logits, targets, weight=None, pos_weight=None, reduction="mean"):
            given = {
                "logits": logits,
                "targets": targets,
                "weight": weight,
                "pos_weight": pos_weight,
                "reduction": reduction,
            }
            body = register_jitable(sigmoid_resolve(name, gradient, given))

            def call(logits, targets, weight=None, pos_weight=None, reduction="mean"):
                return body(logits, targets, weight, pos_weight)

            return call

    make_known()
