"""One stored value as the computing type and back, for loads and stores on the GPU.

The CPU's own (`fastact.compile.kernels`) take two bfloat16 at a time and rely on nans whose lower
half is 0; on the GPU a value stands alone, and every nan that float32 arithmetic makes is
0x7fffffff, which a plain rounding of the bits would carry into -0.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

WORD, SHORT = ir.IntType(32), ir.IntType(16)


def widen(builder: Any, value: Any, dtype: str) -> Any:
    """A stored value as the computing type."""
    if dtype == "float16":
        return builder.fpext(value, ir.FloatType())
    if dtype == "bfloat16":
        return builder.bitcast(builder.shl(builder.zext(value, WORD), WORD(16)), ir.FloatType())
    return value


def narrow(builder: Any, value: Any, dtype: str) -> Any:
    """A computed value as the stored type, rounded to nearest even."""
    if dtype == "float16":
        return builder.fptrunc(value, ir.HalfType())
    if dtype == "bfloat16":
        # half to even on the bit pattern; a nan keeps its sign and stays quiet
        pattern = builder.bitcast(value, WORD)
        odd = builder.and_(builder.lshr(pattern, WORD(16)), WORD(1))
        rounded = builder.add(builder.add(pattern, WORD(0x7FFF)), odd)
        quiet = builder.or_(pattern, WORD(0x400000))
        isnan = builder.fcmp_unordered("uno", value, value)
        return builder.trunc(builder.lshr(builder.select(isnan, quiet, rounded), WORD(16)), SHORT)
    return value
