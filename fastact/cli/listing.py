"""`fastact list`: the ops, their parameters and formulas."""

from __future__ import annotations

from typing import Any

import fastact as fa
from fastact.activations.directions import DIRECTIONS
from fastact.cli.options import Json, Ops, chosen_ops, print_grid, show_json


def described(op: Any) -> dict[str, Any]:
    """What the record of an op says, as plain data."""
    return {
        "name": op.name,
        "aliases": list(op.aliases),
        "parameters": [
            {"name": p.name, "default": p.default, "meaning": p.meaning} for p in op.parameters
        ],
        "formula": op.formula,
        "derivative": op.derivative,
        "summary": op.summary,
        "directions": [d for d in DIRECTIONS if getattr(op, d, None) is not None],
    }


def list_ops(op: Ops = None, as_json: Json = False) -> None:
    """Show the ops, their parameters with defaults, and their formulas."""
    ops = [described(fa.get(name)) for name in chosen_ops(op)]
    if as_json:
        show_json(ops)
        return
    rows = [
        (
            ", ".join([d["name"], *d["aliases"]]),
            ", ".join(f"{p['name']}={p['default']:g}" for p in d["parameters"]),
            d["formula"],
        )
        for d in ops
    ]
    print_grid(rows, "op", "parameters", "formula")
