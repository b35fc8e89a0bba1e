"""How figures look: a light and a dark theme, and lines that differ without colour too.

The colours are those of Okabe and Ito (2008), which people with colour-blindness can tell apart;
the dark theme has them lighter. Every line also has a dash pattern and markers of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Theme:
    """The colours of a figure."""

    paper: str
    ink: str
    faint: str
    shade: str
    lines: tuple[str, ...]


LIGHT = Theme(
    paper="#ffffff",
    ink="#22272e",
    faint="#b3bac4",
    shade="#e9ebef",
    lines=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#9a7500", "#3d9bd1", "#5f5f5f"),
)
DARK = Theme(
    paper="#16191d",
    ink="#e3e6ea",
    faint="#59626e",
    shade="#262b32",
    lines=("#5eb6f0", "#ff9a4d", "#35d0a0", "#f0a3cf", "#e8c33a", "#9bd8ff", "#bdbdbd"),
)
DASHES: tuple[Any, ...] = (
    "-",
    (0, (6, 2)),
    (0, (6, 2, 1.5, 2)),
    (0, (1.5, 1.5)),
    (0, (9, 3)),
    (0, (4, 1.5, 1, 1.5, 1, 1.5)),
    (0, (3, 3)),
)
# more of them than dashes: the lines differ also where colours and dashes begin anew
MARKERS = ("o", "s", "^", "D", "v", "X", "P", "<", ">")
MARKS_PER_LINE = 9


def line(theme: Theme, k: int, points: int) -> dict[str, Any]:
    """Colour, dashes and markers of the k-th of several lines, which has so many points."""
    every = max(1, points // MARKS_PER_LINE)
    return {
        "color": theme.lines[k % len(theme.lines)],
        "linestyle": DASHES[k % len(DASHES)],
        "marker": MARKERS[k % len(MARKERS)],
        # each line has its marks elsewhere, so that lines on top of each other still show
        "markevery": (every * (k % 4) // 4, every),
        "markersize": 4.5,
        "linewidth": 1.9,
    }


def settings(theme: Theme) -> dict[str, Any]:
    """Matplotlib's settings for a theme; the same input gives the same SVG."""
    return {
        "figure.facecolor": theme.paper,
        "savefig.facecolor": theme.paper,
        "axes.facecolor": theme.paper,
        "axes.edgecolor": theme.ink,
        "axes.labelcolor": theme.ink,
        "axes.titlecolor": theme.ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "text.color": theme.ink,
        "xtick.color": theme.ink,
        "ytick.color": theme.ink,
        "grid.color": theme.faint,
        "grid.alpha": 0.35,
        "grid.linewidth": 0.6,
        "hatch.color": theme.faint,
        "hatch.linewidth": 0.5,
        "legend.frameon": True,
        "legend.framealpha": 0.85,
        "legend.facecolor": theme.paper,
        "legend.edgecolor": theme.faint,
        "legend.handlelength": 3.2,
        "font.size": 10,
        "font.family": "DejaVu Sans",
        "mathtext.default": "regular",
        "path.simplify": True,
        "svg.fonttype": "none",
        "svg.hashsalt": "fastact",
        "svg.id": "fastact",
    }


def adaptive(svg: str) -> str:
    """An SVG in the light theme that turns dark where its page is dark.

    Browsers hand the page's colour scheme on to a picture; other viewers show it light.
    """
    light = (LIGHT.paper, LIGHT.ink, LIGHT.faint, LIGHT.shade, *LIGHT.lines)
    dark = (DARK.paper, DARK.ink, DARK.faint, DARK.shade, *DARK.lines)
    rules = "".join(
        f'[style*="{part}: {a}"],[{part}="{a}"]{{{part}:{b}!important}}'
        for a, b in zip(light, dark, strict=True)
        for part in ("fill", "stroke")
        if f"{part}: {a}" in svg or f'{part}="{a}"' in svg
    )
    style = f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>"
    return re.sub(r"(<svg\b[^>]*>)", lambda m: m[1] + style, svg, count=1)
