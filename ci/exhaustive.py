"""Measure the accuracy of the elementwise ops; the table is `ci/accuracy.json`.

    python ci/exhaustive.py                 every op that has no fresh entry
    python ci/exhaustive.py gelu mish       these ops only
    python ci/exhaustive.py --float64       only the float64 part, of all fresh entries
    python ci/exhaustive.py --check         measure nothing; exit status 1 if an entry is missing

float32: all 2**32 inputs, forward and derivative, with the default parameters, against the float64
implementation as proxy; the worst thousand, and a thousand others on which the proxy itself is
judged, against the formulas of `tests/oracle.py` in mpmath. Other parameters see every 16th input.
float64: a million inputs, dense at kinks, zeros of f' and wherever the implementation goes from one
piece to the next, against extended precision; the worst thousand again in mpmath.

An op that looks tables up in registers has another implementation for processors that do not: the
part `plain` of its entry, measured under FASTACT_TABLES=0.

An entry is fresh while the op gives the same bits on a sample. Progress is kept as it is made, so
a run that was stopped goes on where it was. A derivative near its zero is measured against the
values at x moved by two units in its last place. `ci/statements.py` makes the records say what was
measured.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import judge
import numpy as np
import ops
import ulp
from mpmath import mp
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from sweep import CHUNKS, Function, Sweep, Tally, Workers

from fastact.compile.tabulated import tables_in_registers
from fastact.registry import RECORDS

TABLE = judge.ROOT / "ci" / "accuracy.json"
PARTIAL = judge.ROOT / "ci" / "accuracy.partial.json"
DTYPES = {"float32": np.float32, "float64": np.float64}
SPARSE = 16  # other parameters than the defaults are swept in such steps
SAVED = 10.0  # seconds between two marks of progress on disk
Parameters = tuple[float, ...]


def directions(op: str) -> tuple[str, ...]:
    return ("forward", "grad") if RECORDS[op].joint is None else ("forward", "grad", "joint")


def others(op: str) -> list[Parameters]:
    """The values of its parameters, other than the defaults, with which an op is tested."""
    return [case.parameters for case in ops.all_cases() if case.op == op][1:]


def function(op: str, direction: str, dtype: str, parameters: Parameters) -> Function:
    """With the parameters as they reach the computation."""
    return Function(op, direction, tuple(float(DTYPES[dtype](p)) for p in parameters))


def fingerprint(op: str) -> str:
    """A digest of what the op computes on a sample: it changes when the implementation does."""
    digest = hashlib.sha256()
    for dtype, kind in DTYPES.items():
        x = ulp.samples(kind, 20000, seed=7)
        for parameters in (RECORDS[op].defaults, *others(op)):
            for direction in directions(op):
                with np.errstate(all="ignore"):
                    y = function(op, direction, dtype, parameters)(x)
                y[np.isnan(y)] = np.nan
                digest.update(y.tobytes())
    return digest.hexdigest()[:16]


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def write(path: Path, value: Any) -> None:
    """Whole or not at all."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
    new.replace(path)


class Run:
    """Measures ops one after the other, showing and keeping progress."""

    def __init__(self, workers: Workers, progress: Progress) -> None:
        self.workers = workers
        self.progress = progress

    def single(self, call: Function, step: int, mark: str) -> dict[str, Any]:
        """Sweep a function, from where an earlier run has stopped."""
        name = " ".join([call.op, call.direction, *map(str, call.parameters)])
        key = f"{name} {mark}"
        tally = Tally(**read(PARTIAL).get(key, {}))
        task = self.progress.add_task(name, total=CHUNKS, completed=tally.chunk)
        saved = time.monotonic()

        def after() -> None:
            nonlocal saved
            self.progress.update(task, completed=tally.chunk)
            if time.monotonic() - saved > SAVED or tally.chunk == CHUNKS:
                write(PARTIAL, read(PARTIAL) | {key: vars(tally)})
                saved = time.monotonic()

        self.workers.run(Sweep(call, judge.near_zeros(call), step), tally, after)
        self.progress.remove_task(task)
        return judge.measure_single(call, tally)

    def case(self, op: str, parameters: Parameters, mark: str, whole: bool) -> dict[str, Any]:
        """Everything about an op with given parameters."""
        waiting = self.doubles(op, parameters, whole)  # computed while the sweeps go on
        single = {}
        for way in directions(op):
            swept = function(op, way, "float32", parameters)
            single[way] = self.single(swept, 1 if whole else SPARSE, mark)
        return {"float32": single, "float64": {w: f.result() for w, f in waiting.items()}}

    def doubles(self, op: str, parameters: Parameters, whole: bool) -> dict[str, Future[Any]]:
        """The float64 part of an entry, from the workers."""
        count = judge.POINTS if whole else judge.FEWER
        return {
            way: self.workers.pool.submit(
                judge.measure_double, function(op, way, "float64", parameters), count
            )
            for way in directions(op)
        }

    def doubles_again(self, op: str, entry: dict[str, Any]) -> None:
        """Measure the float64 part of a fresh entry anew."""
        found = [(entry, self.doubles(op, RECORDS[op].defaults, whole=True))]
        for other in entry["others"]:
            found.append((other, self.doubles(op, tuple(other["parameters"]), whole=False)))
        for part, waiting in found:
            part["float64"] = {way: future.result() for way, future in waiting.items()}

    def op(self, op: str) -> dict[str, Any]:
        """The table's entry of an op."""
        mark, begun = fingerprint(op), time.monotonic()
        entry = {"fingerprint": mark} | self.case(op, RECORDS[op].defaults, mark, whole=True)
        entry["others"] = [
            {"parameters": p} | self.case(op, p, mark, whole=False) for p in others(op)
        ]
        for dtype in DTYPES:
            figures = [f"{d} {entry[dtype][d]['ulp']:.3f}" for d in directions(op)]
            self.progress.print(f"{op} {dtype}: {', '.join(figures)}")
        self.progress.print(f"{op}: {time.monotonic() - begun:.0f} s")
        return entry


def looks_up(op: str) -> bool:
    """Whether an op looks tables up on processors that do so in registers."""
    return any(source.tables is not None for source in RECORDS[op].scalars.values())


def current(op: str, entry: dict[str, Any]) -> dict[str, Any]:
    """The part of an op's entry that is about the implementation that this process runs."""
    if looks_up(op) and not tables_in_registers():
        return dict(entry.get("plain", {}))
    return entry


def updated(op: str, entry: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """An op's entry with what was found about the implementation that this process runs.

    An entry without `plain` is from before the op looked tables up: it is about the plain one.
    """
    if not looks_up(op):
        return found
    if tables_in_registers():
        return found | {"plain": entry.get("plain", entry)}
    return entry | {"plain": found}


def stale(chosen: list[str]) -> list[str]:
    """The ops without a fresh entry."""
    table = read(TABLE)
    return [
        op for op in chosen if current(op, table.get(op, {})).get("fingerprint") != fingerprint(op)
    ]


def main() -> int:
    """Measure what is not fresh; 1 if a name is unknown, or with --check if anything is stale."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ops", nargs="*", help="these only")
    parser.add_argument("--float64", action="store_true", help="float64 only, of fresh entries")
    parser.add_argument("--check", action="store_true", help="measure nothing")
    options = parser.parse_args()
    unknown = [op for op in options.ops if op not in RECORDS]
    if unknown:
        print(f"no elementwise op named {', '.join(unknown)}; there are {', '.join(RECORDS)}")
        return 1
    missing = stale(options.ops or list(RECORDS))
    if options.check:
        print("stale:", ", ".join(missing) or "none")
        return bool(missing)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; the next run goes on from here"))
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns) as progress, Workers() as workers:
        if options.float64:
            fresh = [op for op in options.ops or RECORDS if op not in missing]
            for op in progress.track(fresh, description="float64"):
                entry = read(TABLE)[op]
                Run(workers, progress).doubles_again(op, entry)
                write(TABLE, read(TABLE) | {op: entry})
            return 0
        for op in missing:
            entry = updated(op, read(TABLE).get(op, {}), Run(workers, progress).op(op))
            write(TABLE, {k: v for k, v in read(TABLE).items() if k in RECORDS} | {op: entry})
            kept = {k: v for k, v in read(PARTIAL).items() if not k.startswith(f"{op} ")}
            write(PARTIAL, kept)
    PARTIAL.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    mp.prec = 160
    sys.exit(main())
