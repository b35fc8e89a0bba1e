"""What the harness knows of operations of two arrays: operands, other people's forms, exact values.

The rectifier with a trained slope aside, all is made from the forms of the activation inside. One
operation takes its two arrays as the halves of one, `ab`.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from fastact.measure import derivatives
from fastact.registry import PAIRED

HALVED = "glu"
COLUMNS = 1024  # entries of a bias, or slopes that are trained: one per column

# PyTorch's backward passes: what autograd itself calls, of a product and an argument.
TORCH_SLOPES = {
    "sigmoid": "torch.ops.aten.sigmoid_backward({dy}, torch.sigmoid({x}))",
    "swish": "torch.ops.aten.silu_backward({dy}, {x})",
    "gelu": "torch.ops.aten.gelu_backward({dy}, {x})",
    "gelu_tanh": 'torch.ops.aten.gelu_backward({dy}, {x}, approximate="tanh")',
    "relu": "torch.ops.aten.threshold_backward({dy}, {x}, 0)",
}
TORCH_BACKWARD = {
    HALVED: "torch.ops.aten.glu_backward(dy, ab, -1)",
    "prelu": (
        "((g := torch.ops.aten._prelu_kernel_backward(dy, x, weight.expand(x.shape)))[0], "
        "g[1].sum(0))"
    ),
}
PRELU_BACKWARD = "(dy * np.where(x > 0, 1.0, weight), (dy * np.where(x > 0, 0.0, x)).sum(0))"


def is_paired(op: str) -> bool:
    """Whether the operation takes two arrays: a gate, or an activation with a bias or slope."""
    return op in PAIRED


def arguments(op: str, direction: str) -> tuple[str, ...]:
    """The names of the array arguments."""
    names = ("ab",) if op == HALVED else PAIRED[op].form.arrays
    return ("dy", *names) if direction == "backward" else names


def results(op: str, direction: str) -> int:
    """How many arrays are written to."""
    return 2 if direction == "backward" and op != HALVED else 1


def sums(op: str) -> bool:
    """Whether the second array has one entry per column, and its partial is a sum."""
    return bool(PAIRED[op].form.backward.results)


def shape(op: str, direction: str, name: str, common: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an operand, given that of the value."""
    if name in (PAIRED[op].form.arrays[1], "out2") and sums(op):
        return common[-1:]
    twice = name == "ab" or (op == HALVED and direction == "backward" and name == "out")
    return (*common[:-1], 2 * common[-1]) if twice else common


def common_shape(op: str, size: int) -> tuple[int, ...]:
    """The shape in which so many elements are given."""
    columns = min(COLUMNS, size)
    return (size // columns, columns) if sums(op) else (size,)


def of_argument(expression: str, argument: str) -> str:
    """An expression in x, of another argument."""
    return re.sub(r"\bx\b", argument, expression)


def together(op: str, first: str, second: str) -> str:
    """Two partials as the operation returns them."""
    return f"np.concatenate([{first}, {second}], -1)" if op == HALVED else f"({first}, {second})"


def naive(op: str, direction: str) -> str:
    """The NumPy expression that people write."""
    pair = PAIRED[op]
    if direction == "forward":
        return pair.numpy
    if pair.form.stands_for:
        return PRELU_BACKWARD
    inner = pair.form.inner
    slope = of_argument(derivatives.OF_INPUT[pair.activation.name], inner)
    if sums(op):
        return f"((g := dy * ({slope})), g.sum(0))"
    value = of_argument(pair.activation.numpy, inner)
    return together(op, f"dy * ({value})", f"dy * a * ({slope})")


def torch(op: str, direction: str) -> str:
    """PyTorch's form."""
    pair = PAIRED[op]
    if direction == "forward":
        return "F.glu(ab)" if op == HALVED else pair.torch
    if op in TORCH_BACKWARD:
        return TORCH_BACKWARD[op]
    inner, form = pair.form.inner, TORCH_SLOPES[pair.activation.name]
    if sums(op):
        return f"((g := {form.format(dy='dy', x=inner)}), g.sum(0))"
    value = of_argument(pair.activation.torch.replace(", out=out", ""), inner)
    return f"(dy * {value}, {form.format(dy='dy * a', x=inner)})"


def jax(op: str, direction: str) -> str:
    """JAX's form: the activation's own, and its vector-Jacobian product."""
    pair = PAIRED[op]
    form = "jax.nn.glu(ab)" if op == HALVED else pair.jax
    if direction == "forward":
        return form
    names = ", ".join(arguments(op, "forward"))
    product = f"jax.vjp(lambda {names}: {form}, {names})[1](dy)"
    return f"{product}[0]" if op == HALVED else product


def argument(op: str, names: dict[str, Any]) -> Any:
    """What the activation is applied to: the sum with a bias is rounded, as in NumPy."""
    return names["b"] if PAIRED[op].form.inner == "b" else names["x"] + names["b"]


def exact(op: str, direction: str, names: dict[str, Any], value: Any, slope: Any) -> Any:
    """The results from those of the activation inside; all in extended precision."""
    dy = names["dy"].astype(np.longdouble)
    if sums(op):
        return (value,) if direction == "forward" else (dy * slope, (dy * slope).sum(0))
    a = names["a"].astype(np.longdouble)
    if direction == "forward":
        return (a * value,)
    partials = dy * value, dy * a * slope
    return (np.concatenate(partials, -1),) if op == HALVED else partials
