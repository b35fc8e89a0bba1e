"""Docstrings of the ops of two arrays."""

from __future__ import annotations

from fastact.activations.directions import Direction
from fastact.activations.paired import Paired
from fastact.runtime.docs import DTYPES, wrapped

MEANING = {
    "a": "What is gated",
    "b": "What the activation is applied to",
    "dy": "Gradient of the loss with respect to the output",
    "x": "Input",
    "weight": "Slope for x <= 0",
}
BIAS = "What is added to x"
HALVED = "Input, of even length along the axis: the first half is a, the second b"


def result_names(direction: Direction) -> tuple[str, ...]:
    return tuple(r.name for r in direction.results) or direction.outputs


def example(op: Paired, direction: Direction) -> list[str]:
    """A doctest that the function passes."""
    values = {"dy": "1.0", "b": "[1.0, 0.5, 0.0]", "weight": "0.25"}
    arrays = ", ".join(values.get(a, "[-1.0, 0.5, 2.0]") for a in direction.arrays)
    call = f"fa.{op.name}{direction.suffix}({arrays})"
    names = result_names(direction)
    if len(names) == 1:
        return [f">>> {call}.shape", "(3,)"]
    shapes = ["()" if n == "dweight" else "(3,)" for n in names]
    return [
        f">>> {', '.join(names)} = {call}",
        f">>> {', '.join(f'{n}.shape' for n in names)}",
        f"({', '.join(shapes)})",
    ]


def arguments(op: Paired, direction: Direction) -> list[str]:
    lines = []
    for a in direction.arrays:
        meaning = BIAS if a == "b" and "x" in op.form.arrays else MEANING[a]
        lines += [f"{a} : array_like", f"    {meaning}; {DTYPES}."]
    for p in op.parameters:
        lines += [
            f"{p.name} : float or array_like, default {p.default!r}",
            f"    {p.meaning} Must be {p.domain}.",
        ]
    several = len(result_names(direction)) > 1
    lines += [
        f"out : {'tuple of arrays' if several else 'array'}, optional",
        f"    Where to write {'the results' if several else 'the result; may be an input'}.",
    ]
    if not direction.results:
        lines += ["where, dtype, casting", "    As in every NumPy ufunc."]
    return lines


def halves(direction: Direction) -> list[str]:
    given = ["dy : array_like", f"    {MEANING['dy']}."] if direction.name == "backward" else []
    return [
        *given,
        "x : array_like",
        f"    {HALVED}; {DTYPES}.",
        "axis : int, default -1",
        "    The axis that is halved.",
        "out : array, optional",
        "    Where to write the result.",
    ]


def assembled(
    op: Paired, direction: Direction, parameters: list[str], returns: str, shown: list[str]
) -> str:
    """The docstring from its parts."""
    first, second = op.form.arrays
    back = direction.name == "backward"
    one = f"Vector-Jacobian product of `{op.name}`: both partials in one pass."
    inner = op.activation
    errors = "; ".join(
        f"{t}: forward {a.forward:g}, partials {a.grad:g}" for t, a in op.accuracy.items()
    )
    df, ds = op.derivative.split(", ")
    return wrapped(
        [
            one if back else op.summary,
            "",
            f"    f({first}, {second}) = {op.formula}",
            f"    df/d{first} = {df}",
            f"    df/d{second} = {ds}",
            "",
            "Parameters",
            "----------",
            *parameters,
            "",
            "Returns",
            "-------",
            returns,
            "",
            "Raises",
            "------",
            "TypeError",
            "    For complex, object, string and other dtypes that are not real floating point.",
            "ValueError",
            "    For shapes that do not match.",
            "",
            "Notes",
            "-----",
            op.form.shapes,
            f"Largest error in ulp, before anything is summed: {errors}. Half types are computed "
            "in float32. Where partials are summed, float32 sums run in short chains that are "
            "added up in float64, in a fixed order. Limits and values at kinks are those of "
            f"`{inner.name}`; nan gives nan.",
            "",
            "References",
            "----------",
            *op.sources,
            "",
            "Examples",
            "--------",
            ">>> import fastact as fa",
            *shown,
        ]
    )


def paired_docstring(op: Paired, direction: Direction) -> str:
    """The docstring of one direction of an op of two arrays."""
    names = result_names(direction)
    shape = "the shapes of the arguments" if direction.results else "the broadcast shape"
    returns = f"{', '.join(names)} : array of {shape} and the dtype of the input"
    return assembled(op, direction, arguments(op, direction), returns, example(op, direction))


def halves_docstring(op: Paired, direction: Direction) -> str:
    """The docstring of one direction of a gate on the halves of one array."""
    back = direction.name == "backward"
    call = f"fa.{op.name}{direction.suffix}"
    given = "[1.0], [-1.0, 2.0]" if back else "[-1.0, 2.0]"
    returns = "dx : array of the shape of x" if back else "y : array, half as long along the axis"
    shown = [f">>> {call}({given}).shape", "(2,)" if back else "(1,)"]
    return assembled(op, direction, halves(direction), returns, shown)
