"""`fastact bench`: how exact and how fast, here and now."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Annotated, NamedTuple

import typer

from fastact.cli.options import (
    Direction,
    Dtypes,
    Json,
    Ops,
    chosen_ops,
    err,
    fail,
    followed,
    out,
    show_json,
    values,
)


class Preset(NamedTuple):
    """What is measured unless options say otherwise."""

    sizes: tuple[int, ...]
    directions: tuple[str, ...]
    rounds: int


FULL = Preset((16, 1 << 10, 16 << 10, 1 << 20, 16 << 20), ("forward", "backward"), 15)
QUICK = Preset((16 << 10, 1 << 20), ("forward",), 7)

UNITS = {"": 1, "ki": 1 << 10, "mi": 1 << 20}


def elements(text: str) -> int:
    """A number of elements: 16384, 16Ki or 1Mi."""
    match = re.fullmatch(r"([1-9]\d*)\s*(|Ki|Mi)", text.strip(), re.IGNORECASE)
    if not match:
        raise fail(f"size {text!r} is no number of elements such as 16384, 16Ki or 1Mi")
    return int(match[1]) * UNITS[match[2].lower()]


def bench(
    op: Ops = None,
    size: Annotated[
        list[str] | None,
        typer.Option(help="Elements, such as 16384, 16Ki or 1Mi; may be repeated."),
    ] = None,
    dtype: Dtypes = None,
    direction: Annotated[list[Direction] | None, typer.Option(help="May be repeated.")] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Samples of each time; their median counts.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Done within a minute.")] = False,
    as_json: Json = False,
) -> None:
    """Check every op against NumPy in wider precision, then time it against its peers.

    Peers are the naive and the stable NumPy expression, SciPy where it has the op, PyTorch if
    it is installed, and a plain copy. Exits with status 1 if an error is larger than stated.
    """
    ops = chosen_ops(op)
    preset = QUICK if quick else FULL
    sizes = [elements(s) for s in size] if size else preset.sizes
    dtypes = values(dtype, ["float32"])
    if "bfloat16" in dtypes and not find_spec("ml_dtypes"):
        raise fail("bfloat16 needs the package ml_dtypes")

    from fastact.measure import display, machine, results, run
    from fastact.measure.cases import grid

    cases = grid(ops, values(direction, preset.directions), dtypes, sizes)
    if not cases:
        raise fail(f"{', '.join(ops)}: nothing to measure in this direction")

    here = machine.describe()
    if not as_json:
        out.print(machine.summary())
        if machine.warning():
            out.print(machine.warning())
    groups = list(followed(run.checks(cases), run.count_checks(cases), "checking"))
    verdicts = [verdict for group in groups for verdict in group]
    if not as_json:
        for table in display.accuracy_tables(verdicts):
            out.print()
            out.print(table)
    measured = run.timings(cases, rounds or preset.rounds)
    timings = list(followed(measured, len(cases), "timing"))
    if as_json:
        show_json(results.report(here, verdicts, timings))
    else:
        for table in display.timing_tables(timings, verdicts):
            out.print()
            out.print(table)
        out.print()
        out.print(display.LEGEND)
    wrong = display.failures(verdicts)
    for line in wrong:
        err.print("not as exact as stated:", line, soft_wrap=True)
    if wrong:
        raise typer.Exit(1)
