"""The forms in which every activation can be called, derived from its forward and derivative."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from fastact.activations.record import Activation
from fastact.numerics.language import Scalar


@dataclass(frozen=True)
class Direction:
    """One form of an op: its operands before the parameters, its results, its expression.

    The expression is over `forward`, `grad`, `grad_from_output` and `joint`, the scalar sources of
    the record; `{p}` stands for the parameters.
    """

    name: str
    suffix: str
    arrays: tuple[str, ...]
    outputs: tuple[str, ...]
    expression: str


DIRECTIONS = {
    d.name: d
    for d in (
        Direction("forward", "", ("x",), ("y",), "forward(x{p})"),
        Direction("grad", "_grad", ("x",), ("g",), "grad(x{p})"),
        Direction("backward", "_backward", ("dy", "x"), ("dx",), "dy * grad(x{p})"),
        Direction(
            "backward_from_output",
            "_backward_from_output",
            ("dy", "y"),
            ("dx",),
            "dy * grad_from_output(y{p})",
        ),
        Direction(
            "value_and_grad",
            "_value_and_grad",
            ("x",),
            ("y", "g"),
            "(forward(x{p}), grad(x{p}))",
        ),
    )
}


class Program(NamedTuple):
    """What one direction of an op computes, for any target: an expression over scalar sources."""

    arguments: tuple[str, ...]
    expression: str
    sources: dict[str, Scalar]


def program(record: Activation, direction: Direction) -> Program:
    """The program of one direction of an op."""
    names = tuple(p.name for p in record.parameters)
    joint = direction.name == "value_and_grad" and record.joint is not None
    expression = "joint(x{p})" if joint else direction.expression
    found = {n: getattr(record, n) for n in ("forward", "grad", "grad_from_output", "joint")}
    return Program(
        (*direction.arrays, *names),
        expression.format(p="".join(f", {n}" for n in names)),
        {n: source for n, source in found.items() if source is not None},
    )
