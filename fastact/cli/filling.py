"""Compiling every object ahead of use, in several processes."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import fastact as fa
from fastact.activations.directions import DIRECTIONS
from fastact.measure.catalogue import ROW_RECORDS, directions_of, is_rowwise


class Task(NamedTuple):
    """One object to compile; without an op it is the driver, which every op needs."""

    op: str = ""
    direction: str = ""
    dtype: str = ""
    broadcast: bool = False

    @property
    def name_and_builder(self) -> tuple[str, Callable[[], bytes]]:
        """The object's name in the store, and what makes its code."""
        from fastact.runtime.loops import Loop, RowLoop, build_driver

        if not self.op:
            return "driver", build_driver
        direction = DIRECTIONS[self.direction]
        if is_rowwise(self.op):
            rows = RowLoop(ROW_RECORDS[self.op + direction.suffix], self.dtype, math.nan)
            return rows.symbol, rows.build
        loop = Loop(fa.get(self.op).record, direction, self.dtype, defaults=False)
        return loop.symbol(self.broadcast), lambda: loop.build(self.broadcast)


def tasks(ops: list[str], dtypes: list[str]) -> list[Task]:
    """All objects of these ops and dtypes; ops with parameters have a form for arrays of them."""
    return [Task()] + [
        Task(op, direction, dtype, broadcast)
        for op in ops
        for direction in directions_of(op)
        for dtype in dtypes
        for broadcast in forms(op)
    ]


def forms(op: str) -> tuple[bool, ...]:
    """Whether parameters are arrays: never, or both ways."""
    return (False,) if is_rowwise(op) or not fa.get(op).parameters else (False, True)


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
