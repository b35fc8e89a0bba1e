"""Compiling every object ahead of use, in several processes."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import fastact as fa
from fastact.activations.directions import DIRECTIONS
from fastact.compile.abi import BROADCAST, DEFAULT, FIXED, STREAMING
from fastact.measure.catalogue import ROW_RECORDS, directions_of, is_loss, is_rowwise
from fastact.registry import LOSS_RECORDS
from fastact.rowwise.record import RowOp
from fastact.runtime.functions import directions_of as directions_of_record

# Row ops and those that compute losses, by name
ROW_TASKS: dict[str, RowOp] = ROW_RECORDS | {
    op.name: op for loss in LOSS_RECORDS.values() for op in loss.ops
}


class Task(NamedTuple):
    """One object to compile; without an op it is the driver, which every op needs."""

    op: str = ""
    direction: str = ""
    dtype: str = ""
    variant: int = FIXED

    @property
    def name_and_builder(self) -> tuple[str, Callable[[], bytes]]:
        """The object's name in the store, and what makes its code."""
        from fastact.runtime.loops import Loop, RowLoop, build_driver

        if not self.op:
            return "driver", build_driver
        if self.op in ROW_TASKS:
            rows = RowLoop(ROW_TASKS[self.op], self.dtype, math.nan)
            return rows.symbol, rows.build
        record = fa.get(self.op).record
        (direction,) = (d for d in directions_of_record(record) if d.name == self.direction)
        loop = Loop(record, direction, self.dtype, defaults=False)
        return loop.symbol(self.variant), lambda: loop.build(self.variant)


def tasks(ops: list[str], dtypes: list[str]) -> list[Task]:
    """All objects of these ops and dtypes."""
    return [Task()] + [
        Task(name, direction, dtype, variant)
        for op in ops
        for name, direction, variant in kernels(op)
        for dtype in dtypes
    ]


def kernels(op: str) -> list[tuple[str, str, int]]:
    """The objects of an op: the names of row ops, or an op with its directions and variants."""
    if is_loss(op):
        return [(part.name, "", FIXED) for part in LOSS_RECORDS[op].ops]
    if is_rowwise(op):
        return [(op + DIRECTIONS[d].suffix, "", FIXED) for d in directions_of(op)]
    parameters = (DEFAULT, BROADCAST) if fa.get(op).parameters else ()
    variants = (FIXED, STREAMING, *parameters)
    return [(op, d, variant) for d in directions_of(op) for variant in variants]


def make(task: Task) -> str:
    """Compile one object unless the store has it: "compiled", "found" or "failed"."""
    from fastact.runtime import store
    from fastact.runtime.loops import stored

    name, build = task.name_and_builder
    if store.get(name) is not None:
        return "found"
    stored(name, build)
    return "compiled" if store.get(name) is not None else "failed"


def fill(work: list[Task], jobs: int) -> Iterator[str]:
    """Make all objects; what became of each, as they are done."""
    # Spawned, not forked: a fork would copy LLVM's and the pool's locks as they happen to be.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(work)), mp_context=context) as pool:
        yield from pool.map(make, work, chunksize=4)
