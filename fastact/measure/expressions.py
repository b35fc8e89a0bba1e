"""The NumPy expression of an operation in a direction, as its users write it."""

from __future__ import annotations

import ast

import numpy as np

from fastact.measure import derivatives
from fastact.measure.catalogue import is_rowwise


def with_out(expression: str) -> str:
    """Give `out=out` to an expression that is a single call of a NumPy ufunc."""
    tree = ast.parse(expression, mode="eval")
    call = tree.body
    if (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "np"
        and isinstance(getattr(np, call.func.attr), np.ufunc)
    ):
        call.keywords.append(ast.keyword("out", ast.Name("out", ast.Load())))
    return ast.unparse(tree)


def naive(op: str, direction: str, forward: str) -> str:
    """The naive expression of a direction; empty if nothing is on record."""
    if direction == "forward":
        return forward
    if is_rowwise(op):
        return derivatives.ROWWISE.get(op, "") if direction == "backward" else ""
    table = derivatives.OF_OUTPUT if direction == "backward_from_output" else derivatives.OF_INPUT
    grad = table.get(op, "")
    if not grad or direction == "grad":
        return grad
    return f"({forward}, {grad})" if direction == "value_and_grad" else f"dy * ({grad})"
