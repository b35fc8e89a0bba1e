"""Reference values from the NumPy expressions of the records, in extended precision.

`numpy.longdouble` has 64 significant bits on x86 and 113 on most other 64-bit systems (on the
few where it is a double, errors below one unit of a float64 mean nothing). Derivatives come
from the same expressions by a complex step: f'(x) = Im f(x + ih) / h, exact to the last bits
for a small enough h, without a second formula that could share an error with the code.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastact.measure import derivatives, expressions, normal, pairs
from fastact.measure.catalogue import is_loss, is_paired, is_rowwise, parameters_of, record_of
from fastact.measure.operands import INPUTS

STEP = np.sqrt(np.finfo(np.longdouble).tiny)  # far below the least float64, where there is room
WIDENED = (*INPUTS, "logits", "targets")
DECIMAL = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.])")
# What the expressions take from SciPy, in extended precision.
SCIPY = SimpleNamespace(special=SimpleNamespace(ndtr=normal.ndtr))


def parameters(op: str, dtype: str) -> dict[str, Any]:
    """The default parameters as the code has them: rounded to the dtype that it computes in."""
    rounded = np.float64 if dtype == "float64" else np.float32
    return {name: np.longdouble(rounded(v)) for name, v in parameters_of(op).items()}


def evaluate(expression: str, **names: Any) -> Any:
    """An expression over these names, without warnings; its decimals stand for what they say."""
    scope = {"np": EXACT_NUMPY, "scipy": SCIPY, "decimal": np.longdouble}
    with np.errstate(all="ignore"):
        return eval(DECIMAL.sub(r'decimal("\g<0>")', expression), scope | names)


def wide(operands: dict[str, Any]) -> dict[str, Any]:
    """The inputs in extended precision; the axis as it is."""
    return {
        name: value.astype(np.longdouble) if name in WIDENED else value
        for name, value in operands.items()
    }


def exact_form(op: str) -> str:
    """The forward expression that keeps its digits."""
    return expressions.stable(op, "forward") or expressions.naive(op, "forward")


def value(op: str, dtype: str, **operands: Any) -> Any:
    """The forward pass in extended precision, of x (and along axis); parameters may be given."""
    return evaluate(exact_form(op), **parameters(op, dtype) | wide(operands))


class ExactNumPy:
    """NumPy on complex steps: |x| is continued analytically, to x or -x; logarithms are real.

    `pi` and square roots of numbers have extended precision.
    """

    pi = 4 * np.arctan(np.longdouble(1))

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def sqrt(z: Any) -> Any:
        return np.sqrt(z if np.ndim(z) else np.longdouble(z))

    @staticmethod
    def abs(z: Any) -> Any:
        return np.where(z.real < 0, -z, z)

    @staticmethod
    def log(z: Any) -> Any:
        return np.where(z.real < 0, np.nan * z, np.log(z))

    @staticmethod
    def log1p(z: Any) -> Any:
        return np.where(z.real < -1, np.nan * z, np.log1p(z))


EXACT_NUMPY = ExactNumPy()


def grad(op: str, dtype: str, x: Any, **given: Any) -> Any:
    """f'(x) in extended precision, with the parameters given or the defaults."""
    stepped = x.astype(np.longdouble) + 1j * STEP
    names = parameters(op, dtype) | given | {"x": stepped}
    return np.imag(evaluate(exact_form(op), **names)) / STEP


def of_pair(op: str, direction: str, dtype: str, operands: dict[str, Any]) -> tuple[Any, ...]:
    """The exact results of an operation of two arrays."""
    if record_of(op).form.stands_for:
        found = evaluate(expressions.naive(op, direction), **wide(operands))
        return found if direction == "backward" else (found,)
    inner, x = record_of(op).activation.name, pairs.argument(op, operands)
    both = value(inner, dtype, x=x), grad(inner, dtype, x)
    return tuple(pairs.exact(op, direction, operands, *both))


def reference(
    op: str, direction: str, dtype: str, operands: dict[str, Any]
) -> tuple[Any, ...] | None:
    """The exact results of a direction, or None where no independent formula is on record."""
    names = wide(operands)
    if is_loss(op):
        found = evaluate(expressions.naive(op, direction), **names)
        return found if direction == "value_and_grad" else (found,)
    if is_rowwise(op):
        form = expressions.naive(op, direction)
        return (evaluate(form, **names),) if form else None
    if is_paired(op):
        return of_pair(op, direction, dtype, operands)
    if direction == "backward_from_output":
        form = derivatives.OF_OUTPUT.get(op, "")
        return (names["dy"] * evaluate(form, **parameters(op, dtype), **names),) if form else None
    if direction == "forward":
        return (value(op, dtype, x=names["x"]),)
    slope = grad(op, dtype, names["x"])
    return {
        "grad": (slope,),
        "backward": (names["dy"] * slope,),
        "value_and_grad": (value(op, dtype, x=names["x"]), slope),
    }[direction]
