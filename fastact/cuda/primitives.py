"""What each primitive, operator and intrinsic of the scalar language is on the GPU.

Everything becomes one or two PTX instructions; nothing calls libdevice, whose exp, tanh and the
like are less accurate than the sources in `fastact.numerics`, and whose divisions and square
roots have slow paths behind branches. `ex2.approx` and `rcp.approx` are left out too: their
errors of 2 ulp and 1 ulp would show, and the sources do without.

Sums and products carry their rounding mode in their name: a plain product is fused with a
following sum by NVVM or by ptxas as they like, and the sources compute rounding errors of
products that must then be there. So results agree with the CPU's bit by bit.
"""

from __future__ import annotations

import ast
from typing import Any

from llvmlite import ir

from fastact.compile.vectors import FLOAT, Vectors, Walk, intrinsic

# NVVM's intrinsics, in which {0} is "f" or "d"; the comments name the PTX.
OPERATORS = {
    "fadd": "llvm.nvvm.add.rn.{0}",  # add.rn
    "fmul": "llvm.nvvm.mul.rn.{0}",  # mul.rn
    "fdiv": "llvm.nvvm.div.rn.{0}",  # div.rn
}
# LLVM's, in which {0} is "f32" or "f64", {1} "f" or "d".
INTRINSICS = {
    "fma": "llvm.fma.{0}",  # fma.rn
    "rint": "llvm.rint.{0}",  # cvt.rni
    "fabs": "llvm.nvvm.fabs.{1}",  # abs
    "sqrt": "llvm.sqrt.{0}",  # sqrt.rn
    "larger": "llvm.nvvm.fmax.{1}",  # max: a nan loses
}
LETTER = {"float32": "f", "float64": "d"}
MANGLED = {"float32": "f32", "float64": "f64"}
WIDTH = {"float32": 32, "float64": 64}


class Device(Vectors):
    """Scalars emitted as GPU code: one value per thread, no vectors."""

    def __init__(self, builder: Any, dtype: str) -> None:
        self.builder = builder
        self.dtype = dtype
        self.lanes = 1
        self.type = FLOAT[dtype]
        self.integers = ir.IntType(WIDTH[dtype])
        self.walk = DeviceWalk

    def constant(self, value: float) -> Any:
        return ir.Constant(self.type, float(value))

    def integer(self, value: int) -> Any:
        return ir.Constant(self.integers, value & (1 << WIDTH[self.dtype]) - 1)

    def splat(self, value: Any) -> Any:
        return value


class DeviceWalk(Walk):
    """One scalar source on its way into GPU instructions."""

    def operator(self, name: str, a: Any, b: Any) -> Any:
        target = self.target
        if name == "fadd" and isinstance(b, ir.Constant) and b.constant == 0.0:
            return a  # only -0.0, which changes nothing, is added anywhere
        if name == "fsub":
            return self.operator("fadd", a, self.negative(b))
        if name in OPERATORS:
            full = OPERATORS[name].format(LETTER[target.dtype])
            return intrinsic(self.builder, full, target.type, [a, b])
        return getattr(self.builder, name)(a, b)

    def negative(self, a: Any) -> Any:
        return self.builder.fsub(self.target.constant(-0.0), a)  # neg: NVVM has no fneg

    def float_intrinsic(self, name: str, args: list[Any]) -> Any:
        if name == "copysign":
            return self.copysign(*args)
        full = INTRINSICS[name].format(MANGLED[self.target.dtype], LETTER[self.target.dtype])
        return intrinsic(self.builder, full, self.target.type, args)

    def copysign(self, magnitude: Any, sign: Any) -> Any:
        """By masks, which ptxas makes one three-input instruction."""
        b, word = self.builder, self.target.integers
        top = 1 << (word.width - 1)
        kept = b.and_(b.bitcast(magnitude, word), ir.Constant(word, top - 1))
        taken = b.and_(b.bitcast(sign, word), ir.Constant(word, top))
        return b.bitcast(b.or_(kept, taken), self.target.type)


class ExpressionWalk(DeviceWalk):
    """An expression over scalars, such as that of a direction."""

    def __init__(self, target: Device, scope: dict[str, Any], names: dict[str, Any]) -> None:
        super().__init__(target, lambda: None, names)
        self.scope = scope

    def resolve(self, name: str) -> Any:
        return self.scope[name]

    def evaluate(self, expression: str) -> list[Any]:
        return self.many(ast.parse(expression, mode="eval").body)
