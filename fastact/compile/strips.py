"""What row tasks are built of: LLVM functions with loops, job slots, vector loads and stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from fastact.compile.loading import target_machine
from fastact.compile.vectors import FLOAT, MANGLED, intrinsic, splat

WORD = ir.IntType(64)
HALF_WORD = ir.IntType(32)
BYTE = ir.IntType(8)
POINTER = ir.PointerType()

# Storage dtype -> (type in memory, its name in LLVM's intrinsics, computing dtype, bytes)
STORED = {
    "float16": (ir.HalfType(), "f16", "float32", 2),
    "bfloat16": (ir.IntType(16), "i16", "float32", 2),
    "float32": (ir.FloatType(), "f32", "float32", 4),
    "float64": (ir.DoubleType(), "f64", "float64", 8),
}
INFINITY_BITS = {
    "float16": 0x7C00,
    "bfloat16": 0x7F80,
    "float32": 0x7F800000,
    "float64": 0x7FF0000000000000,
}
VECTOR_BYTES = 64
CACHE_LINE = 64


def word(value: int) -> Any:
    return ir.Constant(WORD, value)


def new_module() -> ir.Module:
    module = ir.Module("rows")
    module.triple = target_machine().triple
    module.data_layout = str(target_machine().target_data)
    return module


def object_code(module: ir.Module) -> bytes:
    """A module, optimised, as object code."""
    machine = target_machine()
    parsed = llvm.parse_assembly(str(module))
    # The loops are vectors already: LLVM's own vectorisers would only look at them in vain.
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(parsed, passes)
    parsed.verify()
    return bytes(machine.emit_object(parsed))


class Code:
    """One LLVM function while it is written: `word symbol(word, ...)`."""

    def __init__(self, module: ir.Module, symbol: str, arguments: int) -> None:
        kind = ir.FunctionType(WORD, [WORD] * arguments)
        self.function = ir.Function(module, kind, symbol)
        self.function.attributes.add("nounwind")
        # llvmlite knows only LLVM's own attributes; this one belongs to the x86 back end.
        set.add(self.function.attributes, f'"prefer-vector-width"="{8 * VECTOR_BYTES}"')
        self.entry = self.function.append_basic_block("entry")
        self.builder = ir.IRBuilder(self.function.append_basic_block("body"))
        self.arguments = self.function.args

    def finish(self, result: Any = None) -> None:
        """End the function; what `area` and `variable` made goes before everything else."""
        self.builder.ret(result or word(0))
        ir.IRBuilder(self.entry).branch(self.function.blocks[1])

    def area(self, size: int) -> Any:
        """A pointer to bytes on the stack, aligned to a cache line."""
        space = self.stack(ir.ArrayType(BYTE, size))
        space.align = CACHE_LINE
        return space

    def variable(self, value: Any) -> Any:
        """A place for a value that changes; LLVM keeps it in a register."""
        place = self.stack(value.type)
        self.builder.store(value, place)
        return place

    def stack(self, kind: Any) -> Any:
        place = ir.IRBuilder(self.entry).alloca(kind)
        place.type = POINTER
        return place

    def get(self, place: Any, kind: Any) -> Any:
        return self.builder.load(place, typ=kind)

    # Control

    @contextmanager
    def loop(self, start: Any, stop: Any, step: Any) -> Iterator[Any]:
        """The body that follows, for index in range(start, stop, step)."""
        b = self.builder
        before = b.block
        head, body, end = (b.append_basic_block(name) for name in ("head", "loop", "end"))
        b.branch(head)
        b.position_at_end(head)
        index = b.phi(WORD)
        index.add_incoming(start, before)
        b.cbranch(b.icmp_signed("<", index, stop), body, end)
        b.position_at_end(body)
        yield index
        index.add_incoming(b.add(index, step, flags=["nsw"]), b.block)
        b.branch(head)
        b.position_at_end(end)

    @contextmanager
    def repeat(self) -> Iterator[list[Any]]:
        """The body that follows, until the condition that it appends to the list fails."""
        b = self.builder
        body = b.append_basic_block("again")
        end = b.append_basic_block("end")
        b.branch(body)
        b.position_at_end(body)
        condition: list[Any] = []
        yield condition
        b.cbranch(condition[0], body, end)
        b.position_at_end(end)

    @contextmanager
    def when(self, condition: Any) -> Iterator[None]:
        with self.builder.if_then(condition):
            yield

    # Integers

    def smaller(self, a: Any, b: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def larger(self, a: Any, b: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed(">", a, b), a, b)

    # Memory

    def pointer(self, address: Any) -> Any:
        return self.builder.inttoptr(address, POINTER)

    def at(self, base: Any, offset: Any) -> Any:
        """base + offset bytes."""
        if isinstance(offset, int):
            offset = word(offset)
        return self.builder.gep(base, [offset], source_etype=BYTE)

    def item(self, base: Any, index: Any, size: int) -> Any:
        """base + index * size bytes."""
        return self.at(base, self.builder.mul(index, word(size)))

    def slot(self, base: Any, index: int) -> Any:
        return self.builder.load(self.at(base, 8 * index), typ=WORD)

    def call(self, function: Any, args: Sequence[Any]) -> Any:
        """Call a C function on words, given by address."""
        kind = ir.FunctionType(WORD, [WORD] * len(args))
        return self.builder.call(self.builder.inttoptr(function, kind.as_pointer()), args)

    # Vectors

    def mask(self, count: Any, lanes: int, first: int = 0) -> Any:
        """Which lanes come before `count`, the lanes being numbered from `first`."""
        kind = ir.VectorType(HALF_WORD, lanes)
        numbers = ir.Constant(kind, list(range(first, first + lanes)))
        limit = splat(self.builder.trunc(count, HALF_WORD), lanes, self.builder)
        return self.builder.icmp_signed("<", numbers, limit)

    def load(self, dtype: str, place: Any, lanes: int, mask: Any = None, fill: Any = None) -> Any:
        """Stored elements as a vector of the computing dtype; `fill` where the mask fails."""
        memory, mangled, _, size = STORED[dtype]
        kind = ir.VectorType(memory, lanes)
        if mask is None:
            value = self.builder.load(place, typ=kind, align=size)
        else:
            value = self.masked_load(place, kind, mangled, size, mask, fill)
        return self.widened(value, dtype)

    def masked_load(
        self, place: Any, kind: Any, mangled: str, size: int, mask: Any, fill: Any = None
    ) -> Any:
        name = f"llvm.masked.load.v{kind.count}{mangled}.p0"
        args = [place, ir.Constant(HALF_WORD, size), mask, fill or ir.Constant(kind, None)]
        return intrinsic(self.builder, name, kind, args)

    def masked_bytes(self, place: Any, mask: Any) -> Any:
        """Bytes, 0 where the mask fails."""
        kind = ir.VectorType(BYTE, mask.type.count)
        return self.masked_load(place, kind, "i8", 1, mask)

    def store(self, dtype: str, value: Any, place: Any, mask: Any = None) -> None:
        """A vector of the computing dtype to memory, rounded to the stored dtype."""
        _, mangled, _, size = STORED[dtype]
        value = self.narrowed(value, dtype)
        if mask is None:
            self.builder.store(value, place, align=size)
        else:
            name = f"llvm.masked.store.v{value.type.count}{mangled}.p0"
            args = [value, place, ir.Constant(HALF_WORD, size), mask]
            intrinsic(self.builder, name, ir.VoidType(), args)

    def prefetch(self, place: Any, write: bool) -> None:
        """Fetch a cache line that will be read or written soon."""
        flags = [ir.Constant(HALF_WORD, n) for n in (int(write), 3, 1)]  # near, data
        intrinsic(self.builder, "llvm.prefetch.p0", ir.VoidType(), [place, *flags])

    def fill_bytes(self, place: Any, count: Any, value: int) -> None:
        """memset"""
        args = [place, ir.Constant(BYTE, value), count, ir.Constant(ir.IntType(1), 0)]
        intrinsic(self.builder, "llvm.memset.p0.i64", ir.VoidType(), args)

    def widened(self, value: Any, dtype: str) -> Any:
        lanes = value.type.count
        single = ir.VectorType(FLOAT["float32"], lanes)
        if dtype == "float16":
            return self.builder.fpext(value, single)
        if dtype == "bfloat16":
            wide = ir.VectorType(HALF_WORD, lanes)
            shifted = self.builder.shl(
                self.builder.zext(value, wide), ir.Constant(wide, [16] * lanes)
            )
            return self.builder.bitcast(shifted, single)
        return value

    def narrowed(self, value: Any, dtype: str) -> Any:
        """Rounded to nearest even; a nan stays a quiet nan."""
        b, lanes = self.builder, value.type.count
        if dtype != "float64" and value.type.element == FLOAT["float64"]:
            value = b.fptrunc(value, ir.VectorType(FLOAT["float32"], lanes))
        if dtype == "float16":
            return b.fptrunc(value, ir.VectorType(ir.HalfType(), lanes))
        if dtype != "bfloat16":
            return value
        wide = ir.VectorType(HALF_WORD, lanes)

        def every(number: int) -> Any:
            return ir.Constant(wide, [number] * lanes)

        pattern = b.bitcast(value, wide)
        odd = b.and_(b.lshr(pattern, every(16)), every(1))
        rounded = b.lshr(b.add(b.add(pattern, every(0x7FFF)), odd), every(16))
        quiet = b.or_(b.lshr(pattern, every(16)), every(0x40))
        bits = b.select(b.fcmp_unordered("uno", value, value), quiet, rounded)
        return b.trunc(bits, ir.VectorType(ir.IntType(16), lanes))

    def part(self, value: Any, first: int, count: int) -> Any:
        """The lanes first to first + count."""
        picked = ir.Constant(ir.VectorType(HALF_WORD, count), list(range(first, first + count)))
        return self.builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), picked)

    def joined(self, values: list[Any]) -> Any:
        """Vectors as one that is as long as all together."""
        while len(values) > 1:
            count = 2 * values[0].type.count
            every = ir.Constant(ir.VectorType(HALF_WORD, count), list(range(count)))
            pairs = zip(values[::2], values[1::2], strict=True)
            values = [self.builder.shuffle_vector(a, b, every) for a, b in pairs]
        return values[0]

    def fold(self, value: Any, combine: Any) -> Any:
        """All lanes combined, halves upon halves."""
        lanes = value.type.count
        while lanes > 1:
            lanes //= 2
            value = combine(self.part(value, 0, lanes), self.part(value, lanes, lanes))
        return self.builder.extract_element(value, ir.Constant(HALF_WORD, 0))

    def halves(self, value: Any) -> list[Any]:
        """A vector of either computing dtype as vectors of eight float64."""
        pieces = [self.part(value, k, 8) for k in range(0, value.type.count, 8)]
        if value.type.element == FLOAT["float64"]:
            return pieces
        wide = ir.VectorType(FLOAT["float64"], 8)
        return [self.builder.fpext(p, wide) for p in pieces]

    def absolute(self, value: Any, dtype: str) -> Any:
        name = f"llvm.fabs.v{value.type.count}{MANGLED[dtype]}"
        return intrinsic(self.builder, name, value.type, [value])
