"""JAX: fused ops and losses. Values and gradients are fastact's own passes.

Along tangents, and where a gradient is differentiated again, their compositions answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from fastact.interop.catalogue import (
    CrossEntropy,
    Fused,
    checked,
    fused,
    losses,
    with_signature,
)
from fastact.interop.jax_functions import (
    documented,
    floating,
    foreign,
    from_end,
    function,
    number,
    row_function,
)
from fastact.interop.jax_tangents import attributes, composed, tangent
from fastact.interop.xla import target

# What XLA makes of this composition is faster than the fused pass, which sums the slope's partial
# apart: 0.9 against 1.2 ms for 1024 rows of 1024 float32.
COMPOSED = ("prelu",)
SymbolicZero = jax.custom_derivatives.SymbolicZero


class JaxLibrary:
    """JAX's NumPy, as the compositions ask for it."""

    where = staticmethod(jnp.where)
    moved = staticmethod(jnp.moveaxis)
    summed = staticmethod(jnp.sum)

    @staticmethod
    def arange(n: int, like: jax.Array) -> jax.Array:
        return jnp.arange(n)

    @staticmethod
    def activation(name: str) -> Callable[..., Any]:
        return function(name)

    @staticmethod
    def largest(x: jax.Array) -> jax.Array:
        return jnp.max(x, -1)

    @staticmethod
    def total(x: jax.Array) -> jax.Array:
        return jnp.sum(x, -1)

    @staticmethod
    def softmax(x: jax.Array) -> jax.Array:
        made: jax.Array = row_function("softmax")(x)
        return made

    @staticmethod
    def log_softmax(x: jax.Array) -> jax.Array:
        made: jax.Array = row_function("log_softmax")(x)
        return made

    @staticmethod
    def cast(values: jax.Array, like: jax.Array) -> jax.Array:
        return values.astype(like.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def forward(op: Fused, numbers: tuple[Any, ...], *arrays: jax.Array) -> jax.Array:
    """A fused op of arrays with as many axes."""
    shape = op.shape(*(a.shape for a in arrays), *numbers)
    output = jax.ShapeDtypeStruct(shape, arrays[0].dtype)
    made: jax.Array = foreign(op.name, op.forward, output, *arrays, **attributes(op, numbers))
    return made


@forward.defjvp
def _(op: Fused, numbers: tuple[Any, ...], primals: Any, tangents: Any) -> Any:
    y = forward(op, numbers, *primals)
    way = tangent if op.name not in COMPOSED else composed
    return y, way(JaxLibrary, op, numbers, primals, tangents)


def call(op: Fused, *given: Any) -> jax.Array:
    arrays = [floating(op.name, a) for a in given[: len(op.arrays)]]
    numbers: list[float] = []
    for n, v in zip(op.numbers, checked(op, op.numbers, given[len(op.arrays) :]), strict=True):
        if n.name == "axis":
            numbers.append(from_end(op.name, arrays[0], v))
        else:
            numbers.append(number(op.name, n.name, v) if n.kind == "float" else int(v))
    dtype, axes = jnp.result_type(*arrays), max(a.ndim for a in arrays)
    # a batch adds an axis in front of all of them
    arrays = [a.astype(dtype).reshape((1,) * (axes - a.ndim) + a.shape) for a in arrays]
    made: jax.Array = forward(op, tuple(numbers), *arrays)
    return made


@cache
def fused_function(name: str) -> Callable[..., Any]:
    """A fused op for JAX."""
    op = fused()[name]
    return documented(with_signature("fastact.jax", name, op.signature, partial(call, op)), op)


@dataclass(frozen=True)
class Call:
    """What is known of a call of a loss when it is traced: its options, by name and value."""

    loss: CrossEntropy
    weights: tuple[str, ...]  # which of the options that are arrays are given
    options: tuple[tuple[str, Any], ...]

    def named(self, weights: tuple[Any, ...]) -> dict[str, Any]:
        return {
            **dict.fromkeys(self.loss.arrays),
            **dict(self.options),
            **dict(zip(self.weights, weights, strict=True)),
        }

    @property
    def is_reduced(self) -> bool:
        return dict(self.options)["reduction"] != "none"

    @property
    def axis(self) -> int | None:
        return dict(self.options).get("axis")

    def shape(self, logits: jax.Array) -> tuple[int, ...]:
        """The shape of the loss."""
        if self.is_reduced:
            return ()
        shape = list(logits.shape)
        if self.axis is not None:
            del shape[self.axis]
        return tuple(shape)

    @property
    def key(self) -> str:
        """A name for the call in programs of XLA."""
        written = "_".join(f"{n}={v}" for n, v in self.options)
        return f"{self.loss.name}_{'_'.join(self.weights)}_{written}"

    def compose(self, logits: Any, target: Any, *weights: Any) -> Any:
        return self.loss.compose(JaxLibrary, logits, target, **self.named(weights))


def one_by_one(name: str, run: Callable[..., Any], outputs: Any, *arrays: Any) -> Any:
    """A call from a program of XLA; a batch is a loop: a loss is reduced over its own rows only."""
    return jax.ffi.ffi_call(target(name, run), outputs, vmap_method="sequential")(*arrays)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def loss_alone(call: Call, logits: jax.Array, *others: jax.Array) -> jax.Array:
    def run(logits: Any, target: Any, *weights: Any, out: Any) -> None:
        out[...] = call.loss.forward(logits, target, **call.named(weights))

    output = jax.ShapeDtypeStruct(call.shape(logits), logits.dtype)
    made: jax.Array = one_by_one(call.key, run, output, logits, *others)
    return made


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def both(call: Call, logits: jax.Array, *others: jax.Array) -> Any:
    """The loss and its gradient in the logits, in one pass."""

    def run(logits: Any, target: Any, *weights: Any, out: Any) -> None:
        loss, dlogits = out
        options = call.named(weights)
        loss[...], _ = call.loss.value_and_grad(logits, target, **options, out=dlogits)

    outputs = (
        jax.ShapeDtypeStruct(call.shape(logits), logits.dtype),
        jax.ShapeDtypeStruct(logits.shape, logits.dtype),
    )
    key = f"{call.key}_value_and_grad"
    loss, dlogits = one_by_one(key, run, outputs, logits, *others)
    return loss, dlogits


def moving(
    compose: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> Any | None:
    """The tangent of a composition along those arguments that move; None if none does."""
    places = [k for k, t in enumerate(tangents) if not isinstance(t, SymbolicZero)]
    if not places:
        return None

    def of_moving(*values: Any) -> Any:
        arguments = list(primals)
        for k, value in zip(places, values, strict=True):
            arguments[k] = value
        return compose(*arguments)

    chosen = [[p[k] for k in places] for p in (primals, tangents)]
    return jax.jvp(of_moving, *chosen)[1]


@partial(loss_alone.defjvp, symbolic_zeros=True)
def _(call: Call, primals: Any, tangents: Any) -> Any:
    logits, *others = primals
    first, *rest = tangents
    tangent = moving(lambda *o: call.compose(logits, *o), tuple(others), tuple(rest))
    if isinstance(first, SymbolicZero):
        return loss_alone(call, *primals), tangent
    loss, dlogits = both(call, *primals)
    own = dlogits * first
    if call.is_reduced:
        own = jnp.sum(own)
    elif call.axis is not None:
        own = jnp.sum(own, call.axis)
    return loss, own if tangent is None else own + tangent


@partial(both.defjvp, symbolic_zeros=True)
def _(call: Call, primals: Any, tangents: Any) -> Any:
    def composed(*arguments: Any) -> Any:
        gradient = jax.grad(lambda x: jnp.sum(call.compose(x, *arguments[1:])))
        return call.compose(*arguments), gradient(arguments[0])

    return both(call, *primals), moving(composed, primals, tangents)


def call_loss(loss: CrossEntropy, logits: Any, target: Any, *given: Any) -> jax.Array:
    x = floating(loss.name, logits)
    labels = jnp.asarray(target)
    if labels.dtype.kind not in "iu":
        labels = floating(loss.name, labels).astype(x.dtype)
    options = loss.options(*given)
    if "axis" in options:
        options["axis"] = from_end(loss.name, x, options["axis"])
    weights = {
        name: floating(loss.name, options.pop(name)).astype(x.dtype)
        for name in loss.arrays
        if options[name] is not None
    }
    known = tuple((n, v) for n, v in options.items() if n not in loss.arrays)
    made: jax.Array = loss_alone(Call(loss, tuple(weights), known), x, labels, *weights.values())
    return made


@cache
def loss_function(name: str) -> Callable[..., Any]:
    """A loss for JAX."""
    loss = losses()[name]
    made = with_signature("fastact.jax", name, loss.signature, partial(call_loss, loss))
    return documented(made, loss)
