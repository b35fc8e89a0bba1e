"""The threads of a launch, in lock-step.

Every thread has a program counter; the threads with the smallest one run, as NumPy vectors,
until they meet others. Threads that took different branches come together again as soon as
the code does, so a shuffle or a barrier after a branch sees all of them. Blocks run beside
one another in one vector, or one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ptx import accesses, moves, ops, warps
from ptx.faults import BarrierFault, Fault
from ptx.memory import SharedMemory
from ptx.parser import Group, Immediate, Instruction
from ptx.registers import Registers, Selection

if TYPE_CHECKING:
    from ptx.machine import Machine

RUNNING, WAITING, EXITED = 0, 1, 2
NEVER = 1 << 30
WARP = 32

Step = Callable[[Selection], None]


def nothing(run: Run, ins: Instruction) -> Step:
    """Fences, as in lock-step every store is seen at once; branches, which `_control` takes."""
    return lambda active: None


# opcode -> what makes its step; the others are arithmetic, in `ops`
STEPS: dict[str, Callable[[Run, Instruction], Step]] = {
    "mov": moves.mov,
    "cvta": moves.cvta,
    "ld": accesses.ld,
    "st": accesses.st,
    "atom": accesses.atom,
    "red": accesses.red,
    "shfl": warps.shfl,
    "vote": warps.vote,
    "activemask": warps.activemask,
    **dict.fromkeys(("membar", "fence", "bra", "ret", "exit", "bar", "barrier"), nothing),
}


class Run(Registers):
    """Some blocks of a launch, from their first instruction to their last."""

    def __init__(
        self,
        machine: Machine,
        parameters: dict[str, Any],
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        blocks: np.ndarray,
        dynamic_shared: int,
    ) -> None:
        self.machine, self.memory = machine, machine.memory
        per_block = int(np.prod(block))
        super().__init__(machine.kernel, per_block * len(blocks))
        self.thread = np.tile(np.arange(per_block), len(blocks))  # within its block
        self.block = np.repeat(np.arange(len(blocks)), per_block)  # within this run
        self.lane = self.thread % WARP
        # warps of this run, each of up to 32 threads
        self.warp = self.block * -(-per_block // WARP) + self.thread // WARP
        self.per_block = per_block
        self.special = _special_registers(self.thread, np.repeat(blocks, per_block), grid, block)
        self.parameters = dict(parameters)
        self.slots: dict[str, np.ndarray] = {}
        self._lay_out_variables(len(blocks), dynamic_shared)
        self.pc = np.zeros(self.count, np.int64)
        self.state = np.zeros(self.count, np.int8)
        self.steps = [self._decode(instruction) for instruction in self.kernel.code]

    def _lay_out_variables(self, blocks: int, dynamic: int) -> None:
        self.symbols = dict(self.machine.constants)
        top = 0
        variables = [*self.machine.module.variables, *self.kernel.variables]
        fixed = [v for v in variables if v.space == "shared" and v.count]
        open_ended = [v for v in variables if v.space == "shared" and not v.count]
        for variable in fixed + open_ended:  # dynamic shared memory comes last
            top = -(-top // max(variable.align, 1)) * max(variable.align, 1)
            self.symbols[variable.name] = top
            top += variable.nbytes
        self.shared = SharedMemory(blocks, top + dynamic, self.per_block)
        for variable in self.kernel.variables:
            if variable.space == "param":  # of a call that was expanded
                self.slots[variable.name] = np.zeros((self.count, variable.nbytes), np.uint8)

    # -- control ----------------------------------------------------------------------------

    def go(self) -> None:
        while True:
            running = self.state == RUNNING
            if not running.any():
                if not (self.state == WAITING).any():
                    return
                self._release()
                continue
            counters = np.where(running, self.pc, NEVER)
            pc = int(counters.min())
            chosen = counters == pc
            if chosen.all():
                self._straight(slice(None), pc, NEVER)
            else:
                self._straight(np.flatnonzero(chosen), pc, int(counters[~chosen].min()))

    def _straight(self, active: Selection, pc: int, limit: int) -> None:
        """Run one set of threads until it splits, stops, or meets another set at `limit`."""
        while pc < limit:
            instruction, step = self.kernel.code[pc], self.steps[pc]
            try:
                following = self._control(instruction, active, pc, step)
            except Fault as fault:
                raise type(fault)(f"{fault}; in: {instruction}") from None
            if following is None:
                return
            pc = following
        self.pc[active] = pc

    def _control(self, ins: Instruction, active: Selection, pc: int, step: Step) -> int | None:
        """The next instruction of all active threads, or None where they stop or split."""
        taken = active
        if ins.guard is not None:
            condition = self.predicate(ins.guard, active)
            indices = self.indices(active)
            taken = active if condition.all() else indices[condition]
            if not condition.any():
                return pc + 1
        whole = taken is active
        if ins.opcode == "bra":
            target = self.kernel.labels[ins.operands[0].name]
            if whole:
                return target
            self.pc[active] = pc + 1
            self.pc[taken] = target
            return None
        if ins.opcode in ("ret", "exit"):
            self.state[taken] = EXITED
        elif ins.opcode in ("bar", "barrier") and "warp" not in ins.modifiers:
            self._check_barrier(ins)
            self.state[taken] = WAITING
        else:
            step(taken)
            return pc + 1
        self.pc[active] = pc + 1
        return None

    def _check_barrier(self, ins: Instruction) -> None:
        known = ({"sync"}, {"cta", "sync"}, {"sync", "aligned"}, {"cta", "sync", "aligned"})
        if set(ins.modifiers) not in known or ins.operands != (Immediate(0),):
            raise ins.unknown("a barrier that the interpreter does not know")

    def _release(self) -> None:
        """All threads stopped: each block must stand at one barrier as a whole."""
        states = self.state.reshape(-1, self.per_block)
        counters = self.pc.reshape(-1, self.per_block)
        for states_of_block, counters_of_block in zip(states, counters, strict=True):
            waiting = states_of_block == WAITING
            if not waiting.any():
                continue
            places = {pc - 1 for pc in counters_of_block[waiting].tolist()}
            sites = [f"{self.kernel.code[place]} [{place}]" for place in sorted(places)]
            if len(sites) > 1:
                raise BarrierFault(f"threads of one block wait at several barriers: {sites}")
            if not waiting.all():
                missing = int((~waiting).sum())
                raise BarrierFault(f"{missing} threads of a block left before a barrier: {sites}")
        held = self.state == WAITING
        self.shared.barriers[np.unique(self.block[held])] += 1
        self.state[held] = RUNNING

    def _decode(self, ins: Instruction) -> Step:
        if ins.opcode == "bar" and ins.modifiers == ("warp", "sync"):
            return warps.bar_warp(self, ins)
        if ins.opcode in STEPS:
            return STEPS[ins.opcode](self, ins)
        op = ops.operation(ins, self.machine.generator)
        result, *given = ins.operands
        if len(given) != len(op.sources):
            raise ins.unknown(f"{len(given)} operands, not {len(op.sources)}")
        pairs = zip(given, op.sources, strict=True)
        readers = [self.reader(ins, operand, t) for operand, t in pairs]
        # setp p|q: the second predicate is the opposite of the first
        first, *second = result.items if isinstance(result, Group) else (result,)
        writer = self.writer(ins, first, op.result)
        opposite = [self.writer(ins, other, op.result) for other in second]

        def step(active: Selection) -> None:
            value = op.function(*[read(active) for read in readers])
            writer(active, value)
            for write in opposite:
                write(active, ~value)

        return step


def _special_registers(thread: Any, block: Any, grid: Any, shape: Any) -> dict[str, np.ndarray]:
    special = {}
    for prefix, index, extent in (("tid", thread, shape), ("ctaid", block, grid)):
        rest = index
        for axis, size in zip("xyz", extent, strict=True):
            special[f"{prefix}.{axis}"] = (rest % size).astype(np.uint32)
            special[f"n{prefix}.{axis}"] = np.full(len(index), size, np.uint32)
            rest = rest // size
    special["laneid"] = (thread % WARP).astype(np.uint32)
    special["warpid"] = (thread // WARP).astype(np.uint32)
    return special
