"""The README's tables, as Markdown, by name. Losing rows are in them, in bold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from fastact.measure.cases import ALL_CORES_FROM, DTYPES, size_name
from fastact.measure.display import ACCURACY_COLUMNS, error, number, times
from fastact.measure.results import PEERS, Timing

LARGE = 1 << 20
IN_CACHE = 16 << 10
TINY = 16

# who has which direction
DIFFERENTIATE = {
    "forward": tuple(ACCURACY_COLUMNS),
    "backward": ("fastact", "NumPy", "torch", "JAX"),
}

Table = Callable[[dict[str, Any]], str]


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table: the first column to the left, numbers to the right; "" without rows."""
    header, rows = list(header), list(rows)
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) if rows else ""


def ratio(value: float | None, peer: str) -> str:
    """A ratio; in bold where fastact loses. A copy is no rival but the limit."""
    text = times(value)
    return f"**{text}**" if value is not None and value < 1 and peer != "copy" else text


def timings(results: dict[str, Any], **wanted: Any) -> list[Timing]:
    """The stored timings of cases with these properties."""
    found = (Timing.from_data(data) for data in results["timings"])
    return [t for t in found if all(getattr(t.case, k) == v for k, v in wanted.items())]


def speed(results: dict[str, Any], direction: str, dtype: str, size: int) -> str:
    """fastact's time, and the other providers' as multiples of it, on as many cores."""
    rows = []
    for t in timings(results, direction=direction, dtype=dtype, size=size):
        ours = [number(t.nanoseconds(t.ours)), number(t.gigabytes(t.ours))]
        rows.append([t.case.label, *ours, *(ratio(t.ratio(peer), peer) for peer in PEERS)])
    return markdown(["op", "ns per element", "GB/s", *PEERS], rows)


def by_dtype(results: dict[str, Any], direction: str, size: int) -> str:
    """Every dtype's time per element, and PyTorch's as a multiple of it, side by side."""
    table: dict[str, dict[str, list[str]]] = {}
    for dtype in DTYPES:
        for t in timings(results, direction=direction, dtype=dtype, size=size):
            cells = [number(t.nanoseconds(t.ours)), ratio(t.ratio("torch"), "torch")]
            table.setdefault(t.case.label, {})[dtype] = cells
    header = ["op", *(cell for dtype in DTYPES for cell in (f"{dtype}, ns", "torch"))]
    rows = (
        [label, *(cell for dtype in DTYPES for cell in cells.get(dtype, ["-", "-"]))]
        for label, cells in table.items()
    )
    return markdown(header, rows)


def accuracy(results: dict[str, Any]) -> str:
    """The largest error in ULP of every provider, forward and backward, a row per op and dtype."""
    table: dict[tuple[str, str], dict[tuple[str, str], float]] = {}
    for v in results["accuracy"]:
        if v["direction"] in DIFFERENTIATE:
            for column, providers in ACCURACY_COLUMNS.items():
                if v["provider"] in providers:
                    key = (v["direction"], column)
                    errors = table.setdefault((v["op"], v["dtype"]), {})
                    errors[key] = max(v["ulp"], errors.get(key, 0.0))
    columns = [(way, c) for way, able in DIFFERENTIATE.items() for c in able]
    header = [c if way == "forward" else f"{c}, {way}" for way, c in columns]
    order = {op: k for k, (op, _) in enumerate(table)}
    rows = (
        [op, dtype, *(error(table[op, dtype].get(key)) for key in columns)]
        for op, dtype in sorted(table, key=lambda row: order[row[0]])
    )
    return markdown(["op", "dtype", *header], rows)


def reach(results: dict[str, Any]) -> str:
    """What was aimed at and what was measured."""
    rows = (
        [r["text"], r["target"], number(r["measured"]), "yes" if r["met"] else "**no**"]
        for r in results["reach"]
    )
    return markdown(["line", "target", "measured", "met"], rows)


def machine(results: dict[str, Any]) -> str:
    """The machine and the versions of one run, and how to read the tables."""
    m = results["machine"]
    versions = ", ".join(f"{name} {v}" for name, v in m["versions"].items() if v)
    return (
        f"{m['cpu']} ({m['architecture']}), {m['cores']} cores, {m['threads']} threads, "
        f"{m['system']}; {versions}. Medians of an interleaved run. Columns after GB/s: the time "
        "of others divided by fastact's, on as many cores; in bold where fastact is slower. "
        "`copy` moves as many bytes and computes nothing. PyTorch's backward passes of sigmoid, "
        "tanh, relu and softmax read the saved output, fastact's the input."
    )


def sections(results: dict[str, Any], parts: list[tuple[str, Table]]) -> str:
    """Several tables, each under a line that says what it shows; empty ones are left out."""
    made = ((caption, table(results)) for caption, table in parts)
    return "\n\n".join(f"{caption}\n\n{text}" for caption, text in made if text)


def speeds(direction: str, dtype: str, size: int) -> tuple[str, Table]:
    cores = "all cores" if size >= ALL_CORES_FROM else "one thread"
    caption = f"**{direction}, {dtype}, {size_name(size)} elements, {cores}**"
    return caption, partial(speed, direction=direction, dtype=dtype, size=size)


SPEED = [
    (
        "![Time per element in cache](docs/speed-in-cache.svg)\n"
        "![Time per element of large arrays](docs/speed-large.svg)",
        machine,
    ),
    *(
        speeds(direction, "float32", size)
        for size in (IN_CACHE, LARGE)
        for direction in ("forward", "backward")
    ),
    *(
        (
            f"**Forward, every dtype, {size_name(size)} elements**",
            partial(by_dtype, direction="forward", size=size),
        )
        for size in (IN_CACHE, LARGE)
    ),
    speeds("forward", "float32", TINY),
]

TABLES: dict[str, Table] = {
    "accuracy": accuracy,
    "speed": partial(sections, parts=SPEED),
    "reach": reach,
}
