"""Every speed that fastact aims at, measured: `python bench/reach.py`.

One interleaved run over all lines; prints a table of target, measured value and verdict.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from reach_lines import LINES, Line
from reach_works import Key, build
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from fastact.measure.timing import ROUNDS, Timings


def measure(lines: list[Line], rounds: int, console: Console) -> Timings[Key]:
    """Time everything that the lines name, each thing once per round."""
    keys = list(dict.fromkeys(key for line in lines for pair in line.pairs for key in pair))
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("preparing", total=len(keys) + rounds)
        works = {}
        for key in keys:
            works[key] = build(key)
            progress.advance(task)
        timings = Timings(works)
        progress.update(task, description="measuring")
        for _ in timings.rounds(rounds):
            progress.advance(task)
    return timings


def described(result: dict[str, Any]) -> str:
    """The line's text; where one op decides, with its name."""
    deciding = [op for op, ratio in result["parts"].items() if ratio == result["measured"]]
    several = len(result["parts"]) > 1
    return f"{result['text']} ({deciding[0]})" if several and deciding else result["text"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", default="", help="only lines with this: issue 3, say")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    lines = [line for line in LINES if options.only in f"issue {line.issue}: {line.text}"]
    timings = measure(lines, options.rounds, Console(stderr=True))
    results = [line.result(timings) for line in lines]
    if options.json:
        json.dump(results, sys.stdout, indent=2)
        return
    table = Table("issue", "what", "target", "measured", "met", box=None, pad_edge=False)
    for result in results:
        table.add_row(
            str(result["issue"]),
            Text(described(result)),
            result["target"],
            f"{result['measured']:.3g}",
            "yes" if result["met"] else "NO",
            style=None if result["met"] else "bold red",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
