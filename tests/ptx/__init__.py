"""A small interpreter of PTX, NVIDIA's portable assembly, on the CPU.

It executes the compiled code itself, every thread, and reports what a GPU would let pass in
silence: an address outside a buffer, a value read before it was written, a missing barrier,
an output left unwritten. Only what the library's kernels contain is known; everything else
is an error that names the instruction.

    parser    PTX text to instructions, calls expanded
    types     the fundamental types and how registers hold them
    numerics  exactly rounded arithmetic, conversions, approximations within their bounds
    ops       opcode to arithmetic, as tables
    memory    buffers with bounds, alignment, initialisation; shared memory with races
    registers what each thread holds, and how an instruction reads and writes it
    moves, accesses, warps    the instructions that are not arithmetic
    run       the threads: program counters, branches, barriers
    machine   a launch: arguments and blocks
"""

from ptx.faults import (
    BarrierFault,
    Fault,
    Misaligned,
    OutOfBounds,
    Race,
    ReadOnly,
    ShuffleFault,
    Uninitialised,
    UnknownInstruction,
    Unwritten,
)
from ptx.machine import Machine
from ptx.memory import Buffer
from ptx.parser import parse

__all__ = [
    "BarrierFault",
    "Buffer",
    "Fault",
    "Machine",
    "Misaligned",
    "OutOfBounds",
    "Race",
    "ReadOnly",
    "ShuffleFault",
    "Uninitialised",
    "UnknownInstruction",
    "Unwritten",
    "parse",
]
