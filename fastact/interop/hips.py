"""HIPS autograd: every op as a primitive with its vector-Jacobian and Jacobian-vector products."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import make_jvp, make_vjp
from autograd.extend import (
    defjvp,
    defjvp_argnums,
    defvjp,
    defvjp_argnums,
    primitive,
)
from autograd.tracer import isbox

from fastact.interop.catalogue import (
    Elementwise,
    checked,
    elementwise,
    fused,
    losses,
    rowwise,
    with_signature,
)

DOC = """{summary}

    {formula}

The same as `fastact.{name}`, differentiable by HIPS autograd, in {what} only."""


def described(made: Any, op: Any, what: str = "x") -> Any:
    made.__doc__ = DOC.format(
        name=op.name, summary=op.record.summary, formula=op.record.formula, what=what
    )
    return made


def documented(op: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """A primitive under the op's name."""
    made: Callable[..., Any] = described(primitive(function), op)
    made.__name__ = made.__qualname__ = op.name
    made.__module__ = "fastact.autograd"
    return made


def summed_to(operand: Any, gradient: Any) -> Any:
    """A gradient, summed over the axes along which its operand was broadcast."""
    shape = anp.shape(operand)
    for _ in range(anp.ndim(gradient) - len(shape)):
        gradient = anp.sum(gradient, axis=0)
    stretched = tuple(k for k, n in enumerate(anp.shape(gradient)) if shape[k] != n)
    return anp.sum(gradient, axis=stretched, keepdims=True) if stretched else gradient


def second(op: Elementwise, x: Any, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """f''(x), for parameters given by position and by name."""
    values = dict(zip((p.name for p in op.parameters), given, strict=False)) | named
    return op.second(x, *op.record.parameter_values(**values).values())


@cache
def function(name: str) -> Callable[..., Any]:
    """An elementwise op as a primitive.

    Its backward pass is a primitive too: differentiable in dy, and in x where f'' exists.
    """
    op = elementwise()[name]
    made = documented(op, op.forward)
    backward = primitive(op.backward)

    defvjp(
        made,
        lambda ans, x, *p, **n: lambda dy: summed_to(x, backward(dy, x, *p, **n)),
        argnums=(0,),
    )
    defjvp(made, lambda t, ans, x, *p, **n: backward(t, x, *p, **n), argnums=(0,))
    defvjp(
        backward,
        lambda ans, dy, x, *p, **n: lambda v: summed_to(dy, backward(v, x, *p, **n)),
        lambda ans, dy, x, *p, **n: lambda v: summed_to(x, v * dy * second(op, x, p, n)),
        argnums=(0, 1),
    )
    defjvp(
        backward,
        lambda v, ans, dy, x, *p, **n: backward(v, x, *p, **n),
        lambda v, ans, dy, x, *p, **n: v * dy * second(op, x, p, n),
        argnums=(0, 1),
    )
    return made


def sum_along(x: Any, axis: int) -> Any:
    return anp.sum(x, axis=axis, keepdims=True)


def softmax(x: Any, axis: int) -> Any:
    return row_function("softmax")(x, axis=axis)


def softmin(x: Any, axis: int) -> Any:
    return row_function("softmin")(x, axis=axis)


def centred(t: Any, y: Any, axis: int) -> Any:
    return y * (t - sum_along(t * y, axis))


# The Jacobian times a column t, and a row dy times the Jacobian, in operations that autograd
# differentiates further.
JVP: dict[str, Callable[[Any, Any, int], Any]] = {
    "softmax": lambda t, x, axis: centred(t, softmax(x, axis), axis),
    "softmin": lambda t, x, axis: -centred(t, softmin(x, axis), axis),
    "log_softmax": lambda t, x, axis: t - sum_along(t * softmax(x, axis), axis),
    "logsumexp": lambda t, x, axis: anp.sum(t * softmax(x, axis), axis=axis),
}
VJP: dict[str, Callable[[Any, Any, int], Any]] = {
    "softmax": JVP["softmax"],
    "softmin": JVP["softmin"],
    "log_softmax": lambda dy, x, axis: dy - softmax(x, axis) * sum_along(dy, axis),
    "logsumexp": lambda dy, x, axis: anp.expand_dims(dy, axis) * softmax(x, axis),
}


@cache
def row_function(name: str) -> Callable[..., Any]:
    """A row op as a primitive of (x, axis)."""
    op = rowwise()[name]
    made = documented(op, lambda x, axis=-1: op.forward(x, axis=axis))
    backward = primitive(lambda dy, x, axis: op.from_input(dy, x, axis=axis))

    defvjp(made, lambda ans, x, axis=-1: lambda dy: backward(dy, x, axis), argnums=(0,))
    if name in JVP:
        product = VJP[name]
        defjvp(made, lambda t, ans, x, axis=-1: JVP[name](t, x, axis), argnums=(0,))
        defvjp(
            backward,
            lambda ans, dy, x, axis: make_vjp(lambda d: product(d, x, axis))(dy)[0],
            lambda ans, dy, x, axis: make_vjp(lambda z: product(dy, z, axis))(x)[0],
            argnums=(0, 1),
        )
        defjvp(
            backward,
            lambda v, ans, dy, x, axis: backward(v, x, axis),
            lambda v, ans, dy, x, axis: make_jvp(lambda z: product(dy, z, axis))(x)(v)[1],
            argnums=(0, 1),
        )
    return made


class HipsLibrary:
    """autograd's NumPy, as the compositions ask for it."""

    where = staticmethod(anp.where)
    moved = staticmethod(anp.moveaxis)
    summed = staticmethod(anp.sum)

    @staticmethod
    def arange(n: int, like: Any) -> np.ndarray:
        return np.arange(n)

    @staticmethod
    def activation(name: str) -> Callable[..., Any]:
        return function(name)

    @staticmethod
    def largest(x: Any) -> Any:
        return anp.max(x, axis=-1)

    @staticmethod
    def total(x: Any) -> Any:
        return anp.sum(x, axis=-1)

    @staticmethod
    def softmax(x: Any) -> Any:
        return softmax(x, -1)

    @staticmethod
    def log_softmax(x: Any) -> Any:
        return row_function("log_softmax")(x, axis=-1)

    @staticmethod
    def cast(values: Any, like: Any) -> Any:
        return values.astype(like.dtype)


def linked(
    made: Callable[..., Any],
    backward: Callable[..., dict[int, Any]],
    compose: Callable[..., Any],
) -> None:
    """The derivatives of a primitive that is called by position.

    `backward(dy, *args)` are the partials of the fused pass, by argument. Where a derivative is
    differentiated itself, or an argument has none there, the composition answers.
    """

    def vjps(argnums: Any, ans: Any, args: Any, named: Any) -> Callable[[Any], Any]:
        def vjp(dy: Any) -> Any:
            traced = any(map(isbox, (dy, *args)))
            fused_ones = {} if traced else backward(dy, *args)
            return tuple(
                summed_to(args[k], fused_ones[k])
                if k in fused_ones
                else make_vjp(compose, k)(*args)[0](dy)
                for k in argnums
            )

        return vjp

    def jvps(argnums: Any, tangents: Any, ans: Any, args: Any, named: Any) -> Any:
        terms = (make_jvp(compose, k)(*args)(t)[1] for k, t in zip(argnums, tangents, strict=True))
        return sum(terms)

    defvjp_argnums(made, vjps)
    defjvp_argnums(made, jvps)


@cache
def fused_function(name: str) -> Callable[..., Any]:
    """A fused op as a primitive of its arrays."""
    op = fused()[name]
    arrays = len(op.arrays)

    def forward(*given: Any) -> Any:
        return op.forward(*given[:arrays], *checked(op, op.numbers, given[arrays:]))

    def backward(dy: Any, *given: Any) -> dict[int, Any]:
        return dict(enumerate(op.backward(dy, *given)))

    made = primitive(forward)
    linked(made, backward, partial(op.compose, HipsLibrary))
    public = with_signature("fastact.autograd", name, op.signature, made)
    return described(public, op, " and ".join(op.arrays))


@cache
def loss_function(name: str) -> Callable[..., Any]:
    """A loss as a primitive of the logits and their target."""
    loss = losses()[name]

    def forward(logits: Any, target: Any, *given: Any) -> Any:
        return loss.forward(logits, target, **loss.options(*given))

    def backward(dy: Any, logits: Any, target: Any, *given: Any) -> dict[int, Any]:
        options = loss.options(*given)
        _, dlogits = loss.value_and_grad(logits, target, **options)
        if options["reduction"] == "none" and "axis" in options:
            dy = np.expand_dims(dy, options["axis"])
        return {0: dy * dlogits}

    def compose(logits: Any, target: Any, *given: Any) -> Any:
        return loss.compose(HipsLibrary, logits, target, **loss.options(*given))

    made = primitive(forward)
    linked(made, backward, compose)
    public = with_signature("fastact.autograd", name, loss.signature, made)
    return described(public, loss, "logits and in probabilities")
