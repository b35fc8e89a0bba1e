"""JAX: every op as a function that is jitted, batched and differentiated like JAX's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fastact.interop.catalogue import (
    Elementwise,
    RowWise,
    elementwise,
    rowwise,
    with_signature,
)
from fastact.interop.xla import target

FLOATS = ("float16", "bfloat16", "float32", "float64")
DOC = """{summary}

    {formula}

The same as `fastact.{name}`, for arrays of JAX on the CPU: under jit, vmap, grad and jvp."""


def floating(name: str, x: Any) -> jax.Array:
    """x as an array of a real floating dtype; integers become JAX's default one."""
    array = jnp.asarray(x)
    if array.dtype.name in FLOATS:
        return array
    if array.dtype.kind in "biu":
        return array.astype(jnp.result_type(float))
    raise TypeError(
        f"{name}: x has dtype {array.dtype}; it may be bool, an integer, {', '.join(FLOATS)}"
    )


def number(name: str, parameter: str, value: Any) -> float:
    """A parameter as a number: it becomes part of the compiled program."""
    try:
        return float(value)
    except (TypeError, jax.errors.JAXTypeError):
        raise TypeError(
            f"{name}: {parameter} must be a number that is known when the function is traced, "
            f"got {value!r}"
        ) from None


def foreign(
    name: str,
    function: Callable[..., Any],
    outputs: Any,
    *arrays: Any,
    **given: Any,
) -> Any:
    """A call of a function of fastact from a program of XLA; a batch becomes leading axes."""
    call = jax.ffi.ffi_call(target(name, function), outputs, vmap_method="broadcast_all")
    return call(*arrays, **given)


def like(x: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def named(op: Elementwise, parameters: tuple[float, ...]) -> dict[str, np.float64]:
    return {p.name: np.float64(v) for p, v in zip(op.parameters, parameters, strict=True)}


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def forward(op: Elementwise, parameters: tuple[float, ...], x: jax.Array) -> jax.Array:
    """f(x); its derivative is a product with f'(x), made in the same pass as f(x)."""
    made: jax.Array = foreign(op.name, op.forward, like(x), x, **named(op, parameters))
    return made


@forward.defjvp
def _(op: Elementwise, parameters: tuple[float, ...], primals: Any, tangents: Any) -> Any:
    y, g = value_and_grad(op, parameters, *primals)
    return y, g * tangents[0]


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def value_and_grad(op: Elementwise, parameters: tuple[float, ...], x: jax.Array) -> Any:
    """(f(x), f'(x)) in one pass."""

    def both(x: np.ndarray, out: tuple[np.ndarray, np.ndarray], **given: Any) -> None:
        op.value_and_grad(x, **given, out=out)

    name = f"{op.name}_value_and_grad"
    y, g = foreign(name, both, (like(x), like(x)), x, **named(op, parameters))
    return y, g


@value_and_grad.defjvp
def _(op: Elementwise, parameters: tuple[float, ...], primals: Any, tangents: Any) -> Any:
    (x,), (t,) = primals, tangents
    y, g = value_and_grad(op, parameters, x)
    return (y, g), (g * t, second(op, parameters, x) * t)


def second(op: Elementwise, parameters: tuple[float, ...], x: jax.Array) -> jax.Array:
    """f''(x)."""
    op.second(np.zeros(0))  # raises if there is none, now rather than when the program runs

    def compute(x: np.ndarray, out: np.ndarray, **given: Any) -> None:
        out[...] = op.second(x, *(given[p.name] for p in op.parameters))

    made: jax.Array = foreign(f"{op.name}_second", compute, like(x), x, **named(op, parameters))
    return made


@cache
def function(name: str) -> Callable[..., Any]:
    """An elementwise op for JAX."""
    op = elementwise()[name]
    arguments = [("x", None), *((p.name, repr(p.default)) for p in op.parameters)]
    return documented(with_signature("fastact.jax", name, arguments, partial(call, op)), op)


def call(op: Elementwise, x: Any, *parameters: Any) -> jax.Array:
    values = tuple(
        number(op.name, p.name, v) for p, v in zip(op.parameters, parameters, strict=True)
    )
    op.forward(np.zeros(0), *values)  # raises now if a parameter is outside its domain
    made: jax.Array = forward(op, values, floating(op.name, x))
    return made


def documented(function: Any, op: Any) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = op.name
    function.__module__ = "fastact.jax"
    function.__doc__ = DOC.format(
        name=op.name, summary=op.record.summary, formula=op.record.formula
    )
    made: Callable[..., Any] = function
    return made


def total(x: jax.Array, axis: int) -> jax.Array:
    return jnp.sum(x, axis, keepdims=True)


def run_rows(op: RowWise, axis: int, x: jax.Array) -> jax.Array:
    shape = list(x.shape)
    if op.reduces:
        del shape[axis]
    outputs = jax.ShapeDtypeStruct(tuple(shape), x.dtype)
    made: jax.Array = foreign(op.name, op.forward, outputs, x, axis=np.int64(axis))
    return made


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def rows(op: RowWise, axis: int, x: jax.Array) -> jax.Array:
    """A row op whose Jacobian is written above."""
    return run_rows(op, axis, x)


# (x, y, t, axis) -> the Jacobian times t, in JAX's own operations: these are differentiated
# further, and transposed for reverse mode, by JAX.
JVP: dict[str, Callable[..., jax.Array]] = {
    "softmax": lambda x, y, t, axis: y * (t - total(y * t, axis)),
    "softmin": lambda x, y, t, axis: -y * (t - total(y * t, axis)),
    "log_softmax": lambda x, y, t, axis: t - total(jnp.exp(y) * t, axis),
    "logsumexp": lambda x, y, t, axis: jnp.sum(rows(rowwise()["softmax"], axis, x) * t, axis),
}


@rows.defjvp
def _(op: RowWise, axis: int, primals: Any, tangents: Any) -> Any:
    (x,), (t,) = primals, tangents
    y = rows(op, axis, x)
    return y, JVP[op.name](x, y, t, axis)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def other_rows(op: RowWise, axis: int, x: jax.Array) -> jax.Array:
    """A row op that has fastact's own backward pass only: reverse mode, once."""
    return run_rows(op, axis, x)


def other_rows_forward(op: RowWise, axis: int, x: jax.Array) -> Any:
    return run_rows(op, axis, x), x


def other_rows_backward(op: RowWise, axis: int, x: jax.Array, dy: jax.Array) -> Any:
    name = f"{op.name}_backward"
    return (foreign(name, op.from_input, like(x), dy, x, axis=np.int64(axis)),)


other_rows.defvjp(other_rows_forward, other_rows_backward)


def from_end(name: str, x: jax.Array, axis: Any) -> int:
    """The axis, counted from the last one: a batch adds leading axes."""
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise TypeError(f"{name}: axis must be an integer, got {axis!r}")
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"{name}: axis {axis} is out of bounds for x of shape {x.shape}")
    return int(axis - x.ndim if axis >= 0 else axis)


@cache
def row_function(name: str) -> Callable[..., Any]:
    """A row op for JAX."""
    op = rowwise()[name]

    def made(x: Any, axis: int = -1) -> jax.Array:
        x = floating(name, x)
        call = rows if name in JVP else other_rows
        result: jax.Array = call(op, from_end(name, x, axis), x)
        return result

    return documented(made, op)
