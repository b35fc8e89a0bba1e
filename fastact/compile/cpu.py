"""The CPU target: each primitive as one LLVM instruction or intrinsic.

Nothing here calls a library function, so LLVM is free to turn a loop over any scalar
function into SIMD code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from fastact.compile.specialize import Target
from fastact.compile.tabulated import tables_in_registers, tabulated


def llvm_function(name: str, arity: int) -> Any:
    """A primitive that is one overloaded LLVM intrinsic, such as llvm.fma."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        t = args[0].type
        suffix = "f32" if isinstance(t, ir.FloatType) else "f64"
        fnty = ir.FunctionType(t, [t] * arity)
        fn = cgutils.get_or_insert_function(builder.module, fnty, f"llvm.{name}.{suffix}")
        return builder.call(fn, args)

    if arity == 1:

        @intrinsic
        def primitive(typingctx, a):
            return a(a), codegen

    elif arity == 2:

        @intrinsic
        def primitive(typingctx, a, b):
            return a(a, a), codegen

    else:

        @intrinsic
        def primitive(typingctx, a, b, c):
            return a(a, a, a), codegen

    return primitive


def integer_instruction(name: str) -> Any:
    """A primitive that is one LLVM integer instruction on two operands of one width."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return getattr(builder, name)(*args)

    @intrinsic
    def primitive(typingctx, a, b):
        return a(a, a), codegen

    return primitive


def reinterpretation(result: dict[Any, Any], instruction: str) -> Any:
    """A primitive that changes the type by one LLVM instruction."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to = context.get_value_type(signature.return_type)
        return getattr(builder, instruction)(args[0], to)

    @intrinsic
    def primitive(typingctx, a):
        return result[a](a), codegen

    return primitive


@intrinsic
def select(typingctx, condition, a, b):
    def codegen(context, builder, signature, args):
        return builder.select(*args)

    return a(types.boolean, a, a), codegen


TO_INTEGER = {types.float32: types.int32, types.float64: types.int64}
TO_FLOAT = {types.int32: types.float32, types.int64: types.float64}

PRIMITIVES: dict[str, Any] = {
    "fma": llvm_function("fma", 3),
    "rint": llvm_function("rint", 1),
    "sqrt": llvm_function("sqrt", 1),
    "copysign": llvm_function("copysign", 2),
    "select": select,
    "bits": reinterpretation(TO_INTEGER, "bitcast"),
    "from_bits": reinterpretation(TO_FLOAT, "bitcast"),
    "as_float": reinterpretation(TO_FLOAT, "sitofp"),
    "iadd": integer_instruction("add"),
    "isub": integer_instruction("sub"),
    "iand": integer_instruction("and_"),
    "ior": integer_instruction("or_"),
    "ishl": integer_instruction("shl"),
    "ishr": integer_instruction("ashr"),
}


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a scalar function so that it is always inlined into the loop that calls it."""
    return njit(function, forceinline=True, error_model="numpy", fastmath=False)


CPU = Target("cpu", PRIMITIVES, inlined, tabulated if tables_in_registers() else None)
