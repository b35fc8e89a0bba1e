"""Raw memory, C calls and atomics for compiled code: what Numba's array layer hides.

Addresses are plain 64-bit integers (`intp`). Everything compiles to one or a few
instructions and nothing can raise.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WORD = ir.IntType(64)
BYTE = ir.IntType(8)
PROCESSOR = llvm.get_process_triple().split("-")[0]
X86 = PROCESSOR in ("x86_64", "amd64", "i686")
ARM = PROCESSOR in ("aarch64", "arm64")


POINTER = BYTE.as_pointer()
MODE = 0xFFFFFFC0  # of the x86 status word: all but the flags


def status_access(builder: Any, instruction: str) -> Any:
    """The instruction that reads, or writes, the status word of x86 at an address."""
    form = ir.FunctionType(ir.VoidType(), [POINTER])
    return cgutils.get_or_insert_function(builder.module, form, f"llvm.x86.sse.{instruction}")


def pointer(builder: Any, address: Any, type_: Any) -> Any:
    return builder.inttoptr(address, type_.as_pointer())


@intrinsic
def load(typingctx, address):
    """The 64-bit word at an address."""

    def codegen(context, builder, signature, args):
        return builder.load(pointer(builder, args[0], WORD))

    return types.intp(types.intp), codegen


@intrinsic
def store(typingctx, address, value):
    """Write a 64-bit word."""

    def codegen(context, builder, signature, args):
        builder.store(args[1], pointer(builder, args[0], WORD))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


def mover(bits: int) -> Any:
    """A function that copies one element of this many bits between two addresses."""
    item = ir.IntType(bits)

    @intrinsic
    def move(typingctx, destination, source):
        def codegen(context, builder, signature, args):
            value = builder.load(pointer(builder, args[1], item))
            builder.store(value, pointer(builder, args[0], item))
            return context.get_dummy_value()

        return types.void(types.intp, types.intp), codegen

    return move


move1, move2, move4, move8 = (mover(bits) for bits in (8, 16, 32, 64))


@intrinsic
def copy_bytes(typingctx, destination, source, count):
    """memcpy of non-overlapping memory."""

    def codegen(context, builder, signature, args):
        cgutils.raw_memcpy(
            builder,
            pointer(builder, args[0], BYTE),
            pointer(builder, args[1], BYTE),
            args[2],
            1,
        )
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), codegen


@intrinsic
def clear_bytes(typingctx, destination, count):
    """memset to zero."""

    def codegen(context, builder, signature, args):
        cgutils.memset(builder, pointer(builder, args[0], BYTE), args[1], 0)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


@intrinsic
def stack(typingctx, size):
    """Address of `size` (a literal) bytes on the stack, aligned to a cache line."""
    if not isinstance(size, types.IntegerLiteral):
        return None
    count = size.literal_value

    def codegen(context, builder, signature, args):
        with builder.goto_entry_block():
            area = builder.alloca(BYTE, ir.Constant(WORD, count))
            area.align = 64
        return builder.ptrtoint(area, WORD)

    return types.intp(size), codegen


def caller(arity: int) -> Any:
    """A function that calls a C function, given by address, with 64-bit arguments."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        fnty = ir.FunctionType(WORD, [WORD] * arity)
        return builder.call(pointer(builder, args[0], fnty), args[1:])

    word = types.intp
    if arity == 0:

        @intrinsic
        def call(typingctx, function):
            return word(word), codegen

    elif arity == 1:

        @intrinsic
        def call(typingctx, function, a):
            return word(word, word), codegen

    elif arity == 2:

        @intrinsic
        def call(typingctx, function, a, b):
            return word(word, word, word), codegen

    elif arity == 3:

        @intrinsic
        def call(typingctx, function, a, b, c):
            return word(word, word, word, word), codegen

    else:

        @intrinsic
        def call(typingctx, function, a, b, c, d):
            return word(word, word, word, word, word), codegen

    return call


call0, call1, call2, call3, call4 = (caller(n) for n in range(5))


@intrinsic
def atomic_add(typingctx, address, value):
    """Add to a word; returns what it held before."""

    def codegen(context, builder, signature, args):
        return builder.atomic_rmw("add", pointer(builder, args[0], WORD), args[1], "seq_cst")

    return types.intp(types.intp, types.intp), codegen


@intrinsic
def atomic_load(typingctx, address):
    def codegen(context, builder, signature, args):
        return builder.load_atomic(pointer(builder, args[0], WORD), "seq_cst", 8)

    return types.intp(types.intp), codegen


@intrinsic
def atomic_store(typingctx, address, value):
    def codegen(context, builder, signature, args):
        builder.store_atomic(args[1], pointer(builder, args[0], WORD), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


@intrinsic
def compare_and_swap(typingctx, address, expected, value):
    """Write value if the word holds expected; True if it did."""

    def codegen(context, builder, signature, args):
        pair = builder.cmpxchg(
            pointer(builder, args[0], WORD), args[1], args[2], "seq_cst", "seq_cst"
        )
        return builder.extract_value(pair, 1)

    return types.boolean(types.intp, types.intp, types.intp), codegen


@intrinsic
def pause(typingctx):
    """Tell the processor that this is a waiting loop."""

    def codegen(context, builder, signature, args):
        if X86:
            fnty = ir.FunctionType(ir.VoidType(), [])
            name = "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, fnty, name), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def float_mode(typingctx):
    """How this thread rounds, and whether it takes subnormal numbers for 0; without the flags."""

    def codegen(context, builder, signature, args):
        if X86:
            slot = cgutils.alloca_once(builder, ir.IntType(32))
            builder.call(status_access(builder, "stmxcsr"), [builder.bitcast(slot, POINTER)])
            return builder.zext(builder.and_(builder.load(slot), ir.IntType(32)(MODE)), WORD)
        if ARM:
            read = ir.InlineAsm(ir.FunctionType(WORD, []), "mrs $0, fpcr", "=r", side_effect=True)
            return builder.call(read, [])
        return WORD(0)

    return types.intp(), codegen


@intrinsic
def set_float_mode(typingctx, mode):
    """Take over the mode of another thread."""

    def codegen(context, builder, signature, args):
        if X86:
            slot = cgutils.alloca_once(builder, ir.IntType(32))
            builder.store(builder.trunc(args[0], ir.IntType(32)), slot)
            builder.call(status_access(builder, "ldmxcsr"), [builder.bitcast(slot, POINTER)])
        elif ARM:
            form = ir.FunctionType(ir.VoidType(), [WORD])
            builder.call(ir.InlineAsm(form, "msr fpcr, $0", "r", side_effect=True), args)
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@intrinsic
def clear_float_flags(typingctx):
    """Clear the sticky floating-point exceptions: NumPy reads them after each loop.

    A `select` evaluates both sides, so a kernel can raise a flag for a value that never
    reaches its result. Only the four flags that NumPy reads are looked at: "inexact" is up after
    nearly every kernel, and to clear it made 40 of the 85 ns that 16 sigmoids took.
    """

    def codegen(context, builder, signature, args):
        i32 = ir.IntType(32)
        if X86:
            slot = cgutils.alloca_once(builder, i32)
            raw = builder.bitcast(slot, POINTER)
            builder.call(status_access(builder, "stmxcsr"), [raw])
            status = builder.load(slot)
            raised = builder.icmp_unsigned("!=", builder.and_(status, i32(0x1D)), i32(0))
            with builder.if_then(raised):
                builder.store(builder.and_(status, i32(MODE)), slot)
                builder.call(status_access(builder, "ldmxcsr"), [raw])
        elif ARM:
            zero = ir.FunctionType(ir.VoidType(), [WORD])
            builder.call(ir.InlineAsm(zero, "msr fpsr, $0", "r", side_effect=True), [WORD(0)])
        return context.get_dummy_value()

    return types.void(), codegen
