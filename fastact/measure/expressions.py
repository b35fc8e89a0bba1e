"""What others write for an operation: the expressions of its record, made ready to run."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np

from fastact.activations.directions import DIRECTIONS
from fastact.measure import derivatives, pairs, torch_forms
from fastact.measure.catalogue import (
    LOSS_RECORDS,
    ROW_RECORDS,
    is_loss,
    is_paired,
    is_rowwise,
    record_of,
)


class AlongAxis(ast.NodeTransformer):
    """Row-wise records write -1 for the axis; here it becomes the name `axis`."""

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        if ast.unparse(node) == "-1":
            return ast.Name("axis", ast.Load())
        return self.generic_visit(node)


def row_form(op: str, direction: str, kind: str) -> str:
    """The expression of a row-wise record, over any axis."""
    record = ROW_RECORDS.get(op + DIRECTIONS[direction].suffix)
    expression = getattr(record, kind, "")
    return ast.unparse(AlongAxis().visit(ast.parse(expression, mode="eval"))) if expression else ""


def loss_form(op: str, direction: str, kind: str) -> str:
    """The expression of a loss's record, alone or with the gradient."""
    return str(getattr(LOSS_RECORDS[op], kind)[direction == "value_and_grad"])


def with_out(expression: str, **modules: Any) -> str:
    """Give `out=out` to an expression that is a single call of a ufunc from these modules."""
    if not expression:
        return ""
    call = ast.parse(expression, mode="eval").body
    if isinstance(call, ast.Call) and root(call.func) in modules:
        function = eval(ast.unparse(call.func), dict(modules))
        if isinstance(function, np.ufunc) and "out" not in {k.arg for k in call.keywords}:
            call.keywords.append(ast.keyword("out", ast.Name("out", ast.Load())))
    return ast.unparse(call)


def root(node: ast.expr) -> str:
    """The name that an attribute such as np.linalg.norm starts from; "" if it is no name."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def naive(op: str, direction: str) -> str:
    """The NumPy expression that people write; empty if nothing is on record."""
    if is_loss(op):
        return loss_form(op, direction, "numpy")
    if is_rowwise(op):
        return row_form(op, direction, "numpy")
    if is_paired(op):
        return pairs.naive(op, direction)
    forward: str = record_of(op).numpy
    if direction == "forward":
        return forward
    from_output = direction == "backward_from_output"
    grad = (derivatives.OF_OUTPUT if from_output else derivatives.OF_INPUT).get(op, "")
    if not grad or direction == "grad":
        return grad
    return f"({forward}, {grad})" if direction == "value_and_grad" else f"dy * ({grad})"


def stable(op: str, direction: str) -> str:
    """The stable NumPy expression of a forward pass, where it differs from the naive one."""
    return getattr(record_of(op), "stable", "") if direction == "forward" else ""


def scipy(op: str, direction: str) -> str:
    """SciPy's form; it has forward passes only."""
    if is_loss(op):
        return ""
    if is_rowwise(op):
        return row_form(op, direction, "scipy")
    return record_of(op).scipy if direction == "forward" and not is_paired(op) else ""


def torch(op: str, direction: str) -> str:
    """PyTorch's form, with a preallocated result where it has one."""
    if is_loss(op):
        return loss_form(op, direction, "torch")
    if is_paired(op):
        return pairs.torch(op, direction)
    form = torch_forms.FORMS.get(direction, {}).get(op, "")
    if form or direction != "forward":
        return form
    return row_form(op, direction, "torch") if is_rowwise(op) else str(record_of(op).torch)


def torch_autograd(op: str, direction: str) -> str:
    """PyTorch's derivative of its own form, where its backward pass has no name of its own."""
    if direction != "backward" or is_loss(op) or is_rowwise(op) or torch(op, direction):
        return ""
    if record_of(op).derivative == "0":  # autograd does not pass through the steps
        return ""
    form = str(record_of(op).torch).replace(", out=out", "")
    return f"torch.func.vjp(lambda x: {form}, x)[1](dy)[0]" if form else ""


def jax(op: str, direction: str) -> str:
    """JAX's form; for derivatives, its gradient of one number mapped over all of them."""
    if is_loss(op) or is_rowwise(op) or direction == "backward_from_output":
        return ""
    if is_paired(op):
        return pairs.jax(op, direction)
    forward = str(record_of(op).jax)
    if not forward or direction == "forward":
        return forward
    maker = "jax.value_and_grad" if direction == "value_and_grad" else "jax.grad"
    slope = f"jax.vmap({maker}(lambda x: {forward}))(x)"
    return f"dy * {slope}" if direction == "backward" else slope
