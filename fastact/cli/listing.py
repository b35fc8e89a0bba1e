"""`fastact list`: the ops, their parameters and formulas."""

from __future__ import annotations

from typing import Any

from fastact.cli.options import Json, Ops, chosen_ops, print_grid, show_json
from fastact.measure.catalogue import directions_of, is_loss, is_rowwise, record_of


def described(name: str) -> dict[str, Any]:
    """What the record of an op says, as plain data."""
    record = record_of(name)
    common = {
        "name": name,
        "summary": record.summary,
        "formula": record.formula,
        "directions": list(directions_of(name)),
    }
    if is_rowwise(name):
        axis = {"name": "axis", "default": -1, "meaning": "what is reduced"}
        return common | {"aliases": [], "parameters": [axis]}
    if is_loss(name):
        options = [{"name": o.name, "default": None, "meaning": o.meaning} for o in record.options]
        return common | {"aliases": [], "parameters": options}
    parameters = [
        {"name": p.name, "default": p.default, "meaning": p.meaning} for p in record.parameters
    ]
    return common | {
        "aliases": list(record.aliases),
        "parameters": parameters,
        "derivative": record.derivative,
    }


def shown(parameter: dict[str, Any]) -> str:
    """A parameter with its default, if that is a number."""
    name, default = parameter["name"], parameter["default"]
    return name if default is None else f"{name}={default:g}"


def list_ops(op: Ops = None, as_json: Json = False) -> None:
    """Show the ops, their parameters with defaults, and their formulas."""
    ops = [described(name) for name in chosen_ops(op)]
    if as_json:
        show_json(ops)
        return
    rows = [
        (
            ", ".join([d["name"], *d["aliases"]]),
            ", ".join(map(shown, d["parameters"])),
            d["formula"],
        )
        for d in ops
    ]
    print_grid(rows, "op", "parameters", "formula")
