"""Results as tables that fit in 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from statistics import geometric_mean

from rich.console import Group
from rich.table import Table
from rich.text import Text

from fastact.measure.cases import Case, size_name
from fastact.measure.check import Verdict
from fastact.measure.results import OURS, PEERS, Timing

ACCURACY_COLUMNS = {
    "fastact": OURS,
    "NumPy": ("numpy",),
    "stable": ("numpy_stable",),
    "SciPy": ("scipy",),
    "torch": ("torch_serial", "torch_parallel", "torch_autograd"),
    "JAX": ("jax",),
}


def plain_table(*columns: str) -> Table:
    """A table without rules: the first column is text, the others are numbers."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    return table


def error(ulp: float | None) -> str:
    """An error in units in the last place: 0.62, 193, 1.7e7."""
    if ulp is None:
        return "-"
    if math.isinf(ulp):
        return "inf"
    if ulp < 100:
        return f"{ulp:.2f}"
    return f"{ulp:.0f}" if ulp < 1e4 else f"{ulp:.1e}".replace("e+0", "e").replace("e+", "e")


def number(value: float) -> str:
    """A time, rate or ratio with about three digits: 0.05, 1.23, 45.6, 789."""
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def times(ratio: float | None) -> str:
    """A ratio to fastact's time; below one, fastact is the slower."""
    return "-" if ratio is None else number(ratio)


def accuracy_tables(verdicts: Iterable[Verdict]) -> Iterator[Group]:
    """The largest errors of all providers, a table per direction and dtype."""
    groups: dict[tuple[str, str], dict[str, list[Verdict]]] = {}
    for v in verdicts:
        groups.setdefault((v.direction, v.dtype), {}).setdefault(v.op, []).append(v)
    for (direction, dtype), ops in groups.items():
        title = f"Largest error in ULP: {direction}, {dtype}"
        table = plain_table("op", "allowed", *ACCURACY_COLUMNS)
        for op, found in ops.items():
            limit = max((v.bound for v in found if v.bound is not None), default=None)
            cells = [
                max((v.ulp for v in found if v.provider in providers), default=None)
                for providers in ACCURACY_COLUMNS.values()
            ]
            style = None if all(v.passed for v in found) else "bold red"
            table.add_row(op, error(limit), *map(error, cells), style=style)
        yield Group(Text(title, style="italic"), table)


def timing_tables(timings: Iterable[Timing], verdicts: Iterable[Verdict]) -> Iterator[Group]:
    """The times of fastact and the ratios of the others, a table per dtype, size, direction."""
    ulp: dict[tuple[str, str, str], float] = {}
    for v in verdicts:
        if v.bound is not None:
            key = (v.op, v.direction, v.dtype)
            ulp[key] = max(v.ulp, ulp.get(key, 0.0))

    def kind(timing: Timing) -> tuple[str, str, int]:
        return timing.case.direction, timing.case.dtype, timing.case.size

    for (direction, dtype, size), group in groupby(timings, kind):
        rows = list(group)
        cores = "all cores" if rows[0].case.all_cores else "one thread"
        title = f"{direction}, {dtype}, {size_name(size)} elements, {cores}"
        table = plain_table("op", "ULP", "serial", "parallel", "GB/s", *PEERS)
        for t in rows:
            case: Case = t.case
            table.add_row(
                case.label,
                error(ulp.get((case.op, case.direction, case.dtype))),
                *(number(t.nanoseconds(name)) for name in OURS),
                number(t.gigabytes(t.ours)),
                *(times(t.ratio(peer)) for peer in PEERS),
            )
        means = [mean([r for t in rows if (r := t.ratio(peer)) is not None]) for peer in PEERS]
        table.add_row("geometric mean", *[""] * 4, *map(times, means), style="bold")
        yield Group(Text(title, style="italic"), table)


def mean(ratios: list[float]) -> float | None:
    """The geometric mean, None of nothing."""
    return geometric_mean(ratios) if ratios else None


LEGEND = (
    "serial, parallel: fastact in ns per element. NumPy to copy: their time divided by "
    "fastact's on as many cores; above 1 fastact is faster. ULP: fastact's largest error."
)


def failures(verdicts: Iterable[Verdict]) -> list[str]:
    """One line for each error that is larger than allowed."""
    wrong = [
        f"{v.op} {v.direction} {v.dtype}: {error(v.ulp)} ULP, allowed {error(v.bound)}"
        for v in verdicts
        if not v.passed
    ]
    return list(dict.fromkeys(wrong))
