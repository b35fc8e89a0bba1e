"""What fastact aims at, as data: one line per promise, each a comparison of timed works.

An issue that sets new targets adds its lines here.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Any

from reach_works import Key

import fastact as fa
from fastact.measure.cases import Case
from fastact.measure.catalogue import is_rowwise
from fastact.measure.timing import Timings

Pairs = tuple[tuple[Key, Key], ...]
Seconds = list[tuple[float, float]]

IN_CACHE = 16 << 10
LARGE = 16 << 20
TINY = 16


def ratios(seconds: Seconds) -> list[float]:
    return [a / b for a, b in seconds]


def smallest(seconds: Seconds) -> float:
    return min(ratios(seconds))


def largest(seconds: Seconds) -> float:
    return max(ratios(seconds))


def mean(seconds: Seconds) -> float:
    return geometric_mean(ratios(seconds))


def excess_milliseconds(seconds: Seconds) -> float:
    return max(a - b for a, b in seconds) * 1e3


def numba_modules(_: Seconds) -> float:
    """How many of Numba's modules are loaded by importing fastact."""
    code = "import sys, fastact; print(sum(m.split('.')[0] == 'numba' for m in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(run.stdout)


@dataclass(frozen=True)
class Line:
    """One promise: `combine` over the times of `pairs` is at least, or at most, the target."""

    issue: int
    text: str
    target: float
    combine: Callable[[Seconds], float]
    pairs: Pairs
    at_least: bool = True
    unit: str = "x"

    def result(self, timings: Timings[Key]) -> dict[str, Any]:
        """The measured value and whether it meets the target; with every pair's ratio."""
        seconds = [(timings.seconds(a), timings.seconds(b)) for a, b in self.pairs]
        measured = self.combine(seconds)
        labels = [fast.case.label if fast.case else fast.who for _, fast in self.pairs]
        return {
            "issue": self.issue,
            "text": self.text,
            "target": f"{'>=' if self.at_least else '<='} {self.target:g}{self.unit}",
            "measured": measured,
            "met": measured >= self.target if self.at_least else measured <= self.target,
            "parts": dict(zip(labels, ratios(seconds), strict=True)),
        }


ELEMENTWISE = tuple(name for name in fa.names() if not is_rowwise(name))
EXPONENTIAL = ("sigmoid", "bipolar_sigmoid", "tanh", "elu", "swish")


def pairs(slow: str, fast: str, cases: list[Case]) -> Pairs:
    """The same cases for two competitors."""
    return tuple((Key(slow, case), Key(fast, case)) for case in cases)


def elementwise(
    size: int,
    dtype: str = "float32",
    ops: tuple[str, ...] = ELEMENTWISE,
    direction: str = "forward",
) -> list[Case]:
    return [Case(op, direction, dtype, (size,)) for op in ops]


def against_torch(target: float, case: Case) -> Line:
    return Line(
        2,
        f"{case.label} {case.dtype}, 1 thread, against torch with out=",
        target,
        smallest,
        pairs("torch_serial", "fastact_serial", [case]),
    )


def half(dtype: str, size: int, who: str) -> Pairs:
    """A half type against float32, op by op."""
    return tuple(
        (Key(who, a), Key(who, b))
        for a, b in zip(elementwise(size, dtype), elementwise(size), strict=True)
    )


NUMPY_STARTS = Key("import numpy")

LINES: list[Line] = [
    *(
        against_torch(target, Case(op, dtype=dtype, shape=(IN_CACHE,)))
        for op, dtype, target in (
            ("sigmoid", "float32", 1.2),
            ("tanh", "float32", 5.0),
            ("elu", "float32", 4.0),
            ("swish", "float32", 1.5),
            ("relu", "float32", 1.0),
            ("sigmoid", "float64", 1.5),
            ("tanh", "float64", 5.0),
        )
    ),
    *(
        against_torch(1.5, Case("softmax", shape=(IN_CACHE // row, row), axis=-1))
        for row in (128, 1024)
    ),
    Line(
        2,
        "naive NumPy, float32 in cache, 1 thread: geometric mean",
        2.5,
        mean,
        pairs("numpy", "fastact_serial", elementwise(IN_CACHE)),
    ),
    Line(
        2,
        "naive NumPy, float32 in cache, 1 thread: worst op",
        1.0,
        smallest,
        pairs("numpy", "fastact_serial", elementwise(IN_CACHE)),
    ),
    Line(
        2,
        "naive NumPy, float32 16 Mi, all cores: geometric mean",
        6.0,
        mean,
        pairs("numpy", "fastact_parallel", elementwise(LARGE)),
    ),
    Line(
        2,
        "naive NumPy, float32 16 Mi, all cores: worst op",
        1.0,
        smallest,
        pairs("numpy", "fastact_parallel", elementwise(LARGE)),
    ),
    Line(
        2,
        "parallel copy, float32 16 Mi, all cores: worst op",
        1.1,
        largest,
        pairs("fastact_parallel", "copy", elementwise(LARGE)),
        at_least=False,
    ),
    *(
        Line(
            2,
            f"{dtype} over float32 in cache, 1 thread: worst op",
            1.2,
            largest,
            half(dtype, IN_CACHE, "fastact_serial"),
            at_least=False,
        )
        for dtype in ("float16", "bfloat16")
    ),
    *(
        Line(
            2,
            f"{dtype} over float32, 16 Mi, all cores: worst op",
            0.5,
            largest,
            half(dtype, LARGE, "fastact_parallel"),
            at_least=False,
        )
        for dtype in ("float16", "bfloat16")
    ),
    Line(
        2,
        "16 elements, public function over np.exp with out=: worst op",
        1.3,
        largest,
        pairs("public function", "np.exp", elementwise(TINY)),
        at_least=False,
    ),
    Line(
        2,
        "import fastact over import numpy",
        10.0,
        excess_milliseconds,
        ((Key("import fastact"), NUMPY_STARTS),),
        at_least=False,
        unit=" ms",
    ),
    Line(2, "modules of numba loaded by import fastact", 0, numba_modules, (), False, ""),
    Line(
        2,
        "process start to first sigmoid over import numpy",
        2.5,
        largest,
        (
            (
                Key("import numpy, fastact; fastact.sigmoid(numpy.ones(16, numpy.float32))"),
                NUMPY_STARTS,
            ),
        ),
        at_least=False,
    ),
    Line(
        2,
        "value_and_grad and multiply over forward and backward, in cache: worst op",
        0.7,
        largest,
        pairs(
            "value_and_grad, multiply",
            "forward, backward",
            elementwise(IN_CACHE, ops=EXPONENTIAL),
        ),
        at_least=False,
    ),
]
