"""Loss records -> the public Python functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastact.rowwise.losses import LOSSES
from fastact.runtime import dlpack
from fastact.runtime.announce import announce
from fastact.runtime.docs import loss_docstring
from fastact.runtime.sigmoid_loss import sigmoid_loss
from fastact.runtime.softmax_loss import softmax_loss


def computed(
    loss: Callable[..., Any],
    name: str,
    gradient: bool,
    arrays: tuple[Any, Any],
    options: tuple[Any, ...],
    out: Any = None,
) -> Any:
    """A loss, with its gradient if that is wanted, in the kind of its arrays."""
    operands = (*arrays, out)
    if not dlpack.concerns(operands):
        return loss(name, gradient, *arrays, *options, out)
    first = next(filter(dlpack.is_foreign, operands))
    given = map(dlpack.as_numpy, (*arrays, *options, out))
    found = loss(name, gradient, *given)
    if not gradient:
        return dlpack.like(first, found)
    value, dlogits = found
    return dlpack.like(first, value), dlpack.like(first, dlogits) if out is None else out


def softmax_cross_entropy(
    logits: Any,
    labels: Any,
    axis: int = -1,
    weight: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Any:
    options = (axis, weight, ignore_index, label_smoothing, reduction)
    return computed(softmax_loss, "softmax_cross_entropy", False, (logits, labels), options)


def softmax_cross_entropy_value_and_grad(
    logits: Any,
    labels: Any,
    axis: int = -1,
    weight: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    out: Any = None,
) -> Any:
    options = (axis, weight, ignore_index, label_smoothing, reduction)
    name = "softmax_cross_entropy_value_and_grad"
    return computed(softmax_loss, name, True, (logits, labels), options, out)


def sigmoid_cross_entropy(
    logits: Any,
    targets: Any,
    weight: Any = None,
    pos_weight: Any = None,
    reduction: str = "mean",
) -> Any:
    options = (weight, pos_weight, reduction)
    return computed(sigmoid_loss, "sigmoid_cross_entropy", False, (logits, targets), options)


def sigmoid_cross_entropy_value_and_grad(
    logits: Any,
    targets: Any,
    weight: Any = None,
    pos_weight: Any = None,
    reduction: str = "mean",
    out: Any = None,
) -> Any:
    options = (weight, pos_weight, reduction)
    name = "sigmoid_cross_entropy_value_and_grad"
    return computed(sigmoid_loss, name, True, (logits, targets), options, out)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        softmax_cross_entropy,
        softmax_cross_entropy_value_and_grad,
        sigmoid_cross_entropy,
        sigmoid_cross_entropy_value_and_grad,
    )
}
for _loss in LOSSES:
    for _suffix in ("", "_value_and_grad"):
        _function = FUNCTIONS[_loss.name + _suffix]
        _function.__doc__ = loss_docstring(_loss, bool(_suffix))
        _function.__module__ = "fastact"
        announce(_function, _loss, bool(_suffix))
