"""The kernels of ops along an axis, as data: names, arguments, launch geometry.

A row is reduced and rewritten by `lanes` threads, each of which holds `vectors` times sixteen
bytes of it in registers: entry (v * lanes + lane) * W + j is the j-th of the v-th vector of a
lane, W being the entries of a vector, whatever the layout. Sums are compensated, so that their
order does not show.
Three ways of giving rows to threads:

* "warp": `lanes` neighbouring threads of a warp, up to 32; they exchange values by shuffles;
* "block": the threads of a block; warps exchange values through shared memory;
* "columns": 32 rows that lie next to each other to the 32 threads of a warp, lanes to warps, so
  that a warp reads neighbours where entries of a row lie far apart.

A row that fits no block is cut into chunks that do. Stage "partial" leaves each chunk's maximum,
sums and labelled entries in a workspace, stage "apply" combines those of a row, in a fixed order,
and finishes. Stage "whole" does a row at once, reading it once. An op that is reduced in rounds
takes one chunk after the other instead, in stage "looped", and reads the row in every round.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from fastact.compile.rowcode import Needs
from fastact.cuda.kinds import (
    COMPUTING,
    ITEMSIZE,
    VECTOR_BYTES,
    Argument,
    resident_threads,
)
from fastact.rowwise.record import LIMIT, MASK, Form, Operand, RowOp

TOTAL = Operand("total", False, "computing")

WARP = 32
WARP_BLOCK = 256  # threads of a block in which every warp has rows of its own
WARP_LONGEST = 1024  # entries of a row that one warp, or 32 lanes of a column, take
HELD_BYTES = 128  # of operands in the computing dtype that a thread of a block holds
# Half of what a block may have: a thread that holds 128 bytes needs more than 64 registers.
LARGEST_BLOCK = 512
COLUMN_LANES = LARGEST_BLOCK // WARP  # threads that share a column
MOST_ALONG_Y = 65535  # blocks of a grid (CUDA programming guide, technical specifications)
CHUNK_BLOCK = 512  # threads for a chunk of a long row


def power_of_two(n: int) -> int:
    """The least power of two that is at least n."""
    return 1 << max(n - 1, 0).bit_length()


@dataclass(frozen=True)
class Rows:
    """One kernel of a row op."""

    op: RowOp
    dtype: str
    lanes: int  # threads per row
    vectors: int  # vectors per thread
    way: str = "warp"
    stage: str = "whole"
    aligned: bool = True  # rows are contiguous, and each begins at 16 bytes
    masked: bool = False
    limited: bool = False  # a number of entries per row: `limit`, and steps along the rows
    scaled: bool = False  # the key is multiplied by `scale`
    averaged: bool = False  # what rows count for is divided by a `total`
    ones: tuple[str, ...] = ()  # row operands that are 1 everywhere, and not passed
    value_dtype: str = ""  # of the output with one value per row, if not the op's own
    dimensions: int = 1  # of the rows
    index: int = 32

    @property
    def name(self) -> str:
        flags = ("aligned", "masked", "limited", "scaled", "averaged")
        words = [f for f in flags if getattr(self, f)]
        words += [f"{name}1" for name in self.ones]
        words += [f"to_{self.value_dtype}"] * bool(self.value_dtype)
        shape = f"{self.way}{self.lanes}x{self.vectors}"
        parts = [self.op.name, self.dtype, self.stage, shape, *words, f"d{self.dimensions}"]
        return f"fastact_{'_'.join(parts)}_i{self.index}"

    @property
    def computing(self) -> str:
        return COMPUTING[self.dtype]

    @property
    def finishing(self) -> str:
        """The dtype of what is computed once per row: float64 where a maximum may cancel."""
        return "float64" if self.op.precise else self.computing

    @property
    def width(self) -> int:
        """Entries of one vector access."""
        return VECTOR_BYTES // ITEMSIZE[self.dtype]

    @property
    def span(self) -> int:
        """Entries of a row, or of a chunk of it, that the threads hold."""
        return self.lanes * self.vectors * self.width

    @cached_property
    def need(self) -> Needs:
        return Needs(Form(self.op, self.dtype, False))

    @property
    def cut(self) -> bool:
        """Whether the chunks of a row are left to several blocks."""
        return self.stage in ("partial", "apply")

    @property
    def partials(self) -> int:
        """Numbers of the computing dtype per chunk: a maximum, the sums, what the label names."""
        return 1 + self.need.sums + len(self.need.at_label)

    @cached_property
    def inputs(self) -> tuple[Operand, ...]:
        """The input operands, the mask and the limit included, but for those passed by value."""
        own = [o for o in self.op.operands(False) if not o.uniform and o.name not in self.ones]
        more = (MASK,) * self.masked + (LIMIT,) * self.limited + (TOTAL,) * self.averaged
        return (*own, *more)

    @cached_property
    def outputs(self) -> tuple[Operand, ...]:
        return () if self.stage == "partial" else self.op.results()

    def kind(self, operand: Operand) -> str:
        """The dtype of an operand: a number for a row is of the dtype that is computed in."""
        if operand.name == "value":
            return self.value_dtype or self.dtype
        if operand.dtype in ("computing", "float64"):
            return self.computing
        return operand.dtype or self.dtype

    @cached_property
    def values(self) -> tuple[Argument, ...]:
        """By value: what stands for an empty row, the scale in two parts, what is uniform."""
        scale = ("scale", "scale_tail") if self.scaled else ()
        uniform = (o.name for o in self.op.operands(False) if o.uniform)
        names = ("empty", *scale, *uniform)
        return tuple(Argument(name, "value", self.computing) for name in names)

    @cached_property
    def arguments(self) -> tuple[Argument, ...]:
        """`rows`; `length` of a row; `chunks` of a row, if there are; the lengths of all dimensions
        of the rows but the first; operands, each followed by its strides along these dimensions
        and, if it runs along the row of a layout that is not aligned, along the row; the
        workspace, if cut; values. The limit is no address, but that of the first row.
        """
        chunks = ("chunks",) * (self.stage != "whole")
        listed = [Argument(n, "index") for n in ("rows", "length", *chunks)]
        dimensions = range(self.dimensions)
        listed += [Argument(f"length_{d}", "index") for d in dimensions[1:]]
        for operand, output in [(o, False) for o in self.inputs] + [
            (o, True) for o in self.outputs
        ]:
            name = operand.name
            kind = "index" if operand is LIMIT else "pointer"
            listed.append(Argument(name, kind, self.kind(operand), output))
            listed += [Argument(f"{name}_stride_{d}", "index") for d in dimensions]
            if operand.is_row and not (self.aligned and operand is not MASK):
                listed.append(Argument(f"{name}_inner", "index"))
        if self.cut:
            written = self.stage == "partial"
            listed.append(Argument("partials", "pointer", self.computing, written))
        return (*listed, *self.values)

    @property
    def block(self) -> tuple[int, int, int]:
        if self.way == "columns":
            return (WARP, self.lanes, 1)
        return (WARP_BLOCK if self.way == "warp" else self.lanes, 1, 1)

    @property
    def rows_per_block(self) -> int:
        return {"warp": WARP_BLOCK // self.lanes, "block": 1, "columns": WARP}[self.way]

    def chunks(self, length: int) -> int:
        """Pieces that a row is cut into."""
        return max(1, -(-length // self.span)) if self.stage != "whole" else 1

    def grid(self, rows: int, length: int = 1, most: int = 1 << 20) -> tuple[int, int, int]:
        """Blocks for so many rows. Any number along x computes all rows; y and z are the chunks,
        of which a value without outputs along the row needs one.
        """
        cut = self.stage == "partial" or (self.stage == "apply" and bool(self.op.apply))
        pieces = self.chunks(length) if cut else 1
        layers = -(-pieces // MOST_ALONG_Y)
        return (max(1, min(-(-rows // self.rows_per_block), most)), -(-pieces // layers), layers)

    def resident_blocks(self, cc: tuple[int, int]) -> int:
        """Blocks that a multiprocessor must be able to hold: a quarter of all threads, at least.

        Each has as many loads under way as it holds vectors. A bound of half the threads made
        half types spill registers on compute capability 10.0.
        """
        threads = self.block[0] * self.block[1]
        return max(1, resident_threads(cc) // 4 // threads)


def held(op: RowOp, dtype: str) -> int:
    """Bytes that a thread keeps in registers per entry; the weight takes the place of the key."""
    need = Needs(Form(op, dtype, False))
    size = 8 if op.precise else ITEMSIZE[COMPUTING[dtype]]
    return size * max(1, len(need.rows))


def in_chunks(kernel: Rows) -> tuple[Rows, ...]:
    """The kernels for rows too long for one that holds them."""
    need = kernel.need
    if need.rounds:
        return (replace(kernel, stage="looped"),)
    stages = ("partial", "apply") if need.top or need.sums else ("apply",)
    return tuple(replace(kernel, stage=stage) for stage in stages)


def chosen(op: RowOp, dtype: str, length: int, columns: bool = False) -> tuple[Rows, ...]:
    """The kernels for rows of a length, by that length alone.

    Flags and dimensions are at their defaults: see `dataclasses.replace`.
    """
    width = VECTOR_BYTES // ITEMSIZE[dtype]
    most = max(1, HELD_BYTES // (held(op, dtype) * width))  # vectors per thread
    if columns:  # every entry has an address of its own, which takes registers too
        most = max(1, most // 2)
    if columns and length <= COLUMN_LANES * width * most:
        lanes = min(COLUMN_LANES, power_of_two(-(-length // width)))
        vectors = power_of_two(-(-length // (lanes * width)))
        return (Rows(op, dtype, lanes, vectors, "columns", aligned=False),)
    if columns:
        return in_chunks(Rows(op, dtype, COLUMN_LANES, most, "columns", aligned=False))
    if length <= min(WARP_LONGEST, WARP * width * most):
        lanes = min(WARP, power_of_two(-(-length // width)))
        vectors = power_of_two(-(-length // (lanes * width)))
        return (Rows(op, dtype, lanes, vectors),)
    if length <= LARGEST_BLOCK * width * most:
        lanes = min(LARGEST_BLOCK, max(WARP, power_of_two(-(-length // (2 * width)))))
        vectors = power_of_two(-(-length // (lanes * width)))
        return (Rows(op, dtype, lanes, vectors, "block"),)
    return in_chunks(Rows(op, dtype, CHUNK_BLOCK, max(1, most // 2), "block"))
