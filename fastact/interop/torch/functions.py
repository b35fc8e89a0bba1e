"""The functions that users call: a short way for eager mode, the operators for all else.

What a call costs was measured on 16 elements (bench/adapters.py): an operator that is registered
from Python takes 9 us, `torch.autograd.Function` at least 2 us, to which tensors becoming arrays
and arrays becoming tensors add 1 us on the way there and 1 us on the way back; a tensor that needs
no gradient is computed without it. PyTorch's own functions take 1 us, and 1.5 us where they record;
the compiled calls of `native` 0.5 us and 1 us; once built they stand in front of all this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from operator import setitem
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import TransformType
from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter
from torch.autograd import forward_ad
from torch.nn import Parameter

from fastact.interop.catalogue import Elementwise, RowWise, elementwise, rowwise
from fastact.interop.torch import native as compiled
from fastact.interop.torch import operators
from fastact.interop.torch.tensors import computed, floating

modes_active = torch._C._len_torch_dispatch_stack
transforms_active = torch._C._are_functorch_transforms_active
is_batched = torch._C._functorch.is_legacy_batchedtensor  # by autograd.grad(is_grads_batched=True)
is_compiling = torch.compiler.is_compiling
from_numpy = torch.from_numpy
is_grad_enabled = torch.is_grad_enabled
native = {torch.float16, torch.float32, torch.float64}
PLAIN = (Tensor, Parameter)


def is_plain(x: Tensor) -> bool:
    """Whether fastact computes with a tensor and only autograd watches what is done with it."""
    return (
        not is_compiling()
        and type(x) in PLAIN
        and (x.is_cpu or x.is_cuda)
        and not modes_active()
        and not transforms_active()
        and not is_batched(x)
    )


def are_plain(tensors: Sequence[Tensor]) -> bool:
    """Whether that holds for tensors of one device; what is to be said of several, operators do."""
    device = tensors[0].device
    return all(is_plain(t) and t.device == device for t in tensors)


def run(function: Callable[..., Any], name: str, like: Tensor, *given: Any, **axis: int) -> Tensor:
    """A function of arrays where the tensors are plain, else the operator of that name."""
    if all(is_plain(g) for g in given if isinstance(g, Tensor)):
        return computed(function, like, *given, **axis)
    operator = getattr(torch.ops.fastact, name)
    made: Tensor = operator(*given, *axis.values())
    return made


def in_front(info: Any, in_dims: tuple[Any, ...], *tensors: Tensor) -> list[Tensor]:
    """The tensors of a vmap, with the batch as their first axis."""
    return [
        t.expand(info.batch_size, *t.shape) if d is None else t.movedim(d, 0)
        for t, d in zip(tensors, in_dims, strict=True)
    ]


def transforms_functions() -> bool:
    """Whether a transform of torch.func is at work, and one that takes autograd Functions."""
    if is_compiling() or not transforms_active():
        return False
    return retrieve_current_functorch_interpreter().key() != TransformType.Functionalize


class Forward(torch.autograd.Function):
    """An elementwise op; its backward pass is a fused one over dy and the input.

    The input is kept, as PyTorch itself does for most activations. Keeping f'(x) instead, made
    by value_and_grad in the forward pass, was measured: a step on 1 Mi elements is 5 to 18 %
    faster, but a second derivative would need the input too, and with it twice the memory.
    """

    @staticmethod
    def forward(op: Elementwise, x: Tensor, *parameters: Any) -> Tensor:
        return run(op.forward, op.name, x, x, *parameters)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.op, x, *ctx.parameters = inputs
        ctx.save_for_backward(x)
        if forward_ad._current_level >= 0:
            ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        (x,) = ctx.saved_tensors
        if is_grad_enabled():  # the gradient will be differentiated again
            dx = Backward.apply(ctx.op, dy, x, *ctx.parameters)
        else:
            dx = Backward.forward(ctx.op, dy, x, *ctx.parameters)
        return (None, dx, *(None for _ in ctx.parameters))

    @staticmethod
    def jvp(ctx: Any, _: None, dx: Tensor, *others: None) -> Tensor:
        (x,) = ctx.saved_tensors
        made: Tensor = Backward.apply(ctx.op, dx, x, *ctx.parameters)
        return made

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], op: Elementwise, x: Tensor, *p: Any) -> Any:
        return Forward.apply(op, x, *p), in_dims[1]


class Backward(torch.autograd.Function):
    """dy f'(x)."""

    @staticmethod
    def forward(op: Elementwise, dy: Tensor, x: Tensor, *parameters: Any) -> Tensor:
        return run(op.backward, f"{op.name}_backward", x, dy, x, *parameters)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.op, dy, x, *ctx.parameters = inputs
        ctx.save_for_backward(dy, x)
        if forward_ad._current_level >= 0:
            ctx.save_for_forward(dy, x)

    @staticmethod
    def backward(ctx: Any, ddx: Tensor) -> tuple[Any, ...]:
        dy, x = ctx.saved_tensors
        op, parameters = ctx.op, ctx.parameters
        _, needs_dy, needs_x, *_ = ctx.needs_input_grad
        for_dy = Backward.apply(op, ddx, x, *parameters) if needs_dy else None
        for_x = operators.double_backward(op, ddx, dy, x, *parameters) if needs_x else None
        return (None, for_dy, for_x, *(None for _ in parameters))

    @staticmethod
    def jvp(ctx: Any, _: None, ddy: Any, dx: Any, *others: None) -> Any:
        dy, x = ctx.saved_tensors
        op, parameters = ctx.op, ctx.parameters
        terms = []
        if ddy is not None:
            terms.append(Backward.apply(op, ddy, x, *parameters))
        if dx is not None:
            terms.append(operators.double_backward(op, dx, dy, x, *parameters))
        return sum(terms)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], op: Elementwise, dy: Tensor, x: Tensor, *p: Any
    ) -> Any:
        dy, x = in_front(info, in_dims[1:3], dy, x)
        return Backward.apply(op, dy, x, *p), 0


class ForwardRows(torch.autograd.Function):
    """A row op; keeps its output, or its input where there is no other way."""

    @staticmethod
    def forward(op: RowWise, x: Tensor, dim: int) -> Tensor:
        if is_plain(x):
            return operators.rows_forward(op, x, dim)
        made: Tensor = getattr(torch.ops.fastact, op.name)(x, dim)
        return made

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.op, x, ctx.dim = inputs
        kept = output if ctx.op.keeps_output else x
        ctx.save_for_backward(kept)
        if forward_ad._current_level >= 0:
            ctx.save_for_forward(kept)

    @staticmethod
    def jvp(ctx: Any, _: None, t: Tensor, __: None) -> Tensor:
        (kept,) = ctx.saved_tensors
        return operators.rows_along(ctx.op, t, kept, ctx.dim)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        (kept,) = ctx.saved_tensors
        way = BackwardRows.apply if is_grad_enabled() else BackwardRows.forward
        return None, way(ctx.op, dy, kept, ctx.dim), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], op: RowWise, x: Tensor, dim: int) -> Any:
        (x,) = in_front(info, in_dims[1:2], x)
        return ForwardRows.apply(op, x, operators.under_batch(dim, x.dim())), 0


class BackwardRows(torch.autograd.Function):
    """The backward pass of a row op."""

    @staticmethod
    def forward(op: RowWise, dy: Tensor, kept: Tensor, dim: int) -> Tensor:
        return run(op.backward, f"{op.name}_backward", kept, dy, kept, axis=dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.op, dy, kept, ctx.dim = inputs
        ctx.save_for_backward(dy, kept)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Any, ...]:
        dy, kept = ctx.saved_tensors
        return (None, *operators.rows_twice(ctx.op, v, dy, kept, ctx.dim), None)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], op: RowWise, dy: Tensor, kept: Tensor, dim: int
    ) -> Any:
        dy, kept = in_front(info, in_dims[1:3], dy, kept)
        return BackwardRows.apply(op, dy, kept, operators.under_batch(dim, kept.dim())), 0


@cache
def quick(op: Elementwise) -> Callable[..., Tensor]:
    """Forward for eager mode: in the older form of a Function, which costs a third of the other.

    A class for each op: what a Function is handed and what its context keeps costs 0.3 us each.
    """
    forward, backward = op.forward, op.backward

    class Quick(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, *parameters: Any) -> Tensor:
            ctx.save_for_backward(x)
            if parameters:
                ctx.parameters = parameters
            if x.is_cpu and x.dtype in native and x.ndim:
                return from_numpy(forward(x.numpy(force=True), *parameters))
            return computed(forward, x, x, *parameters)

        @staticmethod
        def backward(ctx: Any, dy: Tensor) -> Any:
            (x,) = ctx.saved_tensors
            parameters = ctx.parameters if len(ctx.needs_input_grad) > 1 else ()
            if is_grad_enabled() or not is_plain(dy):
                dx = Backward.apply(op, dy, x, *parameters)
            elif dy.is_cpu and dy.dtype in native and dy.ndim and not dy.is_neg():
                dx = from_numpy(backward(dy.numpy(), x.numpy(force=True), *parameters))
            else:
                dx = computed(backward, x, dy, x, *parameters)
            return (dx, *(None,) * len(parameters)) if parameters else dx

    # Function.apply without its own check for torch.func, which is_plain has made: 1.7 us less
    apply: Callable[..., Tensor] = super(torch.autograd.Function, Quick).apply
    return apply


class QuickRows(torch.autograd.Function):
    """ForwardRows in the same way."""

    @staticmethod
    def forward(ctx: Any, op: RowWise, x: Tensor, dim: int) -> Tensor:
        ctx.op, ctx.dim = op, dim
        y = operators.rows_forward(op, x, dim)
        ctx.save_for_backward(y if op.keeps_output else x)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        (kept,) = ctx.saved_tensors
        if is_grad_enabled() or not is_plain(dy):
            dx = BackwardRows.apply(ctx.op, dy, kept, ctx.dim)
        else:
            dx = computed(ctx.op.backward, kept, dy, kept, axis=ctx.dim)
        return None, dx, None


quick_rows = super(torch.autograd.Function, QuickRows).apply


def call(op: Elementwise, x: Tensor, *parameters: Any) -> Tensor:
    """An elementwise op of any tensor."""
    x = floating(op.name, x)
    if is_plain(x) and forward_ad._current_level < 0:
        if x.requires_grad and is_grad_enabled():
            return quick(op)(x, *parameters)
        return computed(op.forward, x, x, *parameters)
    if forward_ad._current_level >= 0 or transforms_functions():
        made: Tensor = Forward.apply(op, x, *parameters)
        return made
    return getattr(torch.ops.fastact, op.name)(x, *parameters)


def check_dim(name: str, x: Tensor, dim: Any) -> None:
    if isinstance(dim, bool) or not isinstance(dim, int):
        raise TypeError(f"{name}: dim must be an integer, got {dim!r}")
    if not -max(x.dim(), 1) <= dim < max(x.dim(), 1):
        raise IndexError(f"{name}: dim {dim} is out of range for x of shape {tuple(x.shape)}")


def call_rows(op: RowWise, x: Tensor, dim: int) -> Tensor:
    """A row op of any tensor."""
    x = floating(op.name, x)
    check_dim(op.name, x, dim)
    forward_mode = forward_ad._current_level >= 0
    if is_plain(x) and not forward_mode:
        if x.requires_grad and is_grad_enabled():
            return quick_rows(op, x, dim)
        return operators.rows_forward(op, x, dim)
    if forward_mode or transforms_functions():
        made: Tensor = ForwardRows.apply(op, x, dim)
        return made
    return getattr(torch.ops.fastact, op.name)(x, dim)


# Each test costs 50 to 100 ns, so they are few: what they let through and NumPy refuses (a negated
# view, a tensor without axes) falls to `call`, which an exception makes 6 us slower. Names of the
# enclosing function rather than globals: torch.compile guards on what it reads, and looks for
# globals in the module that the function says it comes from.
TEMPLATE = """
def make(operator, quick, forward, call, floating, defaults):
    def {name}(x{signature}):
        if is_compiling():
            return operator(floating(x){arguments})
        if built is not None:
            y = built(x{arguments})
            if y is not None:
                return y
        if (
            (type(x) is Tensor or type(x) is Parameter)
            and x.is_cpu
            and x.dtype in native
            and not (modes_active() or transforms_active() or forward_ad._current_level >= 0)
        ):
            if not x.requires_grad:
                try:
                    return from_numpy(forward(x.numpy(){arguments}))
                except (RuntimeError, TypeError):
                    pass
            elif is_grad_enabled():
                return {quick}
        return call(x{arguments})
    return {name}
"""
DOC = """{summary}

    {formula}

The same as `fastact.{name}`, for a PyTorch tensor of any float dtype; differentiable, under
torch.compile and torch.func too.{more}"""


@cache
def function(name: str) -> Any:
    """The function of an elementwise op."""
    op = elementwise()[name]
    scope = dict(globals(), built=None)
    tests = " and ".join(f"{p.name} is defaults[{k}]" for k, p in enumerate(op.parameters))
    arguments = "".join(f", {p.name}" for p in op.parameters)
    exec(
        TEMPLATE.format(
            name=name,
            signature="".join(f", {p.name}=defaults[{k}]" for k, p in enumerate(op.parameters)),
            arguments=arguments,
            quick=f"quick(x) if {tests} else quick(x{arguments})" if tests else "quick(x)",
        ),
        scope,
    )
    made = scope["make"](
        getattr(torch.ops.fastact, name).default,
        quick(op),
        op.forward,
        partial(call, op),
        partial(floating, name),
        op.record.defaults,
    )
    made.__module__, made.__qualname__ = "fastact.torch", name
    made.__doc__ = DOC.format(
        name=name, summary=op.record.summary, formula=op.record.formula, more=""
    )
    backward = partial(Backward.apply, op)
    compiled.offer(
        lambda: compiled.elementwise_call(op, backward), partial(setitem, scope, "built")
    )
    return made


@cache
def row_function(name: str) -> Any:
    """The function of a row op."""
    op = rowwise()[name]
    built: Any = None

    def install(call: Any) -> None:
        nonlocal built
        built = call

    def rows(x: Tensor, dim: int = -1) -> Tensor:
        if not is_compiling() and built is not None:
            y: Tensor | None = built(x, dim)
            if y is not None:
                return y
        return call_rows(op, x, dim)

    def reduction(x: Tensor, dim: int = -1, keepdim: bool = False) -> Tensor:
        y = rows(x, dim)
        return y.unsqueeze(dim) if keepdim and x.dim() else y

    made = reduction if op.reduces else rows
    made.__name__ = made.__qualname__ = name
    made.__module__ = "fastact.torch"
    made.__doc__ = DOC.format(
        name=name,
        summary=op.record.summary,
        formula=op.record.formula,
        more=" `dim` is the axis, as in torch.",
    )
    compiled.offer(lambda: compiled.row_call(op, partial(BackwardRows.apply, op)), install)
    return made
