"""What the registry declares, as cases for the tests: a new op is covered by being declared."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import oracle
import ulp

import fastact as fa
from fastact.activations.directions import DIRECTIONS

try:
    import ml_dtypes

    BFLOAT16 = (np.dtype(ml_dtypes.bfloat16),)
except ImportError:
    BFLOAT16 = ()

SINGLE, DOUBLE, HALF = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16)
NATIVE = (SINGLE, DOUBLE)  # computed in as they are
HALVES = (HALF, *BFLOAT16)  # read and written as they are, computed in float32
DTYPES = (*NATIVE, *HALVES)

# Other values of a parameter than its default, by domain; each is exact in every dtype.
OTHER_VALUES = {
    "finite": (-0.5, 1.75),
    "positive": (0.25, 3.0),
    "nonnegative": (0.0, 2.5),
}
# Where other parameters must agree: min <= max.
OTHER_BY_NAME = {"min": (-2.0, 0.25), "max": (0.5, 3.0)}

# FASTACT_TESTS=full asks for what takes too long by default.
FULL = os.environ.get("FASTACT_TESTS") == "full"

ELEMENTWISE = tuple(name for name in fa.names() if hasattr(fa.get(name), "grad"))


@dataclass(frozen=True)
class Case:
    """An elementwise op with values for its parameters."""

    op: str
    parameters: tuple[float, ...]

    def __str__(self) -> str:
        return "-".join([self.op, *(f"{p:g}" for p in self.parameters)])

    @property
    def record(self) -> Any:
        return fa.get(self.op)

    @property
    def directions(self) -> tuple[str, ...]:
        return tuple(d for d in DIRECTIONS if function(self.op, d) is not None)

    @property
    def scope(self) -> dict[str, Any]:
        """Names for the expressions of the record."""
        names = (p.name for p in self.record.parameters)
        return {"inf": math.inf, "nan": math.nan, **dict(zip(names, self.parameters, strict=True))}

    def values(self, expressions: Iterable[str]) -> list[float]:
        """Expressions of the record, such as limits and kinks, for these parameters."""
        return [float(eval(e, {"__builtins__": {}}, self.scope)) for e in expressions]

    @property
    def kinks(self) -> list[float]:
        return self.values(self.record.kinks)

    @property
    def odd(self) -> bool:
        """Whether the record says that f(-x) = -f(x) for these parameters."""
        return bool(eval(str(self.record.odd), {"__builtins__": {}}, self.scope))

    def rounded(self, dtype: Any) -> tuple[float, ...]:
        """The parameters as they reach the computation in this dtype."""
        return tuple(float(np.asarray(p, dtype)) for p in self.parameters)


def function(op: str, direction: str) -> Any:
    """The public function of an op in a direction, or None."""
    return getattr(fa, op + DIRECTIONS[direction].suffix, None)


def default_cases() -> list[Case]:
    return [Case(op, fa.get(op).defaults) for op in ELEMENTWISE]


def all_cases() -> list[Case]:
    """Each op with its defaults, and with the other values of its parameters."""
    cases = default_cases()
    for op in ELEMENTWISE:
        values = [OTHER_BY_NAME.get(p.name, OTHER_VALUES[p.domain]) for p in fa.get(op).parameters]
        cases += [Case(op, p) for p in zip(*values, strict=True)]
    return cases


def directed(cases: list[Case]) -> list[tuple[Case, str]]:
    """Each case in each direction that it has."""
    return [(case, direction) for case in cases for direction in case.directions]


# Ops with none, one and two parameters, cheap and exponential.
PROBES = ("relu", "tanh", "elu", "swish", "threshold")


def some_directed() -> list[tuple[Case, str]]:
    """The probes in every direction and the other ops in one of theirs, in turn; or all.

    For what the driver does, strides and tails and threads: kernels differ in their scalars alone.
    """
    every = directed(default_cases())
    if FULL:
        return every
    others = [d for d in every if d[0].op not in PROBES]
    return [d for d in every if d[0].op in PROBES] + others[::4]


@cache
def inputs(case: Case, dtype: Any, n: int) -> np.ndarray:
    """Sampled finite inputs, dense at the kinks; read-only."""
    x = ulp.samples(dtype.type, n, around=case.kinks)
    x.setflags(write=False)
    return x


def specials(dtype: Any) -> np.ndarray:
    """Zeros, infinities, nans, extremes of a dtype, both signs."""
    info = ulp.info(dtype)
    least, normal, top = info.smallest_subnormal, info.smallest_normal, info.max
    positive = np.array([0.0, 1.0, least, normal, top, np.inf, np.nan], np.float64).astype(dtype)
    return np.concatenate([positive, -positive])


def mixed(dtype: Any, n: int, seed: int = 0) -> np.ndarray:
    """Ordinary values with specials strewn in."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 6, n).astype(dtype)
    odd = specials(dtype)
    every = 7
    x[::every] = rng.choice(odd, x[::every].size)
    return x


def operands(direction: str, x: np.ndarray) -> list[np.ndarray]:
    """The array operands of a direction, x the last; dy of order 1, the same for the same x."""
    if len(DIRECTIONS[direction].arrays) == 1:
        return [x]
    dy = np.random.default_rng(x.size).uniform(-2, 2, x.shape).astype(x.dtype)
    return [dy, x]


def results(outcome: Any) -> tuple[np.ndarray, ...]:
    """One result or several, as a tuple of arrays."""
    return tuple(map(np.asarray, outcome if isinstance(outcome, tuple) else (outcome,)))


def pattern(x: np.ndarray) -> np.ndarray:
    """The bits of x, with every nan alike: which nan comes out is nobody's promise."""
    native = x.astype(x.dtype.newbyteorder("="))
    if x.dtype.kind in "biu":
        return native
    with np.errstate(invalid="ignore"):  # bfloat16 compares loudly
        native[native != native] = np.nan
    return native.view(ulp.UNSIGNED[x.dtype.itemsize])


def assert_same_bits(got: Any, expected: Any, note: str = "") -> None:
    """Two outcomes agree in dtype, shape and every bit (nans alike)."""
    for g, e in zip(results(got), results(expected), strict=True):
        assert g.dtype == e.dtype and g.shape == e.shape, (note, g.dtype, g.shape, e.dtype, e.shape)
        different = np.flatnonzero(pattern(g).ravel() != pattern(e).ravel())
        if different.size:
            i = int(different[0])
            raise AssertionError(
                f"{note}: {different.size} of {g.size} differ, first at {i}: "
                f"{g.ravel()[i]!r}, expected {e.ravel()[i]!r}"
            )


def exact(case: Case, dtype: Any, direction: str, x: np.ndarray) -> list[Any]:
    """The oracle's values for "forward" or "grad"."""
    formula = getattr(oracle.FORMULAS[case.op], direction)
    parameters = case.rounded(dtype)
    return [oracle.evaluate(formula, v, *parameters) for v in x.tolist()]
