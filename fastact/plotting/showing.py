"""A figure in a window where there is a screen, else in a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from fastact.plotting.style import adaptive

FORMATS = ("svg", "png", "pdf")


def has_screen() -> bool:
    """Whether a window can be opened."""
    if os.environ.get("MPLBACKEND", "").lower() in ("agg", "svg", "pdf", "ps", "cairo", "template"):
        return False
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return False
    from matplotlib import pyplot
    from matplotlib.backends import BackendFilter, backend_registry

    return pyplot.get_backend().lower() in backend_registry.list_builtin(BackendFilter.INTERACTIVE)


def in_notebook() -> bool:
    """Whether the figure that is returned shows by itself."""
    return "ipykernel" in sys.modules


def checked(file: Any) -> Path:
    """The path of a picture that can be written.

    Raises
    ------
    ValueError
        If its ending is none of the formats.
    """
    path = Path(file)
    if path.suffix[1:].lower() not in FORMATS:
        raise ValueError(f"plot: file must end in .{', .'.join(FORMATS)}, got {str(file)!r}")
    return path


def save(figure: Any, file: Any, dark: bool = False) -> Path:
    """Write a figure; the same figure gives the same bytes. An SVG follows its page's scheme."""
    path = checked(file)
    kind = path.suffix[1:].lower()
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    figure.savefig(path, format=kind, dpi=144, metadata=dates.get(kind))
    if kind == "svg":
        text = path.read_text(encoding="utf-8")
        text = "\n".join(part.rstrip() for part in text.splitlines()) + "\n"
        path.write_text(text if dark else adaptive(text), encoding="utf-8")
    return path
