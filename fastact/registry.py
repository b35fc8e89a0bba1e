"""Every op of fastact, by name and alias."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from fastact.activations import (
    algebraic,
    exponential_linear,
    gaussian,
    hard,
    logarithmic,
    mish,
    rectifiers,
    saturating,
    shrink,
    smooth,
    steps,
)
from fastact.activations.combinations import paired_ops
from fastact.activations.directions import DIRECTIONS
from fastact.activations.paired import Paired
from fastact.activations.presets import Absent, entry, plain, renamed
from fastact.activations.record import Activation
from fastact.rowwise import logarithmic as logarithmic_rows
from fastact.rowwise import maxout, softmax, sparsemax
from fastact.rowwise.losses import LOSSES
from fastact.rowwise.record import Loss, RowOp
from fastact.runtime.functions import directions_of, function
from fastact.runtime.halves import paired_function
from fastact.runtime.losses import FUNCTIONS
from fastact.runtime.row_functions import row_function

RECORDS: dict[str, Activation] = {
    record.name: record
    for family in (
        steps,
        rectifiers,
        exponential_linear,
        hard,
        shrink,
        saturating,
        algebraic,
        smooth,
        gaussian,
        mish,
        logarithmic,
    )
    for record in family.RECORDS
}
PAIRED: dict[str, Paired] = {op.name: op for op in paired_ops(RECORDS)}
ROW_OPS: tuple[RowOp, ...] = tuple(
    op for f in (softmax, logarithmic_rows, sparsemax, maxout) for op in f.ROW_OPS
)
ALL = tuple(DIRECTIONS.values())
ALIASES: dict[str, str] = {
    alias: record.name
    for records in (RECORDS, PAIRED)
    for record in records.values()
    for alias in record.aliases
}


LOSS_RECORDS: dict[str, Loss] = {loss.name: loss for loss in LOSSES}
ROW_FAMILIES: dict[str, RowOp] = {op.name: op for op in ROW_OPS if "_backward" not in op.name}


class Op:
    """An op: its record's fields as attributes, and its functions.

    Call it for the forward pass. Elementwise ops have `grad`, `backward`, `backward_from_output`
    (None where the derivative has no closed form in the output) and `value_and_grad`; ops of two
    arrays have `backward`, which returns both partials; row ops have
    `backward` and, where there is one, `backward_from_output`; losses have `value_and_grad`.
    """

    def __init__(self, record: Any, functions: dict[str, Callable[..., Any] | None]) -> None:
        self.record = record
        self.__dict__ |= functions

    def __getattr__(self, name: str) -> Any:
        if name == "record":
            raise AttributeError(name)
        return getattr(self.record, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__dict__["forward"](*args, **kwargs)

    def __repr__(self) -> str:
        return f"<fastact op {self.record.name}: {self.record.formula}>"


def names() -> tuple[str, ...]:
    """The names of all ops, in the order of their families."""
    return (*RECORDS, *PAIRED, *ROW_FAMILIES, *LOSS_RECORDS)


def elementwise_op(record: Activation) -> Op:
    """The op of a record, with the functions of all directions."""
    has = directions_of(record)
    return Op(record, {d.name: function(record, d) if d in has else None for d in ALL})


def named_as(name: str, like: str) -> Op:
    """The op that another library means by a name, with its parameter names and defaults."""
    found = entry(like, name)
    if isinstance(found, Absent):
        raise KeyError(f"{name} of {like} cannot be expressed here: {found.reason}")
    if found is None:
        spelled = {plain(n): n for n in names()} | {plain(a): n for a, n in ALIASES.items()}
        return get(spelled.get(plain(name), name))
    if found.op not in RECORDS:
        return get(found.op)
    record = renamed(RECORDS[found.op], found, like)
    return elementwise_op(record) if record.like else get(found.op)


@cache
def get(name: str, like: str | None = None) -> Op:
    """The op of this name or alias: its parameters, formula, kinks, accuracy and functions.

    With `like` ("torch", "keras", "jax", "tensorflow" or "onnx") it is the op that this library
    means by the name, in any spelling, with the library's parameter names and defaults. Where
    the library has no such op, or the same one, it is fastact's own.

    Raises
    ------
    KeyError
        If there is none; the message lists names that are close, or why the library's op cannot
        be expressed.
    ValueError
        If `like` names no library known here.

    Examples
    --------
    >>> import fastact as fa
    >>> fa.get("leaky_relu", like="keras").defaults
    (0.2,)
    >>> fa.get("HardSigmoid", like="onnx")([-3.0, 0.0, 1.0], alpha=0.25)
    array([0.  , 0.5 , 0.75])
    """
    if like is not None:
        return named_as(name, like)
    record = RECORDS.get(ALIASES.get(name, name))
    if record is not None:
        return elementwise_op(record)
    pair = PAIRED.get(ALIASES.get(name, name))
    if pair is not None:
        return Op(pair, {d.name: paired_function(pair, d) for d in directions_of(pair)})
    if name in ROW_FAMILIES:
        family = {op.name: op for op in ROW_OPS}
        parts = (
            ("forward", name),
            ("backward", f"{name}_backward"),
            (
                "backward_from_output",
                f"{name}_backward_from_output",
            ),
        )
        return Op(
            ROW_FAMILIES[name],
            {part: row_function(family[full]) if full in family else None for part, full in parts},
        )
    if name in LOSS_RECORDS:
        both = {"forward": name, "value_and_grad": f"{name}_value_and_grad"}
        return Op(LOSS_RECORDS[name], {part: FUNCTIONS[full] for part, full in both.items()})
    close = difflib.get_close_matches(str(name), [*names(), *ALIASES])
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise KeyError(f"no op named {name!r}{hint} fastact.names() lists them all")


def public_functions() -> dict[str, Callable[[], Callable[..., Any]]]:
    """The public elementwise functions by name, aliases included; each made when asked for."""
    table: dict[str, Callable[[], Callable[..., Any]]] = {}
    for record in RECORDS.values():
        for name in (record.name, *record.aliases):
            for d in directions_of(record):
                table[name + d.suffix] = partial(function, record, d)
    for pair in PAIRED.values():
        for name in (pair.name, *pair.aliases):
            for d in directions_of(pair):
                table[name + d.suffix] = partial(paired_function, pair, d)
    for op in ROW_OPS:
        table[op.name] = partial(row_function, op)
    for name in FUNCTIONS:
        table[name] = partial(FUNCTIONS.__getitem__, name)
    return table
