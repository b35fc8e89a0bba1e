"""What the commands share: options, errors, progress and output."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from fastact.activations.directions import DIRECTIONS
from fastact.measure.catalogue import operations, record_of

T = TypeVar("T")

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class Dtype(StrEnum):
    """The dtypes that can be asked for."""

    float16 = "float16"
    bfloat16 = "bfloat16"
    float32 = "float32"
    float64 = "float64"


Direction = StrEnum("Direction", {name: name for name in DIRECTIONS})  # type: ignore[misc]

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Ops = Annotated[
    list[str] | None,
    typer.Option("--op", help="Only this op; may be repeated.", metavar="NAME"),
]
Dtypes = Annotated[list[Dtype] | None, typer.Option("--dtype", help="May be repeated.")]


def fail(message: str) -> typer.Exit:
    """Print one line to stderr; raise what it returns to exit with status 2."""
    err.print("error:", message, markup=False, soft_wrap=True)
    return typer.Exit(2)


def show_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=2))


def chosen_ops(ops: list[str] | None) -> list[str]:
    """The ops asked for, aliases resolved and each once; all if none were."""
    if not ops:
        return list(operations())
    try:
        return list(dict.fromkeys(record_of(op).name for op in ops))
    except KeyError as error:
        raise fail(error.args[0]) from None


def values(choices: list[Any] | None, default: Iterable[str]) -> list[str]:
    """The values of repeated options, or the default."""
    return [choice.value for choice in choices] if choices else list(default)


def followed(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """The items, with a progress bar on stderr while they come."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(what, total=total)
        for item in items:
            yield item
            progress.advance(task)


def print_grid(rows: Iterable[tuple[str, ...]], *columns: str) -> None:
    """Print a table without rules; long cells are folded, brackets are no markup."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=bool(columns))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    out.print(table)
