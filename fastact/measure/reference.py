"""Reference values from the NumPy expressions of the records, in extended precision.

`numpy.longdouble` has 64 significant bits on x86 and 113 on most other 64-bit systems (on the
few where it is a double, errors below one unit of a float64 mean nothing). Derivatives come
from the same expressions by a complex step: f'(x) = Im f(x + ih) / h, exact to the last bits
for a small enough h, without a second formula that could share an error with the code.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastact.measure import derivatives
from fastact.measure.catalogue import record_of

STEP = np.longdouble(1e-200)


def evaluate(op: str, expression: str, **names: Any) -> Any:
    """An expression over the operation's default parameters."""
    scope = {"np": np} | record_of(op).parameter_values() | names
    with np.errstate(all="ignore"):
        return eval(expression, scope)  # noqa: S307


def value(op: str, x: Any, **names: Any) -> Any:
    """f(x) in extended precision."""
    record = record_of(op)
    return evaluate(op, record.stable or record.numpy, x=x.astype(np.longdouble), **names)


def grad(op: str, x: Any) -> Any:
    """f'(x) in extended precision."""
    stepped = x.astype(np.longdouble) + 1j * STEP
    return np.imag(evaluate(op, record_of(op).numpy, x=stepped)) / STEP


def reference(op: str, direction: str, operands: dict[str, Any]) -> tuple[Any, ...] | None:
    """The exact results of a direction, or None where no independent formula is on record."""
    x, dy, y = (operands[n].astype(np.longdouble) for n in ("x", "dy", "y"))
    axis = {n: v for n, v in operands.items() if n == "axis"}
    if direction == "forward":
        return (value(op, x, **axis),)
    if axis:
        form = derivatives.ROWWISE.get(op) if direction == "backward" else None
        return (evaluate(op, form, dy=dy, y=y, **axis),) if form else None
    if direction == "backward_from_output":
        form = derivatives.OF_OUTPUT.get(op)
        return (dy * evaluate(op, form, y=y),) if form else None
    slope = grad(op, x)
    return {
        "grad": (slope,),
        "backward": (dy * slope,),
        "value_and_grad": (value(op, x), slope),
    }[direction]
