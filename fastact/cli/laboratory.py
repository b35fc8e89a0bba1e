"""`fastact lab`: experiments on gradients, each as a table, a figure and a sentence."""

from __future__ import annotations

import math
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from fastact.cli.options import Json, fail, followed, out, show_json


class Experiment(StrEnum):
    """The experiments of `fastact.lab`."""

    vanishing = "vanishing"
    exploding = "exploding"
    dying = "dying"
    temperature = "temperature"


def table(finding: Any) -> Table:
    made = Table(title=finding.question, caption=finding.setting, title_justify="left")
    for k, column in enumerate(finding.columns):
        made.add_column(column, justify="right" if k else "left", overflow="fold")
    for row in finding.rows:
        made.add_row(*map(Text, row))
    return made


def plain(data: Any) -> Any:
    """The same for JSON, which has no nan and no infinity."""
    if isinstance(data, dict):
        return {str(key): plain(value) for key, value in data.items()}
    if isinstance(data, list):
        return [plain(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def draw(finding: Any, folder: Path, dark: bool) -> Path:
    """The figure of a finding, as a file."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from fastact.plotting import showing, style

    theme = style.DARK if dark else style.LIGHT
    with mpl.rc_context(style.settings(theme)):
        figure = Figure(figsize=(10.5, 4.8), layout="constrained")
        finding.draw(figure, theme)
        return showing.save(figure, folder / f"lab-{finding.name}.svg", dark)


def lab(
    experiments: Annotated[
        list[Experiment] | None, typer.Argument(help="Which; all of them unless said.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the weights and the batches.")] = 0,
    folder: Annotated[
        Path | None, typer.Option("--out", "-o", help="A folder for the figures.")
    ] = None,
    dark: Annotated[bool, typer.Option("--dark", help="Dark figures.")] = False,
    as_json: Json = False,
) -> None:
    """Measure on the digits what activations do to gradients: half a minute for everything."""
    for package in ("sklearn", *(["matplotlib"] if folder else [])):
        if not find_spec(package):
            name = {"sklearn": "scikit-learn"}.get(package, package)
            raise fail(f"this needs {name}: pip install {name}")
    if folder and not folder.is_dir():
        raise fail(f"{folder}: no such folder")
    from fastact.lab import EXPERIMENTS

    chosen = [e.value for e in experiments or Experiment]
    runs = (EXPERIMENTS[name](seed=seed) for name in chosen)
    findings = []
    for finding in followed(runs, len(chosen), "measuring"):
        findings.append(finding)
        if not as_json:
            out.print(table(finding))
            out.print(finding.seen)
        if folder:
            written = draw(finding, folder, dark)
            if not as_json:
                out.print(f"drawn: {written}", markup=False, soft_wrap=True)
        if not as_json:
            out.print()
    if as_json:
        show_json(
            [
                {"name": f.name, "setting": f.setting, "seen": f.seen, **plain(f.data)}
                for f in findings
            ]
        )
