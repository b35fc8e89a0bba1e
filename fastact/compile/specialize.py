"""Scalar source -> one Python function per dtype and target, ready for Numba.

The source is read as a syntax tree, its literals and constants get the dtype computed in,
and its free names are bound to the target's primitives or to other specialised functions.
What comes out is a plain function whose code keeps the file and line numbers of its source.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from fastact.numerics.language import DtypeConstant, Primitive, Scalar

FLOAT = {"float32": np.float32, "float64": np.float64}
INTEGER = {"float32": np.int32, "float64": np.int64}
MASK = {"float32": 0xFFFFFFFF, "float64": 0xFFFFFFFFFFFFFFFF}


def integer(value: int, dtype: str) -> Any:
    """A Python int as the signed integer of the dtype's width; bit patterns wrap."""
    bits = 8 * np.dtype(dtype).itemsize
    value &= MASK[dtype]
    return INTEGER[dtype](value - (1 << bits) if value >> (bits - 1) else value)


class Target:
    """What differs per target: its primitives, and how it compiles a scalar function."""

    def __init__(
        self,
        name: str,
        primitives: dict[str, Any],
        jit: Callable[[Callable[..., Any]], Any],
        tabulated: Callable[[Scalar], Any] | None = None,
    ) -> None:
        self.name = name
        self.primitives = primitives
        self.jit = jit
        self.tabulated = tabulated  # how it compiles a source that looks tables up, if it does


class Specializer(ast.NodeTransformer):
    """Rewrites one function for one dtype; collects the names that it needs."""

    def __init__(self, source: Callable[..., Any], dtype: str, target: Target) -> None:
        self.source = source
        self.dtype = dtype
        self.target = target
        self.bound: dict[str, Any] = {}
        self.locals: set[str] = set()

    def resolve(self, name: str) -> Any:
        scope = self.source.__globals__
        return scope[name] if name in scope else getattr(builtins, name)

    def constant(self, value: Any, node: ast.AST) -> ast.Name:
        typed = FLOAT[self.dtype](value) if isinstance(value, float) else integer(value, self.dtype)
        name = f"_constant_{len(self.bound)}"
        self.bound[name] = typed
        return ast.copy_location(ast.Name(name, ast.Load()), node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.locals = {a.arg for a in node.args.args}
        self.locals |= {
            n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        }
        node.decorator_list = []
        node.returns = None
        for a in node.args.args:
            a.annotation = None
        node.args.defaults = []
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            node.body = node.body[1:]
        node.body = [self.visit(statement) for statement in node.body]
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            return node
        return self.constant(node.value, node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        if isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            value: Any = node.operand.value
            return self.constant(-value, node)
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self.locals or node.id in self.bound:
            return node
        value = self.resolve(node.id)
        if isinstance(value, DtypeConstant):
            value = value.single if self.dtype == "float32" else value.double
        if isinstance(value, Scalar):
            value = specialize(value, self.dtype, self.target)
        elif isinstance(value, Primitive):
            value = self.target.primitives[value.__name__]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            return self.constant(value, node)
        self.bound[node.id] = value
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name) and node.func.id not in self.locals:
            value = self.resolve(node.func.id)
            if isinstance(value, Primitive) and value.__name__ == "polynomial":
                return self.horner(node)
        return self.generic_visit(node)

    def horner(self, node: ast.Call) -> ast.AST:
        x, table = node.args
        if not isinstance(x, ast.Name) or not isinstance(table, ast.Name):
            raise TypeError(f"polynomial in {self.source.__name__}: name its two arguments")
        coefficients = self.resolve(table.id)
        if isinstance(coefficients, DtypeConstant):
            coefficients = coefficients.single if self.dtype == "float32" else coefficients.double
        self.bound["_fma"] = self.target.primitives["fma"]
        value: ast.AST = self.constant(float(coefficients[0]), node)
        for c in coefficients[1:]:
            term = [value, ast.Name(x.id, ast.Load()), self.constant(float(c), node)]
            value = ast.Call(ast.Name("_fma", ast.Load()), term, [])  # type: ignore[arg-type]
        return ast.fix_missing_locations(ast.copy_location(value, node))


def rewrite(source: Callable[..., Any], dtype: str, target: Target) -> Callable[..., Any]:
    """The Python function of `source` for a dtype and a target, not yet compiled."""
    lines, first = inspect.getsourcelines(source)
    tree = ast.parse(textwrap.dedent("".join(lines)))
    ast.increment_lineno(tree, first - 1)
    work = Specializer(source, dtype, target)
    tree = ast.fix_missing_locations(work.visit(tree))
    scope: dict[str, Any] = {"__name__": source.__module__, **work.bound}
    exec(compile(tree, inspect.getfile(source), "exec"), scope)
    function: Callable[..., Any] = scope[source.__name__]
    return function


@cache
def specialize(function: Scalar, dtype: str, target: Target) -> Any:
    """The compiled scalar function for a computing dtype ("float32", "float64") and target."""
    if dtype == "float32" and function.tables is not None and target.tabulated is not None:
        return target.tabulated(function)
    return target.jit(rewrite(function.source(dtype), dtype, target))
