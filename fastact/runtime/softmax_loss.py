"""softmax_cross_entropy: labels, weights and reduction brought into the form of a row op."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np

from fastact.rowwise.losses import CLASS, PROBABILITIES, SMOOTHED
from fastact.rowwise.record import IGNORED, RowOp
from fastact.runtime import elsewhere
from fastact.runtime.direct import run
from fastact.runtime.functions import check_dtypes
from fastact.runtime.loss_arguments import (
    added,
    along_last,
    check_ids_shape,
    check_ignore_index,
    check_out,
    check_probabilities_shape,
    check_reduction,
    check_smoothing,
    check_weight_shape,
    class_axis,
    delivered,
    finite,
    floating,
    rounded,
    target,
)
from fastact.runtime.row_functions import FLOATS

Prepared = tuple[dict[bool, RowOp], list[Any], float]


def class_ids(
    name: str, labels: np.ndarray, classes: int, ignore_index: Any, lead: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Class ids as int64, IGNORED where they are to be ignored; and where they are not."""
    check_ids_shape(name, labels.shape, lead)
    ids = labels.astype(np.int64, copy=not labels.flags.aligned)
    bits = ids.view(np.uint64)  # a negative id is a large one there
    if ignore_index is None:
        if np.maximum.reduce(bits, axis=None, initial=0) >= classes:
            refuse_labels(name, labels, bits >= classes, classes)
        return ids, None
    check_ignore_index(name, ignore_index, True, labels.dtype)
    kept = labels != ignore_index.__index__()
    if np.maximum.reduce(bits, axis=None, initial=0, where=kept) >= classes:
        refuse_labels(name, labels, (bits >= classes) & kept, classes)
    return np.where(kept, ids, IGNORED), kept


def refuse_labels(name: str, labels: np.ndarray, wrong: np.ndarray, classes: int) -> NoReturn:
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    raise ValueError(
        f"{name}: label {labels[at]} at {at} is out of range: there are {classes} classes"
    )


def class_weights(name: str, weight: Any, classes: int) -> np.ndarray | None:
    if weight is None:
        return None
    check_dtypes(name, {"weight": weight})
    array = np.asarray(weight).astype(np.float64)
    check_weight_shape(name, array.shape, classes)
    return finite(name, "weight", array)


def per_class(weights: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    """The weights of the classes, one row for all rows."""
    if weights is None:
        return np.ones(rows.shape[-1], rows.dtype)
    return weights.astype(rows.dtype)


def of_classes(
    rows: np.ndarray,
    ids: np.ndarray,
    kept: np.ndarray | None,
    weights: np.ndarray | None,
    smoothing: float,
    mean: bool,
) -> Prepared:
    """The op for class ids, its inputs, and what the mean is divided by."""
    own = None
    if weights is not None:
        own = weights[ids] if kept is None else np.where(kept, weights[ids], 0.0)
        total = float(own.sum())
    else:
        total = float(ids.size if kept is None else np.count_nonzero(kept))
    factor = 1.0 if not mean else 1.0 / total if total else math.nan
    share = factor if not smoothing else (1.0 - smoothing) * factor
    factors = np.float64(share) if own is None else own * share
    if not smoothing:
        return CLASS, [rows, factors, ids], total
    spread = np.float64(smoothing / rows.shape[-1] * factor)
    return SMOOTHED, [per_class(weights, rows), rows, factors, spread, ids], total


def of_probabilities(
    rows: np.ndarray,
    probabilities: np.ndarray,
    weights: np.ndarray | None,
    smoothing: float,
    mean: bool,
) -> Prepared:
    """The op for probabilities, its inputs, and what the mean is divided by."""
    *lead, classes = rows.shape
    total = math.prod(lead)
    shares = (1.0 - smoothing, smoothing / classes, 1.0 / total if mean and total else 1.0)
    inputs = [probabilities, per_class(weights, rows), rows, *map(np.float64, shares)]
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
    axis = class_axis(name, axis, x.shape)
    rows = along_last(x, axis)
    *lead, classes = rows.shape
    weights = class_weights(name, weight, classes)
    check_out(name, out, x)
    given, mean = np.asarray(labels), reduction == "mean"
    read = [x]
    if given.dtype.kind in "iu":
        ids, kept = class_ids(name, given, classes, ignore_index, tuple(lead))
        op, arrays, total = of_classes(rows, ids, kept, weights, smoothing, mean)
    elif given.dtype.name in FLOATS:
        check_ignore_index(name, ignore_index, False, given.dtype)
        check_probabilities_shape(name, given.shape, x.shape)
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
    if gradient:
        dlogits = target(out, x, read)
        results = [along_last(dlogits, axis), losses]
        run(op[True], arrays, results, out is not None and np.may_share_memory(dlogits, x))
    else:
        run(op[False], arrays, [losses])
    if reduction == "none":
        value = rounded(losses, x.dtype)
    else:
        value = rounded(added(losses) if total or not mean else math.nan, x.dtype)
    return (value, delivered(dlogits, out)) if gradient else value
