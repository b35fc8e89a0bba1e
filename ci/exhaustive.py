"""Measure the accuracy of the elementwise ops; the table is `ci/accuracy.json`.

    python ci/exhaustive.py                 every op that has no fresh entry
    python ci/exhaustive.py gelu mish       these ops only

float32: all 2**32 inputs, forward and derivative, with the default parameters, against the float64
implementation as proxy; the worst thousand, and a thousand others on which the proxy itself is
judged, against the formulas of `tests/oracle.py` in mpmath. float64: a million inputs against
extended precision, the worst thousand again in mpmath.

An entry is fresh while the op gives the same bits on a sample. Progress is kept after each part, so
a run that was stopped goes on where it was. A derivative near its zero is measured against the
values at x moved by two units in its last place.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mpmath import mp
from numba import njit
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import oracle  # noqa: E402
import ulp  # noqa: E402

import fastact as fa  # noqa: E402
from fastact.measure import reference  # noqa: E402
from fastact.registry import RECORDS  # noqa: E402

TABLE = ROOT / "ci" / "accuracy.json"
PARTIAL = ROOT / "ci" / "accuracy.partial.json"
DIRECTIONS = ("forward", "grad")
EDGES = (0.0, 0.5, 1.0, 2.0)  # of the histogram: exact, up to half a unit, one, two, more
PART = 1 << 17
PARTS = (1 << 32) // PART
KEPT = 1000
NEAR_ZERO = 1 / 4  # in parts of x, as in tests/test_accuracy.py
INPUT_ULPS = 2
POINTS = 1_000_000


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def ulp_errors(got: Any, exact: Any, out: Any) -> None:
    """float32 results against float64 values, in units in the last place of float32."""
    past = 2.0**128
    bits = exact.view(np.int64)
    unit = np.empty(1, np.float64)
    pattern = unit.view(np.int64)
    for i in range(got.size):
        y, e = np.float64(got[i]), exact[i]
        exponent = min(max((bits[i] >> 52) & 0x7FF, 1023 - 126), 1023 + 127)
        pattern[0] = (exponent - 23) << 52
        error = abs(min(max(y, -past), past) - min(max(e, -past), past)) / unit[0]
        if y != y or e != e:
            error = 0.0 if y != y and e != e else np.inf
        out[i] = error


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def count(errors: Any, edges: Any, counts: Any) -> float:
    """Adds to the histogram; the largest error."""
    largest = 0.0
    for error in errors:
        k = 0
        while k < edges.size and error > edges[k]:
            k += 1
        counts[k] += 1
        largest = max(largest, error)
    return largest


@dataclass
class Tally:
    """What has been seen so far: how many inputs by error, and the worst of them."""

    part: int = 0
    histogram: list[int] = field(default_factory=lambda: [0] * (len(EDGES) + 1))
    worst: list[tuple[float, int]] = field(default_factory=list)  # error, bits of x

    def add(self, errors: Any, first: int) -> None:
        counts = np.array(self.histogram)
        largest = count(errors, np.array(EDGES), counts)
        self.histogram = counts.tolist()
        floor = self.worst[-1][0] if len(self.worst) >= KEPT else 0.5
        if largest > floor:
            found = np.flatnonzero(errors > floor)
            if found.size > KEPT:
                found = found[np.argpartition(-errors[found], KEPT)[:KEPT]]
            self.worst += [(float(errors[i]), first + int(i)) for i in found]
            self.worst = sorted(self.worst, key=lambda w: -w[0])[:KEPT]
        self.part += 1


def zeros_of_derivative(op: str) -> list[float]:
    """Where f' changes sign without a jump, from a scan of the float64 derivative."""
    x = np.concatenate([-np.geomspace(50, 1e-3, 20000), np.geomspace(1e-3, 50, 20000)])
    with np.errstate(all="ignore"):
        g = getattr(fa, f"{op}_grad")(x)
    at = np.flatnonzero((g[:-1] * g[1:] < 0) & (np.abs(g[:-1] - g[1:]) < 0.01))
    return [float(x[i]) for i in at]


def moved(x: Any, by: int) -> Any:
    """x moved by units in its last place, away from zero if positive."""
    return (x.view(np.int32 if x.dtype == np.float32 else np.int64) + by).view(x.dtype)


def interval_errors(call: Any, x: Any, got: Any, errors: Any, near: Any) -> None:
    """Near a zero of f': the distance to the values at x moved by INPUT_ULPS either way."""
    i = np.flatnonzero(near)
    ends = [call(moved(x[i], by).astype(np.float64)) for by in (-INPUT_ULPS, INPUT_ULPS)]
    low, high = np.minimum(*ends), np.maximum(*ends)
    inside = (got[i] >= low) & (got[i] <= high)
    nearest = np.empty((2, i.size))
    for k, end in enumerate((low, high)):
        ulp_errors(got[i], end, nearest[k])
    errors[i] = np.where(inside, 0.0, np.minimum(errors[i], nearest.min(0)))


def sweep(op: str, direction: str, tally: Tally, step: Any) -> None:
    """All float32 inputs that the tally has not seen."""
    call = getattr(fa, op + ("_grad" if direction == "grad" else ""))
    zeros = zeros_of_derivative(op) if direction == "grad" else []
    errors = np.empty(PART)
    while tally.part < PARTS:
        first = tally.part * PART
        x = np.arange(first, first + PART, dtype=np.uint32).view(np.float32)
        with np.errstate(all="ignore"):
            got, exact = call(x), call(x.astype(np.float64))
            ulp_errors(got, exact, errors)
            near = np.zeros(PART, bool)
            for zero in zeros:
                near |= np.abs(x - zero) < NEAR_ZERO * abs(zero)
            if near.any():
                interval_errors(call, x, got, errors, near)
        tally.add(errors, first)
        step()


def judged(op: str, direction: str, dtype: Any, x: Any, zeros: list[float]) -> Any:
    """The errors of these inputs against mpmath."""
    got = getattr(fa, op + ("_grad" if direction == "grad" else ""))(x)
    formula = getattr(oracle.FORMULAS[op], direction)
    parameters = [float(dtype(p)) for p in RECORDS[op].defaults]
    errors = []
    for v, y in zip(x, got, strict=True):
        if not np.isfinite(v):
            errors.append(0.0)
            continue
        error = ulp.ulp_error(y, oracle.evaluate(formula, float(v), *parameters), dtype)
        if any(abs(float(v) - z) < NEAR_ZERO * abs(z) for z in zeros):
            around = ulp.neighbours(v, (-INPUT_ULPS, INPUT_ULPS), dtype).tolist()
            ends = [oracle.evaluate(formula, w, *parameters) for w in around]
            error = min(error, ulp.ulp_interval_error(y, (ends[0], ends[1]), dtype))
        errors.append(error)
    return np.array(errors)


def summary(x: Any, errors: Any) -> dict[str, Any]:
    i = int(np.argmax(errors))
    return {"ulp": round(float(errors[i]), 4), "at": float(x[i]).hex()}


def measure_single(op: str, direction: str, tally: Tally) -> dict[str, Any]:
    """The entry of a finished sweep: the worst inputs and the proxy judged by mpmath."""
    zeros = zeros_of_derivative(op) if direction == "grad" else []
    x = np.array([b for _, b in tally.worst], np.uint32).view(np.float32)
    entry = summary(x, judged(op, direction, np.float32, x, zeros)) if x.size else {"ulp": 0.0}
    sample = ulp.samples(np.float32, KEPT, seed=1).astype(np.float64)
    proxy = judged(op, direction, np.float64, sample, zeros)
    return entry | {"histogram": tally.histogram, "proxy_ulp": round(float(proxy.max()), 4)}


def measure_double(op: str, direction: str) -> dict[str, Any]:
    """A million float64 inputs, dense at kinks, pieces' joins and zeros of f'."""
    call = getattr(fa, op + ("_grad" if direction == "grad" else ""))
    zeros = zeros_of_derivative(op)
    names = RECORDS[op].parameter_values()
    kinks = [float(eval(k, {"__builtins__": {}}, names)) for k in RECORDS[op].kinks]
    rng = np.random.default_rng(0)
    dense = [c + rng.normal(0, 0.1, POINTS // 50) for c in (*kinks, *zeros, -1.0, 1.0, 0.5)]
    x = np.concatenate([ulp.samples(np.float64, POINTS, around=kinks), *dense])
    x = x[np.isfinite(x) & ~np.isin(x, kinks)]
    with np.errstate(all="ignore"):
        got = call(x).astype(np.longdouble)
        wide = x.astype(np.longdouble)
        exact = (
            reference.value(op, "float64", x=x)
            if direction == "forward"
            else reference.grad(op, "float64", wide)
        )
        error = np.abs(got - exact) / np.spacing(np.abs(exact).astype(np.float64))
    for zero in zeros if direction == "grad" else []:
        error = np.where(np.abs(x - zero) < NEAR_ZERO * abs(zero), 0, error)
    error = np.where(np.isfinite(error), error, 0).astype(np.float64)
    worst = np.argsort(-error)[:KEPT]
    histogram = [int(np.count_nonzero(error <= e)) for e in EDGES] + [error.size]
    histogram = [h - b for h, b in zip(histogram, [0, *histogram[:-1]], strict=True)]
    # near a zero of f' every point is judged by mpmath, as far as there are few enough
    near = [x[np.abs(x - z) < NEAR_ZERO * abs(z)][: KEPT // 2] for z in zeros]
    judged_x = np.concatenate([x[worst], *near])
    entry = summary(judged_x, judged(op, direction, np.float64, judged_x, zeros))
    return entry | {"histogram": histogram, "points": int(x.size)}


def fingerprint(op: str) -> str:
    """A digest of what the op computes on a sample: it changes when the implementation does."""
    digest = hashlib.sha256()
    for dtype in (np.float32, np.float64):
        x = ulp.samples(dtype, 20000, seed=7)
        with np.errstate(all="ignore"):
            for name in (op, f"{op}_grad"):
                y = getattr(fa, name)(x)
                y[np.isnan(y)] = np.nan
                digest.update(y.tobytes())
    return digest.hexdigest()[:16]


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def measure(op: str, progress: Progress) -> dict[str, Any]:
    """The table's entry of an op."""
    mark = fingerprint(op)
    entry: dict[str, Any] = {"fingerprint": mark, "float32": {}, "float64": {}}
    for direction in DIRECTIONS:
        key = f"{op} {direction} {mark}"
        kept = read(PARTIAL)
        tally = Tally(**kept[key]) if key in kept else Tally()
        task = progress.add_task(f"{op} {direction}", total=PARTS, completed=tally.part)

        def step(tally: Tally = tally, key: str = key, task: Any = task) -> None:
            progress.update(task, completed=tally.part)
            if tally.part % 1024 == 0:
                write(PARTIAL, read(PARTIAL) | {key: vars(tally)})

        sweep(op, direction, tally, step)
        entry["float32"][direction] = measure_single(op, direction, tally)
        entry["float64"][direction] = measure_double(op, direction)
        progress.remove_task(task)
    return entry


def main(chosen: list[str]) -> int:
    """Measure what is not fresh; 1 if a name is unknown."""
    unknown = [op for op in chosen if op not in RECORDS]
    if unknown:
        print(f"no elementwise op named {', '.join(unknown)}; there are {', '.join(RECORDS)}")
        return 1
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns) as progress:
        for op in chosen or RECORDS:
            if read(TABLE).get(op, {}).get("fingerprint") == fingerprint(op):
                continue
            entry = measure(op, progress)
            write(TABLE, read(TABLE) | {op: entry})
            kept = {k: v for k, v in read(PARTIAL).items() if not k.startswith(f"{op} ")}
            write(PARTIAL, kept)
            for dtype in ("float32", "float64"):
                figures = [f"{d} {entry[dtype][d]['ulp']:.3f}" for d in DIRECTIONS]
                progress.print(f"{op} {dtype}: {', '.join(figures)}")
    PARTIAL.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    mp.prec = 160
    sys.exit(main(sys.argv[1:]))
