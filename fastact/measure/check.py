"""How exact every provider is, and whether fastact keeps what its records state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastact.measure import pairs, reference
from fastact.measure.cases import Case
from fastact.measure.catalogue import (
    arguments_of,
    is_loss,
    is_paired,
    is_rowwise,
    record_of,
    stated_error,
)
from fastact.measure.operands import OUTPUTS, array, numpy_dtype, operand
from fastact.measure.pairs import HALVED
from fastact.measure.points import near_roots, points
from fastact.measure.providers import PROVIDERS
from fastact.measure.ulp import FORMATS, smallest_normal, spacing, ulp_error

ROWS = (64, 128)  # the shape on which a row-wise operation is checked
NOISE = 1e-9  # ulp of a float32: the error of the reference itself
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
        return self.bound is None or self.ulp <= self.bound + NOISE


def bound(op: str, direction: str, dtype: str) -> float:
    """The error that a record allows, in units in the last place of the dtype.

    Half types are the float32 result rounded once more.
    """
    computing = "float64" if dtype == "float64" else "float32"
    stated = stated_error(op, direction, computing)
    if dtype == computing:
        return stated
    return 0.5 + stated * 2.0 ** (FORMATS[dtype].fraction - FORMATS[computing].fraction)


def sample(case: Case) -> dict[str, Any]:
    """The operands of a check: inputs, and what the forward pass makes of them."""
    dtype = numpy_dtype(case.dtype)
    if is_loss(case.op):
        names = ("logits", "leaf", "labels", "targets", "out")
        return {name: operand(case, name) for name in names}
    if is_paired(case.op):
        return sample_pair(case)
    along = {} if case.axis is None else {"axis": case.axis}
    rows = is_rowwise(case.op)
    x = array("x", case.dtype, case.shape) if rows else points(case.op, case.dtype)
    with np.errstate(all="ignore"):
        y = reference.value(case.op, case.dtype, x=x, **along).astype(dtype)
    shapes = {name: case.shape_of(name) if rows else x.shape for name in ("dy", *OUTPUTS)}
    results = {name: np.empty(shapes[name], dtype) for name in OUTPUTS}
    return {"x": x, "y": y, "dy": array("dy", case.dtype, shapes["dy"])} | along | results


def sample_pair(case: Case) -> dict[str, Any]:
    """One row: nothing is summed, so that the errors are those of each entry."""
    dtype, pair = numpy_dtype(case.dtype), record_of(case.op)
    at = points(pair.activation.name, case.dtype)[None]
    names = {name: array(name, case.dtype, at.shape) for name in ("dy", "a")}
    if case.op == HALVED:
        names |= {"b": at, "ab": np.concatenate([names["a"], at], -1)}
    elif pair.form.inner == "b":
        names["b"] = at
    else:
        second = array(pair.form.arrays[1], case.dtype, at.shape[-1:])
        first = at
        if not pair.form.stands_for:
            # the argument of the activation is one of the points, or next to it, but no kink
            first = at - second
            first = np.where(first + second == 0, second, first)
        names |= {"x": first, pair.form.arrays[1]: second}
    made = Case(case.op, case.direction, case.dtype, at.shape)
    return names | {name: np.empty(made.shape_of(name), dtype) for name in OUTPUTS}


def arrays_of(result: Any, dtype: str) -> tuple[Any, ...]:
    """A provider's result as arrays of the dtype: it may be NumPy's, PyTorch's, or a tuple."""
    if isinstance(result, tuple):
        return tuple(a for part in result for a in arrays_of(part, dtype))
    if hasattr(result, "detach"):
        result = result.double().numpy()
    return (np.asarray(result).astype(numpy_dtype(dtype)),)


class Yardstick(NamedTuple):
    """How an error is measured: what is forgiven, and the unit if it is not the spacing."""

    band: Any = 0.0
    unit: Any = None


def yardsticks(case: Case, names: dict[str, Any]) -> tuple[Yardstick, ...]:
    """The yardstick of each result.

    Close to a zero of f' the input's own rounding decides: what two units in its last place
    make is forgiven. The backward pass of a row-wise operation is a difference of terms: its
    unit is the spacing at the largest term of the row.
    """
    if is_loss(case.op):
        # The gradient is a difference of terms of up to 1 / rows, or 1 / entries.
        rows = case.size if "targets" in arguments_of(case.op, case.direction) else case.shape[0]
        term = Yardstick(unit=spacing(np.longdouble(1 / rows), case.dtype))
        return (Yardstick(), term)[: 1 + len(case.results)]
    if is_rowwise(case.op):
        if case.direction == "forward":
            one = spacing(np.longdouble(1), case.dtype)
            return (Yardstick(unit=one if record_of(case.op).absolute else None),)
        dy, y = names["dy"].astype(np.longdouble), names["y"]
        if dy.shape != y.shape or case.shape_of("dy") != case.shape:
            return (Yardstick(),)  # a product, no difference
        largest = np.abs(dy * y).max(-1, keepdims=True)
        return (Yardstick(unit=spacing(largest, case.dtype)),)
    if case.direction not in ("grad", "backward", "value_and_grad"):
        return (Yardstick(),)
    if is_paired(case.op):
        return yardsticks_of_pair(case, names)
    if case.direction == "backward":
        return (of_product(case.op, case.dtype, names["x"], names["dy"]),)
    band = Yardstick(near_zeros(case.op, case.dtype, names["x"])[1])
    return (band,) if case.direction == "grad" else (Yardstick(), band)


def near_zeros(op: str, dtype: str, x: Any) -> tuple[Any, Any]:
    """f' at x, and what is forgiven of it."""
    x = x.astype(np.longdouble)
    slope = reference.grad(op, dtype, x)
    moved = reference.grad(op, dtype, x + 2 * spacing(x, dtype))
    return slope, np.where(near_roots(slope, x), np.abs(moved - slope), 0)


def of_product(op: str, dtype: str, x: Any, dy: Any) -> Yardstick:
    """The yardstick of dy f'(x)."""
    slope, band = near_zeros(op, dtype, x)
    dy = np.abs(dy.astype(np.longdouble))
    # a subnormal f' has few digits, and dy magnifies its last one
    least = np.where(np.abs(slope) < smallest_normal(dtype), dy, 0)
    unit = np.maximum(spacing(dy * slope, dtype), least * spacing(slope, dtype))
    return Yardstick(band * dy, unit)


def yardsticks_of_pair(case: Case, names: dict[str, Any]) -> tuple[Yardstick, ...]:
    """Those of the two partials."""
    pair, dtype, dy = record_of(case.op), case.dtype, names["dy"]
    if pair.form.stands_for:
        return (Yardstick(), Yardstick())
    at = pairs.argument(case.op, names)[0]
    if pairs.sums(case.op):
        both = of_product(pair.activation.name, dtype, at, dy[0])
        return (both, both)
    second = of_product(pair.activation.name, dtype, at, dy[0] * names["a"][0])
    if case.op != HALVED:
        return (Yardstick(), second)
    first = dy[0] * reference.value(pair.activation.name, dtype, x=at)
    band = np.concatenate([np.zeros(first.shape), second.band])
    return (Yardstick(band, np.concatenate([spacing(first, dtype), second.unit])),)


def check(
    op: str, direction: str, dtype: str, providers: Iterable[str] = PROVIDERS_CHECKED
) -> list[Verdict]:
    """The largest error of every provider that has the operation in this direction."""
    rowwise = is_rowwise(op) or is_loss(op)
    case = Case(op, direction, dtype, ROWS if rowwise else (), -1 if rowwise else None)
    names = sample(case)
    exact = reference.reference(op, direction, dtype, names)
    if exact is None:
        return []
    measures = yardsticks(case, names)
    verdicts = []
    for provider in providers:
        work = PROVIDERS[provider].build(case, lambda _, name: names[name])
        if work is None:
            continue
        with work.threads(), np.errstate(all="ignore"):
            results = arrays_of(work.function()(), dtype)
        worst = max(
            float(ulp_error(got, true, dtype, *measure).max())
            for got, true, measure in zip(results, exact, measures, strict=True)
        )
        limit = bound(op, direction, dtype) if provider.startswith("fastact") else None
        verdicts.append(Verdict(op, direction, dtype, provider, worst, limit))
    return verdicts
