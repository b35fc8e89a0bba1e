"""What the threads of a warp do together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptx.faults import ShuffleFault
from ptx.parser import Group, Instruction
from ptx.types import TYPES

if TYPE_CHECKING:
    from ptx.registers import Selection
    from ptx.run import Run, Step


def shfl(run: Run, ins: Instruction) -> Step:
    """shfl.sync.mode.b32 d|p, a, b, c, mask."""
    _, mode, _ = ins.modifiers
    result, *given = ins.operands
    first, *second = result.items if isinstance(result, Group) else (result,)
    write = run.writer(ins, first, TYPES["b32"])
    inside = [run.writer(ins, p, TYPES["pred"]) for p in second]
    readers = [run.reader(ins, operand, TYPES["b32"]) for operand in given]

    def step(active: Selection) -> None:
        lanes = run.lane[active]
        a, b, c, mask = (np.broadcast_to(read(active), lanes.shape) for read in readers)
        _check_mask(run, active, mask)
        source, valid = _shuffle_source(mode, lanes, b.astype(np.int64), c.astype(np.int64))
        if ((mask >> source.astype(np.uint32)) & 1 == 0).any():
            raise ShuffleFault("a shuffle reads a lane that its mask does not name")
        row = np.full(run.count, -1)
        row[run.indices(active)] = np.arange(lanes.size)
        # the thread of the same warp in the source lane
        at = row[run.indices(active) - lanes + source]
        write(active, a[at])
        for p in inside:
            p(active, valid)

    return step


def _check_mask(run: Run, active: Selection, mask: np.ndarray) -> None:
    """Every lane that a mask names is here, every lane here is named."""
    here = np.zeros(int(run.warp[-1]) + 1, np.uint32)
    warps, lanes = run.warp[active], run.lane[active].astype(np.uint32)
    np.bitwise_or.at(here, warps, np.uint32(1) << lanes)
    if (mask & ~here[warps]).any():
        raise ShuffleFault("the mask names a lane that does not take part")
    if ((mask >> lanes) & 1 == 0).any():
        raise ShuffleFault("a lane takes part that its mask does not name")


def bar_warp(run: Run, ins: Instruction) -> Step:
    """A barrier of the lanes that the mask names."""
    read = run.reader(ins, ins.operands[0], TYPES["b32"])

    def step(active: Selection) -> None:
        warps = run.warp[active]
        _check_mask(run, active, np.broadcast_to(read(active), warps.shape))
        run.shared.warp_barriers.reshape(-1)[np.unique(warps)] += 1

    return step


def vote(run: Run, ins: Instruction) -> Step:
    """vote.sync.{all,any,ballot}."""
    _, mode, type_name = ins.modifiers
    condition = run.reader(ins, ins.operands[1], TYPES["pred"])
    mask_of = run.reader(ins, ins.operands[2], TYPES["b32"])
    write = run.writer(ins, ins.operands[0], TYPES[type_name])
    if mode not in ("all", "any", "ballot"):
        raise ins.unknown("a vote that the interpreter does not know")

    def step(active: Selection) -> None:
        warps, lanes = run.warp[active], run.lane[active].astype(np.uint32)
        mask = np.broadcast_to(mask_of(active), lanes.shape)
        _check_mask(run, active, mask)
        ballots = np.zeros(int(run.warp[-1]) + 1, np.uint32)
        votes = np.broadcast_to(condition(active), lanes.shape).astype(np.uint32)
        np.bitwise_or.at(ballots, warps, votes << lanes)
        ballot = ballots[warps] & mask
        outcome = {"all": ballot == mask, "any": ballot != 0, "ballot": ballot}
        write(active, outcome[mode])

    return step


def activemask(run: Run, ins: Instruction) -> Step:
    write = run.writer(ins, ins.operands[0], TYPES["b32"])

    def step(active: Selection) -> None:
        here = np.zeros(int(run.warp[-1]) + 1, np.uint32)
        warps = run.warp[active]
        np.bitwise_or.at(here, warps, np.uint32(1) << run.lane[active].astype(np.uint32))
        write(active, here[warps])

    return step


def _shuffle_source(mode: str, lane: Any, b: Any, c: Any) -> tuple[np.ndarray, np.ndarray]:
    """(source lane, whether it is within the segment), by the pseudocode of the PTX ISA."""
    b, clamp, segment = b & 31, c & 31, (c >> 8) & 31
    highest = (lane & segment) | (clamp & ~segment)
    lowest = lane & segment
    if mode == "up":
        source = lane - b
        valid = source >= highest
    elif mode == "down":
        source = lane + b
        valid = source <= highest
    elif mode == "bfly":
        source = lane ^ b
        valid = source <= highest
    elif mode == "idx":
        source = lowest | (b & ~segment)
        valid = source <= highest
    else:
        raise ShuffleFault(f"no shuffle {mode}")
    return np.where(valid, source, lane), valid
