"""What both losses ask of their arguments: everything is checked before anything is written."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastact.runtime.functions import check_dtypes
from fastact.runtime.outputs import computed_in
from fastact.runtime.row_functions import FLOATS, NATIVE, check_axis, result_dtype

REDUCTIONS = ("mean", "sum", "none")
HALF_MAX = float(np.finfo(np.float16).max)


def check_reduction(name: str, reduction: Any) -> None:
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        words = ", ".join(map(repr, REDUCTIONS))
        raise ValueError(f"{name}: reduction must be one of {words}, got {reduction!r}")


def check_smoothing(name: str, value: Any) -> float:
    if type(value) is float and 0 <= value <= 1:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        raise TypeError(f"{name}: label_smoothing must be a real number, got {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: label_smoothing must lie between 0 and 1, got {value!r}")
    return float(value)


def class_axis(name: str, axis: Any, shape: tuple[int, ...]) -> int:
    """The axis of the classes in logits of this shape, counted from the first."""
    if type(axis) is not int:
        axis = check_axis(name, axis)
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"{name}: axis {axis} is out of bounds for logits of shape {shape}")
    if not shape[axis]:
        raise ValueError(f"{name}: logits of shape {shape} have no classes along axis {axis}")
    return axis % len(shape)


def check_weight_shape(name: str, shape: tuple[int, ...], classes: int) -> None:
    if shape != (classes,):
        raise ValueError(f"{name}: weight has shape {shape}; it must have shape ({classes},)")


def added(losses: np.ndarray) -> float:
    """The sum of losses in C order."""
    return float(np.add.reduce(losses, axis=None))


def check_ids_shape(name: str, shape: tuple[int, ...], lead: tuple[int, ...]) -> None:
    if shape != lead:
        raise ValueError(
            f"{name}: labels of shape {shape} do not fit; class ids must have shape {lead}"
        )


def check_probabilities_shape(name: str, shape: tuple[int, ...], logits: tuple[int, ...]) -> None:
    if shape != logits:
        raise ValueError(
            f"{name}: labels of shape {shape} do not fit; probabilities must have the shape"
            f" {logits} of the logits"
        )


def check_ignore_index(name: str, value: Any, ids: bool, dtype: Any) -> None:
    if value is None:
        return
    if not ids:
        raise ValueError(f"{name}: ignore_index needs class ids, labels are {dtype}")
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: ignore_index must be an integer, got {value!r}")


def floating(name: str, argument: str, value: Any) -> np.ndarray:
    """An argument as an array of a real floating dtype, in the processor's byte order."""
    if type(value) is np.ndarray and value.dtype in NATIVE:
        return value
    check_dtypes(name, {argument: value})
    array = np.asarray(value)
    dtype = array.dtype if array.dtype.name in FLOATS else result_dtype([array], None)
    return array.astype(dtype.newbyteorder("="), copy=False)


def along_last(array: np.ndarray, axis: int) -> np.ndarray:
    """A view with the axis as the last one; `np.moveaxis` takes 10 us."""
    return array if axis in (-1, array.ndim - 1) else np.moveaxis(array, axis, -1)


def finite(name: str, argument: str, array: np.ndarray) -> np.ndarray:
    if not (np.isfinite(array) & (array >= 0)).all():
        raise ValueError(f"{name}: {argument} must be finite and not negative")
    return array


def check_out(name: str, out: Any, x: np.ndarray) -> None:
    """Raise if the gradient cannot be written to `out`."""
    if out is None:
        return
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name}: out must be an array, got {out!r}")
    if out.shape != x.shape:
        raise ValueError(f"{name}: out has shape {out.shape}; it must have shape {x.shape}")
    if out.dtype is not x.dtype and out.dtype.newbyteorder("=") != x.dtype:
        raise TypeError(f"{name}: out has dtype {out.dtype}; it must have dtype {x.dtype}")
    if not out.flags.writeable:
        raise ValueError(f"{name}: out is read-only; it must be writeable")


def target(out: Any, x: np.ndarray, inputs: list[np.ndarray]) -> np.ndarray:
    """Where to compute the gradient: in `out` if that can be; it may be the logits."""
    if computed_in(out, x.shape, x.dtype, inputs, over=(x,)):
        return np.asarray(out)
    return np.empty_like(x, subok=False)


def delivered(gradient: np.ndarray, out: Any) -> Any:
    """The gradient, in `out` if that was given."""
    if out is None:
        return gradient
    if gradient is not out and not np.shares_memory(gradient, out):
        np.copyto(out, gradient)
    return out


def rounded(total: Any, dtype: np.dtype[Any]) -> Any:
    """A loss in float64 as one of the dtype of the logits; too large for it is infinite."""
    if type(total) is float and abs(total) <= HALF_MAX and dtype in NATIVE:
        return dtype.type(total)
    with np.errstate(over="ignore"):
        return np.asarray(total).astype(dtype)[()]
