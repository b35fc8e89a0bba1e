"""Where the report's numbers come from: a run of the harness, or pytest-benchmark's JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.progress import track

import fastact as fa
from fastact.measure import results, run
from fastact.measure.cases import DTYPES, Case, grid

REACH = Path(__file__).resolve().parent.parent / "bench" / "reach.py"
DIRECTIONS = ("forward", "backward", "value_and_grad")
SIZES = (16, 16 << 10, 16 << 20)
CHECKED = ("forward", "grad", "backward", "backward_from_output")


def run_harness() -> dict[str, Any]:
    """Check and time everything that the tables show."""
    checked = grid(fa.names(), CHECKED, DTYPES, [16 << 10])
    total = run.count_checks(checked)
    verdicts = [v for found in track(run.checks(checked), "checking", total) for v in found]
    cases = grid(fa.names(), DIRECTIONS, DTYPES, SIZES)
    timings = list(track(run.timings(cases), "timing", len(cases)))
    return results.report(verdicts, timings)


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
    timings = [results.Timing(case, found) for case, found in seconds.items()]
    return {"timings": [t.as_data() for t in timings]}
