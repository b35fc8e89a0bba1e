"""Compiling every object ahead of use, in several processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import fastact as fa
from fastact.activations.directions import DIRECTIONS
from fastact.measure.catalogue import directions_of

DTYPES = ("float16", "bfloat16", "float32", "float64")


class Task(NamedTuple):
    """One object to compile; without an op it is the driver, which every op needs."""

    op: str = ""
    direction: str = ""
    dtype: str = ""
    broadcast: bool = False


def tasks(ops: list[str], dtypes: list[str]) -> list[Task]:
    """All objects of these ops and dtypes; ops with parameters have a form for arrays of them."""
    return [Task()] + [
        Task(op, direction, dtype, broadcast)
        for op in ops
        for direction in directions_of(op)
        for dtype in dtypes
        for broadcast in ((False, True) if fa.get(op).parameters else (False,))
    ]


def make(task: Task) -> str:
    """Compile one object unless the store has it: "compiled", "found" or "failed"."""
    from fastact.runtime import loops, store

    if task.op:
        record: Any = fa.get(task.op).record
        loop = loops.Loop(record, DIRECTIONS[task.direction], task.dtype, defaults=False)
        name = loop.symbol(task.broadcast)
    else:
        name = "driver"
    if store.get(name) is not None:
        return "found"
    loops.stored(name, (lambda: loop.build(task.broadcast)) if task.op else loops.build_driver)
    return "compiled" if store.get(name) is not None else "failed"


def fill(work: list[Task], jobs: int) -> Iterator[str]:
    """Make all objects; what became of each, as they are done."""
    # Spawned, not forked: a fork would copy LLVM's and the pool's locks as they happen to be.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(work)), mp_context=context) as pool:
        yield from pool.map(make, work, chunksize=4)
