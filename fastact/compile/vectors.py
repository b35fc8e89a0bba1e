"""Scalar sources -> LLVM instructions on whole vectors, without Numba.

A scalar source is straight-line code, so its syntax tree becomes vector code by a walk: each
operator one instruction on all lanes. Row tasks are made this way rather than by Numba and LLVM's
loop vectoriser, because a row task is a dozen small loops around the same scalars: written out
directly, every loop is SIMD by construction, sums stay in registers in an order that is ours,
and an op compiles in a fraction of a second (as nested Numba functions: 5 to 12 s).
"""

from __future__ import annotations

import ast
import builtins
import inspect
import math
import textwrap
from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir

from fastact.numerics.language import DtypeConstant, Primitive, Scalar

FLOAT = {"float32": ir.FloatType(), "float64": ir.DoubleType()}
INTEGER = {"float32": ir.IntType(32), "float64": ir.IntType(64)}
MANGLED = {"float32": "f32", "float64": "f64"}
OPERATORS = {ast.Add: "fadd", ast.Sub: "fsub", ast.Mult: "fmul", ast.Div: "fdiv"}
LOGICAL = {ast.BitAnd: "and_", ast.BitOr: "or_"}
COMPARISONS = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
INTRINSICS = {"fma": 3, "rint": 1, "sqrt": 1, "copysign": 2}  # LLVM's names, operands
INTEGERS = {
    "iadd": "add",
    "isub": "sub",
    "iand": "and_",
    "ior": "or_",
    "ishl": "shl",
    "ishr": "ashr",
}


@cache
def tree(source: Callable[..., Any]) -> ast.FunctionDef:
    """The syntax tree of a scalar source."""
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(source))).body
    assert isinstance(function, ast.FunctionDef)
    return function


def parameters(scalar: Any) -> tuple[str, ...]:
    """The names of a scalar's arguments, by which row ops are bound."""
    return tuple(a.arg for a in tree(scalar.single).args.args)


def outputs(scalar: Any) -> int:
    """How many values a scalar returns."""
    last = tree(scalar.single).body[-1]
    assert isinstance(last, ast.Return)
    if isinstance(last.value, ast.Tuple):
        return len(last.value.elts)
    if isinstance(last.value, ast.Call) and isinstance(last.value.func, ast.Name):
        called = scalar.single.__globals__.get(last.value.func.id)
        return outputs(called) if isinstance(called, Scalar) else 1
    return 1


def splat(value: Any, lanes: int, builder: Any = None) -> Any:
    """A value in every lane: a constant (ir.Constant), or an instruction's result."""
    if isinstance(value, ir.Constant):
        return ir.Constant(ir.VectorType(value.type, lanes), [value.constant] * lanes)
    kind = ir.VectorType(value.type, lanes)
    undefined = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(one, undefined, zeros)


def is_integer(value: Any) -> bool:
    """Whether a value, or each lane of it, is an integer."""
    return isinstance(getattr(value.type, "element", value.type), ir.IntType)


def intrinsic(builder: Any, name: str, result: Any, args: list[Any]) -> Any:
    """Call an LLVM intrinsic of this full name."""
    kind = ir.FunctionType(result, [a.type for a in args])
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, args)


class Vectors:
    """Scalars emitted for one computing dtype and a number of lanes.

    With the entry block of a function, constants are loaded there from variables of the module.
    LLVM would put the load of a known constant back into the loop that uses it, each with an
    absolute address of ten bytes: without this softmax of rows of 1024 takes 12 % longer.
    """

    def __init__(self, builder: Any, dtype: str, lanes: int, entry: Any = None) -> None:
        self.builder = builder
        self.entry = entry
        self.held: dict[float, Any] = {}
        self.dtype = dtype
        self.lanes = lanes
        self.walk: type[Walk] = Walk
        self.type: Any = ir.VectorType(FLOAT[dtype], lanes)
        self.integers: Any = ir.VectorType(INTEGER[dtype], lanes)

    def constant(self, value: float) -> Any:
        one = ir.Constant(FLOAT[self.dtype], float(value))
        if self.entry is None or value == 0.0 or not math.isfinite(value):
            return splat(one, self.lanes)
        if value not in self.held:
            first = ir.IRBuilder(self.entry)
            name = f"{self.entry.function.name}_constant{len(self.held)}"
            place = ir.GlobalVariable(first.module, one.type, name)
            place.initializer = one
            place.type = ir.PointerType()
            self.held[value] = splat(first.load(place, typ=one.type), self.lanes, first)
        return self.held[value]

    def integer(self, value: int) -> Any:
        bits = INTEGER[self.dtype].width
        return splat(ir.Constant(INTEGER[self.dtype], value & (1 << bits) - 1), self.lanes)

    def splat(self, value: Any) -> Any:
        return splat(value, self.lanes, self.builder)

    def call(self, scalar: Scalar, args: list[Any]) -> list[Any]:
        """The values that a scalar returns for these vectors."""
        source = scalar.source(self.dtype)
        return self.walk(self, source, dict(zip(parameters(scalar), args, strict=True))).results()

    def bind(self, scalar: Any, names: dict[str, Any]) -> list[Any]:
        """The same, each argument taken by its name; a callable value is made when needed."""
        values = [names[name] for name in parameters(scalar)]
        return self.call(scalar, [v() if callable(v) else v for v in values])


class Walk:
    """One scalar source on its way into instructions."""

    def __init__(self, target: Vectors, source: Callable[..., Any], names: dict[str, Any]) -> None:
        self.target = target
        self.builder = target.builder
        self.source = source
        self.names = names

    def results(self) -> list[Any]:
        for statement in tree(self.source).body:
            if isinstance(statement, ast.Assign):
                (place,) = statement.targets
                self.assign(place, self.many(statement.value))
            elif isinstance(statement, ast.Return):
                return self.many(statement.value)
            elif not (
                isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            ):
                raise self.refusal(statement)
        raise self.refusal(tree(self.source))

    def refusal(self, node: ast.AST) -> TypeError:
        return TypeError(f"{self.source.__name__}: no vector form of {ast.unparse(node)}")

    def assign(self, place: ast.expr, values: list[Any]) -> None:
        places = place.elts if isinstance(place, ast.Tuple) else [place]
        for name, value in zip(places, values, strict=True):
            assert isinstance(name, ast.Name)
            self.names[name.id] = value

    def many(self, node: ast.expr | None) -> list[Any]:
        """The values of an expression that may be several."""
        if isinstance(node, ast.Tuple):
            return [self.value(n) for n in node.elts]
        if isinstance(node, ast.Call):
            return self.called(node)
        assert node is not None
        return [self.value(node)]

    def value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            return self.literal(node.value, node)
        if isinstance(node, ast.Name):
            if node.id in self.names:
                return self.names[node.id]
            return self.literal(self.resolve(node.id), node)
        if isinstance(node, ast.BinOp):
            return self.binary(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            if isinstance(node.operand, ast.Constant):
                value: Any = node.operand.value
                return self.literal(-value, node)
            return self.negative(self.value(node.operand))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
            return self.builder.not_(self.value(node.operand))
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            a, b = self.value(node.left), self.value(node.comparators[0])
            sign = COMPARISONS[type(node.ops[0])]
            if is_integer(a):
                return self.builder.icmp_signed(sign, a, b)
            if sign == "!=":
                return self.builder.fcmp_unordered(sign, a, b)
            return self.builder.fcmp_ordered(sign, a, b)
        if isinstance(node, ast.Call):
            (value,) = self.called(node)
            return value
        raise self.refusal(node)

    def resolve(self, name: str) -> Any:
        """What a free name stands for, in this dtype."""
        scope = self.source.__globals__
        value = scope[name] if name in scope else getattr(builtins, name)
        if isinstance(value, DtypeConstant):
            value = value.single if self.target.dtype == "float32" else value.double
        return value

    def literal(self, value: Any, node: ast.AST) -> Any:
        if isinstance(value, float):
            return self.target.constant(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return self.target.integer(value)
        raise self.refusal(node)

    def binary(self, node: ast.BinOp) -> Any:
        a, b = self.value(node.left), self.value(node.right)
        table = LOGICAL if is_integer(a) else OPERATORS
        if type(node.op) not in table:
            raise self.refusal(node)
        return self.operator(table[type(node.op)], a, b)

    def operator(self, name: str, a: Any, b: Any) -> Any:
        return getattr(self.builder, name)(a, b)

    def negative(self, a: Any) -> Any:
        return self.builder.fneg(a)

    def called(self, node: ast.Call) -> list[Any]:
        assert isinstance(node.func, ast.Name)
        function = self.resolve(node.func.id)
        if isinstance(function, Scalar):
            return self.target.call(function, [self.value(a) for a in node.args])
        if isinstance(function, Primitive):
            if function.__name__ == "polynomial":
                return [self.horner(node)]
            return [self.primitive(function.__name__, [self.value(a) for a in node.args])]
        if function is abs:
            return [self.float_intrinsic("fabs", [self.value(a) for a in node.args])]
        raise self.refusal(node)

    def float_intrinsic(self, name: str, args: list[Any]) -> Any:
        ending = f"v{self.target.lanes}{MANGLED[self.target.dtype]}"
        return intrinsic(self.builder, f"llvm.{name}.{ending}", self.target.type, args)

    def primitive(self, name: str, args: list[Any]) -> Any:
        if name in INTRINSICS:
            return self.float_intrinsic(name, args)
        if name in INTEGERS:
            return getattr(self.builder, INTEGERS[name])(*args)
        if name == "select":
            return self.builder.select(*args)
        if name == "bits":
            return self.builder.bitcast(args[0], self.target.integers)
        if name == "from_bits":
            return self.builder.bitcast(args[0], self.target.type)
        if name == "as_float":
            return self.builder.sitofp(args[0], self.target.type)
        raise TypeError(f"{self.source.__name__}: no vector form of {name}")

    def horner(self, node: ast.Call) -> Any:
        x, table = node.args
        assert isinstance(table, ast.Name)
        at = self.value(x)
        value, *rest = (self.target.constant(c) for c in self.resolve(table.id))
        for c in rest:
            value = self.float_intrinsic("fma", [value, at, c])
        return value
