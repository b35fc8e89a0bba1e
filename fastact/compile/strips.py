"""The loops and memory accesses that row tasks are made of."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastact.compile.abi import LANES
from fastact.compile.cpu import inlined
from fastact.compile.kernels import (
    COMPUTING,
    NUMBA_TYPE,
    STORAGE,
    VECTOR_WIDTH,
    narrow,
    tag,
    tune_loop,
    widen,
)
from fastact.compile.machine import WORD, pointer


@intrinsic
def wide_vectors(typingctx):
    """Ask for the widest vectors in the function that this is called from."""

    def codegen(context, builder, signature, args):
        set.add(builder.function.attributes, f'"prefer-vector-width"="{VECTOR_WIDTH}"')
        return context.get_dummy_value()

    return types.void(), codegen


def reader(dtype: str, scope: str) -> Any:
    """read(base, index): one stored element as the computing type.

    The base becomes a pointer before the index is added: LLVM sees that neighbouring indices
    are neighbours in memory, and loads vectors instead of gathering elements.

    A staging area is written and read under different roles, so it gets no scope ("").
    """
    memory, computing = STORAGE[dtype]

    @intrinsic
    def read(typingctx, base, index):
        def codegen(context, builder, signature, args):
            value = builder.load(builder.gep(pointer(builder, args[0], memory), [args[1]]))
            if scope:
                tag(value, builder.module, scope)
            return widen(builder, value, dtype)

        return NUMBA_TYPE[computing](types.intp, types.intp), codegen

    return read


def writer(dtype: str, scope: str) -> Any:
    """write(base, index, value): one computed element, rounded to the stored type."""
    memory, computing = STORAGE[dtype]

    @intrinsic
    def write(typingctx, base, index, value):
        def codegen(context, builder, signature, args):
            stored = narrow(builder, args[2], dtype)
            place = builder.gep(pointer(builder, args[0], memory), [args[1]])
            instruction = builder.store(stored, place)
            if scope:
                tag(instruction, builder.module, scope)
            return context.get_dummy_value()

        return types.void(types.intp, types.intp, NUMBA_TYPE[computing]), codegen

    return write


def strip(body: Any, interleave: int = 2) -> Any:
    """An intrinsic `run(count, arguments)`: body(j, *arguments) for j in range(count).

    Emitted rather than written as a Numba loop, so that LLVM does not unroll it before it has
    had the chance to vectorise it.
    """

    @intrinsic
    def run(typingctx, count, arguments):
        def codegen(context, builder, signature, args):
            total, packed = args
            kinds = tuple(signature.args[1])
            values = cgutils.unpack_tuple(builder, packed, len(kinds))
            total = context.cast(builder, total, signature.args[0], types.intp)
            entry = builder.block
            loop = builder.append_basic_block("strip")
            end = builder.append_basic_block("strip.end")
            builder.cbranch(builder.icmp_signed(">", total, WORD(0)), loop, end)
            builder.position_at_end(loop)
            j = builder.phi(WORD)
            j.add_incoming(WORD(0), entry)
            function_type = context.typing_context.resolve_value_type(body)
            call = function_type.get_call_type(context.typing_context, (types.intp, *kinds), {})
            context.get_function(function_type, call)(builder, [j, *values])
            following = builder.add(j, WORD(1), flags=["nuw", "nsw"])
            j.add_incoming(following, builder.block)
            branch = builder.cbranch(builder.icmp_signed("==", following, total), end, loop)
            tune_loop(builder, branch, interleave)
            builder.position_at_end(end)
            return context.get_dummy_value()

        return types.void(count, arguments), codegen

    return run


def fold(dtype: str, result: str, combine: Any) -> Any:
    """An intrinsic that folds LANES values in memory, halves upon halves, in type `result`."""
    item, wide = COMPUTING[dtype], COMPUTING[result]

    @intrinsic
    def run(typingctx, address):
        def codegen(context, builder, signature, args):
            width = LANES
            area = pointer(builder, args[0], ir.VectorType(item, width))
            value = builder.load(area, align=8)
            if item != wide:
                value = builder.fpext(value, ir.VectorType(wide, width))
            while width > 1:
                width //= 2
                halves = [
                    builder.shuffle_vector(
                        value,
                        ir.Constant(value.type, ir.Undefined),
                        ir.Constant(
                            ir.VectorType(ir.IntType(32), width),
                            [ir.IntType(32)(start + k) for k in range(width)],
                        ),
                    )
                    for start in (0, width)
                ]
                value = combine(builder, *halves)
            return builder.extract_element(value, ir.IntType(32)(0))

        return NUMBA_TYPE[result](types.intp), codegen

    return run


def fold_sum(dtype: str) -> Any:
    return fold(dtype, "float64", lambda builder, a, b: builder.fadd(a, b))


def fold_max(dtype: str) -> Any:
    return fold(
        dtype, dtype, lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b)
    )


@inlined
def two_sum(high, low, value):
    """The compensated total (high, low) plus a value (Neumaier; terms of any sign)."""
    total = high + value
    back = total - high
    return total, low + ((high - (total - back)) + (value - back))


@intrinsic
def float_bits(typingctx, value):
    """A float64 as the word that holds it."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], WORD)

    return types.intp(types.float64), codegen


@intrinsic
def bits_float(typingctx, value):
    """A word as the float64 that it holds."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.intp), codegen
