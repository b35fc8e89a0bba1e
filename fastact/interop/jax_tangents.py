"""JAX: a derivative that is a composition along tangents, and one fused pass backwards.

JAX derives reverse mode from forward mode, by transposing what is linear in the tangents. A
composition of several steps would be transposed step by step. This primitive is the whole of it:
along tangents it is lowered to the composition, its transpose is the op's own backward pass. Where
that is differentiated again, the compositions answer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from fastact.interop.catalogue import Fused
from fastact.interop.jax_functions import foreign

Numbers = tuple[Any, ...]
KINDS: dict[str, Callable[[Any], Any]] = {"float": np.float64, "int": np.int64}
tangent_p = Primitive("fastact_tangent")


def attributes(op: Fused, numbers: Numbers) -> dict[str, Any]:
    """The numbers of a call, as a program of XLA has them."""
    return {n.name: KINDS[n.kind](v) for n, v in zip(op.numbers, numbers, strict=True)}


def composed(
    library: Any, op: Fused, numbers: Numbers, arrays: tuple[Any, ...], tangents: tuple[Any, ...]
) -> jax.Array:
    """The derivative at arrays, times tangents, in JAX's own steps."""
    made: jax.Array = jax.jvp(lambda *a: op.compose(library, *a, *numbers), arrays, tangents)[1]
    return made


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def backward(
    library: Any, op: Fused, numbers: Numbers, dy: jax.Array, *arrays: jax.Array
) -> tuple[jax.Array, ...]:
    """The partials of a fused op, in one pass."""

    def run(dy: Any, *operands: Any, out: Any, **given: Any) -> None:
        outs = out if isinstance(out, tuple) else (out,)
        op.backward(dy, *operands, *(given[n.name] for n in op.numbers), out=outs)

    shapes = [a.shape if op.keeps_shapes else dy.shape for a in arrays]
    like = [jax.ShapeDtypeStruct(s, a.dtype) for s, a in zip(shapes, arrays, strict=True)]
    found = foreign(
        f"{op.name}_backward",
        run,
        like[0] if len(like) == 1 else like,
        dy,
        *arrays,
        **attributes(op, numbers),
    )
    partials = (found,) if len(like) == 1 else found
    return tuple(summed_to(a, p) for a, p in zip(arrays, partials, strict=True))


def summed_to(array: jax.Array, made: jax.Array) -> jax.Array:
    """A partial, summed over the axes along which its array was broadcast."""
    axes = tuple(k for k, n in enumerate(array.shape) if n != made.shape[k])
    return jnp.sum(made, axes, keepdims=True) if axes else made


@backward.defjvp
def _(library: Any, op: Fused, numbers: Numbers, primals: Any, tangents: Any) -> Any:
    def again(dy: jax.Array, *arrays: jax.Array) -> Any:
        return jax.vjp(lambda *a: op.compose(library, *a, *numbers), *arrays)[1](dy)

    made = backward(library, op, numbers, *primals)
    return made, jax.jvp(again, primals, tangents)[1]


def tangent(
    library: Any, op: Fused, numbers: Numbers, arrays: tuple[Any, ...], tangents: tuple[Any, ...]
) -> jax.Array:
    """The derivative at arrays with as many axes, times tangents."""
    made: jax.Array = tangent_p.bind(*arrays, *tangents, library=library, op=op, numbers=numbers)
    return made


def run_along(*arrays: Any, library: Any, op: Fused, numbers: Numbers) -> Any:
    count = len(op.arrays)
    return composed(library, op, numbers, arrays[:count], arrays[count:])


def abstract(*arrays: Any, library: Any, op: Fused, numbers: Numbers) -> ShapedArray:
    shape = op.shape(*(a.shape for a in arrays[: len(op.arrays)]), *numbers)
    return ShapedArray(shape, arrays[0].dtype)


def differentiated(primals: Any, tangents: Any, **call: Any) -> Any:
    moving = [ad.instantiate_zeros(t) if isinstance(t, ad.Zero) else t for t in tangents]
    return tangent_p.bind(*primals, **call), jax.jvp(
        lambda *a: run_along(*a, **call), tuple(primals), tuple(moving)
    )[1]


def transposed(dy: Any, *arrays: Any, library: Any, op: Fused, numbers: Numbers) -> list[Any]:
    count = len(op.arrays)
    if isinstance(dy, ad.Zero):
        return [None] * len(arrays)
    partials = backward(library, op, numbers, dy, *arrays[:count])
    linear = [ad.is_undefined_primal(t) for t in arrays[count:]]
    return [None] * count + [p if is_ else None for p, is_ in zip(partials, linear, strict=True)]


def batched(arrays: Any, axes: Any, **call: Any) -> tuple[Any, int]:
    """The batch as the first axis of all arrays: the op's own axes are counted from the end."""
    sizes = {a.shape[k] for a, k in zip(arrays, axes, strict=True) if k is not None}
    (size,) = sizes
    moved = [batching.bdim_at_front(a, k, size) for a, k in zip(arrays, axes, strict=True)]
    return tangent_p.bind(*moved, **call), 0


tangent_p.def_impl(run_along)
tangent_p.def_abstract_eval(abstract)
ad.primitive_jvps[tangent_p] = differentiated
ad.primitive_transposes[tangent_p] = transposed
batching.primitive_batchers[tangent_p] = batched
mlir.register_lowering(tangent_p, mlir.lower_fun(run_along, multiple_results=False))
