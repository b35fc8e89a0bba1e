"""`fastact compile` and `fastact clear`: fill and empty the store of compiled code."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from fastact.cli.options import (
    Dtypes,
    Json,
    Ops,
    chosen_ops,
    fail,
    followed,
    out,
    show_json,
    values,
)
from fastact.runtime import store

KEY = re.compile(r"[0-9a-f]{32}")


def contents(root: Path | None) -> list[Path]:
    """The objects in the store, of this version and of others."""
    if root is None or not root.is_dir():
        return []
    folders = [f for f in root.iterdir() if KEY.fullmatch(f.name) and not f.is_symlink()]
    return [file for folder in folders if folder.is_dir() for file in folder.iterdir()]


def compile_ops(
    op: Ops = None,
    dtype: Dtypes = None,
    jobs: Annotated[
        int, typer.Option(min=0, help="Processes that compile; 0: one per processor.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Fill the store, so that no later process has to compile."""
    from fastact.cli.filling import fill, tasks
    from fastact.measure.cases import DTYPES

    place = store.folder()
    if place is None:
        raise fail(f"there is no store to fill: {store.root() or 'no user cache folder'}")
    work = tasks(chosen_ops(op), values(dtype, DTYPES))
    done = list(followed(fill(work, jobs or os.cpu_count() or 1), len(work), "compiling"))
    result = {
        "store": str(place),
        "compiled": done.count("compiled"),
        "found": done.count("found"),
        "failed": done.count("failed"),
    }
    if as_json:
        show_json(result)
    else:
        out.print(
            f"{result['compiled']} objects compiled, {result['found']} found in {place}",
            soft_wrap=True,
        )
    if result["failed"]:
        raise fail(f"{result['failed']} objects could not be written to {place}")


def clear(as_json: Json = False) -> None:
    """Delete all compiled code from the store; nothing else in its folder is touched."""
    files = contents(store.root())
    freed = sum(file.stat().st_size for file in files)
    try:
        for file in files:
            file.unlink(missing_ok=True)
        for folder in {file.parent for file in files}:
            folder.rmdir()
    except OSError as error:
        raise fail(f"{store.root()}: {error.strerror}") from None
    if as_json:
        show_json({"store": str(store.root()), "deleted": len(files), "bytes": freed})
    else:
        out.print(f"{len(files)} objects deleted, {freed / 1e6:.1f} MB freed")
