"""The sum of the squares of an array as compiled code, in float64, hardly an error left.

`word squares(count, address, scale, sums)` reads `count` contiguous elements, multiplies each by
the float64 at `scale`, and leaves SUMS float64 at `sums` whose exact sum is the result: per
lane the running sum and what rounding lost of it (Ogita, Rump and Oishi, Accurate sum and dot
product, SIAM Journal on Scientific Computing 26, 2005).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from fastact.compile.strips import STORED, Code, new_module, object_code, word
from fastact.compile.vectors import FLOAT, intrinsic, splat

WIDTH = 8  # float64 to a vector
STRIPS = 4  # vectors that are summed side by side: the latency of one would show
LANES = WIDTH * STRIPS
SUMS = 2 * LANES
DOUBLES = ir.VectorType(FLOAT["float64"], WIDTH)


class Squares(Code):
    """The function while it is written."""

    def __init__(self, module: ir.Module, symbol: str, dtype: str) -> None:
        super().__init__(module, symbol, 4)
        b, (count, address, scale, sums) = self.builder, self.arguments
        self.dtype, self.size = dtype, STORED[dtype][3]
        self.base = self.pointer(address)
        one = b.load(self.pointer(scale), typ=FLOAT["float64"])
        self.scale = splat(one, WIDTH, b)
        zero = ir.Constant(DOUBLES, [0.0] * WIDTH)
        self.high = [self.variable(zero) for _ in range(STRIPS)]
        self.low = [self.variable(zero) for _ in range(STRIPS)]
        full = b.and_(count, word(-LANES))
        with self.loop(word(0), full, word(LANES)) as index:
            self.strip(index, [None] * STRIPS)
        with self.when(b.icmp_signed("!=", full, count)):
            rest = b.sub(count, full)
            self.strip(full, [self.mask(rest, WIDTH, k * WIDTH) for k in range(STRIPS)])
        for k, place in enumerate([*self.high, *self.low]):
            where = self.item(self.pointer(sums), word(k * WIDTH), 8)
            b.store(self.get(place, DOUBLES), where, align=8)
        self.finish()

    def strip(self, index: Any, masks: list[Any]) -> None:
        """Add the squares of the elements from `index` on."""
        b = self.builder
        for k, mask in enumerate(masks):
            place = self.item(self.base, b.add(index, word(k * WIDTH)), self.size)
            value = self.load(self.dtype, place, WIDTH, mask)
            if self.dtype != "float64":
                value = b.fpext(value, DOUBLES)
            value = b.fmul(value, self.scale)
            square = b.fmul(value, value)
            lost = self.fma(value, value, b.fneg(square))
            high = self.get(self.high[k], DOUBLES)
            total = b.fadd(high, square)
            back = b.fsub(total, high)
            error = b.fadd(b.fsub(high, b.fsub(total, back)), b.fsub(square, back))
            low = b.fadd(self.get(self.low[k], DOUBLES), b.fadd(error, lost))
            b.store(total, self.high[k])
            b.store(low, self.low[k])

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        return intrinsic(self.builder, f"llvm.fma.v{WIDTH}f64", DOUBLES, [x, y, z])


def build_squares(dtype: str, symbol: str) -> bytes:
    """The function for one dtype as object code."""
    module = new_module()
    Squares(module, symbol, dtype)
    return object_code(module)
