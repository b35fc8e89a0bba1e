"""`fastact gallery`: the gallery's pages and pictures, written or checked."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from fastact.cli.options import err, fail, followed, out

FOLDER = Path("docs/gallery")
RESULTS = Path("bench/results.json")


def gallery(
    folder: Annotated[Path, typer.Option(help="Where the pages are.")] = FOLDER,
    results: Annotated[
        Path, typer.Option(help="Measured errors and times, of ci/report.py --run.")
    ] = RESULTS,
    check: Annotated[bool, typer.Option("--check", help="Only say whether it is fresh.")] = False,
) -> None:
    """Write a page per op, with its graph, from the records: half a minute for all of them."""
    if not find_spec("matplotlib"):
        raise fail("this needs matplotlib: pip install 'fastact[plot]'")
    from fastact.gallery import writing

    try:
        known = json.loads(results.read_text()) if results.exists() else {}
    except ValueError as problem:
        raise fail(f"{results}: {problem}") from None
    count = len(writing.pictures())
    if check:
        found = list(writing.stale(folder, known))
        for line in found:
            err.print(f"{folder}: {line}", markup=False, soft_wrap=True)
        if found:
            err.print("run: fastact gallery", markup=False)
            raise typer.Exit(1)
        return
    written = list(followed(writing.write(folder, known), 2 * count, "drawing"))
    out.print(f"{len(written)} files in {folder}", markup=False, soft_wrap=True)
