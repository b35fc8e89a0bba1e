"""The README's tables, as Markdown, by name. Losing rows are in them, in bold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from fastact.measure.cases import size_name
from fastact.measure.display import ACCURACY_COLUMNS, error, number, times
from fastact.measure.results import PEERS, Timing

LARGE = 16 << 20
IN_CACHE = 16 << 10


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table: the first column to the left, numbers to the right."""
    header = list(header)
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def ratio(value: float | None) -> str:
    """A ratio; in bold where fastact loses."""
    text = times(value)
    return f"**{text}**" if value is not None and value < 1 else text


def timings(results: dict[str, Any], **wanted: Any) -> list[Timing]:
    """The stored timings of cases with these properties."""
    found = (Timing.from_data(data) for data in results["timings"])
    return [t for t in found if all(getattr(t.case, k) == v for k, v in wanted.items())]


def speed(results: dict[str, Any], direction: str, dtype: str, size: int) -> str:
    """fastact's time, and the other providers' as multiples of it, on as many cores."""
    rows = []
    for t in timings(results, direction=direction, dtype=dtype, size=size):
        ours = [number(t.nanoseconds(t.ours)), number(t.gigabytes(t.ours))]
        rows.append([t.case.label, *ours, *(ratio(t.ratio(peer)) for peer in PEERS)])
    return markdown(["op", "ns per element", "GB/s", *PEERS], rows)


def half_types(results: dict[str, Any], direction: str, size: int) -> str:
    """Every dtype's time per element side by side."""
    dtypes = ("float16", "bfloat16", "float32", "float64")
    table: dict[str, list[str]] = {}
    for dtype in dtypes:
        for t in timings(results, direction=direction, dtype=dtype, size=size):
            cells = [number(t.nanoseconds(t.ours)), ratio(t.ratio("torch"))]
            table.setdefault(t.case.label, []).extend(cells)
    header = ["op", *(cell for dtype in dtypes for cell in (f"{dtype}, ns", "torch"))]
    return markdown(header, ([label, *cells] for label, cells in table.items()))


def accuracy(results: dict[str, Any], dtype: str) -> str:
    """The largest error in ULP of every provider, forward and derivative."""
    table: dict[str, dict[tuple[str, str], float]] = {}
    for v in results["accuracy"]:
        if v["dtype"] == dtype and v["direction"] in ("forward", "backward"):
            for column, providers in ACCURACY_COLUMNS.items():
                if v["provider"] in providers:
                    key = (v["direction"], column)
                    errors = table.setdefault(v["op"], {})
                    errors[key] = max(v["ulp"], errors.get(key, 0.0))
    columns = [("forward", c) for c in ACCURACY_COLUMNS]
    columns += [("backward", c) for c in ("fastact", "NumPy", "torch")]
    header = [c if d == "forward" else f"{c}, backward" for d, c in columns]
    rows = ([op, *(error(errors.get(key)) for key in columns)] for op, errors in table.items())
    return markdown(["op", *header], rows)


def reach(results: dict[str, Any]) -> str:
    """What was aimed at and what was measured."""
    rows = (
        [r["text"], r["target"], number(r["measured"]), "yes" if r["met"] else "**no**"]
        for r in results["reach"]
    )
    return markdown(["line", "target", "measured", "met"], rows)


def machine(results: dict[str, Any]) -> str:
    """The machine and the versions of one run, as a sentence."""
    m = results["machine"]
    versions = ", ".join(f"{name} {v}" for name, v in m["versions"].items() if v)
    return (
        f"{m['cpu']} ({m['architecture']}), {m['cores']} cores, {m['threads']} threads, "
        f"{m['system']}; {versions}."
    )


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "machine": machine,
    "reach": reach,
    **{f"accuracy-{dtype}": partial(accuracy, dtype=dtype) for dtype in ("float32", "float64")},
    **{
        f"{direction}-{dtype}-{size_name(size).replace(' ', '')}": partial(
            speed, direction=direction, dtype=dtype, size=size
        )
        for direction in ("forward", "backward")
        for dtype in ("float16", "bfloat16", "float32", "float64")
        for size in (16, IN_CACHE, LARGE)
    },
    **{
        f"dtypes-{direction}-{size_name(size).replace(' ', '')}": partial(
            half_types, direction=direction, size=size
        )
        for direction in ("forward", "backward")
        for size in (IN_CACHE, LARGE)
    },
}
