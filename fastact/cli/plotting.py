"""`fastact plot`: ops, families of parameters and errors as figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fastact.cli.options import Dtype, fail, out


def values_of(settings: list[str]) -> dict[str, list[float]]:
    """`["alpha=0.5,1"]` -> `{"alpha": [0.5, 1.0]}`."""
    found: dict[str, list[float]] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        try:
            found[name] = [float(v) for v in text.split(",")]
        except ValueError:
            raise fail(f"{setting!r} is no parameter such as alpha=0.5,1,2") from None
    return found


def plot(
    ops: Annotated[list[str] | None, typer.Argument(help="Ops to draw.")] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", help="Values of a parameter, such as alpha=0.5,1,2."),
    ] = None,
    family: Annotated[
        bool, typer.Option("--family", help="Typical values of its parameter.")
    ] = False,
    error: Annotated[bool, typer.Option("--error", help="Errors in ULP, beside peers.")] = False,
    relation: Annotated[
        bool, typer.Option("--sigmoids", help="How sigmoid, bipolar_sigmoid and tanh are related.")
    ] = False,
    dtype: Annotated[Dtype, typer.Option(help="For --error: float32 or float64.")] = Dtype.float32,
    span: Annotated[
        tuple[float, float] | None, typer.Option(help="The range of x.", metavar="LOW HIGH")
    ] = None,
    dark: Annotated[bool, typer.Option("--dark", help="A dark figure.")] = False,
    file: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write a .svg, .png or .pdf file instead.")
    ] = None,
) -> None:
    """Draw ops and their derivatives: in a window, or in a file where there is no screen."""
    import fastact as fa

    options: dict[str, Any] = values_of(parameter or [])
    try:
        fa.plot(
            *(ops or ()),
            span=span,
            family=family,
            error=error,
            relation="sigmoids" if relation else None,
            dtype=dtype.value,
            dark=dark,
            file=file,
            **options,
        )
    except (ImportError, KeyError, OSError, TypeError, ValueError) as problem:
        raise fail(str(problem.args[0] if isinstance(problem, KeyError) else problem)) from None
    if file is not None:
        out.print(f"written to {file}", soft_wrap=True, markup=False)
