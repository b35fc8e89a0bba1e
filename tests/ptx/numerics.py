"""Arithmetic as the GPU does it: one rounding each, and the documented bounds of the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

# The NaN that every float32 operation produces, whatever its operands (PTX ISA, 9.7.3).
CANONICAL_NAN = np.uint32(0x7FFFFFFF)


@cache
def _fused() -> Any:
    """llvm.fma over arrays: one instruction, or the C library's exact function."""
    from llvmlite import ir
    from numba import vectorize
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def fused(typingctx, a, b, c):
        def codegen(context, builder, signature, args):
            t = args[0].type
            name = "llvm.fma.f32" if isinstance(t, ir.FloatType) else "llvm.fma.f64"
            fn = cgutils.get_or_insert_function(builder.module, ir.FunctionType(t, [t] * 3), name)
            return builder.call(fn, args)

        return a(a, a, a), codegen

    @vectorize(["float32(float32,float32,float32)", "float64(float64,float64,float64)"])
    def over_arrays(a, b, c):
        return fused(a, b, c)

    return over_arrays


def fma(a: Any, b: Any, c: Any) -> Any:
    """a b + c rounded once, in float32 or float64."""
    return _fused()(a, b, c)


def fma_directed(direction: int) -> Callable[..., Any]:
    """fma.rm (direction -1) and fma.rp (+1) in float32.

    In float64 the product is exact; the sum is rounded to odd, which leaves it on the
    right side of every float32, so that rounding it again does no harm.
    """

    def rounded(a: Any, b: Any, c: Any) -> Any:
        product = a.astype(np.float64) * b
        addend = c.astype(np.float64)
        total = product + addend
        back = total - product
        lost = (product - (total - back)) + (addend - back)
        even = (total.view(np.uint64) & np.uint64(1)) == 0
        towards = np.nextafter(total, np.where(lost > 0, np.inf, -np.inf))
        total = np.where((lost != 0) & even & np.isfinite(total), towards, total)
        return directed(total, direction)

    return rounded


def directed(exact: Any, direction: int) -> Any:
    """The float32 next to a float64 on one side."""
    near = exact.astype(np.float32)
    beyond = (near > exact) if direction < 0 else (near < exact)
    return np.where(beyond, np.nextafter(near, np.float32(direction * np.inf)), near)


def canonical(value: np.ndarray) -> np.ndarray:
    """A float32 result with the GPU's own NaN."""
    wrong = np.isnan(value)
    if wrong.any():
        value = np.where(wrong, CANONICAL_NAN.view(np.float32), value)
    return value


def minimum(a: Any, b: Any) -> Any:
    """min: a NaN loses against a number, -0 is less than +0."""
    less = (a < b) | ((a == b) & np.signbit(a)) | np.isnan(b)
    return np.where(less, a, b)


def maximum(a: Any, b: Any) -> Any:
    """max: a NaN loses against a number, +0 is more than -0."""
    more = (a > b) | ((a == b) & ~np.signbit(a)) | np.isnan(b)
    return np.where(more, a, b)


def nan_wins(choose: Callable[..., Any]) -> Callable[..., Any]:
    """min.NaN and max.NaN."""

    def chosen(a: Any, b: Any) -> Any:
        return np.where(np.isnan(a) | np.isnan(b), a.dtype.type(np.nan), choose(a, b))

    return chosen


def copysign(sign: Any, magnitude: Any) -> Any:
    """copysign a, b: the sign of a on b."""
    return np.copysign(magnitude, sign)


def flush(value: Any) -> Any:
    """Subnormal float32 to zero of its sign: what `.ftz` does."""
    tiny = np.abs(value) < np.finfo(np.float32).smallest_normal
    return np.where(tiny, np.copysign(np.float32(0), value), value)


def saturate(value: Any) -> Any:
    """`.sat`: into [0, 1], NaN to +0."""
    inside = np.minimum(np.maximum(np.where(np.isnan(value), 0, value), 0), 1)
    return inside.astype(value.dtype)


def bfloat16_from_single(x: np.ndarray) -> np.ndarray:
    """The bits of the nearest bfloat16, ties to even."""
    pattern = x.view(np.uint32).astype(np.uint64)
    nearest = (pattern + 0x7FFF + ((pattern >> 16) & 1)) >> 16
    return np.where(np.isnan(x), 0x7FFF, nearest).astype(np.uint16)


def single_from_bfloat16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_integer(value: np.ndarray, dtype: np.dtype[Any], rounding: Callable[..., Any]) -> Any:
    """A float to an integer: out of range to the nearest end, NaN to 0 (top bit at 64 bits)."""
    info = np.iinfo(dtype)
    whole = rounding(value.astype(np.float64))
    # the largest values are no float64: compare with the power of two above them
    past, low = float(info.max) + (1 if dtype.itemsize < 8 else 0), float(info.min)
    inside = np.where((whole >= past) | (whole < low) | np.isnan(whole), 0, whole)
    result = inside.astype(dtype)
    result = np.where(whole >= past, info.max, np.where(whole < low, info.min, result))
    nan = dtype.type(0) if dtype.itemsize < 8 else np.uint64(1 << 63).astype(dtype)
    return np.where(np.isnan(whole), nan, result).astype(dtype)


def high_product(a: Any, b: Any) -> Any:
    """The upper half of the product of two integers."""
    size = a.dtype.itemsize
    if size < 8:
        wide = np.dtype(f"{a.dtype.kind}8")
        return ((a.astype(wide) * b.astype(wide)) >> wide.type(8 * size)).astype(a.dtype)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    x, y = a.view(np.uint64), b.view(np.uint64)
    x0, x1, y0, y1 = x & low, x >> half, y & low, y >> half
    middle = ((x0 * y0) >> half) + ((x0 * y1) & low) + ((x1 * y0) & low)
    high = x1 * y1 + ((x0 * y1) >> half) + ((x1 * y0) >> half) + (middle >> half)
    if a.dtype.kind == "i":
        zero = np.uint64(0)
        high = high - np.where(a < 0, y, zero) - np.where(b < 0, x, zero)
    return high.view(a.dtype)


@dataclass(frozen=True)
class Approximation:
    """An instruction that is not exactly rounded: the function and its documented error.

    `relative` and `absolute` bound the error as the PTX ISA states it. The interpreter
    takes the rounded exact value, or with a generator a value anywhere within the bound:
    what holds for every such value holds on every GPU.
    """

    function: Callable[..., Any]
    relative: float
    absolute: Callable[..., Any] | None = None

    def __call__(self, generator: Any, *operands: Any) -> Any:
        exact = self.function(*(v.astype(np.float64) for v in operands))
        if generator is not None:
            shift = generator.uniform(-1, 1, exact.shape)
            error = np.abs(exact) * self.relative
            if self.absolute is not None:
                error = np.where(self.absolute(*operands), 2.0**-22, error)
            # 0, infinity and powers of two that the instruction is to hit stay exact
            exact = np.where(np.isfinite(exact), exact + shift * error, exact)
        return exact.astype(np.float32)


# PTX ISA 9, section 9.7.3: the stated bounds in float32.
APPROXIMATIONS: dict[str, Approximation] = {
    "ex2": Approximation(np.exp2, 2.0**-22),
    "lg2": Approximation(np.log2, 2.0**-22, lambda x: (x > 0.5) & (x < 2)),
    "rcp": Approximation(np.reciprocal, 2.0**-23),
    "sqrt": Approximation(np.sqrt, 2.0**-23),
    "rsqrt": Approximation(lambda x: 1 / np.sqrt(x), 2.0**-22.9),
    "tanh": Approximation(np.tanh, 2.0**-11),
    "div": Approximation(np.divide, 2.0**-22),
}
