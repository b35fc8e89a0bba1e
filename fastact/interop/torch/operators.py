"""The operators `torch.ops.fastact.*`, made from the catalogue of ops.

Each op is an operator of its own with a backward one beside it, known to the dispatcher with a
kernel for the CPU and for CUDA (the same function: where it runs is a matter of its arrays), a
fake kernel (for torch.compile and torch.export), autograd formulas and a rule for vmap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastact.interop.catalogue import Elementwise, RowWise, elementwise, rowwise
from fastact.interop.second import SECOND, evaluated
from fastact.interop.torch.tensors import array_of, check_devices, computed, tensor_of

LIBRARY = torch.library.Library("fastact", "DEF")
Kernel = Callable[..., Any]


def define(name: str, takes: str, kernel: Kernel, fake: Kernel, results: int = 1) -> Any:
    """An operator with its kernels; returns the function that calls it."""
    gives = "Tensor" if results == 1 else f"({', '.join(['Tensor'] * results)})"
    if results == 1:
        kernel, fake = map(single, (kernel, fake))
    LIBRARY.define(f"{name}({takes}) -> {gives}", tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, kernel, "CPU")
    LIBRARY.impl(name, on_one_device(name, takes, kernel), "CUDA")
    torch.library.register_fake(f"fastact::{name}", on_one_device(name, takes, fake), lib=LIBRARY)
    return getattr(torch.ops.fastact, name).default


def single(kernel: Kernel) -> Kernel:
    """A kernel that returns its one result as such."""

    def run(*given: Any) -> Tensor:
        made = kernel(*given)
        found: Tensor = made[0] if isinstance(made, tuple) else made
        return found

    return run


def on_one_device(name: str, takes: str, kernel: Kernel) -> Kernel:
    """A kernel that refuses tensors of several devices: the dispatcher takes one's for all."""
    words = [argument.partition("=")[0].split()[-1] for argument in takes.split(", ")]

    def run(*given: Any) -> Any:
        named = {w: g for w, g in zip(words, given, strict=False) if isinstance(g, Tensor)}
        check_devices(name, named)
        return kernel(*given)

    return run


def differentiate(name: str, kept: Callable[..., tuple[Tensor, ...]], backward: Any) -> None:
    """Give an operator its derivative.

    `kept(inputs, output)` are the tensors that `backward(dy, *kept, *numbers)` needs; it returns
    the gradients of the operator's tensors.
    """

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*kept(inputs, output))
        ctx.numbers = tuple(i for i in inputs if not isinstance(i, Tensor))

    def gradients(ctx: Any, *dy: Tensor) -> tuple[Any, ...]:
        return (*backward(ctx, *dy, *ctx.saved_tensors), *(None for _ in ctx.numbers))

    torch.library.register_autograd(
        f"fastact::{name}", gradients, setup_context=setup_context, lib=LIBRARY
    )


def inputs_kept(inputs: tuple[Any, ...], output: Tensor) -> tuple[Tensor, ...]:
    return tuple(i for i in inputs if isinstance(i, Tensor))


def batched(name: str, adjust: Callable[[int, tuple[Any, ...]], tuple[Any, ...]]) -> None:
    """A rule for vmap: all tensors get the batch in front; `adjust` changes the numbers."""

    def rule(info: Any, in_dims: tuple[Any, ...], *given: Any) -> tuple[Tensor, int]:
        tensors = [
            (g.expand(info.batch_size, *g.shape) if d is None else g.movedim(d, 0))
            for g, d in zip(given, in_dims, strict=True)
            if isinstance(g, Tensor)
        ]
        numbers = tuple(g for g in given if not isinstance(g, Tensor))
        operator = getattr(torch.ops.fastact, name).default
        return operator(*tensors, *adjust(tensors[-1].dim() - 1, numbers)), 0

    torch.library.register_vmap(f"fastact::{name}", rule, lib=LIBRARY)


def add_elementwise(op: Elementwise) -> None:
    """`name(x)`, `name_backward(dy, x)` and, where f'' exists, `name_double_backward`."""
    numbers = "".join(f", float {p.name}={p.default!r}" for p in op.parameters)

    def unchanged(ndim: int, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return given

    define(
        op.name,
        f"Tensor x{numbers}",
        lambda x, *p: computed(op.forward, x, x, *p),
        lambda x, *p: torch.empty_like(x),
    )
    backward = define(
        f"{op.name}_backward",
        f"Tensor dy, Tensor x{numbers}",
        lambda dy, x, *p: computed(op.backward, x, dy, x, *p),
        lambda dy, x, *p: torch.empty_like(x),
    )
    differentiate(op.name, inputs_kept, lambda ctx, dy, x: (backward(dy, x, *ctx.numbers),))

    if op.name in SECOND:
        define(
            f"{op.name}_double_backward",
            f"Tensor ddx, Tensor dy, Tensor x{numbers}",
            lambda ddx, dy, x, *p: ddx * dy * second(op, x, *p),
            lambda ddx, dy, x, *p: torch.empty_like(ddx * dy * x),
        )
        batched(f"{op.name}_double_backward", unchanged)

    def twice(ctx: Any, ddx: Tensor, dy: Tensor, x: Tensor) -> tuple[Tensor | None, ...]:
        for_dy = backward(ddx, x, *ctx.numbers) if ctx.needs_input_grad[0] else None
        needs_x = ctx.needs_input_grad[1]
        return for_dy, double_backward(op, ddx, dy, x, *ctx.numbers) if needs_x else None

    differentiate(f"{op.name}_backward", inputs_kept, twice)
    for name in (op.name, f"{op.name}_backward"):
        batched(name, unchanged)


class Numpy:
    """The functions of NumPy that second derivatives are written in, for tensors like one."""

    pi = math.pi

    def __init__(self, like: Tensor) -> None:
        self.like = like

    def __getattr__(self, name: str) -> Callable[..., Tensor]:
        function = getattr(torch, name)

        def call(*given: Any) -> Tensor:
            tensors = (g if isinstance(g, Tensor) else self.like.new_full((), g) for g in given)
            made: Tensor = function(*tensors)
            return made

        return call


def second(op: Elementwise, x: Tensor, *p: Any) -> Tensor:
    """f''(x)."""
    array = array_of(x)
    if not isinstance(array, Tensor):
        return tensor_of(op.second(array, *p))
    wide = array.double()
    return evaluated(op, wide, p, Numpy(wide)).to(x.dtype)


def double_backward(op: Elementwise, ddx: Tensor, dy: Tensor, x: Tensor, *p: Any) -> Tensor:
    """ddx dy f''(x)."""
    if op.name not in SECOND:
        op.second(x)  # raises, saying so
    made: Tensor = getattr(torch.ops.fastact, f"{op.name}_double_backward")(ddx, dy, x, *p)
    return made


Pair = tuple[Tensor, Tensor]


def softmax_twice(v: Tensor, dy: Tensor, y: Tensor, dim: int) -> Pair:
    vy = (v * y).sum(dim, keepdim=True)
    return y * (v - vy), v * (dy - (dy * y).sum(dim, keepdim=True)) - dy * vy


def softmin_twice(v: Tensor, dy: Tensor, y: Tensor, dim: int) -> Pair:
    for_dy, for_y = softmax_twice(v, dy, y, dim)
    return -for_dy, -for_y


def log_softmax_twice(v: Tensor, dy: Tensor, y: Tensor, dim: int) -> Pair:
    p = y.exp()
    return v - (v * p).sum(dim, keepdim=True), -v * p * dy.sum(dim, keepdim=True)


def logsumexp_twice(v: Tensor, dy: Tensor, x: Tensor, dim: int) -> Pair:
    p = torch.ops.fastact.softmax(x, dim)
    w = v * dy.unsqueeze(dim)
    return (v * p).sum(dim), p * (w - (w * p).sum(dim, keepdim=True))


# The derivative of `name_backward(dy, kept, dim)`, multiplied by v: for dy and for what is kept.
ROWS_TWICE: dict[str, Callable[..., Pair]] = {
    "softmax": softmax_twice,
    "softmin": softmin_twice,
    "log_softmax": log_softmax_twice,
    "logsumexp": logsumexp_twice,
}


# Jacobians that are symmetric: the backward pass is the one along a tangent too.
SYMMETRIC = ("softmax", "softmin", "sparsemax")
ALONG: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "log_softmax": lambda t, y, dim: t - (t * y.exp()).sum(dim, keepdim=True),
    "logsumexp": lambda t, x, dim: (t * torch.ops.fastact.softmax(x, dim)).sum(dim),
}


def rows_along(op: RowWise, t: Tensor, kept: Tensor, dim: int) -> Tensor:
    """The Jacobian of a row op times a tangent."""
    if op.name in SYMMETRIC:
        made: Tensor = getattr(torch.ops.fastact, f"{op.name}_backward")(t, kept, dim)
        return made
    return ALONG[op.name](t, kept, dim)


def rows_forward(op: RowWise, x: Tensor, dim: int) -> Tensor:
    if not op.reduces:
        return computed(op.forward, x, x, axis=dim)
    like = x.new_empty(fake_reduced(x, dim).shape)
    return computed(op.forward, like, x, axis=dim)


def fake_reduced(x: Tensor, dim: int) -> Tensor:
    shape = list(x.shape)
    if shape:
        del shape[dim]
    return x.new_empty(shape)


def add_rowwise(op: RowWise) -> None:
    """`name(x, dim)` and `name_backward(dy, kept, dim)`."""
    kept = "y" if op.keeps_output else "x"
    define(
        op.name,
        "Tensor x, int dim=-1",
        lambda x, dim=-1: rows_forward(op, x, dim),
        lambda x, dim=-1: fake_reduced(x, dim) if op.reduces else torch.empty_like(x),
    )
    backward = define(
        f"{op.name}_backward",
        f"Tensor dy, Tensor {kept}, int dim=-1",
        lambda dy, k, dim=-1: computed(op.backward, k, dy, k, axis=dim),
        lambda dy, k, dim=-1: torch.empty_like(k),
    )
    differentiate(
        op.name,
        (lambda inputs, output: (output,)) if op.keeps_output else inputs_kept,
        lambda ctx, dy, k: (backward(dy, k, *ctx.numbers),),
    )

    def twice(ctx: Any, v: Tensor, dy: Tensor, k: Tensor) -> Pair:
        return rows_twice(op, v, dy, k, *ctx.numbers)

    differentiate(f"{op.name}_backward", inputs_kept, twice)

    def shifted(ndim: int, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (under_batch(given[0] if given else -1, ndim + 1),)

    for name in (op.name, f"{op.name}_backward"):
        batched(name, shifted)


def under_batch(dim: int, ndim: int) -> int:
    """The axis `dim` of the elements of a batch, in a batch of `ndim` axes."""
    return dim % (ndim - 1) + 1


def rows_twice(op: RowWise, v: Tensor, dy: Tensor, kept: Tensor, dim: int) -> Pair:
    """The derivative of `op.backward(dy, kept, dim)`, multiplied by v."""
    if op.name not in ROWS_TWICE:
        raise NotImplementedError(
            f"{op.name} cannot be differentiated twice; these row ops can: {', '.join(ROWS_TWICE)}"
        )
    return ROWS_TWICE[op.name](v, dy, kept, dim)


for _op in elementwise().values():
    add_elementwise(_op)
for _rows in rowwise().values():
    add_rowwise(_rows)
