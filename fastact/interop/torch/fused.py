"""Fused ops: gates, biases, prelu, causal_softmax, maxout. One operator forward, one backward.

What the fused backward pass is not (differentiable, forward mode, a batch of a vmap) goes through
the op's composition.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, partial, reduce
from operator import setitem
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fastact.activations.paired import Paired
from fastact.interop.catalogue import Fused, Number, checked, fused, with_signature
from fastact.interop.torch import native as compiled
from fastact.interop.torch.functions import (
    DOC,
    are_plain,
    check_dim,
    function,
    is_grad_enabled,
    is_plain,
    row_function,
    transforms_functions,
)
from fastact.interop.torch.operators import define, differentiate, inputs_kept
from fastact.interop.torch.tensors import array_of, floating, tensor_of

KINDS = {"float": "float", "int": "int"}


# What compositions call is made here: torch.compile traces them, and not how a function is made.
ACTIVATIONS = {
    name: function(name)
    for name in (
        "softplus",
        *(o.record.activation.name for o in fused().values() if hasattr(o.record, "activation")),
    )
}
ROWS = {name: row_function(name) for name in ("softmax", "log_softmax")}


class TorchLibrary:
    """PyTorch, as the compositions ask for it."""

    where = staticmethod(torch.where)
    moved = staticmethod(torch.movedim)
    summed = staticmethod(torch.sum)

    @staticmethod
    def arange(n: int, like: Tensor) -> Tensor:
        return torch.arange(n, device=like.device)

    @staticmethod
    def activation(name: str) -> Any:
        return ACTIVATIONS[name]

    @staticmethod
    def largest(x: Tensor) -> Tensor:
        return x.amax(-1)

    @staticmethod
    def total(x: Tensor) -> Tensor:
        return x.sum(-1)

    @staticmethod
    def softmax(x: Tensor) -> Tensor:
        made: Tensor = ROWS["softmax"](x, -1)
        return made

    @staticmethod
    def log_softmax(x: Tensor) -> Tensor:
        made: Tensor = ROWS["log_softmax"](x, -1)
        return made

    @staticmethod
    def cast(values: Tensor, like: Tensor) -> Tensor:
        return values.to(like.dtype)


def split(op: Fused, given: tuple[Any, ...]) -> tuple[tuple[Tensor, ...], tuple[Any, ...]]:
    """The tensors and the numbers of a call; the dispatcher leaves out numbers at their default."""
    tensors, numbers = given[: len(op.arrays)], given[len(op.arrays) :]
    return tensors, (*numbers, *(n.default for n in op.numbers[len(numbers) :]))


def empty(op: Fused, *given: Any) -> Tensor:
    """A tensor for the result."""
    tensors, numbers = split(op, given)
    shape = op.shape(*(tuple(t.shape) for t in tensors), *numbers)
    first = tensors[0]
    return torch.empty_like(first) if shape == tuple(first.shape) else first.new_empty(shape)


def forward(op: Fused, *given: Any) -> Tensor:
    tensors, numbers = split(op, given)
    y = empty(op, *given)
    op.forward(*map(array_of, tensors), *numbers, out=array_of(y))
    return y


def kept(op: Fused, tensors: tuple[Tensor, ...], y: Tensor) -> tuple[Tensor, ...]:
    """What the backward pass needs."""
    return (y,) if op.from_output else tensors


def backward(op: Fused, dy: Tensor, *given: Any) -> tuple[Tensor, ...]:
    """The partials, each of the shape of its tensor, from what is kept."""
    tensors, numbers = split(op, given)
    function = op.from_output or op.backward
    partials = function(array_of(dy), *map(array_of, tensors), *numbers)
    made = map(tensor_of, partials)
    # PyTorch makes 0 of the -0 that it sums to a shape without axes
    return tuple(
        p if p.shape == t.shape else p.sum_to_size(t.shape)
        for p, t in zip(made, tensors, strict=True)
    )


def fake_backward(op: Fused, dy: Tensor, *given: Any) -> tuple[Tensor, ...]:
    return tuple(t.new_empty(t.shape) for t in split(op, given)[0])


def compose(op: Fused, *given: Any) -> Tensor:
    tensors, numbers = split(op, given)
    made: Tensor = op.compose(TorchLibrary, *tensors, *numbers)
    return made


def differentiable(y: Tensor, tensors: tuple[Tensor, ...], dy: Tensor) -> tuple[Any, ...]:
    """The gradients of y in the tensors that ask for one, which can be differentiated again."""
    wanted = [t for t in tensors if t.requires_grad]
    found = iter(torch.autograd.grad(y, wanted, dy, create_graph=True, allow_unused=True))
    return tuple(next(found) if t.requires_grad else None for t in tensors)


def again(op: Fused, dy: Tensor, *given: Any) -> tuple[Any, ...]:
    """The partials in differentiable steps, from what is kept."""
    if op.compose_from_output:
        return op.compose_from_output(TorchLibrary, dy, *given)
    tensors, numbers = split(op, given)
    with torch.enable_grad():
        # views, for one tensor may have been made from another: the partials are those of the op
        tensors = tuple(t.view_as(t) for t in tensors)
        return differentiable(compose(op, *tensors, *numbers), tensors, dy)


class Eager(torch.autograd.Function):
    """A fused op; its inputs are kept, or its output."""

    @staticmethod
    def forward(ctx: Any, op: Fused, *given: Any) -> Tensor:
        tensors, ctx.numbers = split(op, given)
        ctx.op = op
        y = forward(op, *given)
        ctx.save_for_backward(*kept(op, tensors, y))
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        # a batch of gradients, that of autograd's vectorised Jacobians, is no plain tensor
        way = again if is_grad_enabled() or not is_plain(dy) else backward
        partials = way(ctx.op, dy, *ctx.saved_tensors, *ctx.numbers)
        return None, *partials, *(None for _ in ctx.numbers)


# Function.apply without its own check for torch.func, which `call` has made
eager = super(torch.autograd.Function, Eager).apply


def add(op: Fused) -> None:
    """The operators of an op."""
    tensors = ", ".join(f"Tensor {name}" for name in op.arrays)
    numbers = "".join(f", {declared(n)}" for n in op.numbers)
    define(
        op.name,
        tensors + numbers,
        lambda *given: forward(op, *given),
        lambda *given: empty(op, *given),
    )
    run_backward = define(
        f"{op.name}_backward",
        f"Tensor dy, {'Tensor y' if op.from_output else tensors}{numbers}",
        lambda dy, *given: backward(op, dy, *given),
        lambda dy, *given: fake_backward(op, dy, *given),
        results=len(op.arrays),
    )

    def once(ctx: Any, dy: Tensor, *saved: Tensor) -> Any:
        found = run_backward(dy, *saved, *ctx.numbers)
        return found if len(op.arrays) > 1 else (found,)

    def twice(ctx: Any, *given: Tensor) -> Any:
        cotangents, saved = given[: len(op.arrays)], given[len(op.arrays) :]
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_() for t in saved]
            partials = again(op, *leaves, *ctx.numbers)
            pairs = [(p, v) for p, v in zip(partials, cotangents, strict=True) if p.requires_grad]
            return torch.autograd.grad(
                [p for p, _ in pairs], leaves, [v for _, v in pairs], allow_unused=True
            )

    differentiate(op.name, lambda inputs, y: kept(op, inputs_kept(inputs, y), y), once)
    differentiate(f"{op.name}_backward", inputs_kept, twice)


def torch_name(argument: str) -> str:
    return "dim" if argument == "axis" else argument


def declared(number: Number) -> str:
    """A number in an operator's schema."""
    default = "" if number.default is None else f"={number.default!r}"
    return f"{KINDS[number.kind]} {torch_name(number.name)}{default}"


def promoted(op: Fused, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The tensors in their common dtype."""
    tensors = tuple(floating(op.name, t, name) for name, t in zip(op.arrays, tensors, strict=True))
    if len({t.dtype for t in tensors}) == 1:
        return tensors
    dtype = reduce(torch.promote_types, (t.dtype for t in tensors))
    return tuple(t.to(dtype) for t in tensors)


def call(op: Fused, *given: Any) -> Tensor:
    """A fused op of any tensors."""
    tensors, numbers = split(op, given)
    tensors = promoted(op, tensors)
    checked(op, op.numbers, numbers)
    for number, value in zip(op.numbers, numbers, strict=True):
        if number.name == "axis":
            check_dim(op.name, tensors[0], value)
    if are_plain(tensors) and forward_ad._current_level < 0:
        if is_grad_enabled() and any(t.requires_grad for t in tensors):
            made: Tensor = eager(op, *tensors, *numbers)
            return made
        return forward(op, *tensors, *numbers)
    if forward_ad._current_level >= 0 or transforms_functions():
        return compose(op, *tensors, *numbers)
    return getattr(torch.ops.fastact, op.name)(*tensors, *numbers)


def public(op: Any, answer: Callable[..., Any], doc: str, dim: str) -> Any:
    """The function of a fused op or a loss; `dim` is what its docstring says of that argument."""
    arguments = [(torch_name(n), default) for n, default in op.signature]
    made = with_signature("fastact.torch", op.name, arguments, answer)
    more = dim if "dim" in dict(arguments) else ""
    record = op.record
    made.__doc__ = doc.format(
        name=op.name, summary=record.summary, formula=record.formula, more=more
    )
    return made


# Defaults are the record's own objects: by these the compiled calls know them.
IN_FRONT = """
def make(call, defaults):
    def {name}({signature}):
        if not is_compiling() and built is not None:
            y = built({arguments})
            if y is not None:
                return y
        return call({arguments})
    return {name}
"""


def behind_compiled(
    made: Any, answer: Callable[..., Any], make: compiled.Make, defaults: tuple[Any, ...] = ()
) -> Any:
    """A function that tries its compiled call first; `answer` is all that `made` calls."""
    parameters = inspect.signature(made).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty]
    others = [p.name for p in parameters if p.default is not p.empty]
    defaults = defaults or tuple(p.default for p in parameters if p.name in others)
    source = IN_FRONT.format(
        name=made.__name__,
        signature=", ".join([*needed, *(f"{n}=defaults[{k}]" for k, n in enumerate(others))]),
        arguments=", ".join([*needed, *others]),
    )
    scope: dict[str, Any] = {"is_compiling": torch.compiler.is_compiling, "built": None}
    exec(source, scope)
    front = scope["make"](answer, defaults)
    for kept in ("__doc__", "__module__", "__qualname__"):
        setattr(front, kept, getattr(made, kept))
    compiled.offer(make, partial(setitem, scope, "built"))
    return front


@cache
def fused_function(name: str) -> Any:
    """The function of a fused op."""
    op = fused()[name]
    answer = partial(call, op)
    made = public(op, answer, DOC, " `dim` is the axis, as in torch.")
    if not isinstance(op.record, Paired):
        return made

    def make() -> Any:
        return compiled.paired_call(op, partial(again, op), partial(backward, op))

    return behind_compiled(made, answer, make, op.record.defaults)


for _op in fused().values():
    add(_op)
