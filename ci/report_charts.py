"""The README's charts: bars per op and provider, as SVG that is the same for the same results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from report_tables import timings

from fastact.measure.cases import size_name
from fastact.measure.results import PEERS, Timing

mpl.rcParams.update({"svg.hashsalt": "fastact", "svg.fonttype": "none", "font.size": 9})

COLORS = {
    "fastact": "#0b6e4f",
    "NumPy": "#b0b7c3",
    "stable": "#8790a0",
    "SciPy": "#5b8db8",
    "torch": "#d1604d",
    "copy": "#e0c068",
}
SHORTEST = 0.05  # ns per element, where the logarithmic axis begins
CHARTS = {
    "speed-in-cache": ("forward", "float32", 16 << 10),
    "speed-large": ("forward", "float32", 16 << 20),
    "speed-backward-in-cache": ("backward", "float32", 16 << 10),
}


def nanoseconds(timing: Timing, column: str) -> float | None:
    """The time per element of fastact or of a peer."""
    if column == "fastact":
        return timing.nanoseconds(timing.ours)
    provider = PEERS[column][timing.case.all_cores]
    return timing.nanoseconds(provider) if provider in timing.seconds else None


def bars(found: list[Timing], title: str) -> Figure:
    """Horizontal bars on a logarithmic scale, a group per op; the shorter, the faster."""
    columns = list(COLORS)
    figure = Figure(figsize=(8, 0.6 + 0.62 * len(found)), layout="constrained")
    axes = figure.subplots()
    height = 0.86 / len(columns)
    for row, timing in enumerate(found):
        for k, column in enumerate(columns):
            value = nanoseconds(timing, column)
            if value is not None:
                at = row + (k - (len(columns) - 1) / 2) * height
                axes.barh(at, value, height, color=COLORS[column])
    axes.set_yticks(range(len(found)), [t.case.label for t in found])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(left=SHORTEST)
    axes.set_xlabel("ns per element (logarithmic)")
    axes.set_title(title)
    handles = [Patch(color=color, label=name) for name, color in COLORS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(columns))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw(results: dict[str, Any], folder: Path) -> None:
    """Write every chart that there are results for."""
    folder.mkdir(exist_ok=True)
    for name, (direction, dtype, size) in CHARTS.items():
        found = timings(results, direction=direction, dtype=dtype, size=size)
        if found:
            cores = "all cores" if found[0].case.all_cores else "one thread"
            title = f"{direction}, {dtype}, {size_name(size)} elements, {cores}"
            figure = bars(found, title)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
