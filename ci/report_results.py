"""Where the report's numbers come from: a run of the harness, or pytest-benchmark's JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.progress import track

from fastact.measure.cases import DTYPES, Case, grid
from fastact.measure.catalogue import operations
from fastact.measure.check import Verdict
from fastact.measure.machine import describe
from fastact.measure.results import Timing, report
from fastact.measure.run import checks, count_checks, timings

REACH = Path(__file__).resolve().parent.parent / "bench" / "reach.py"
CHECKED = (("forward", "backward"), ("float32", "float64"), (16 << 10,))
TIMED = (
    (("forward", "backward"), DTYPES[2:], (16 << 10,)),
    (("forward",), DTYPES[:2], (16 << 10,)),
    (("forward",), ("float32",), (1 << 20,)),
    (("forward",), ("float32",), (16,)),
)


def run_checks() -> list[Verdict]:
    """The errors that the tables show."""
    checked = grid(operations(), *CHECKED)
    every = track(checks(checked), "checking", count_checks(checked))
    return [verdict for found in every for verdict in found]


def run_harness() -> dict[str, Any]:
    """Check and time everything that the tables show."""
    here = describe()
    cases = [case for part in TIMED for case in grid(operations(), *part)]
    return report(here, run_checks(), list(track(timings(cases), "timing", len(cases))))


def checked_again() -> dict[str, Any]:
    """The errors alone."""
    return {"accuracy": report({}, run_checks(), [])["accuracy"]}


def run_reach() -> list[dict[str, Any]]:
    """Every line of Reach, measured in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(REACH), "--json"], check=True, stdout=subprocess.PIPE, text=True
    )
    lines: list[dict[str, Any]] = json.loads(done.stdout)
    return lines


def measured() -> dict[str, Any]:
    return run_harness() | {"reach": run_reach()}


def from_pytest(path: Path) -> dict[str, Any]:
    """The timings of a pytest-benchmark file: medians, one provider after the other."""
    seconds: dict[Case, dict[str, float]] = {}
    for entry in json.loads(path.read_text())["benchmarks"]:
        info = dict(entry["extra_info"])
        provider = info.pop("provider")
        case = Case(**(info | {"shape": tuple(info["shape"])}))
        seconds.setdefault(case, {})[provider] = entry["stats"]["median"]
    return {"timings": [Timing(case, found).as_data() for case, found in seconds.items()]}
