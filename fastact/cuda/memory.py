"""Loads and stores of kernels, as LLVM code; addresses are integers into global memory.

A vector access moves 16 bytes by one instruction. Half types are widened as they are loaded and
rounded as they are stored, so a kernel sees the computing dtype alone.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

from fastact.cuda.halves import narrow, narrow_pair, widen, widen_pair
from fastact.cuda.kinds import COMPUTING, INTEGERS, ITEMSIZE, SIZE, VECTOR_BYTES

GLOBAL = 1  # NVVM's address space of global memory
STORED = {
    "float16": ir.HalfType(),
    "bfloat16": ir.IntType(16),
    "float32": ir.FloatType(),
    "float64": ir.DoubleType(),
    "bool": ir.IntType(8),
    **{name: ir.IntType(8 * size) for name, size in INTEGERS.items()},
}
NUMBA = {
    "float32": types.float32,
    "float64": types.float64,
    "bool": types.uint8,
    **{name: getattr(types, name) for name in INTEGERS},
}
WORD = ir.IntType(32)


def address(builder: Any, base: Any, index: Any, kind: Any) -> Any:
    """The address of element `index` of elements of an LLVM type."""
    pointer = builder.inttoptr(base, kind.as_pointer(GLOBAL))
    return builder.gep(pointer, [index], source_etype=kind)


def lane(k: int) -> Any:
    return ir.Constant(WORD, k)


def loader(dtype: str) -> Any:
    """load(address, index): one element in the computing dtype."""
    kind = STORED[dtype]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base, index = args
        place = address(builder, base, index, kind)
        value = builder.load(place, align=SIZE[dtype], typ=kind)
        return widen(builder, value, dtype)

    @intrinsic
    def load(typingctx, base, index):
        return NUMBA[COMPUTING.get(dtype, dtype)](base, index), codegen

    return load


def mover(dtype: str) -> Any:
    """at(address, offset): the address of an element."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base, offset = args
        wide = ir.IntType(64)
        if offset.type != wide:
            offset = builder.sext(offset, wide)
        return builder.add(base, builder.mul(offset, ir.Constant(wide, SIZE[dtype])))

    @intrinsic
    def at(typingctx, base, offset):
        return base(base, offset), codegen

    return at


def storer(dtype: str, cc: tuple[int, int]) -> Any:
    """store(address, index, value): one element, rounded to the dtype."""
    kind = STORED[dtype]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base, index, value = args
        place = address(builder, base, index, kind)
        builder.store(narrow(builder, value, dtype, cc), place, align=SIZE[dtype])
        return context.get_dummy_value()

    @intrinsic
    def store(typingctx, base, index, value):
        return types.void(base, index, value), codegen

    return store


def truncated(builder: Any, value: Any, target: str) -> Any:
    """A float as an integer or a bool, as NumPy converts it; beyond 64 bits and for nan that

    depends on the processor there too.
    """
    kind, wide = STORED[target], ir.IntType(64)
    zero = ir.Constant(value.type, 0.0)
    if target == "bool":
        return builder.zext(builder.fcmp_unordered("!=", value, zero), kind)
    signed = builder.fptosi(value, wide)
    if target == "uint64":
        negative = builder.fcmp_ordered("<", value, zero)
        return builder.select(negative, signed, builder.fptoui(value, wide))
    return signed if kind == wide else builder.trunc(signed, kind)


def converter(target: str) -> Any:
    """converted(value): anything loaded as what `storer` of this dtype takes.

    float64 becomes float16 in one rounding, when it is stored.
    """
    own = COMPUTING.get(target, target)

    @intrinsic
    def converted(typingctx, value):
        kept = target == "float16" and value == types.float64
        kind = types.float64 if kept else NUMBA[own]

        def codegen(context, builder, signature, args):
            if isinstance(value, types.Float) and target not in ITEMSIZE:
                return truncated(builder, args[0], target)
            return context.cast(builder, args[0], signature.args[0], kind)

        return kind(value), codegen

    return converted


@intrinsic
def whole(typingctx, value):
    """An integer as one of 64 bits with a sign."""

    def codegen(context, builder, signature, args):
        return context.cast(builder, args[0], signature.args[0], types.int64)

    return types.int64(value), codegen


def vector_type(dtype: str) -> Any:
    """Sixteen bytes of a dtype; pairs of halves travel as words."""
    size = ITEMSIZE[dtype]
    if size == 2:
        return ir.VectorType(WORD, 4)
    return ir.VectorType(STORED[dtype], VECTOR_BYTES // size)


def vector_loader(dtype: str) -> Any:
    """load_vector(address, index): the elements of the index-th sixteen bytes, as a tuple."""
    kind, lanes = vector_type(dtype), VECTOR_BYTES // ITEMSIZE[dtype]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base, index = args
        place = address(builder, base, index, kind)
        vector = builder.load(place, align=VECTOR_BYTES, typ=kind)
        elements = [builder.extract_element(vector, lane(k)) for k in range(kind.count)]
        if ITEMSIZE[dtype] == 2:
            values = [value for word in elements for value in widen_pair(builder, word, dtype)]
        else:
            values = [widen(builder, e, dtype) for e in elements]
        return context.make_tuple(builder, signature.return_type, values)

    @intrinsic
    def load_vector(typingctx, base, index):
        result = types.UniTuple(NUMBA[COMPUTING[dtype]], lanes)
        return result(base, index), codegen

    return load_vector


def vector_storer(dtype: str, cc: tuple[int, int]) -> Any:
    """store_vector(address, index, values): a tuple to the index-th sixteen bytes."""
    kind, lanes = vector_type(dtype), VECTOR_BYTES // ITEMSIZE[dtype]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base, index, values = args
        elements = [builder.extract_value(values, k) for k in range(lanes)]
        if ITEMSIZE[dtype] == 2:
            pairs = zip(elements[::2], elements[1::2], strict=True)
            elements = [narrow_pair(builder, list(pair), dtype, cc) for pair in pairs]
        vector = packed(builder, elements, kind)
        builder.store(vector, address(builder, base, index, kind), align=VECTOR_BYTES)
        return context.get_dummy_value()

    @intrinsic
    def store_vector(typingctx, base, index, values):
        return types.void(base, index, values), codegen

    return store_vector


def packed(builder: Any, elements: Any, kind: Any) -> Any:
    """Elements as one vector."""
    vector = ir.Constant(kind, ir.Undefined)
    for k, element in enumerate(elements):
        vector = builder.insert_element(vector, element, lane(k))
    return vector


def integer_operation(name: str) -> Any:
    """A binary instruction on two integers of one width; Numba's own would widen to 64 bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return getattr(builder, name)(*args)

    @intrinsic
    def operation(typingctx, a, b):
        return a(a, a), codegen

    return operation


def to_index(width: int) -> Any:
    """A thread's or block's number as an index of 32 or 64 bits."""
    kind = types.int32 if width == 32 else types.int64

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.cast(builder, args[0], signature.args[0], kind)

    @intrinsic
    def index(typingctx, a):
        return kind(a), codegen

    return index


add, multiply, divide = map(integer_operation, ("add", "mul", "udiv"))
subtract, shift_right = map(integer_operation, ("sub", "lshr"))
both, either = map(integer_operation, ("and_", "xor"))


@intrinsic
def least(typingctx, a, b):
    """The smaller of two indices."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.icmp_signed("<", *args), *args)

    return a(a, a), codegen


@intrinsic
def limited(typingctx, limit, count):
    """A number of entries as an index between 0 and `count`."""

    def codegen(context, builder, signature, args):
        limit, count = args
        zero = ir.Constant(limit.type, 0)
        high = builder.select(builder.icmp_signed("<", limit, count), limit, count)
        return builder.select(builder.icmp_signed(">", high, zero), high, zero)

    return count(count, count), codegen


@intrinsic
def shuffle(typingctx, value, step):
    """The value of the thread of this warp whose number differs by the bits of `step`."""

    def exchanged(builder: Any, word: Any, step: Any) -> Any:
        name = "llvm.nvvm.shfl.sync.bfly.i32"
        kind = ir.FunctionType(WORD, [WORD] * 4)
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        everyone, clamp = ir.Constant(WORD, 0xFFFFFFFF), ir.Constant(WORD, 0x1F)
        return builder.call(function, [everyone, word, step, clamp])

    def codegen(context, builder, signature, args):
        value, step = args
        if step.type != WORD:
            step = builder.trunc(step, WORD)
        if value.type == ir.FloatType():
            word = exchanged(builder, builder.bitcast(value, WORD), step)
            return builder.bitcast(word, value.type)
        pair = builder.bitcast(value, ir.VectorType(WORD, 2))
        words = [exchanged(builder, builder.extract_element(pair, lane(k)), step) for k in (0, 1)]
        return builder.bitcast(packed(builder, words, ir.VectorType(WORD, 2)), value.type)

    return value(value, step), codegen
