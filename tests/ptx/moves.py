"""Copies, packing, and addresses between spaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptx.memory import SHARED_WINDOW
from ptx.parser import Group, Instruction
from ptx.types import TYPES, Type, raw

if TYPE_CHECKING:
    from ptx.registers import Selection
    from ptx.run import Run, Step


def mov(run: Run, ins: Instruction) -> Step:
    """A copy, or the packing of a wide register from narrow ones and back."""
    t = TYPES[ins.modifiers[-1]]
    result, source = ins.operands
    if isinstance(source, Group):
        return _pack(run, ins, result, source.items, t)
    if isinstance(result, Group):
        return _unpack(run, ins, result.items, source, t)
    read, write = run.reader(ins, source, t), run.writer(ins, result, t)
    return lambda active: write(active, read(active))


def _pack(run: Run, ins: Instruction, result: Any, items: Any, t: Type) -> Step:
    part = TYPES[f"b{8 * t.size // len(items)}"]
    readers = [run.reader(ins, item, part) for item in items]
    write = run.writer(ins, result, t)

    def step(active: Selection) -> None:
        parts = np.broadcast_arrays(*[read(active) for read in readers])
        write(active, np.stack(parts, axis=-1).view(raw(t.size))[..., 0])

    return step


def _unpack(run: Run, ins: Instruction, items: Any, source: Any, t: Type) -> Step:
    part = TYPES[f"b{8 * t.size // len(items)}"]
    read = run.reader(ins, source, t)
    writers = [run.writer(ins, item, part) for item in items]

    def step(active: Selection) -> None:
        parts = np.ascontiguousarray(read(active)).view(part.dtype).reshape(-1, len(items))
        for i, write in enumerate(writers):
            write(active, parts[:, i])

    return step


def cvta(run: Run, ins: Instruction) -> Step:
    """Addresses of shared memory lie in a window of the generic address space."""
    t = TYPES[ins.modifiers[-1]]
    read = run.reader(ins, ins.operands[1], t)
    write = run.writer(ins, ins.operands[0], t)
    shift = SHARED_WINDOW if "shared" in ins.modifiers else 0
    shift = np.uint64(-shift % 2**64 if "to" in ins.modifiers else shift)
    return lambda active: write(active, read(active) + shift)
