"""Stored half types as float32 and back, for loads and stores on the GPU.

From compute capability 8.0 on one instruction rounds two values into a word, for either type
(PTX ISA, cvt: .f16x2 and .bf16x2 require sm_80); before, bfloat16 is rounded by its bits. The CPU's
own way (`fastact.compile.kernels`) relies on nans whose lower half is 0; on the GPU every nan that
float32 arithmetic makes is 0x7fffffff, which a plain rounding of the bits would carry into -0.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

WORD, SHORT, SINGLE = ir.IntType(32), ir.IntType(16), ir.FloatType()
PAIRED_FROM = (8, 0)  # the compute capability
PTX_NAME = {"float16": "f16", "bfloat16": "bf16"}
HIGH = 0xFFFF0000


def assembly(builder: Any, text: str, result: Any, constraints: str, args: list[Any]) -> Any:
    """One instruction of PTX."""
    kind = ir.FunctionType(result, [a.type for a in args])
    return builder.call(ir.InlineAsm(kind, text, constraints), args)


def widen(builder: Any, value: Any, dtype: str) -> Any:
    """A stored value as the computing type."""
    if dtype == "float16":
        return builder.fpext(value, SINGLE)
    if dtype == "bfloat16":
        return builder.bitcast(builder.shl(builder.zext(value, WORD), WORD(16)), SINGLE)
    return value


def widen_pair(builder: Any, word: Any, dtype: str) -> list[Any]:
    """The two values of a word."""
    if dtype == "bfloat16":
        halves = [builder.shl(word, WORD(16)), builder.and_(word, WORD(HIGH))]
        return [builder.bitcast(half, SINGLE) for half in halves]
    pair = builder.bitcast(word, ir.VectorType(ir.HalfType(), 2))
    return [widen(builder, builder.extract_element(pair, WORD(k)), dtype) for k in range(2)]


def narrow(builder: Any, value: Any, dtype: str, cc: tuple[int, int]) -> Any:
    """A computed value as the stored type, rounded to nearest even."""
    if dtype == "float16":
        return builder.fptrunc(value, ir.HalfType())
    if dtype != "bfloat16":
        return value
    if cc >= PAIRED_FROM:
        return assembly(builder, "cvt.rn.bf16.f32 $0, $1;", SHORT, "=h,f", [value])
    # half to even on the bit pattern; a nan keeps its sign and stays quiet
    pattern = builder.bitcast(value, WORD)
    odd = builder.and_(builder.lshr(pattern, WORD(16)), WORD(1))
    rounded = builder.add(builder.add(pattern, WORD(0x7FFF)), odd)
    quiet = builder.or_(pattern, WORD(0x400000))
    isnan = builder.fcmp_unordered("uno", value, value)
    return builder.trunc(builder.lshr(builder.select(isnan, quiet, rounded), WORD(16)), SHORT)


def narrow_pair(builder: Any, pair: list[Any], dtype: str, cc: tuple[int, int]) -> Any:
    """Two computed values as a word, the first in its lower half."""
    if cc >= PAIRED_FROM:
        text = f"cvt.rn.{PTX_NAME[dtype]}x2.f32 $0, $1, $2;"
        return assembly(builder, text, WORD, "=r,f,f", pair[::-1])
    stored = [narrow(builder, value, dtype, cc) for value in pair]
    vector = ir.Constant(ir.VectorType(stored[0].type, 2), ir.Undefined)
    for k, half in enumerate(stored):
        vector = builder.insert_element(vector, half, WORD(k))
    return builder.bitcast(vector, WORD)
