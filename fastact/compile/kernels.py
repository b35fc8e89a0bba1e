"""Scalar functions -> elementwise kernels: one loop, emitted once for every op and dtype.

The loop is written as LLVM code rather than as a Numba array loop for three reasons, each
measured on float32 sigmoid (16 Ki elements, one thread, AVX-512):

* Aliasing. LLVM cannot prove that output and input do not overlap, and its run-time check
  fails for `out=x`, which then runs at 3.24 ns an element. NumPy guarantees that operands
  overlap exactly or not at all; alias metadata says so, and in place costs what out of place
  does (0.32 ns).
* Width and interleaving. LLVM's default for this processor family is 256-bit vectors:
  0.41 ns; 512-bit 0.34 ns; 512-bit and two vectors interleaved 0.32 ns. float64 gains from
  four (tanh 1.34 to 1.15 ns, sigmoid 0.89 to 0.85 ns), float32 does not.
* No remainder. The driver pads the last block, so the kernel has no scalar tail: every
  element takes the same instructions, and a kernel compiles in 30 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastact.compile.abi import BLOCK, BROADCAST, DEFAULT, LINE, STREAMING
from fastact.compile.machine import X86

INTERLEAVE = {"float32": 2, "float64": 4}
VECTOR_WIDTH = 512
INDEX = ir.IntType(64)
BYTE = ir.IntType(8)
# A streaming kernel at 16 Mi float32 on two cores: sigmoid 0.53 -> 0.38 ns, relu 0.50 -> 0.33,
# where a parallel memory copy takes 0.55. Without the prefetch the gain is lost: what the
# processor does of itself stops at each page. Two and four KiB are alike, half a KiB is too short.
AHEAD = 2048  # bytes by which a streaming kernel asks for its inputs before it needs them

# Storage dtype -> (type in memory, computing dtype). Two bfloat16 share a word: its upper and
# lower half need one instruction each to become float32, where elements loaded one by one need
# two, and the way back is shorter too (elu in cache: 1.55 -> 1.21 of float32's time).
WORD = ir.IntType(32)
HIGH = 0xFFFF0000
STORAGE = {
    "float16": (ir.HalfType(), "float32"),
    "bfloat16": (WORD, "float32"),
    "float32": (ir.FloatType(), "float32"),
    "float64": (ir.DoubleType(), "float64"),
}
LANES = {"float16": 1, "bfloat16": 2, "float32": 1, "float64": 1}  # elements in a word
NUMBA_TYPE = {"float32": types.float32, "float64": types.float64}
COMPUTING = {"float32": ir.FloatType(), "float64": ir.DoubleType()}


def widen(builder: Any, value: Any, dtype: str) -> list[Any]:
    """A stored word as the values that it holds, in the computing type."""
    if dtype == "float16":
        return [builder.fpext(value, ir.FloatType())]
    if dtype == "bfloat16":
        high = builder.and_(value, WORD(HIGH))
        return [builder.bitcast(v, ir.FloatType()) for v in (builder.shl(value, WORD(16)), high)]
    return [value]


def narrow(builder: Any, values: list[Any], dtype: str) -> Any:
    """Computed values as the stored word, rounded to nearest even."""
    if dtype == "float16":
        return builder.fptrunc(values[0], ir.HalfType())
    if dtype == "bfloat16":
        # The AVX512-BF16 instruction is not used: it flushes subnormals to zero.
        low, high = (round_pattern(builder, v) for v in values)
        # A funnel shift joins the halves in one instruction where the processor has it.
        join = builder.module.declare_intrinsic(
            "llvm.fshl", [WORD], ir.FunctionType(WORD, [WORD] * 3)
        )
        return builder.call(join, [builder.lshr(high, WORD(16)), low, WORD(16)])
    return values[0]


def round_pattern(builder: Any, value: Any) -> Any:
    """The bits of a float32 whose upper half is the nearest bfloat16, half to even.

    A nan stays one: its lower half is 0, whether it came from an operand or from an operation,
    so nothing is carried into the upper half.
    """
    pattern = builder.bitcast(value, WORD)
    odd = builder.icmp_unsigned("!=", builder.and_(pattern, WORD(0x10000)), WORD(0))
    return builder.add(pattern, builder.select(odd, WORD(0x8000), WORD(0x7FFF)))


def bytes_of(type_: Any) -> int:
    return {ir.HalfType(): 2, WORD: 4, ir.FloatType(): 4, ir.DoubleType(): 8}[type_]


SCOPES = ("inputs", "outputs")


def tag(instruction: Any, module: ir.Module, scope: str) -> None:
    """Alias metadata: this access shares no element with those of the other scopes.

    An output may be an input (`out=x`), but then the two overlap element by element, and
    each element is read before it is written.
    """
    domain = module.add_metadata(["fastact operands"])
    scopes = {name: module.add_metadata([name, domain]) for name in SCOPES}
    others = [scopes[name] for name in SCOPES if name != scope]
    instruction.set_metadata("alias.scope", module.add_metadata([scopes[scope]]))
    instruction.set_metadata("noalias", module.add_metadata(others))


def tune_loop(builder: Any, branch: Any, interleave: int) -> None:
    """Ask LLVM for wide vectors, `interleave` of them at a time, and no unrolling before."""
    module = builder.module
    set.add(builder.function.attributes, f'"prefer-vector-width"="{VECTOR_WIDTH}"')
    hints = [
        module.add_metadata(["llvm.loop.unroll.disable"]),
        module.add_metadata(["llvm.loop.interleave.count", ir.IntType(32)(interleave)]),
    ]
    loop = module.add_metadata([f"fastact loop {id(branch)}", *hints])
    loop.operands = (loop, *hints)  # a loop's metadata must name itself first
    branch.set_metadata("llvm.loop", loop)


def counted(builder: Any, count: Any, body: Callable[[Any], None], interleave: int = 0) -> None:
    """`for i in range(count): body(i)`, made of vectors if `interleave` says of how many."""
    entry = builder.block
    loop = builder.append_basic_block("elements")
    end = builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed(">", count, INDEX(0)), loop, end)
    builder.position_at_end(loop)
    i = builder.phi(INDEX)
    i.add_incoming(INDEX(0), entry)
    body(i)
    following = builder.add(i, INDEX(1), flags=["nuw", "nsw"])
    i.add_incoming(following, builder.block)
    branch = builder.cbranch(builder.icmp_signed("==", following, count), end, loop)
    if interleave:
        tune_loop(builder, branch, interleave)
    builder.position_at_end(end)


def line_aligned(builder: Any, memory: Any, words: int) -> Any:
    """Room for the results of a block, on the stack."""
    with builder.goto_entry_block():
        area = builder.alloca(memory, INDEX(words))
        area.align = LINE
    return area


def stream_out(builder: Any, source: Any, target: Any, words: int) -> None:
    """Bring a block's results to their place, which begins a cache line, past the caches.

    The loop that computes cannot write so itself: LLVM makes vectors of a store that streams only
    where it sees each element aligned like a vector.
    """
    line = ir.VectorType(WORD, LINE // 4).as_pointer()
    if source.type.pointee == ir.HalfType():
        # LLVM has no streaming store of halves: keep it from seeing that these words are some.
        fnty = ir.FunctionType(ir.VoidType(), [source.type])
        builder.call(ir.InlineAsm(fnty, "", "r,~{memory}", side_effect=True), [source])
    one = builder.module.add_metadata([ir.IntType(32)(1)])
    kept, place = (builder.bitcast(p, line) for p in (source, target))
    for k in range(words * bytes_of(source.type.pointee) // LINE):
        value = builder.load(builder.gep(kept, [INDEX(k)]), align=LINE)
        store = builder.store(value, builder.gep(place, [INDEX(k)]), align=LINE)
        store.set_metadata("nontemporal", one)


def prefetch(builder: Any, address: Any) -> None:
    """Ask for the line of an address, to be read."""
    i32, pointer = ir.IntType(32), BYTE.as_pointer()
    fnty = ir.FunctionType(ir.VoidType(), [pointer, i32, i32, i32])
    call = cgutils.get_or_insert_function(builder.module, fnty, "llvm.prefetch.p0i8")
    builder.call(call, [builder.bitcast(address, pointer), i32(0), i32(3), i32(1)])


def fence(builder: Any) -> None:
    """Make streamed results visible before anything that is written afterwards."""
    if X86:
        fnty = ir.FunctionType(ir.VoidType(), [])
        name = "llvm.x86.sse.sfence"
        builder.call(cgutils.get_or_insert_function(builder.module, fnty, name), [])


def elementwise_loop(
    scalar: Any, dtype: str, arrays: int, defaults: tuple[float, ...], outputs: int, variant: int
) -> Any:
    """An intrinsic `loop(blocks, operands)` that applies a compiled scalar to each element."""
    parameters = len(defaults)
    memory, computing = STORAGE[dtype]
    lanes = LANES[dtype]
    words = BLOCK // lanes
    compute_type = COMPUTING[computing]
    argument_types = (NUMBA_TYPE[computing],) * (arrays + parameters)
    interleave = INTERLEAVE[computing]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        blocks, operands = args
        module = builder.module

        def pointer(k: int, type_: Any) -> Any:
            return builder.bitcast(
                builder.load(builder.gep(operands, [INDEX(k)])), type_.as_pointer()
            )

        streams = [pointer(k, memory) for k in range(arrays)]
        settings = [pointer(arrays + k, compute_type) for k in range(parameters)]
        results = [pointer(arrays + parameters + k, memory) for k in range(outputs)]
        if variant == DEFAULT:
            fixed = [compute_type(np.dtype(computing).type(v)) for v in defaults]
        else:
            fixed = [] if variant == BROADCAST else [builder.load(p) for p in settings]
        function_type = context.typing_context.resolve_value_type(scalar)
        call = function_type.get_call_type(context.typing_context, argument_types, {})
        function = context.get_function(function_type, call)

        def element(base: Any, index: Any) -> Any:
            value = builder.load(builder.gep(base, [index], inbounds=True))
            tag(value, module, "inputs")
            return value

        def compute(i: Any, results: list[Any], at: Any) -> None:
            loaded = [widen(builder, element(p, i), dtype) for p in streams]
            parts = []
            for lane in range(lanes):
                values = [v[lane] for v in loaded] + fixed
                if variant == BROADCAST:
                    place = builder.add(builder.mul(i, INDEX(lanes)), INDEX(lane))
                    values += [element(p, place) for p in settings]
                value = function(builder, values)
                one = [value] if outputs == 1 else cgutils.unpack_tuple(builder, value, outputs)
                parts.append(one)
            for base, together in zip(results, zip(*parts, strict=True), strict=True):
                address = builder.gep(base, [at], inbounds=True)
                written = builder.store(narrow(builder, list(together), dtype), address)
                tag(written, module, "outputs")

        def streamed_block(b: Any) -> None:
            first = builder.mul(b, INDEX(words))
            for p in streams:
                ahead = builder.bitcast(builder.gep(p, [first]), BYTE.as_pointer())
                for line in range(0, words * bytes_of(memory), LINE):
                    prefetch(builder, builder.gep(ahead, [INDEX(AHEAD + line)]))
            inner = lambda i: compute(builder.add(first, i), kept, i)  # noqa: E731
            counted(builder, INDEX(words), inner, interleave)
            for source, target in zip(kept, results, strict=True):
                stream_out(builder, source, builder.gep(target, [first]), words)

        if variant == STREAMING:
            kept = [line_aligned(builder, memory, words) for _ in results]
            counted(builder, blocks, streamed_block)
            fence(builder)
        else:
            inner = lambda i: compute(i, results, i)  # noqa: E731
            counted(builder, builder.mul(blocks, INDEX(words)), inner, interleave)
        return context.get_dummy_value()

    @intrinsic
    def loop(typingctx, blocks, operands):
        return types.void(blocks, operands), codegen

    return loop


def elementwise_kernel(
    scalar: Any, dtype: str, arrays: int, defaults: tuple[float, ...], outputs: int, variant: int
) -> Callable[..., Any]:
    """The Python function of a kernel, ready to be compiled with KERNEL_SIGNATURE."""
    loop = elementwise_loop(scalar, dtype, arrays, defaults, outputs, variant)

    def kernel(blocks, operands):
        loop(blocks, operands)

    return kernel


KERNEL_SIGNATURE = types.void(types.intp, types.CPointer(types.voidptr))
