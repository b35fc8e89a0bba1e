"""Loads, stores and atomics."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ptx.memory import SHARED_WINDOW
from ptx.parser import Address, Group, Instruction, Register, Symbol
from ptx.types import TYPES, Type, raw

if TYPE_CHECKING:
    from ptx.registers import Selection
    from ptx.run import Run, Step


def _place(run: Run, ins: Instruction, operand: Address) -> Callable[[Selection], np.ndarray]:
    base = run.reader(ins, operand.base, TYPES["u64"]) if _wide(run, operand) else None
    narrow = None if base else run.reader(ins, operand.base, TYPES["u32"])

    def addresses(active: Selection) -> np.ndarray:
        first = (base or narrow)(active).astype(np.int64) + operand.offset  # type: ignore[misc]
        return np.broadcast_to(first, run.indices(active).shape)

    return addresses


def _wide(run: Run, operand: Address) -> bool:
    base = operand.base
    return not isinstance(base, Register) or run.kernel.registers[base.name].size == 8


# how values are kept on the way to the second level of cache does not change them


HINTS = {
    "nc", "ca", "cg", "cs", "lu", "cv", "wb", "wt", "weak", "relaxed", "volatile", "gpu", "cta",
    "L1::no_allocate", "L1::evict_first", "L1::evict_last", "L2::128B", "L2::256B",
}  # fmt: skip


def _access(ins: Instruction) -> tuple[str, Type, int]:
    """(space, type of a part, number of parts)."""
    *modifiers, type_name = ins.modifiers
    space, parts = "generic", 1
    for modifier in modifiers:
        if modifier in ("global", "shared", "param", "const"):
            space = modifier
        elif modifier in ("v2", "v4", "v8"):
            parts = int(modifier[1:])
        elif modifier not in HINTS:
            raise ins.unknown(f"a modifier that the interpreter does not know, {modifier}")
    if type_name not in TYPES:
        raise ins.unknown("a type that the interpreter does not know")
    return space, TYPES[type_name], parts


def ld(run: Run, ins: Instruction) -> Step:
    space, t, parts = _access(ins)
    result, source = ins.operands
    items = result.items if isinstance(result, Group) else (result,)
    writers = [run.writer(ins, item, t) for item in items]
    if len(writers) != parts:
        raise ins.unknown(f"{len(writers)} results, not {parts}")
    if space == "param":
        return _load_parameter(run, ins, source, t, writers)
    place = _place(run, ins, source)

    def step(active: Selection) -> None:
        got = _load(run, space, place(active), t.size * parts, t.size, active)
        for i, write in enumerate(writers):
            write(active, np.ascontiguousarray(got[:, i]).view(t.dtype))

    return step


def _load_parameter(run: Run, ins: Instruction, source: Any, t: Type, writers: Any) -> Step:
    name, offset = source.base.name, source.offset
    parts = len(writers)
    if name in run.slots:
        held = run.slots[name]
    elif name in run.parameters:
        held = run.parameters[name][None, :]
    else:
        raise ins.unknown(f"no parameter {name}")
    end = offset + t.size * parts
    if offset < 0 or end > held.shape[1]:
        raise ins.unknown(f"bytes {offset} to {end} of a parameter of {held.shape[1]}")

    def step(active: Selection) -> None:
        chosen = held[active] if name in run.slots else held
        values = np.ascontiguousarray(chosen[:, offset:end]).view(t.dtype)
        for i, write in enumerate(writers):
            write(active, values[:, i])

    return step


def _load(run: Run, space: str, at: Any, size: int, part: int, active: Selection) -> Any:
    if space == "shared" or (space == "generic" and (at < SHARED_WINDOW * 2).all()):
        offsets = at if space == "shared" else at - SHARED_WINDOW
        who = (run.block[active], run.thread[active])
        return run.shared.load(*who, offsets, size, part)
    return run.memory.load(at, size, part)


def st(run: Run, ins: Instruction) -> Step:
    space, t, parts = _access(ins)
    target, source = ins.operands
    items = source.items if isinstance(source, Group) else (source,)
    readers = [run.reader(ins, item, t) for item in items]
    if len(readers) != parts:
        raise ins.unknown(f"{len(readers)} values, not {parts}")
    if space == "param":
        return _store_parameter(run, target, t, readers)
    place = _place(run, ins, target)

    def step(active: Selection) -> None:
        at = place(active)
        columns = [np.broadcast_to(read(active), at.shape) for read in readers]
        values = np.stack(columns, axis=1).view(raw(t.size))
        if space == "shared" or (space == "generic" and (at < SHARED_WINDOW * 2).all()):
            offsets = at if space == "shared" else at - SHARED_WINDOW
            who = (run.block[active], run.thread[active])
            run.shared.store(*who, offsets, t.size * parts, values)
        else:
            run.memory.store(at, t.size * parts, values)

    return step


def _store_parameter(run: Run, target: Address, t: Type, readers: Any) -> Step:
    held, offset = run.slots[target.base.name], target.offset

    def step(active: Selection) -> None:
        for i, read in enumerate(readers):
            first = offset + i * t.size
            value = np.ascontiguousarray(read(active))
            held[active, first : first + t.size] = value.view(np.uint8).reshape(-1, t.size)

    return step


def atom(run: Run, ins: Instruction) -> Step:
    return _atomic(run, ins, ins.operands[0], *ins.operands[1:])


def red(run: Run, ins: Instruction) -> Step:
    return _atomic(run, ins, Symbol("_"), *ins.operands)


COMBINE: dict[str, Callable[..., Any]] = {
    "add": lambda old, new: old + new,
    "min": min,
    "max": max,
    "exch": lambda old, new: new,
    "and": lambda old, new: old & new,
    "or": lambda old, new: old | new,
}


def _atomic(run: Run, ins: Instruction, result: Any, target: Any, *given: Any) -> Step:
    names = [m for m in ins.modifiers[:-1] if m in COMBINE or m == "cas"]
    t = TYPES[ins.modifiers[-1]]
    if len(names) != 1 or "global" not in ins.modifiers:
        raise ins.unknown("an atomic operation that the interpreter does not know")
    place = _place(run, ins, target)
    readers = [run.reader(ins, operand, t) for operand in given]
    write = run.writer(ins, result, t)

    def step(active: Selection) -> None:
        at = place(active)
        values = [np.broadcast_to(read(active), at.shape) for read in readers]

        def combine(old: Any, i: int) -> Any:
            if names[0] == "cas":
                return values[1][i] if old == values[0][i] else old
            return COMBINE[names[0]](old, values[0][i])

        write(active, run.memory.update(at, t.dtype, combine))

    return step
