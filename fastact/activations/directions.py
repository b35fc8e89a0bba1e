"""The forms in which every activation can be called, derived from its forward and derivative."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fastact.numerics.language import Scalar

if TYPE_CHECKING:
    from fastact.activations.paired import Pointwise


class Result(NamedTuple):
    """A result of a call: an output of the kernel, summed to the shape of an argument."""

    name: str
    output: int
    argument: str


@dataclass(frozen=True)
class Direction:
    """One form of an op: its operands before the parameters, its results, its expression.

    The expression is over the scalar sources of the record (`forward`, `grad`,
    `grad_from_output`, `joint`, and `<parameter>_grad` where a parameter is trained); `{p}` stands
    for the parameters. Where `results` are given, the outputs are not what a call returns, but
    what its results are summed from.
    """

    name: str
    suffix: str
    arrays: tuple[str, ...]
    outputs: tuple[str, ...]
    expression: str
    results: tuple[Result, ...] = ()


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


def with_respect_to(names: tuple[str, ...]) -> Direction:
    """The backward pass that returns the partials of these arguments, x or parameters."""
    terms = ["grad" if name == "x" else f"{name}_grad" for name in names]
    products = ", ".join(f"dy * {term}(x{{p}})" for term in terms)
    return Direction(
        "backward",
        "_backward_" + "_".join(names),
        ("dy", "x"),
        tuple(f"d{name}" for name in names),
        f"({products})" if len(names) > 1 else products,
        tuple(Result(f"d{name}", k, name) for k, name in enumerate(names)),
    )


class Program(NamedTuple):
    """What one direction of an op computes, for any target: an expression over scalar sources."""

    arguments: tuple[str, ...]
    expression: str
    sources: dict[str, Scalar]


def program(record: Pointwise, direction: Direction, tables: bool = False) -> Program:
    """The program of one direction of an op, where scalars look tables up or do not.

    Forward and derivative that both do cost less than a joint form, which has no table.
    """
    names = tuple(p.name for p in record.parameters)
    joint = direction.name == "value_and_grad" and "joint" in record.scalars
    if joint and tables:
        joint = any(record.scalars[name].tables is None for name in ("forward", "grad"))
    expression = "joint(x{p})" if joint else direction.expression
    used = set(re.findall(r"\w+", expression))
    return Program(
        (*direction.arrays, *names),
        expression.format(p="".join(f", {n}" for n in names)),
        {n: source for n, source in record.scalars.items() if n in used},
    )
