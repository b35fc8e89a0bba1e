"""Writing the gallery, and telling whether what is written is fresh.

The bytes of a picture depend on matplotlib's version; what is drawn does not. So freshness
compares the pages' text, and for each picture a digest of the data that its figure holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fastact as fa
from fastact.gallery import pages
from fastact.plotting import showing, style

DIGITS = 5  # of each number in a digest: the last bits of a kernel are the processor's own


def pictures() -> dict[str, dict[str, Any]]:
    """Every picture by file name, and the request that draws it."""
    found: dict[str, dict[str, Any]] = {"sigmoids": {"relation": "sigmoids"}}
    for name in fa.names():
        for file, options in pages.pictures_of(name).items():
            found[file] = {"op": name} | options
    return found


def drawn(request: dict[str, Any]) -> Any:
    """The figure of a request."""
    options = dict(request)
    op = options.pop("op", None)
    return fa.plot(*([op] if op else []), show=False, **options)


def text_of(values: Any) -> str:
    """Numbers as text that the last bits do not change."""
    rounded = np.round(np.asarray(values, np.float64), 9) + 0.0
    return ",".join(f"{v:.{DIGITS}g}" for v in np.ravel(rounded))


def digest(figure: Any) -> str:
    """A digest of all that a figure shows but its looks."""
    parts = []
    for axes in figure.axes:
        parts += [axes.get_title(loc) for loc in ("left", "center")]
        parts += [axes.get_xlabel(), axes.get_ylabel(), text_of(axes.get_xlim())]
        parts += [t.get_text() for t in axes.texts]
        for line in axes.get_lines():
            parts += [str(line.get_label()), str(line.get_marker()), text_of(line.get_xydata())]
        parts += [text_of(patch.get_xy()) for patch in axes.patches]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def texts(results: dict[str, Any]) -> dict[str, str]:
    """Every page by file name."""
    return {"index.md": pages.index()} | {
        f"{name}.md": pages.page(name, results) for name in fa.names()
    }


def write(folder: Path, results: dict[str, Any]) -> Iterator[str]:
    """Write pages and pictures, and remove what belongs to no op; yields each file's name."""
    shown = folder / "pictures"
    shown.mkdir(parents=True, exist_ok=True)
    made = texts(results)
    for file, text in made.items():
        (folder / file).write_text(text, encoding="utf-8")
        yield file
    digests = {}
    import matplotlib as mpl

    for name, request in pictures().items():
        figure = drawn(request)
        digests[name] = digest(figure)
        with mpl.rc_context(style.settings(style.LIGHT)):
            showing.save(figure, shown / f"{name}.svg")
        yield f"pictures/{name}.svg"
    (shown / "digests.json").write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")
    for stale in strays(folder, set(made), set(digests)):
        stale.unlink()


def strays(folder: Path, made: set[str], drawn_: set[str]) -> list[Path]:
    """Pages and pictures of ops that are gone."""
    return [p for p in folder.glob("*.md") if p.name not in made] + [
        p for p in (folder / "pictures").glob("*.svg") if p.stem not in drawn_
    ]


def stale(folder: Path, results: dict[str, Any]) -> Iterator[str]:
    """What is not as it would be written now, one line each."""
    made = texts(results)
    for file, text in made.items():
        path = folder / file
        if not path.exists():
            yield f"{file} is missing"
        elif path.read_text(encoding="utf-8") != text:
            yield f"{file} differs"
    try:
        known = json.loads((folder / "pictures" / "digests.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    requests = pictures()
    for name, request in requests.items():
        picture = folder / "pictures" / f"{name}.svg"
        if not picture.exists():
            yield f"pictures/{name}.svg is missing"
        elif known.get(name) != digest(drawn(request)):
            yield f"pictures/{name}.svg shows something else"
    for path in strays(folder, set(made), set(requests)):
        yield f"{path.relative_to(folder)} belongs to no op"
