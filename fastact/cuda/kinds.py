"""The kernels that there are, as data: names, arguments, launch geometry. Imports nothing heavy.

Both sides read this: the compiler, which makes a kernel of a `Kernel`, and the runtime, which
fills the arguments and launches it. So do tests that run kernels without a GPU.

An argument is a device address ("pointer": of elements of the dtype; 64 bits), an index
("index": 32 or 64 bits, as the kernel's `index` says), or a number by value ("value": in the
computing dtype). Arguments are passed in the order of the list. Strides are in elements.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

from fastact.activations.directions import Direction
from fastact.activations.paired import Pointwise

COMPUTING = {
    "float16": "float32",
    "bfloat16": "float32",
    "float32": "float32",
    "float64": "float64",
}
ITEMSIZE = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
INTEGERS = {f"{sign}int{bits}": bits // 8 for bits in (8, 16, 32, 64) for sign in ("", "u")}
SIZE = ITEMSIZE | {"bool": 1} | INTEGERS  # of everything that a kernel reads
VECTOR_BYTES = 16
BLOCK = 256  # threads of an elementwise block: eight of them fill a multiprocessor
CAPABILITIES = ((7, 5), (8, 0), (9, 0), (10, 0), (12, 0))
# Threads that a multiprocessor holds (CUDA programming guide, technical specifications per
# compute capability): kernels are compiled so that as many of them as they need fit its registers.
RESIDENT_THREADS = {(7, 5): 1024, (8, 0): 2048, (9, 0): 2048, (10, 0): 2048, (12, 0): 1536}


def resident_threads(cc: tuple[int, int]) -> int:
    """Threads that a multiprocessor of a compute capability holds."""
    return RESIDENT_THREADS.get(cc, 1536)


@dataclass(frozen=True)
class Argument:
    """One argument of a kernel: its name, and "pointer", "index" or "value"."""

    name: str
    kind: str
    dtype: str = ""  # of what a pointer points to, or of a value
    output: bool = False


@dataclass(frozen=True)
class Layout:
    """How the operands of an elementwise kernel lie in memory.

    "contiguous": all are contiguous in the same order, and aligned to 16 bytes; parameters are
    values. "strided": each operand has a stride per dimension, 0 where it is broadcast; the
    parameters are operands too if `arrays` is set, else values.
    """

    dimensions: int = 0  # 0: contiguous
    arrays: bool = False  # parameters are arrays, of the computing dtype
    index: int = 32

    @property
    def name(self) -> str:
        if not self.dimensions:
            return f"contiguous_i{self.index}"
        return f"strided{self.dimensions}{'_arrays' if self.arrays else ''}_i{self.index}"


def stepping_arguments(
    streams: tuple[Argument, ...], dimensions: int, values: tuple[Argument, ...]
) -> tuple[Argument, ...]:
    """`size` elements; the lengths of all dimensions but the first; streams, each followed by its
    strides, first dimension first; values.
    """
    listed = [Argument("size", "index")]
    listed += [Argument(f"length_{d}", "index") for d in range(1, dimensions)]
    for stream in streams:
        listed.append(stream)
        listed += [Argument(f"{stream.name}_stride_{d}", "index") for d in range(dimensions)]
    return (*listed, *values)


@dataclass(frozen=True)
class Elementwise:
    """One elementwise kernel."""

    record: Pointwise
    direction: Direction
    dtype: str
    layout: Layout

    @property
    def name(self) -> str:
        op = self.record.name + self.direction.suffix
        return f"fastact_{op}_{self.dtype}_{self.layout.name}"

    @property
    def computing(self) -> str:
        return COMPUTING[self.dtype]

    @property
    def index(self) -> int:
        return self.layout.index

    @property
    def lanes(self) -> int:
        """Elements of one vector access."""
        return VECTOR_BYTES // ITEMSIZE[self.dtype]

    @cached_property
    def streams(self) -> tuple[Argument, ...]:
        """The operands that are arrays: inputs, then outputs."""
        more = [
            Argument(p.name, "pointer", self.computing)
            for p in self.record.parameters
            if self.layout.arrays
        ]
        inputs = [Argument(name, "pointer", self.dtype) for name in self.direction.arrays]
        outputs = [
            Argument(f"out_{name}", "pointer", self.dtype, True) for name in self.direction.outputs
        ]
        return (*inputs, *more, *outputs)

    @cached_property
    def values(self) -> tuple[Argument, ...]:
        """The operands passed by value."""
        if self.layout.arrays:
            return ()
        return tuple(Argument(p.name, "value", self.computing) for p in self.record.parameters)

    @cached_property
    def arguments(self) -> tuple[Argument, ...]:
        return stepping_arguments(self.streams, self.layout.dimensions, self.values)

    @property
    def block(self) -> tuple[int, int, int]:
        return (BLOCK, 1, 1)

    def resident_blocks(self, cc: tuple[int, int]) -> int:
        """Blocks that a multiprocessor must be able to hold.

        All that fit by their threads; where a thread computes eight elements, or in float64, five
        eighths of them, which have as many bytes in flight and spare spilled registers.
        """
        blocks = resident_threads(cc) // BLOCK
        return blocks if self.dtype == "float32" else -(-blocks * 5 // 8)

    def grid(self, size: int, most: int = 1 << 20) -> tuple[int, int, int]:
        """Blocks for so many elements; a thread takes one vector at a time, or one element.

        Any number of blocks computes everything: the loops step by the grid.
        """
        per_thread = 1 if self.layout.dimensions else self.lanes
        return (max(1, min(-(-size // (BLOCK * per_thread)), most)), 1, 1)


@cache
def elementwise(
    record: Pointwise, direction: Direction, dtype: str, layout: Layout = Layout()
) -> Elementwise:
    """The kernel of an op in a direction, dtype and layout."""
    return Elementwise(record, direction, dtype, layout)
