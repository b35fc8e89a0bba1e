"""The command line: one function per command, in the order of the help."""

from __future__ import annotations

import typer

from fastact.cli.bench import bench
from fastact.cli.doctor import doctor
from fastact.cli.gallery import gallery
from fastact.cli.info import info
from fastact.cli.laboratory import lab
from fastact.cli.listing import list_ops
from fastact.cli.plotting import plot
from fastact.cli.storing import clear, compile_ops

app = typer.Typer(
    help="Activation functions for NumPy: measure, list, inspect and precompile.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("bench")(bench)
app.command("list")(list_ops)
app.command("doctor")(doctor)
app.command("plot")(plot)
app.command("lab")(lab)
app.command("gallery")(gallery)
app.command("info")(info)
app.command("compile")(compile_ops)
app.command("clear")(clear)


def main() -> None:
    """The console script."""
    app()
