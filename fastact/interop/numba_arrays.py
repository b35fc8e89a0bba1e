"""Calls of fastact's own loops on arrays, written into the code of a user's function.

What NumPy does for a ufunc in Python (broadcasting, allocation) is written out as LLVM code for
the types of a call; the rest, the walk over the axes, is the engine's (`fastact.compile.iterate`).
So such a call compiles in milliseconds, and kernels, threads and bits are the library's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.np.arrayobj import _empty_nd_impl, make_array
from numba.np.numpy_support import from_dtype

from fastact.compile import abi

WORD = ir.IntType(64)
ONE = WORD(1)


@dataclass
class Strided:
    """An operand in LLVM values: the address of its first element, its shape, its strides."""

    address: Any
    shape: list[Any]
    strides: list[Any]

    @property
    def axes(self) -> int:
        return len(self.shape)


def strided(context: Any, builder: Any, type_: Any, value: Any) -> Strided:
    """An array as an operand."""
    array = make_array(type_)(context, builder, value)
    return Strided(
        builder.ptrtoint(array.data, WORD),
        cgutils.unpack_tuple(builder, array.shape, type_.ndim),
        cgutils.unpack_tuple(builder, array.strides, type_.ndim),
    )


def number(builder: Any, value: Any) -> Strided:
    """A number as an operand without axes."""
    slot = cgutils.alloca_once_value(builder, value)
    return Strided(builder.ptrtoint(slot, WORD), [], [])


@cache
def conversion(dtype: np.dtype[Any], axes: int, aligned: bool) -> Any:
    """The Python function that converts an array to a dtype, contiguous and aligned.

    One that is not aligned, a field of records, has no `astype` to an aligned one.
    """
    if axes and aligned:
        return lambda array: array.astype(dtype)
    if axes:

        def copied(array):
            result = np.empty(array.shape, dtype)
            result[:] = array
            return result

        return copied

    def convert(array):
        result = np.empty((), dtype)
        result[()] = array[()]
        return result

    return convert


def ravel(array):
    return array.ravel()


class Operands:
    """The operands of a call, and the arrays that were made for it alone."""

    def __init__(self, context: Any, builder: Any) -> None:
        self.context = context
        self.builder = builder
        self.made: list[tuple[Any, Any]] = []

    def take(self, type_: Any, value: Any, dtype: Any) -> Strided:
        """An argument as an operand of a dtype: as it is, converted, or a number."""
        wanted = from_dtype(np.dtype(dtype))
        if not isinstance(type_, types.Array):
            return number(self.builder, self.context.cast(self.builder, value, type_, wanted))
        if type_.dtype != wanted or not type_.aligned:
            layout = type_.layout if type_.layout in "CF" and type_.aligned else "C"
            new = types.Array(wanted, type_.ndim, layout)
            convert = conversion(np.dtype(dtype), type_.ndim, type_.aligned)
            value = self.context.compile_internal(self.builder, convert, new(type_), [value])
            type_ = new
            self.made.append((type_, value))
        return strided(self.context, self.builder, type_, value)

    def flat(self, type_: Any, value: Any) -> tuple[Any, Any]:
        """An array of any shape with its entries along one axis."""
        if not isinstance(type_, types.Array):
            return type_, value
        new = types.Array(type_.dtype, 1, "C")
        value = self.context.compile_internal(self.builder, ravel, new(type_), [value])
        self.made.append((new, value))
        return new, value

    def release(self) -> None:
        for type_, value in self.made:
            self.context.nrt.decref(self.builder, type_, value)


def fail_if(context: Any, builder: Any, condition: Any, kind: Any, message: str) -> None:
    """Raise an exception in the user's function."""
    with builder.if_then(condition, likely=False):
        context.call_conv.return_user_exc(builder, kind, (message,))


def any_of(builder: Any, conditions: list[Any]) -> Any:
    found = cgutils.false_bit
    for condition in conditions:
        found = builder.or_(found, condition)
    return found


def broadcast(context: Any, builder: Any, operands: list[Strided], message: str) -> list[Any]:
    """The common shape; shapes that have none raise in the user's function."""
    axes = max(o.axes for o in operands)
    shape = []
    bad = []
    for axis in range(axes):
        lengths = [o.shape[axis - axes + o.axes] for o in operands if axis - axes + o.axes >= 0]
        length = lengths[0]
        for other in lengths[1:]:
            length = builder.select(builder.icmp_signed("==", length, ONE), other, length)
        for other in lengths if len(lengths) > 1 else []:
            differs = builder.icmp_signed("!=", other, length)
            bad.append(builder.and_(differs, builder.icmp_signed("!=", other, ONE)))
        shape.append(length)
    if bad:
        fail_if(context, builder, any_of(builder, bad), ValueError, message)
    return shape


class Result:
    """A new array, or a number where the type has no axes, as an operand and as a value."""

    def __init__(self, context: Any, builder: Any, type_: Any, shape: list[Any]) -> None:
        self.builder = builder
        if isinstance(type_, types.Array):
            self.array = _empty_nd_impl(context, builder, type_, shape)._getvalue()
            self.slot = None
            self.operand = strided(context, builder, type_, self.array)
        else:
            self.slot = cgutils.alloca_once(builder, context.get_value_type(type_))
            self.operand = Strided(builder.ptrtoint(self.slot, WORD), [], [])

    def value(self) -> Any:
        """Its value, once the loop has run."""
        return self.array if self.slot is None else self.builder.load(self.slot)


def find_loop(context: Any, builder: Any, key: str) -> Any:
    """The address of the words of a loop (`fastact.interop.addresses`) in this process.

    It is asked for once per process and compiled module, holding the interpreter's lock. The code
    holds no address of its own: it may be loaded from Numba's cache by a later process.
    """
    module = builder.module
    name = context.mangler("fastact", [key])
    known = module.globals.get(name)
    if known is None:
        known = cgutils.add_global_variable(module, WORD, name)
        known.linkage = "internal"
        known.initializer = WORD(0)
    missing = builder.icmp_signed("==", builder.load(known), WORD(0))
    with builder.if_then(missing, likely=False):
        python = context.get_python_api(builder)
        held = python.gil_ensure()
        place = python.import_module(
            context.insert_const_string(module, "fastact.interop.addresses")
        )
        with cgutils.if_likely(builder, cgutils.is_not_null(builder, place)):
            function = python.object_getattr_string(place, "address")
            text = python.string_from_string(context.insert_const_string(module, key))
            found = python.call_function_objargs(function, [text])
            with cgutils.if_likely(builder, cgutils.is_not_null(builder, found)):
                builder.store(python.long_as_longlong(found), known)
                python.decref(found)
            for used in (text, function, place):
                python.decref(used)
        with cgutils.if_unlikely(builder, cgutils.is_not_null(builder, python.err_occurred())):
            python.err_write_unraisable(python.get_null_object())
        python.gil_release(held)
    loop = builder.load(known)
    lost = builder.icmp_signed("==", loop, WORD(0))
    message = f"fastact: no compiled code for {key}; the reason is on standard error"
    fail_if(context, builder, lost, RuntimeError, message)
    return loop


def run(
    context: Any,
    builder: Any,
    key: str,
    shape: list[Any],
    operands: list[Strided],
    rows: dict[int, Any] | None = None,
    length: Any = ONE,
) -> None:
    """Run a loop over a shape, with which the operands are aligned at its last axis.

    `rows` gives, per operand that has a row, its stride along the row.
    """
    if len(shape) > abi.PLAN_MAX_AXES:
        raise TypingError(f"fastact: arrays may have up to {abi.PLAN_MAX_AXES} dimensions")
    rows = rows or {}
    loop = find_loop(context, builder, key)
    area = cgutils.alloca_once(builder, ir.ArrayType(WORD, abi.PLAN_SLOTS))
    plan = builder.bitcast(area, WORD.as_pointer())

    def put(slot: int, value: Any) -> None:
        builder.store(value, builder.gep(plan, [WORD(slot)]))

    put(abi.PLAN_AXES, WORD(len(shape)))
    put(abi.PLAN_OPERANDS, WORD(len(operands)))
    put(abi.PLAN_ALONG, WORD(sum(1 << k for k in rows)))
    put(abi.PLAN_LENGTH, length)
    for axis, count in enumerate(shape):
        put(abi.PLAN_SHAPE + axis, count)
    for k, o in enumerate(operands):
        put(abi.PLAN_POINTERS + k, o.address)
        put(abi.PLAN_INNER + k, rows.get(k, WORD(0)))
        for axis in range(len(shape)):
            own = axis - len(shape) + o.axes
            step = WORD(0)
            if own >= 0:
                single = builder.icmp_signed("==", o.shape[own], ONE)
                step = builder.select(single, WORD(0), o.strides[own])
            put(abi.PLAN_STEPS + k * abi.PLAN_MAX_AXES + axis, step)
    entry, data, iterate = (
        builder.load(builder.inttoptr(builder.add(loop, WORD(8 * k)), WORD.as_pointer()))
        for k in range(3)
    )
    signature = ir.FunctionType(WORD, [WORD] * 3)
    call = builder.inttoptr(iterate, signature.as_pointer())
    builder.call(call, [entry, data, builder.ptrtoint(plan, WORD)])
