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
from fastact.measure import expressions
from fastact.measure.cases import Case, size_name
from fastact.measure.catalogue import is_loss, is_paired, is_rowwise
from fastact.measure.timing import Timings
from fastact.measure.torch_forms import KEEPS_OUTPUT

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


def named(key: Key) -> str:
    """What sets a timed work apart from the others of a promise."""
    case = key.case
    if case is None:
        return key.who
    return f"{case.label} {case.direction} {case.dtype}, {size_name(case.size)}"


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
        labels = [named(slow) for slow, _ in self.pairs]
        return {
            "issue": self.issue,
            "text": self.text,
            "target": f"{'>=' if self.at_least else '<='} {self.target:g}{self.unit}",
            "measured": measured,
            "met": measured >= self.target if self.at_least else measured <= self.target,
            "parts": dict(zip(labels, ratios(seconds), strict=True)),
        }


ELEMENTWISE = tuple(n for n in fa.names() if not (is_rowwise(n) or is_loss(n) or is_paired(n)))
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


def against_torch(target: float, case: Case, issue: int = 2) -> Line:
    return Line(
        issue,
        f"{case.label} {case.direction} {case.dtype}, 1 thread, against torch with out=",
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


def in_rows(
    op: str, lengths: tuple[int, ...], size: int, dtype: str = "float32", direction: str = "forward"
) -> list[Case]:
    return [Case(op, direction, dtype, (size // n, n), -1) for n in lengths]


def in_columns(op: str, size: int, dtype: str = "float32") -> list[Case]:
    return [Case(op, "forward", dtype, (size // n, n), 0) for n in (128, 1024)]


def of_rows(
    text: str,
    target: float,
    cases: list[Case],
    peer: str = "torch",
    combine: Callable[[Seconds], float] = smallest,
) -> Line:
    """A line of issue 3: against a peer on as many threads, in cache on one and large on all."""
    cores = {True: "parallel", False: "serial"}
    both = tuple(
        (
            Key(f"torch_{cores[c.all_cores]}" if peer == "torch" else peer, c),
            Key(f"fastact_{cores[c.all_cores]}", c),
        )
        for c in cases
    )
    return Line(3, text, target, combine, both)


def everywhere(op: str, dtype: str = "float32", direction: str = "forward") -> list[Case]:
    """Rows of three lengths, in cache and large."""
    return [
        case
        for size in (IN_CACHE, LARGE)
        for case in in_rows(op, (128, 1024), size, dtype, direction)
    ] + in_rows(op, (32768,), LARGE, dtype, direction)


def extra_memory(_: Seconds) -> float:
    """What a fused loss allocates beside the gradient, in percent of the logits."""
    import tracemalloc

    import numpy as np

    logits = np.zeros((4096, 32000), np.float32)
    labels = np.zeros(4096, np.int64)
    fa.softmax_cross_entropy_value_and_grad(logits[:512].copy(), labels[:512])  # compiles
    tracemalloc.start()
    fa.softmax_cross_entropy_value_and_grad(logits, labels, out=logits)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return 100 * peak / logits.nbytes


SHORT_ROWS = (2, 3, 4, 8, 16)
ROW_LINES = [
    *(
        of_rows(f"{op}{direction} float32, rows of 128 to 32768: worst", 1.5, cases)
        for op in ("softmax", "log_softmax")
        for direction, cases in (
            ("", everywhere(op)),
            (" backward", everywhere(op, direction="backward_from_output")),
        )
    ),
    of_rows(
        "softmax and log_softmax float32, rows of 2 to 16: worst",
        1.0,
        [
            case
            for op in ("softmax", "log_softmax")
            for size in (IN_CACHE, LARGE)
            for case in in_rows(op, SHORT_ROWS, size)
        ],
    ),
    of_rows(
        "softmax and log_softmax float32 over axis 0: worst",
        3.0,
        [
            case
            for op in ("softmax", "log_softmax")
            for size in (IN_CACHE, LARGE)
            for case in in_columns(op, size)
        ],
    ),
    of_rows("logsumexp float32, rows of 128 to 32768: worst", 4.0, everywhere("logsumexp")),
    *(
        of_rows(f"{op} {dtype}, rows of 128 to 32768: worst", target, everywhere(op, dtype))
        for dtype, target in (("float64", 2.0), ("float16", 1.5), ("bfloat16", 1.5))
        for op in ("softmax", "log_softmax")
    ),
    of_rows(
        "softmax_cross_entropy_value_and_grad, 4096 rows of 32000",
        2.0,
        [Case("softmax_cross_entropy", "value_and_grad", "float32", (4096, 32000), -1)],
    ),
    Line(3, "memory beside the gradient of that, in place", 1.0, extra_memory, (), False, "%"),
    of_rows(
        "SciPy's softmax, log_softmax and logsumexp, float32: geometric mean",
        5.0,
        [c for op in ("softmax", "log_softmax", "logsumexp") for c in everywhere(op)],
        "scipy",
        mean,
    ),
]


def gate(op: str, direction: str) -> Line:
    """A gated op against the PyTorch expression of the same."""
    case = Case(op, direction, shape=(IN_CACHE,))
    return Line(
        5,
        f"{op} {direction} float32, 1 thread, against the torch expression",
        2.0,
        smallest,
        ((Key(f"torch gate {direction}", case), Key(f"gate {direction}", case)),),
    )


def backward_of(op: str) -> str:
    """The backward pass that reads what PyTorch's reads: for some ops the output."""
    return "backward_from_output" if op in KEEPS_OUTPUT else "backward"


TORCH_HAS = [
    Case(op, direction, "float32", (IN_CACHE,))
    for op in ELEMENTWISE
    for direction in ("forward", backward_of(op))
    if expressions.torch(op, direction)
]
HARD = ("hard_tanh", "hard_sigmoid", "hard_swish", "hard_shrink")
BIASED = Case("bias_gelu", shape=(LARGE // 1024, 1024))
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
    against_torch(4.0, Case("selu", shape=(IN_CACHE,)), 5),
    *(
        against_torch(target, Case(op, direction, dtype, (IN_CACHE,)), 5)
        for op, direction, dtype, target in (
            ("gelu", "forward", "float32", 2.0),
            ("gelu_tanh", "forward", "float32", 4.0),
            ("mish", "forward", "float32", 6.0),
            ("softplus", "forward", "float32", 4.0),
            ("log_sigmoid", "forward", "float32", 3.0),
            ("gelu", "backward", "float32", 3.0),
            ("mish", "backward", "float32", 6.0),
            ("gelu_tanh", "backward", "float32", 3.0),
            ("gelu", "forward", "float64", 5.0),
        )
    ),
    *(
        Line(
            5,
            f"every op that torch has, forward and backward, float32, 1 thread: {word}",
            target,
            combine,
            pairs("torch_serial", "fastact_serial", TORCH_HAS),
        )
        for word, target, combine in (("geometric mean", 3.0, mean), ("worst op", 1.0, smallest))
    ),
    *(against_torch(1.0, Case(op, shape=(IN_CACHE,)), 5) for op in HARD),
    *(gate(op, d) for op in ("swiglu", "geglu") for d in ("forward", "backward")),
    Line(
        5,
        "bias_gelu float32 16 Mi, all cores, against torch add, then gelu",
        2.0,
        smallest,
        ((Key("torch bias", BIASED), Key("bias", BIASED)),),
    ),
    *(
        Line(
            2,
            f"naive NumPy, float32 {where}: {word}",
            target,
            combine,
            pairs("numpy", who, elementwise(size)),
        )
        for where, who, size, least in (
            ("in cache, 1 thread", "fastact_serial", IN_CACHE, 2.5),
            ("16 Mi, all cores", "fastact_parallel", LARGE, 6.0),
        )
        for word, target, combine in (("geometric mean", least, mean), ("worst op", 1.0, smallest))
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
    Line(
        6,
        "a user's @njit loop over the ufunc, float32, 1 thread: worst op",
        1.1,
        largest,
        # out of cache some ufuncs write past it, which a loop does not
        pairs("loop", "fastact_serial", elementwise(IN_CACHE)),
        at_least=False,
    ),
    *ROW_LINES,
]
