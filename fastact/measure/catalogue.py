"""What the harness asks the records: which operations exist, and in which directions."""

from __future__ import annotations

from typing import Any

import fastact as fa
from fastact.activations.directions import DIRECTIONS
from fastact.measure import pairs
from fastact.measure.pairs import is_paired
from fastact.registry import LOSS_RECORDS, ROW_OPS

# Row-wise operations have a record of their own for each direction.
ROW_RECORDS = {record.name: record for record in ROW_OPS}
SUFFIXES = tuple(d.suffix for d in DIRECTIONS.values() if d.suffix)
ROWWISE = tuple(name for name in ROW_RECORDS if not name.endswith(SUFFIXES))


def operations() -> tuple[str, ...]:
    """The names of all operations, elementwise first."""
    return fa.names()


def is_measured(op: str) -> bool:
    """Whether the harness has operands for it: it cuts no axis into groups."""
    return not (is_rowwise(op) and record_of(op).groups)


def is_rowwise(op: str) -> bool:
    """Whether the operation reduces along an axis."""
    return op in ROWWISE


def is_loss(op: str) -> bool:
    return op in LOSS_RECORDS


def record_of(op: str) -> Any:
    """The record of an operation, of its forward pass if it is row-wise; aliases are known.

    Raises
    ------
    KeyError
        If there is none of that name; the message offers names that are close.
    """
    return ROW_RECORDS[op] if is_rowwise(op) else fa.get(op)


def function_of(op: str, direction: str) -> Any:
    """The public function of an operation in a direction, or None."""
    return getattr(fa, op + DIRECTIONS[direction].suffix, None)


def directions_of(op: str) -> tuple[str, ...]:
    return tuple(d for d in DIRECTIONS if function_of(op, d) is not None)


def arguments_of(op: str, direction: str) -> tuple[str, ...]:
    """The names of the array arguments of an operation in a direction."""
    d = DIRECTIONS[direction]
    if is_loss(op):
        return tuple(LOSS_RECORDS[op].inputs)
    if is_paired(op):
        return pairs.arguments(op, direction)
    return ROW_RECORDS[op + d.suffix].inputs if is_rowwise(op) else d.arrays


def reduced(op: str, direction: str) -> tuple[str, ...]:
    """The operands, results included, that have one value per row."""
    if not is_rowwise(op):
        return ()
    record = ROW_RECORDS[op + DIRECTIONS[direction].suffix]
    return record.per_row + (() if record.apply else ("out",))


def takes_axis(op: str) -> bool:
    """Whether the public function has an axis; causal rows lie along the last."""
    return is_rowwise(op) and not record_of(op).causal


def parameters_of(op: str) -> dict[str, float]:
    """The default parameters by name; row-wise operations and losses have none."""
    return {} if is_rowwise(op) or is_loss(op) else dict(record_of(op).parameter_values())


# In units of the largest term of the row: the records of row-wise operations state no error
# for backward passes, whose terms cancel.
ROW_BACKWARD_ERROR = 8.0
FROM_OUTPUT_ERROR = 3.0  # a few roundings of a closed form in y, whatever it is


def stated_error(op: str, direction: str, computing: str) -> float:
    """The largest error in ULP that the record states for a computing dtype.

    The product with `dy` rounds once more than the derivative alone.
    """
    if is_rowwise(op):
        accuracy = ROW_RECORDS[op + DIRECTIONS[direction].suffix].accuracy
        return float(accuracy.get(computing, ROW_BACKWARD_ERROR))
    if is_loss(op):
        return float(LOSS_RECORDS[op].accuracy[computing])
    accuracy = record_of(op).accuracy[computing]
    stated = {
        "forward": accuracy.forward,
        "grad": accuracy.grad,
        "backward_from_output": FROM_OUTPUT_ERROR,
        "value_and_grad": max(accuracy.forward, accuracy.grad),
    }
    return float(stated.get(direction, accuracy.grad + 1.0))
