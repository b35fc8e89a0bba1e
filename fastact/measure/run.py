"""Checking and timing a list of cases, with progress reported as it goes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fastact.measure import copying, operands
from fastact.measure.cases import Case
from fastact.measure.check import Verdict, check
from fastact.measure.providers import works_of
from fastact.measure.results import Timing
from fastact.measure.timing import ROUNDS, Timings


def checks(cases: Iterable[Case]) -> Iterator[list[Verdict]]:
    """The verdicts on every operation, direction and dtype that the cases name, each once."""
    for op, direction, dtype in dict.fromkeys((c.op, c.direction, c.dtype) for c in cases):
        yield check(op, direction, dtype)


def count_checks(cases: Iterable[Case]) -> int:
    return len({(c.op, c.direction, c.dtype) for c in cases})


def timings(cases: Iterable[Case], rounds: int = ROUNDS) -> Iterator[Timing]:
    """The times of each case, all its providers interleaved."""
    kind = None
    for case in cases:
        if kind != (case.dtype, case.size):
            operands.forget()
            copying.forget()
            kind = (case.dtype, case.size)
        works = works_of(case)
        measured = Timings(works).run(rounds)
        yield Timing(case, {name: measured.seconds(name) for name in works})
