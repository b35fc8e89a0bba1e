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

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastact.compile.abi import BLOCK

INTERLEAVE = {"float32": 2, "float64": 4}
VECTOR_WIDTH = 512
INDEX = ir.IntType(64)

# Storage dtype -> (type in memory, computing dtype)
STORAGE = {
    "float16": (ir.HalfType(), "float32"),
    "bfloat16": (ir.IntType(16), "float32"),
    "float32": (ir.FloatType(), "float32"),
    "float64": (ir.DoubleType(), "float64"),
}
NUMBA_TYPE = {"float32": types.float32, "float64": types.float64}
COMPUTING = {"float32": ir.FloatType(), "float64": ir.DoubleType()}


def widen(builder: Any, value: Any, dtype: str) -> Any:
    """A stored value as the computing type."""
    if dtype == "float16":
        return builder.fpext(value, ir.FloatType())
    if dtype == "bfloat16":
        i32 = ir.IntType(32)
        return builder.bitcast(builder.shl(builder.zext(value, i32), i32(16)), ir.FloatType())
    return value


def narrow(builder: Any, value: Any, dtype: str) -> Any:
    """A computed value as the stored type, rounded to nearest even."""
    if dtype == "float16":
        return builder.fptrunc(value, ir.HalfType())
    if dtype == "bfloat16":
        # Round half to even on the bit pattern; a nan keeps its sign and stays quiet.
        # The AVX512-BF16 instruction is not used: it flushes subnormals to zero.
        i32, i16 = ir.IntType(32), ir.IntType(16)
        pattern = builder.bitcast(value, i32)
        odd = builder.and_(builder.lshr(pattern, i32(16)), i32(1))
        rounded = builder.add(builder.add(pattern, i32(0x7FFF)), odd)
        quiet = builder.or_(pattern, i32(0x400000))
        isnan = builder.fcmp_unordered("uno", value, value)
        return builder.trunc(builder.lshr(builder.select(isnan, quiet, rounded), i32(16)), i16)
    return value


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


def elementwise_loop(
    scalar: Any, dtype: str, arrays: int, parameters: int, outputs: int, broadcast: bool
) -> Any:
    """An intrinsic `loop(blocks, operands)` that applies a compiled scalar to each element."""
    memory, computing = STORAGE[dtype]
    compute_type = COMPUTING[computing]
    argument_types = (NUMBA_TYPE[computing],) * (arrays + parameters)

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
        fixed = [] if broadcast else [builder.load(p) for p in settings]

        total = builder.mul(blocks, INDEX(BLOCK))
        entry = builder.block
        body = builder.append_basic_block("elements")
        end = builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed(">", blocks, INDEX(0)), body, end)
        builder.position_at_end(body)
        i = builder.phi(INDEX)
        i.add_incoming(INDEX(0), entry)

        def element(base: Any) -> Any:
            value = builder.load(builder.gep(base, [i], inbounds=True))
            tag(value, module, "inputs")
            return value

        values = [widen(builder, element(p), dtype) for p in streams]
        values += [element(p) for p in settings] if broadcast else fixed
        function_type = context.typing_context.resolve_value_type(scalar)
        call = function_type.get_call_type(context.typing_context, argument_types, {})
        value = context.get_function(function_type, call)(builder, values)
        parts = [value] if outputs == 1 else cgutils.unpack_tuple(builder, value, outputs)
        for base, part in zip(results, parts, strict=True):
            address = builder.gep(base, [i], inbounds=True)
            tag(builder.store(narrow(builder, part, dtype), address), module, "outputs")

        following = builder.add(i, INDEX(1), flags=["nuw", "nsw"])
        i.add_incoming(following, builder.block)
        branch = builder.cbranch(builder.icmp_signed("==", following, total), end, body)
        tune_loop(builder, branch, INTERLEAVE[computing])
        builder.position_at_end(end)
        return context.get_dummy_value()

    @intrinsic
    def loop(typingctx, blocks, operands):
        return types.void(blocks, operands), codegen

    return loop


def elementwise_kernel(
    scalar: Any, dtype: str, arrays: int, parameters: int, outputs: int, broadcast: bool
) -> Callable[..., Any]:
    """The Python function of a kernel, ready to be compiled with KERNEL_SIGNATURE."""
    loop = elementwise_loop(scalar, dtype, arrays, parameters, outputs, broadcast)

    def kernel(blocks, operands):
        loop(blocks, operands)

    return kernel


KERNEL_SIGNATURE = types.void(types.intp, types.CPointer(types.voidptr))
