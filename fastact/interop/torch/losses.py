"""Losses: one pass makes a loss and its gradient, and backward is at most a product.

The gradient is for the logits alone. Where a target asks for one too, or a gradient is to be
differentiated, the loss's composition answers.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fastact.interop.catalogue import CrossEntropy, losses
from fastact.interop.torch import native as compiled
from fastact.interop.torch.functions import (
    are_plain,
    check_dim,
    is_grad_enabled,
    transforms_functions,
)
from fastact.interop.torch.fused import (
    TorchLibrary,
    behind_compiled,
    differentiable,
    public,
    torch_name,
)
from fastact.interop.torch.operators import LIBRARY, define
from fastact.interop.torch.tensors import array_of, floating, tensor_of

# The arguments of an operator: its tensors first.
SCHEMAS = {
    "softmax_cross_entropy": (
        "Tensor logits, Tensor labels, Tensor? weight, int dim, int? ignore_index, "
        "float label_smoothing, str reduction"
    ),
    "sigmoid_cross_entropy": (
        "Tensor logits, Tensor targets, Tensor? weight, Tensor? pos_weight, str reduction"
    ),
}
DOC = """{summary}

    {formula}

The same as `fastact.{name}`, for PyTorch tensors; differentiable, and under torch.compile. The loss
and the gradient of the logits are made in one pass, which stores no probabilities.{more}"""


def names_of(name: str) -> list[str]:
    """The arguments of a loss, in the order of its operator."""
    return [argument.split()[-1] for argument in SCHEMAS[name].split(", ")]


def options(loss: CrossEntropy, given: tuple[Any, ...]) -> dict[str, Any]:
    """What comes after the logits and their target, by the names of the array functions."""
    named = dict(zip(names_of(loss.name)[2:], given[2:], strict=True))
    if "dim" in named:
        named["axis"] = named.pop("dim")
    return named


def arrays(loss: CrossEntropy, given: tuple[Any, ...]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of the array functions."""
    given = tuple(array_of(g) if isinstance(g, Tensor) else g for g in given)
    return list(given[:2]), options(loss, given)


def value(loss: CrossEntropy, *given: Any) -> Tensor:
    operands, named = arrays(loss, given)
    return tensor_of(loss.forward(*operands, **named))


def value_and_grad(loss: CrossEntropy, *given: Any) -> tuple[Tensor, Tensor]:
    operands, named = arrays(loss, given)
    dlogits = torch.empty_like(given[0])
    found, _ = loss.value_and_grad(*operands, **named, out=array_of(dlogits))
    return tensor_of(found), dlogits


def fake_value(loss: CrossEntropy, *given: Any) -> Tensor:
    logits, named = given[0], options(loss, given)
    shape = list(logits.shape) if named["reduction"] == "none" else []
    if shape and "axis" in named:
        del shape[named["axis"]]
    return logits.new_empty(shape)


def scaled(loss: CrossEntropy, dlogits: Tensor, dloss: Tensor, *given: Any) -> Tensor:
    """The gradient of the logits, from that of the loss itself."""
    named = options(loss, given)
    if named["reduction"] == "none" and "axis" in named:
        dloss = dloss.unsqueeze(named["axis"])
    return dlogits * dloss


def compose(loss: CrossEntropy, *given: Any) -> Tensor:
    made: Tensor = loss.compose(TorchLibrary, *given[:2], **options(loss, given))
    return made


def keep(loss: CrossEntropy, ctx: Any, dlogits: Tensor, given: tuple[Any, ...]) -> None:
    """What the backward pass needs, in the context of an autograd Function."""
    ctx.loss = loss
    ctx.rest = tuple(None if isinstance(g, Tensor) else g for g in given)
    ctx.places = [k for k, g in enumerate(given) if isinstance(g, Tensor)]
    ctx.save_for_backward(dlogits, *(given[k] for k in ctx.places))


def gradients(ctx: Any, dloss: Tensor) -> tuple[Any, ...]:
    """The gradients of a loss in its arguments: that of the logits, and no other."""
    dlogits, *tensors = ctx.saved_tensors
    if is_grad_enabled():  # the gradient will be differentiated again
        given = list(ctx.rest)
        for k, tensor in zip(ctx.places, tensors, strict=True):
            given[k] = tensor
        (gradient,) = differentiable(compose(ctx.loss, *given), (given[0],), dloss)
    else:
        gradient = scaled(ctx.loss, dlogits, dloss, *ctx.rest)
    return gradient, *(None for _ in ctx.rest[1:])


class Eager(torch.autograd.Function):
    """A loss whose gradient is made with it."""

    @staticmethod
    def forward(ctx: Any, loss: CrossEntropy, *given: Any) -> Tensor:
        found, dlogits = value_and_grad(loss, *given)
        keep(loss, ctx, dlogits, given)
        return found

    @staticmethod
    def backward(ctx: Any, dloss: Tensor) -> tuple[Any, ...]:
        if not is_grad_enabled() and is_one(dloss):
            return None, ctx.saved_tensors[0], *(None for _ in ctx.rest[1:])
        return None, *gradients(ctx, dloss)


def is_one(dloss: Tensor) -> bool:
    """Whether a gradient is 1, as that of a step's loss is; a GPU is not waited for to know it."""
    return dloss.is_cpu and dloss.dim() == 0 and dloss.item() == 1.0


# Function.apply without its own check for torch.func, which `call` has made
eager = super(torch.autograd.Function, Eager).apply


def call(loss: CrossEntropy, *given: Any) -> Tensor:
    """A loss of any tensors."""
    names = names_of(loss.name)
    logits = floating(loss.name, given[0], "logits")
    given = (logits, *given[1:])
    for name, g in zip(names[1:], given[1:], strict=True):
        needed = name == names[1]
        if not isinstance(g, Tensor) and (needed or (name in loss.arrays and g is not None)):
            raise TypeError(
                f"{loss.name}: {name} must be a torch.Tensor{'' if needed else ' or None'}, "
                f"got {type(g).__name__}"
            )
        if name == "dim":
            check_dim(loss.name, logits, g)
    tensors = [g for g in given if isinstance(g, Tensor)]
    recording = is_grad_enabled() and any(t.requires_grad for t in tensors)
    if recording and any(t.requires_grad for t in tensors[1:]):
        return compose(loss, *given)
    if are_plain(tensors) and forward_ad._current_level < 0:
        made: Tensor = eager(loss, *given) if recording else value(loss, *given)
        return made
    if forward_ad._current_level >= 0 or transforms_functions():
        return compose(loss, *given)
    both: tuple[Tensor, Tensor] = getattr(torch.ops.fastact, f"{loss.name}_value_and_grad")(*given)
    return both[0]


def again(
    loss: CrossEntropy, dloss: Tensor, logits: Tensor, labels: Tensor, dim: int, reduction: str
) -> Any:
    """The gradient of a usual call, in differentiable steps."""
    found = compose(loss, logits, labels, None, dim, None, 0.0, reduction)
    return differentiable(found, (logits,), dloss)[0]


def add(loss: CrossEntropy) -> None:
    """The operator of a loss with its gradient, in which it is not differentiated again."""
    name = f"{loss.name}_value_and_grad"
    define(
        name,
        SCHEMAS[loss.name],
        lambda *given: value_and_grad(loss, *given),
        lambda *given: (fake_value(loss, *given), torch.empty_like(given[0])),
        results=2,
    )

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        keep(loss, ctx, output[1], inputs)

    torch.library.register_autograd(
        f"fastact::{name}",
        lambda ctx, dloss, _: gradients(ctx, dloss),
        setup_context=setup_context,
        lib=LIBRARY,
    )


def in_order(loss: CrossEntropy, *given: Any) -> Tensor:
    """A call with the arguments in the order of the array function."""
    named = dict(zip((torch_name(n) for n, _ in loss.signature), given, strict=True))
    return call(loss, *(named[n] for n in names_of(loss.name)))


@cache
def loss_function(name: str) -> Any:
    """The function of a loss."""
    loss = losses()[name]
    answer = partial(in_order, loss)
    made = public(loss, answer, DOC, " `dim` is the axis of the classes.")
    if name not in compiled.LOSSES:
        return made
    return behind_compiled(made, answer, lambda: compiled.loss_call(name, partial(again, loss)))


for _loss in losses().values():
    add(_loss)
