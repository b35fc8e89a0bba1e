"""Every op of fastact, by name and alias."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from fastact.activations import rectifiers, saturating, smooth, steps
from fastact.activations.directions import DIRECTIONS
from fastact.activations.record import Activation
from fastact.rowwise.softmax import ROW_OPS
from fastact.runtime.functions import directions_of, function
from fastact.runtime.row_functions import row_function

RECORDS: dict[str, Activation] = {
    record.name: record
    for family in (steps, rectifiers, saturating, smooth)
    for record in family.RECORDS
}
ALIASES: dict[str, str] = {
    alias: record.name for record in RECORDS.values() for alias in record.aliases
}


class Op:
    """An op: its record's fields as attributes, and its functions.

    Call it for the forward pass; `op.grad`, `op.backward`, `op.backward_from_output` (None
    where the derivative has no closed form in the output) and `op.value_and_grad` are the
    other directions.
    """

    def __init__(self, record: Activation) -> None:
        self.record = record
        has = {d.name for d in directions_of(record)}
        for direction in DIRECTIONS.values():
            made = function(record, direction) if direction.name in has else None
            setattr(self, direction.name, made)

    def __getattr__(self, name: str) -> Any:
        if name == "record":
            raise AttributeError(name)
        return getattr(self.record, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<fastact op {self.record.name}: {self.record.formula}>"


def names() -> tuple[str, ...]:
    """The names of all ops, in the order of their families."""
    return tuple(RECORDS)


@cache
def get(name: str) -> Op:
    """The op of this name or alias: its parameters, formula, kinks, accuracy and functions.

    Raises
    ------
    KeyError
        If there is none; the message lists names that are close.
    """
    record = RECORDS.get(ALIASES.get(name, name))
    if record is None:
        close = difflib.get_close_matches(str(name), [*RECORDS, *ALIASES])
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise KeyError(f"no op named {name!r}{hint} fastact.names() lists them all")
    return Op(record)


def public_functions() -> dict[str, Callable[[], Callable[..., Any]]]:
    """The public elementwise functions by name, aliases included; each made when asked for."""
    table: dict[str, Callable[[], Callable[..., Any]]] = {}
    for record in RECORDS.values():
        for name in (record.name, *record.aliases):
            for d in directions_of(record):
                table[name + d.suffix] = partial(function, record, d)
    for op in ROW_OPS:
        table[op.name] = partial(row_function, op)
    return table
