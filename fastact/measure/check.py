"""How exact every provider is, and whether fastact keeps what its records state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastact.measure import reference
from fastact.measure.cases import Case
from fastact.measure.catalogue import is_rowwise, record_of
from fastact.measure.operands import OUTPUTS, array, numpy_dtype
from fastact.measure.points import near_roots, points
from fastact.measure.providers import PROVIDERS
from fastact.measure.ulp import FORMATS, spacing, ulp_error

ROW = 128  # elements of a row in the check of a row-wise operation
PROVIDERS_CHECKED = tuple(name for name in PROVIDERS if name != "copy")


@dataclass(frozen=True)
class Verdict:
    """The largest error of a provider in one direction of an operation, and the bound on it.

    `bound` is None where the records promise nothing: for every provider but fastact.
    """

    op: str
    direction: str
    dtype: str
    provider: str
    ulp: float
    bound: float | None

    @property
    def passed(self) -> bool:
        return self.bound is None or self.ulp <= self.bound


def bound(op: str, direction: str, dtype: str) -> float:
    """The error that a record allows, in units in the last place of the dtype.

    The product with `dy` rounds once more, and half types round the float32 result.
    """
    computing = "float64" if dtype == "float64" else "float32"
    accuracy = record_of(op).accuracy[computing]
    stated = {"forward": accuracy.forward, "grad": accuracy.grad}.get(
        direction, max(accuracy.forward, accuracy.grad) + 1.0
    )
    if dtype == computing:
        return float(stated)
    return 0.5 + float(stated) * 2.0 ** (FORMATS[dtype].fraction - FORMATS[computing].fraction)


def sample(case: Case, x: Any) -> dict[str, Any]:
    """The operands of a check: the given inputs, and what the forward pass makes of them."""
    dtype = numpy_dtype(case.dtype)
    names = {"x": x, "dy": array("dy", case.dtype, x.shape)}
    if case.axis is not None:
        names["axis"] = case.axis
    y = reference.value(case.op, x, **{n: v for n, v in names.items() if n == "axis"})
    with np.errstate(all="ignore"):
        names["y"] = y.astype(dtype)
    return names | {name: np.empty(x.shape, dtype) for name in OUTPUTS}


def arrays_of(result: Any, dtype: str) -> tuple[Any, ...]:
    """The arrays of a provider's result: NumPy's, PyTorch's, or a tuple of them."""
    if isinstance(result, tuple):
        return tuple(a for part in result for a in arrays_of(part, dtype))
    if hasattr(result, "detach"):
        return (result.double().numpy(),)
    return (np.asarray(result),)


def tolerances(case: Case, names: dict[str, Any], exact: tuple[Any, ...]) -> list[Any]:
    """The absolute errors forgiven, per result.

    Close to a zero of f' the input's own rounding decides: two units in its last place are
    allowed. The backward pass of a row is a difference of the row's own terms: one unit of the
    largest of them is allowed.
    """
    if is_rowwise(case.op):
        if case.direction == "forward":
            return [0.0]
        largest = np.abs(names["dy"].astype(np.longdouble) * names["y"]).max(-1, keepdims=True)
        return [2 * spacing(largest, case.dtype)]
    if case.direction not in ("grad", "backward", "value_and_grad"):
        return [0.0] * len(exact)
    x = names["x"].astype(np.longdouble)
    slope = reference.grad(case.op, x)
    wider = reference.grad(case.op, x + 2 * spacing(x, case.dtype))
    band = np.where(near_roots(slope, x), np.abs(wider - slope), 0)
    factor = np.abs(names["dy"].astype(np.longdouble)) if case.direction == "backward" else 1
    return [0.0] * (len(exact) - 1) + [band * factor]


def check(op: str, direction: str, dtype: str) -> list[Verdict]:
    """The largest error of every provider that has the operation in this direction."""
    x = points(op, dtype)
    axis = None
    if is_rowwise(op):
        x, axis = x[: x.size // ROW * ROW].reshape(-1, ROW), -1
    case = Case(op, direction, dtype, x.shape, axis)
    names = sample(case, x)
    exact = reference.reference(op, direction, names)
    if exact is None:
        return []
    forgiven = tolerances(case, names, exact)
    verdicts = []
    for provider in PROVIDERS_CHECKED:
        work = PROVIDERS[provider].build(case, lambda _, name: names[name])
        if work is None:
            continue
        with work.threads(), np.errstate(all="ignore"):
            results = arrays_of(work.function()(), dtype)
        worst = max(
            float(ulp_error(got, true, dtype, band).max())
            for got, true, band in zip(results, exact, forgiven, strict=True)
        )
        limit = bound(op, direction, dtype) if provider.startswith("fastact") else None
        verdicts.append(Verdict(op, direction, dtype, provider, worst, limit))
    return verdicts
