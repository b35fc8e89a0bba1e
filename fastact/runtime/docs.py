"""Docstrings of the public functions, assembled from the records."""

from __future__ import annotations

import textwrap

from fastact.activations.directions import Direction
from fastact.activations.record import Activation
from fastact.rowwise.record import Loss, RowOp

SENTENCE = {
    "forward": "{summary}",
    "grad": "Derivative of `{name}` with respect to x, exact where the output has saturated.",
    "backward": "Vector-Jacobian product of `{name}`, from the input: dx = dy * {name}'(x).",
    "backward_from_output": "Vector-Jacobian product of `{name}`, from its output: x is not kept.",
    "value_and_grad": "`{name}` and its derivative in one pass that shares their common part.",
}
MEANING = {
    "x": "input",
    "dy": "gradient of the loss with respect to the output",
    "y": "output of the forward pass",
}
DTYPES = "float16, bfloat16, float32 or float64; bool and integers promote as in np.exp"


def example(record: Activation, direction: Direction) -> str:
    """A doctest that every function of this form passes."""
    arrays = ", ".join("[-1.0, 0.5, 2.0]" if a != "dy" else "1.0" for a in direction.arrays)
    if len(direction.outputs) == 2:
        return (
            f">>> y, g = fa.{record.name}{direction.suffix}({arrays})\n"
            "    >>> y.shape, g.shape\n    ((3,), (3,))"
        )
    return f">>> fa.{record.name}{direction.suffix}({arrays}).shape\n    (3,)"


def error_line(record: Activation, direction: Direction) -> str:
    parts = [
        f"{dtype}: forward {a.forward:g}, derivative {a.grad:g}"
        for dtype, a in record.accuracy.items()
    ]
    line = "; ".join(parts) or "not yet measured"
    if direction.name in ("backward", "backward_from_output"):
        line += "; the product with dy adds half an ulp"
    if direction.name == "backward_from_output" and record.output_note:
        line += f". {record.output_note}"
    return line


def docstring(record: Activation, direction: Direction) -> str:
    """The docstring of one direction of an op."""
    sentence = SENTENCE[direction.name].format(name=record.name, summary=record.summary)
    lines = [sentence, "", f"    f(x) = {record.formula}", f"    f'(x) = {record.derivative}", ""]
    if record.stable_note:
        lines += [record.stable_note, ""]
    lines += ["Parameters", "----------"]
    for a in direction.arrays:
        lines += [f"{a} : array_like", f"    {MEANING[a].capitalize()}; {DTYPES}."]
    for p in record.parameters:
        lines += [
            f"{p.name} : float or array_like, default {p.default!r}",
            f"    {p.meaning} Must be {p.domain}; broadcasts against x.",
        ]
    if len(direction.outputs) == 1:
        lines += ["out : array, optional", "    Where to write; may be an input."]
    else:
        lines += ["out : tuple of arrays, optional", "    Where to write both results."]
    lines += [
        "where, dtype, casting",
        "    As in every NumPy ufunc.",
    ]
    if direction.name == "backward" and record.parameter_grads:
        trained = ", ".join(map(repr, ("x", *record.parameter_grads)))
        lines += [
            "wrt : str or tuple of str, default 'x'",
            f"    With respect to what: {trained}. Other than 'x' alone, each partial is summed to "
            "the shape of its argument; several come as a tuple, in the order given.",
        ]
    lines += [
        "",
        "Returns",
        "-------",
        f"{', '.join(direction.outputs)} : array of the broadcast shape and the dtype of the input",
        "",
        "Raises",
        "------",
        "TypeError",
        "    For complex, object, string and other dtypes that are not real floating point.",
    ]
    if record.parameters:
        lines += ["ValueError", "    If a parameter lies outside its domain."]
    minus, plus = record.limits
    minus_grad, plus_grad = record.grad_limits
    lines += [
        "",
        "Notes",
        "-----",
        f"Limits: f(-inf) = {minus}, f(inf) = {plus}; f'(-inf) = {minus_grad}, "
        f"f'(inf) = {plus_grad}; nan gives nan.",
    ]
    if record.kinks:
        lines += [f"Kinks at x = {', '.join(record.kinks)}: {record.kink_note}"]
    lines += [f"Largest error in ulp: {error_line(record, direction)}."]
    lines += ["", "References", "----------", *record.sources]
    lines += ["", "Examples", "--------", ">>> import fastact as fa"]
    lines += example(record, direction).replace("\n    ", "\n").split("\n")
    return wrapped(lines)


def wrapped(lines: list[str]) -> str:
    """The text of a docstring, long lines folded with their indentation."""
    folded = []
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()))
        more = indent + "  " if line.startswith("    f") else indent
        folded += textwrap.wrap(line, 96, subsequent_indent=more) or [""]
    return "\n".join(folded) + "\n"


OPTION_NOTES = {
    "offset": ("int, default 0", "Row i has the entries 0 to i + offset of the last axis."),
    "groups": ("int", "How many groups of neighbours the axis is cut into; must divide it."),
    "axis": ("int, default -1", "The axis along which a row runs; any strides."),
    "axes": (
        "int, tuple of ints or None, default -1",
        "The axes that are reduced, None for all; any strides.",
    ),
    "keepdims": ("bool, default False", "Whether the reduced axes stay, with length 1."),
    "temperature": ("float, default 1.0", "What x is divided by, in the same pass."),
    "scale": ("float, default 1.0", "What x is multiplied by, in the same pass."),
    "where": (
        "array_like of bool, optional",
        "The entries that take part; broadcasts against x. The others are not seen.",
    ),
    "empty": (
        "'nan' or 'zero'",
        "What becomes of a row with nothing in it: nan, or {empty:g} for every result.",
    ),
}
EDGES = (
    "A row with one +inf has its limit (1 there, 0 elsewhere); with several, or with -inf alone, "
    "or with a nan, the row is nan. A scalar is a row of one entry; an axis of length 0 gives an "
    "empty result."
)


def row_arguments(op: RowOp) -> list[str]:
    """The names of a row op's arguments that are no arrays, `out` and dtypes aside."""
    if op.groups:
        return ["groups", "axis"]
    names = ["offset"] if op.causal else ["axes", "keepdims"] if op.many_axes else ["axis"]
    names += ["temperature", "scale"] if op.scalable else []
    return [*names, "where", *(["empty"] if op.policy else [])]


def row_example(op: RowOp) -> list[str]:
    """A doctest that every function of this form passes."""
    row = [[1.0]] if op.groups else [1.0]
    arrays = ", ".join(str(row) if a in op.per_row else "[[1.0, 2.0, 3.0]]" for a in op.inputs)
    more = ", 1" if op.groups else ""
    reduced = "(1, 1)" if op.groups else "(1,)"
    return [f">>> fa.{op.name}({arrays}{more}).shape", "(1, 3)" if op.apply else reduced]


def row_docstring(op: RowOp) -> str:
    """The docstring of a row op."""
    errors = "; ".join(f"{dtype}: {ulp:g}" for dtype, ulp in op.accuracy.items())
    lines = [op.summary, "", f"    {op.formula}", "", op.stable_note, "", "Parameters", "-" * 10]
    for a in op.inputs:
        lines += [f"{a} : array_like", f"    {MEANING[a].capitalize()}; {DTYPES}."]
    for name in row_arguments(op):
        kind, meaning = OPTION_NOTES[name]
        if name == "empty":
            kind += f", default {op.policy!r}"
        shown = "axis" if name == "axes" else name
        lines += [f"{shown} : {kind}", f"    {meaning.format(empty=op.empty)}"]
    lines += [
        "out : array, optional",
        "    Where to write; may be an input.",
        "dtype, casting",
        "    As in every NumPy ufunc.",
        "",
        "Returns",
        "-------",
        f"{op.output} : array of the dtype of the input"
        + (", and of its shape" if op.apply else ""),
        "",
        "Raises",
        "------",
        "TypeError",
        "    For dtypes that are not real floating point, or arguments of the wrong kind.",
        "ValueError",
        "    For an axis out of bounds, shapes that do not match, or an option out of its range.",
        "",
        "Notes",
        "-----",
        op.edges or EDGES,
    ]
    if errors:
        lines += [f"Largest error in ulp of {'1' if op.absolute else 'an entry'}: {errors}."]
    lines += ["", "References", "----------", *op.sources]
    lines += ["", "Examples", "--------", ">>> import fastact as fa", *row_example(op)]
    return wrapped(lines)


def loss_docstring(loss: Loss, gradient: bool) -> str:
    """The docstring of a loss, or of the loss with its gradient."""
    more = " With its gradient, in one pass." if gradient else ""
    errors = "; ".join(f"{dtype}: {ulp:g}" for dtype, ulp in loss.accuracy.items())
    lines = [loss.summary, "", f"    {loss.formula}", "", loss.stable_note + more, ""]
    first, second = loss.inputs
    lines += ["Parameters", "-" * 10, f"{first} : array_like", f"    Scores; {DTYPES}."]
    lines += [f"{second} : array_like", f"    {loss.labels_note}"]
    for option in loss.options:
        lines += [f"{option.name} : {option.kind}", f"    {option.meaning}"]
    if gradient:
        lines += ["out : array, optional", "    Where to write the gradient; may be the logits."]
    lines += [
        "",
        "Returns",
        "-------",
        "loss : number, or an array of losses with reduction='none', in the dtype of the logits",
    ]
    if gradient:
        lines += ["dlogits : array of the shape and dtype of the logits"]
    lines += [
        "",
        "Raises",
        "------",
        "TypeError",
        "    For dtypes that are not what they may be.",
        "ValueError",
        f"    {loss.raises}",
        "",
        "Notes",
        "-----",
        loss.notes,
        f"Largest error of a loss in ulp: {errors}.",
        "",
        "References",
        "----------",
        *loss.sources,
        "",
        "Examples",
        "--------",
        ">>> import fastact as fa",
    ]
    if gradient:
        call = f"fa.{loss.name}_value_and_grad({loss.example})"
        lines += [f">>> loss, dlogits = {call}", ">>> bool(loss > 0)", "True"]
    else:
        lines += [f">>> bool(fa.{loss.name}({loss.example}) > 0)", "True"]
    return wrapped(lines)
