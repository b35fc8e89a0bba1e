"""The forms in which every activation can be called, derived from its forward and derivative."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Direction:
    """One form of an op: its operands before the parameters, its results, its expression.

    The expression is over `forward`, `grad` and `grad_from_output`, the scalar sources of the
    record; `{p}` stands for the parameters.
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
