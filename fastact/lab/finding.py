"""What an experiment hands back: a table, a figure, and a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """The outcome of one experiment.

    `data` holds the numbers behind the table and the figure, as plain lists and dicts; `draw`
    takes a matplotlib figure and a theme.
    """

    name: str
    question: str
    setting: str
    columns: Row
    rows: Sequence[Row]
    seen: str
    data: dict[str, Any]
    draw: Callable[[Any, Any], None] = field(repr=False)


def short(value: float) -> str:
    """A number with two digits: 0.0012, 3.4, 5.6e+10, nan."""
    return f"{value:.2g}" if not 10 <= abs(value) < 1e4 else f"{value:.0f}"
