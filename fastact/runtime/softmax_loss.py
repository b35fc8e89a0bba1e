"""softmax_cross_entropy: labels, weights and reduction brought into the form of a row op."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastact.rowwise.losses import CLASS, PROBABILITIES, SMOOTHED
from fastact.rowwise.record import IGNORED, RowOp
from fastact.runtime import elsewhere
from fastact.runtime.direct import run
from fastact.runtime.functions import check_dtypes
from fastact.runtime.loss_arguments import (
    along_last,
    check_out,
    check_reduction,
    check_smoothing,
    delivered,
    finite,
    floating,
    rounded,
    target,
)
from fastact.runtime.row_functions import FLOATS, check_axis

Prepared = tuple[dict[bool, RowOp], list[np.ndarray], float]


def class_ids(
    name: str, labels: np.ndarray, classes: int, ignore_index: Any, lead: tuple[int, ...]
) -> np.ndarray:
    """Class ids as int64, IGNORED where they are to be ignored."""
    if labels.shape != lead:
        raise ValueError(
            f"{name}: labels of shape {labels.shape} do not fit; class ids must have shape {lead}"
        )
    wrong = (labels < 0) | (labels >= classes)
    ignored = None
    if ignore_index is not None:
        if isinstance(ignore_index, bool) or not hasattr(ignore_index, "__index__"):
            raise TypeError(f"{name}: ignore_index must be an integer, got {ignore_index!r}")
        ignored = labels == ignore_index.__index__()
        wrong &= ~ignored
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"{name}: label {labels[at]} at {at} is out of range: there are {classes} classes"
        )
    ids = labels.astype(np.int64)
    return ids if ignored is None else np.where(ignored, IGNORED, ids)


def class_weights(name: str, weight: Any, classes: int) -> np.ndarray | None:
    if weight is None:
        return None
    check_dtypes(name, {"weight": weight})
    array = np.asarray(weight).astype(np.float64)
    if array.shape != (classes,):
        raise ValueError(f"{name}: weight has shape {array.shape}; it must have shape ({classes},)")
    return finite(name, "weight", array)


def everywhere(value: float, shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.float64(value), shape)


def spread(weights: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    """The weights of the classes for every row."""
    own = np.ones(rows.shape[-1]) if weights is None else weights
    return np.broadcast_to(own.astype(rows.dtype), rows.shape)


def of_classes(
    rows: np.ndarray, ids: np.ndarray, weights: np.ndarray | None, smoothing: float, mean: bool
) -> Prepared:
    """The op for class ids, its inputs, and what the mean is divided by."""
    kept = ids != IGNORED
    own: Any = 1.0 if weights is None else np.where(kept, weights[ids], 0.0)
    total = float(np.count_nonzero(kept) if weights is None else own.sum())
    factor = 1.0 if not mean else 1.0 / total if total else math.nan
    if not smoothing:
        return CLASS, [rows, np.broadcast_to(own * factor, ids.shape), ids], total
    inputs = [
        spread(weights, rows),
        rows,
        np.broadcast_to(own * ((1.0 - smoothing) * factor), ids.shape),
        everywhere(smoothing / rows.shape[-1] * factor, ids.shape),
        ids,
    ]
    return SMOOTHED, inputs, total


def of_probabilities(
    rows: np.ndarray,
    probabilities: np.ndarray,
    weights: np.ndarray | None,
    smoothing: float,
    mean: bool,
) -> Prepared:
    """The op for probabilities, its inputs, and what the mean is divided by."""
    *lead, classes = rows.shape
    shape, total = tuple(lead), math.prod(lead)
    inputs = [
        probabilities,
        spread(weights, rows),
        rows,
        everywhere(1.0 - smoothing, shape),
        everywhere(smoothing / classes, shape),
        everywhere(1.0 / total if mean and total else 1.0, shape),
    ]
    return PROBABILITIES, inputs, float(total)


def softmax_loss(
    name: str,
    gradient: bool,
    logits: Any,
    labels: Any,
    axis: Any,
    weight: Any,
    ignore_index: Any,
    label_smoothing: Any,
    reduction: Any,
    out: Any = None,
) -> Any:
    """The loss, with its gradient if that is wanted."""
    if elsewhere.on_gpu((logits, labels, weight, out)):
        from fastact.gpu import losses as on_gpu

        options = (axis, weight, ignore_index, label_smoothing, reduction, out)
        return on_gpu.softmax_loss(name, gradient, logits, labels, *options)
    check_reduction(name, reduction)
    smoothing = check_smoothing(name, label_smoothing)
    x = floating(name, "logits", logits)
    axis = check_axis(name, axis)
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"{name}: axis {axis} is out of bounds for logits of shape {x.shape}")
    rows = along_last(x, axis)
    *lead, classes = rows.shape
    if not classes:
        raise ValueError(f"{name}: logits of shape {x.shape} have no classes along axis {axis}")
    weights = class_weights(name, weight, classes)
    check_out(name, out, x)
    given, mean = np.asarray(labels), reduction == "mean"
    read = [x]
    if given.dtype.kind in "iu":
        ids = class_ids(name, given, classes, ignore_index, tuple(lead))
        op, arrays, total = of_classes(rows, ids, weights, smoothing, mean)
    elif given.dtype.name in FLOATS:
        if ignore_index is not None:
            raise ValueError(f"{name}: ignore_index needs class ids, labels are {given.dtype}")
        if given.shape != x.shape:
            raise ValueError(
                f"{name}: labels of shape {given.shape} do not fit; probabilities must have"
                f" the shape {x.shape} of the logits"
            )
        probabilities = given.astype(x.dtype, copy=False)
        read += [probabilities]
        q = along_last(probabilities, axis)
        op, arrays, total = of_probabilities(rows, q, weights, smoothing, mean)
    else:
        raise TypeError(
            f"{name}: labels have dtype {given.dtype}; they may be integers (class ids) or"
            " floating point (probabilities)"
        )
    losses = np.zeros(lead)
    results = [losses]
    dlogits = target(out, x, read) if gradient else x
    if gradient:
        results = [along_last(dlogits, axis), losses]
    run(op[gradient], [*arrays, *results])
    if reduction == "none":
        value = rounded(losses, x.dtype)
    else:
        value = rounded(losses.sum() if total or not mean else math.nan, x.dtype)
    return (value, delivered(dlogits, out)) if gradient else value
