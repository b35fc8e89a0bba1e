"""Make the records state the accuracy that was measured (`ci/accuracy.json`).

    python ci/statements.py             show what differs; exit status 1 if anything does
    python ci/statements.py --write     tighten the statements in fastact/activations
    python ci/statements.py --loosen    write looser ones too: an op has become less exact

A statement is the measurement rounded up to hundredths. Where inputs were sampled and not
exhausted, a fiftieth is added, more for parameters of which three values stand for all, unless all
float32 inputs show that there is one rounding only. No margin goes beyond what was promised.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fastact.activations.record import Accuracy  # noqa: E402
from fastact.registry import RECORDS  # noqa: E402

FAMILIES = ROOT / "fastact" / "activations"
TABLE = ROOT / "ci" / "accuracy.json"
DTYPES = ("float32", "float64")
FIELDS = {"forward": ("forward", "joint"), "grad": ("grad",)}  # which directions a field speaks of
MARGIN = 1.02
# over eleven values of each parameter from 0.001 to 1000, by which errors exceeded those of the
# three that are measured: 1.15 at most (the derivative of elu)
PARAMETER_MARGIN = 1.15
ROUNDING = 0.5
# What was promised, in units: elementary functions in float32, and everything else.
ELEMENTARY_BOUND = 1.0
BOUND = 2.0
COMPOSITE = {
    "bipolar_sigmoid", "celu", "swish", "gelu", "gelu_tanh", "gelu_quick", "mish", "dish",
    "softplus", "log_sigmoid", "tanhshrink", "log1mexp", "logit", "squareplus",
}  # fmt: skip
Statement = dict[str, Accuracy]


def errors(entry: dict[str, Any], dtype: str, field: str) -> list[float]:
    return [entry[dtype][d]["ulp"] for d in FIELDS[field] if d in entry[dtype]]


def implementations(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The entry, and that of processors that look no tables up, where it differs."""
    return [entry, entry["plain"]] if "plain" in entry else [entry]


def measured(entry: dict[str, Any], dtype: str, field: str) -> float:
    """The largest error that was seen, with whatever parameters."""
    every = [part for one in implementations(entry) for part in (one, *one["others"])]
    return max(error for e in every for error in errors(e, dtype, field))


def bound(op: str, dtype: str, field: str) -> float:
    """The largest error that is allowed."""
    elementary = op not in COMPOSITE and dtype == "float32" and field == "forward"
    return ELEMENTARY_BOUND if elementary else BOUND


def hundredths(value: float) -> float:
    """Rounded up."""
    return math.ceil(round(value * 100, 6)) / 100


def stated(op: str, entry: dict[str, Any], dtype: str, field: str) -> float:
    """What a record states: at least what was measured, and with a margin what was sampled."""
    every = implementations(entry)
    whole = [e for one in every for e in errors(one, dtype, field)] if dtype == "float32" else []
    sampled = [measured(entry, dtype, field)] if dtype == "float64" else []
    sampled += [e for one in every for o in one["others"] for e in errors(o, dtype, field)]
    largest = max([*whole, *sampled])
    if measured(entry, "float32", field) > ROUNDING:
        margin, limit = PARAMETER_MARGIN if entry["others"] else MARGIN, bound(op, dtype, field)
        largest = max([*whole, *(max(e, min(e * margin, limit)) for e in sampled)])
    return hundredths(largest)


def statement(op: str, entry: dict[str, Any]) -> Statement:
    return {d: Accuracy(*(stated(op, entry, d, field) for field in FIELDS)) for d in DTYPES}


def written(made: Statement) -> str:
    """The statement as the records have it."""
    parts = (f'"{d}": Accuracy({a.forward}, {a.grad})' for d, a in made.items())
    return f"{{{', '.join(parts)}}}"


def places(text: str) -> dict[str, tuple[int, int, int]]:
    """Where each record of a file has its statement: line, first and last column."""
    found = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Activation":
            fields = {k.arg: k.value for k in node.keywords}
            name, value = fields["name"], fields["accuracy"]
            assert isinstance(name, ast.Constant) and value.lineno == value.end_lineno
            found[str(name.value)] = (value.lineno - 1, value.col_offset, value.end_col_offset or 0)
    return found


def rewrite(wanted: dict[str, Statement]) -> None:
    """Write these statements into the files of their records."""
    for path in FAMILIES.glob("*.py"):
        text = path.read_text()
        lines = text.splitlines(keepends=True)
        for op, (line, first, last) in places(text).items():
            if op in wanted:
                lines[line] = lines[line][:first] + written(wanted[op]) + lines[line][last:]
        if "".join(lines) != text:
            path.write_text("".join(lines))


def looser(new: Statement, old: Statement) -> bool:
    return any(
        getattr(new[dtype], field) > getattr(old[dtype], field)
        for dtype in DTYPES
        for field in FIELDS
    )


def differences() -> dict[str, Statement]:
    """The statements that are not what the table gives, as it gives them."""
    table = json.loads(TABLE.read_text())
    wanted = {op: statement(op, table[op]) for op in RECORDS if op in table}
    return {op: made for op, made in wanted.items() if made != RECORDS[op].accuracy}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="tighten the records")
    parser.add_argument("--loosen", action="store_true", help="and loosen them where need be")
    options = parser.parse_args()
    found = differences()
    for op, made in found.items():
        print(f"{op}: {written(RECORDS[op].accuracy)}\n{' ' * len(op)}  {written(made)}")
    if options.write or options.loosen:
        kept = {o: s for o, s in found.items() if looser(s, RECORDS[o].accuracy)}
        rewrite({o: s for o, s in found.items() if options.loosen or o not in kept})
        if kept and not options.loosen:
            print(f"looser than before, not written: {', '.join(kept)}")
            return 1
        return 0
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
