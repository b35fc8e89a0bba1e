"""Elementwise functions inside Numba's compiled code.

On numbers, a function is its own scalar source, compiled into the caller and always inlined, so
that a loop around it becomes SIMD code. On arrays it is a call of the library's own loop. Both
give the bits that the library gives outside.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.np.numpy_support import from_dtype

from fastact.activations.directions import Direction
from fastact.activations.paired import Pointwise
from fastact.interop.addresses import elementwise_key
from fastact.interop.numba_arrays import (
    Operands,
    Result,
    any_of,
    broadcast,
    fail_if,
    number,
    run,
    strided,
)
from fastact.interop.numba_loops import note_call
from fastact.interop.numba_typing import (
    UNKNOWN,
    Call,
    Resolve,
    array_type,
    common,
    float_of,
    given_value,
    is_array,
    plain,
    refuse,
)

OPTIONS = {"where": True, "dtype": None, "casting": "same_kind", "wrt": "x"}


def resolver(record: Pointwise, direction: Direction) -> Resolve:
    """What a call of one direction of an op is, for the types of its arguments."""
    name = record.name + direction.suffix

    def resolve(given: dict[str, Any]) -> Call:
        refuse(name, given, OPTIONS)
        operands = {a: given[a] for a in direction.arrays}
        constants = {}
        for p in record.parameters:
            value = given_value(given[p.name]) if p.name in given else p.default
            if value is UNKNOWN:
                operands[p.name] = given[p.name]
                float_of(name, p.name, given[p.name])
            else:
                constants[p.name] = value
        out = given.get("out", types.none)
        if given_value(out) is not None:
            if not is_array(out) or len(direction.outputs) > 1 or direction.results:
                few = "is not available inside compiled code for several results"
                one = f"must be an array, got {out}"
                raise TypingError(f"{name}: out= {one if not is_array(out) else few}")
            return array_call(record, direction, operands, constants, out)
        if any(map(is_array, operands.values())):
            return array_call(record, direction, operands, constants)
        return scalar_call(record, direction, operands, constants)

    return resolve


# --------------------------------------------------------------------------- numbers


def scalar_call(
    record: Pointwise,
    direction: Direction,
    operands: dict[str, Any],
    constants: dict[str, float],
) -> Call:
    """A call on numbers: the op's own scalar, in the caller."""
    name = record.name + direction.suffix
    dtype = common(name, {a: operands[a] for a in direction.arrays})
    number = from_dtype(dtype)
    outputs, returned = len(direction.outputs), [r.output for r in direction.results]
    names = (*direction.arrays, *(p.name for p in record.parameters))

    def lower(context: Any, builder: Any, args: Any) -> Any:
        note_call(builder, dtype.name)
        values = dict(zip(operands, args, strict=True))
        values |= {a: context.get_constant(number, float(v)) for a, v in constants.items()}
        scalar = context.typing_context.resolve_value_type(
            compiled_scalar(record, direction, dtype)
        )
        signature = scalar.get_call_type(context.typing_context, (number,) * len(names), {})
        call = context.get_function(scalar, signature)
        found = call(builder, [values[a] for a in names])
        if not returned:
            return found
        parts = [found] if outputs == 1 else cgutils.unpack_tuple(builder, found, outputs)
        return context.make_tuple(builder, result, [parts[k] for k in returned])

    results = len(returned) or outputs
    result = number if results == 1 else types.UniTuple(number, results)
    return Call(result, dict.fromkeys(operands, number), lower)


@cache
def compiled_scalar(record: Pointwise, direction: Direction, dtype: np.dtype[Any]) -> Any:
    # not before it is needed: compiling fastact's own code is what may import Numba first
    from fastact.compile.build import scalar_program

    return scalar_program(record, direction, dtype.name)


# ---------------------------------------------------------------------------- arrays


def result_layout(operands: list[Any], axes: int) -> str:
    """The layout of a new array: that of its operands, as in NumPy."""
    largest = [t for t in operands if is_array(t) and t.ndim == axes]
    return "F" if axes > 1 and all(t.layout == "F" for t in largest) else "C"


SUM = """
def summed(full, shape):
    found = np.zeros(shape)
{loops}{pad}found[{places}] += full[{index}]
    return found.astype(dtype)
"""
TOTAL = """
def summed(full):
    found = 0.0
    for entry in full.flat:
        found += entry
    return dtype.type(found)
"""


@cache
def summation(dtype: np.dtype[Any], axes: int, kept: int) -> Any:
    """A function that sums an array of so many axes to the shape of one of its operands.

    Added up one after the other in float64.
    """
    loops = "".join(f"{'    ' * (k + 1)}for i{k} in range(full.shape[{k}]):\n" for k in range(axes))
    lead = axes - kept
    # an axis of the operand is as long as the array's, or 1
    places = ", ".join(f"min(i{lead + k}, shape[{k}] - 1)" for k in range(kept))
    index = ", ".join(f"i{k}" for k in range(axes))
    source = SUM.format(loops=loops, pad="    " * (axes + 1), places=places, index=index)
    scope: dict[str, Any] = {"np": np, "dtype": dtype}
    exec(source if kept else TOTAL, scope)
    return scope["summed"]


class Summed:
    """What a direction returns whose outputs are summed to the shapes of its arguments."""

    def __init__(
        self, direction: Direction, operands: dict[str, Any], dtype: Any, one: Any
    ) -> None:
        self.dtype, self.one, self.axes = dtype, one, getattr(one, "ndim", 0)
        self.parts = []
        for result in direction.results:
            given = operands[result.argument]
            kept = given.ndim if is_array(given) else 0
            type_ = array_type(dtype, kept) if kept else from_dtype(dtype)
            self.parts.append((result, kept, type_))

    @property
    def types(self) -> list[Any]:
        return [type_ for _, _, type_ in self.parts]

    def values(
        self, context: Any, builder: Any, made: list[Any], shapes: dict[str, list[Any]]
    ) -> list[Any]:
        """The sums of what the loop has made; `shapes` are those of the operands."""
        if not self.axes:
            return [made[result.output] for result, _, _ in self.parts]
        found = []
        for result, kept, type_ in self.parts:
            function = summation(self.dtype, self.axes, kept)
            args, kinds = [made[result.output]], [self.one]
            if kept:
                kinds.append(types.UniTuple(types.intp, kept))
                args.append(context.make_tuple(builder, kinds[1], shapes[result.argument]))
            found.append(context.compile_internal(builder, function, type_(*kinds), args))
        for array in made:
            context.nrt.decref(builder, self.one, array)
        return found


def check_out(name: str, out: Any, dtype: np.dtype[Any], axes: int) -> None:
    right = out.mutable and out.aligned and (out.dtype, out.ndim) == (from_dtype(dtype), axes)
    if not right:
        raise TypingError(
            f"{name}: out must be a writeable array of {dtype} with {axes} dimensions, got {out}"
        )


def fail_unless_equal(
    context: Any, builder: Any, shape: list[Any], wanted: list[Any], name: str
) -> None:
    bad = [builder.icmp_signed("!=", a, b) for a, b in zip(shape, wanted, strict=True)]
    message = f"{name}: out must have the shape of the result"
    fail_if(context, builder, any_of(builder, bad), ValueError, message)


def array_call(
    record: Pointwise,
    direction: Direction,
    operands: dict[str, Any],
    constants: dict[str, float],
    out: Any = None,
) -> Call:
    """A call with arrays among its operands: the library's own loop."""
    name = record.name + direction.suffix
    shaping = {a: t for a, t in operands.items() if a in direction.arrays or is_array(t)}
    dtype = common(name, shaping)
    axes = max([t.ndim for t in operands.values() if is_array(t)], default=0)
    # a ufunc makes a scalar of a result without axes, and so does Numba's np.exp
    one = array_type(dtype, axes, result_layout(list(operands.values()), axes))
    one = one if axes else from_dtype(dtype)
    outputs = len(direction.outputs)
    sums = Summed(direction, operands, dtype, one) if direction.results else None
    # with all parameters at their defaults, they are no operands of the loop
    defaults = all(constants.get(p.name) == p.default for p in record.parameters)
    key = elementwise_key(record.name, direction.name, dtype.name, defaults)
    taken = {a: t if is_array(t) else plain(t) for a, t in operands.items()}
    if out is not None:
        check_out(name, out, dtype, axes)
        taken["out"] = one = out

    def lower(context: Any, builder: Any, args: Any) -> Any:
        values = dict(zip(taken, args, strict=True))
        call = Operands(context, builder)
        inputs = [call.take(taken[a], values[a], dtype) for a in direction.arrays]
        for p in () if defaults else record.parameters:
            if p.name in taken:
                inputs.append(call.take(taken[p.name], values[p.name], dtype))
            else:
                value = context.get_constant(from_dtype(dtype), float(constants[p.name]))
                inputs.append(number(builder, value))
        shape = broadcast(context, builder, inputs, f"{name}: shapes do not broadcast")
        if out is not None:
            target = strided(context, builder, out, values["out"])
            fail_unless_equal(context, builder, target.shape, shape, name)
            run(context, builder, key, shape, [*inputs, target])
            call.release()
            context.nrt.incref(builder, out, values["out"])
            return values["out"]
        results = [Result(context, builder, one, shape) for _ in range(outputs)]
        run(context, builder, key, shape, [*inputs, *(r.operand for r in results)])
        call.release()
        found = [r.value() for r in results]
        if sums:
            shapes = {a: o.shape for a, o in zip(direction.arrays, inputs, strict=False)}
            found = sums.values(context, builder, found, shapes)
        return found[0] if len(found) == 1 else context.make_tuple(builder, result, found)

    returned = sums.types if sums else [one] * outputs
    result = one if len(returned) == 1 else types.Tuple(returned)
    return Call(result, taken, lower)
