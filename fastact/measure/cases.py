"""What is measured: one operation in one direction, on one dtype and shape."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fastact.activations.directions import DIRECTIONS
from fastact.measure import pairs
from fastact.measure.catalogue import (
    arguments_of,
    directions_of,
    is_loss,
    is_measured,
    is_paired,
    is_rowwise,
    reduced,
    takes_axis,
)

ITEMSIZE = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
DTYPES = tuple(ITEMSIZE)
SIZES = (16, 1 << 10, 16 << 10, 1 << 20, 16 << 20)

# From this size on all cores are compared with all cores; below it, one thread with one.
ALL_CORES_FROM = 1 << 18

# How a row-wise operation gets its elements: rows of these lengths, and columns of these
# counts reduced over the first axis.
ROW_LENGTHS = (128, 1024, 32768)
COLUMN_COUNTS = (128, 1024)


@dataclass(frozen=True)
class Case:
    """One measurement; `axis` is given for row-wise operations only."""

    op: str
    direction: str = "forward"
    dtype: str = "float32"
    shape: tuple[int, ...] = (16 << 10,)
    axis: int | None = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes that must be read and written."""
        names = (*arguments_of(self.op, self.direction), *self.results)
        return ITEMSIZE[self.dtype] * sum(math.prod(self.shape_of(name)) for name in names)

    @property
    def results(self) -> tuple[str, ...]:
        """The operands that are written to: a loss itself is none."""
        if is_loss(self.op):
            return ("out",) if self.direction == "value_and_grad" else ()
        if is_paired(self.op):
            return ("out", "out2")[: pairs.results(self.op, self.direction)]
        return ("out", "out2")[: len(DIRECTIONS[self.direction].outputs)]

    def shape_of(self, name: str) -> tuple[int, ...]:
        """The shape of an operand."""
        if name in reduced(self.op, self.direction) and self.axis is not None:
            axis = self.axis % len(self.shape)
            return self.shape[:axis] + self.shape[axis + 1 :]
        if is_paired(self.op):
            return pairs.shape(self.op, self.direction, name, self.shape)
        return self.shape[:-1] if name == "labels" else self.shape

    @property
    def all_cores(self) -> bool:
        return self.size >= ALL_CORES_FROM

    @property
    def label(self) -> str:
        """The operation, and for a row-wise one its rows, or its columns if they are reduced."""
        if self.axis is None:
            return self.op
        count = self.shape[-1]
        return f"{self.op} rows of {count}" if self.axis else f"{self.op} {count} columns"


def size_name(size: int) -> str:
    """16384 -> "16 Ki"."""
    for unit, name in ((1 << 20, "Mi"), (1 << 10, "Ki")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return str(size)


def row_shapes(size: int) -> Iterator[tuple[tuple[int, int], int]]:
    """The shapes and axes in which `size` elements are given to a row-wise operation."""
    for length in [n for n in ROW_LENGTHS if 4 * n <= size] or [size]:
        yield (size // length, length), -1
    for columns in COLUMN_COUNTS:
        if columns * columns <= size:
            yield (size // columns, columns), 0


def matrices(size: int) -> Iterator[tuple[tuple[int, int, int], int]]:
    """The shapes in which `size` elements are given to an operation on square matrices."""
    lengths = [n for n in ROW_LENGTHS if n * n <= size] or [math.isqrt(size)]
    for length in lengths:
        yield (size // length**2, length, length), -1


def cases_of(op: str, direction: str, dtype: str, size: int) -> list[Case]:
    """The cases of one operation, none if it lacks the direction."""
    if direction not in directions_of(op):
        return []
    if is_loss(op) or (is_rowwise(op) and not takes_axis(op)):
        shapes = row_shapes(size) if is_loss(op) else matrices(size)
        return [Case(op, direction, dtype, shape, axis) for shape, axis in shapes if axis]
    if is_rowwise(op):
        return [Case(op, direction, dtype, shape, axis) for shape, axis in row_shapes(size)]
    return [Case(op, direction, dtype, pairs.common_shape(op, size) if is_paired(op) else (size,))]


def grid(
    ops: Iterable[str],
    directions: Iterable[str],
    dtypes: Iterable[str],
    sizes: Iterable[int],
) -> list[Case]:
    """Every combination that exists; the operation varies fastest."""
    ops, directions, sizes = list(ops), list(directions), list(sizes)
    return [
        case
        for dtype in dtypes
        for size in sizes
        for direction in directions
        for op in filter(is_measured, ops)
        for case in cases_of(op, direction, dtype, size)
    ]
