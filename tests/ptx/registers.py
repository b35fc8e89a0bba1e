"""The registers of all threads, and how an instruction reads and writes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ptx.faults import Uninitialised
from ptx.parser import Function, Immediate, Instruction, Not, Register, Symbol
from ptx.types import Type, raw, resize

Selection = Any  # indices of the active threads, or a full slice


class Registers:
    """Bit patterns, one per thread, which each instruction reads as the type that it names."""

    def __init__(self, kernel: Function, count: int) -> None:
        self.kernel, self.count = kernel, count
        self.registers = {
            name: np.zeros(count, bool if t.kind == "p" else raw(t.size))
            for name, t in kernel.registers.items()
        }
        # True where every thread has written the register, else which ones have
        self.known: dict[str, Any] = {}
        self.special: dict[str, np.ndarray] = {}
        self.symbols: dict[str, int] = {}

    def indices(self, active: Selection) -> np.ndarray:
        return np.arange(self.count) if isinstance(active, slice) else active

    def predicate(self, operand: Any, active: Selection) -> np.ndarray:
        if isinstance(operand, Not):
            return ~self.predicate(operand.operand, active)
        return self.read(operand.name, active)

    def read(self, name: str, active: Selection) -> np.ndarray:
        known = self.known.get(name, False)
        if known is not True and (known is False or not known[active].all()):
            raise Uninitialised(f"register {name} read before it was written")
        return self.registers[name][active]

    def write(self, name: str, active: Selection, value: np.ndarray) -> None:
        self.registers[name][active] = value
        if isinstance(active, slice):
            self.known[name] = True
        elif self.known.get(name) is not True:
            self.known.setdefault(name, np.zeros(self.count, bool))[active] = True

    def reader(self, ins: Instruction, operand: Any, t: Type) -> Callable[[Selection], Any]:
        """How an instruction reads one operand as a type."""
        match operand:
            case Register(name):
                if name not in self.registers:
                    raise ins.unknown(f"no register {name}")
                held = self.kernel.registers[name]
                if (t.kind == "p") != (held.kind == "p") or t.size > held.size:
                    raise ins.unknown(f"a register of type {held.name} read as {t.name}")
                if t.kind == "p":
                    return lambda active: self.read(name, active)
                return lambda active: resize(self.read(name, active), t.size, False).view(t.dtype)
            case Not(inner):
                inside = self.reader(ins, inner, t)
                return lambda active: ~inside(active)
            case Immediate(value, size):
                if size and size != t.size:
                    raise ins.unknown("a float constant of another width")
                if t.kind == "f" and not size:
                    raise ins.unknown("an integer constant for a float")
                bits = value & ((1 << 8 * t.size) - 1)
                constant = (
                    np.array([bool(value)])
                    if t.kind == "p"
                    else np.array([bits], raw(t.size)).view(t.dtype)
                )
                return lambda active: constant
            case Symbol(name) if name in self.special:
                values = resize(self.special[name], t.size, False).view(t.dtype)
                return lambda active: values[active]
            case Symbol(name) if name in self.symbols:
                address = np.array([self.symbols[name]], raw(8)).astype(t.dtype)
                return lambda active: address
        raise ins.unknown(f"an operand that the interpreter does not know, {operand}")

    def writer(self, ins: Instruction, operand: Any, t: Type) -> Callable[..., None]:
        """How an instruction writes one result."""
        if isinstance(operand, Symbol) and operand.name == "_":
            return lambda active, value: None
        if not isinstance(operand, Register) or operand.name not in self.registers:
            raise ins.unknown(f"a result that the interpreter does not know, {operand}")
        name, held = operand.name, self.kernel.registers[operand.name]
        if (t.kind == "p") != (held.kind == "p") or t.size > held.size:
            raise ins.unknown(f"a {t.name} written to a register of type {held.name}")
        if t.kind == "p":
            return lambda active, value: self.write(name, active, value)
        signed = t.kind == "s"
        return lambda active, value: self.write(
            name, active, resize(np.ascontiguousarray(value, t.dtype), held.size, signed)
        )
