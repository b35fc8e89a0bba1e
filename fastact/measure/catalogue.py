"""What the harness asks the records: which operations exist, and in which directions."""

from __future__ import annotations

import difflib
from typing import Any

import fastact as fa
from fastact.activations.directions import DIRECTIONS


class UnknownOperation(ValueError):
    """A name that is no operation; the message offers the names closest to it."""


def record_of(op: str) -> Any:
    """The record of an operation.

    Raises
    ------
    UnknownOperation
        If there is none of that name.
    """
    if op not in all_names():
        close = difflib.get_close_matches(op, all_names(), n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "see `fastact list`"
        raise UnknownOperation(f"unknown op {op!r}: {hint}")
    return fa.get(op)


def all_names() -> tuple[str, ...]:
    return tuple(fa.names())


def function_of(op: str, direction: str) -> Any:
    """The public function of an operation in a direction, or None."""
    return getattr(fa, op + DIRECTIONS[direction].suffix, None)


def directions_of(op: str) -> tuple[str, ...]:
    return tuple(d for d in DIRECTIONS if function_of(op, d) is not None)


def is_rowwise(op: str) -> bool:
    """Whether the operation reduces along an axis."""
    return not hasattr(record_of(op), "grad")
