"""Kernels beside the ops: what a call needs before or after one. An element per thread and step.

`Copy` brings an operand to another dtype or layout, so that integers, mixed dtypes, `dtype=`,
`where=` and several axes need no kernels of their own. `Labels` makes of class ids of any
integer type what the row kernels of the losses take.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from fastact.cuda.kinds import (
    BLOCK,
    COMPUTING,
    Argument,
    resident_threads,
    stepping_arguments,
)

WRONG = -2  # what becomes of a label that is out of range
LABEL_TYPE = "int64"


@dataclass(frozen=True)
class Stepping:
    """What the kernels here have in common."""

    dimensions: int
    index: int

    @property
    def streams(self) -> tuple[Argument, ...]:
        raise NotImplementedError

    @property
    def values(self) -> tuple[Argument, ...]:
        return ()

    @cached_property
    def arguments(self) -> tuple[Argument, ...]:
        return stepping_arguments(self.streams, self.dimensions, self.values)

    @property
    def block(self) -> tuple[int, int, int]:
        return (BLOCK, 1, 1)

    def resident_blocks(self, cc: tuple[int, int]) -> int:
        return resident_threads(cc) // BLOCK

    def grid(self, size: int, most: int = 1 << 20) -> tuple[int, int, int]:
        return (max(1, min(-(-size // BLOCK), most)), 1, 1)


@dataclass(frozen=True)
class Copy(Stepping):
    """out = x, converted; only where the mask holds, if there is one."""

    source: str
    target: str
    masked: bool = False

    @property
    def name(self) -> str:
        mask = "_masked" if self.masked else ""
        return f"fastact_copy_{self.source}_{self.target}{mask}_d{self.dimensions}_i{self.index}"

    @property
    def computing(self) -> str:
        return COMPUTING.get(self.target, "float32")  # of a mask: nothing is computed

    @cached_property
    def streams(self) -> tuple[Argument, ...]:
        mask = (Argument("mask", "pointer", "bool"),) * self.masked
        out = Argument("out", "pointer", self.target, True)
        return (Argument("x", "pointer", self.source), *mask, out)

    def step(self) -> list[str]:
        """The text for one element."""
        copy = f"store_{self.target}(out, at_out, converted(load_{self.source}(x, at_x)))"
        return ["if load_bool(mask, at_mask) != 0:", f"    {copy}"] if self.masked else [copy]


@dataclass(frozen=True)
class Labels(Stepping):
    """Class ids as row kernels take them, IGNORED or WRONG included, and what each row counts for.

    `factor` times the weight of its class; 0 where the label counts for nothing.
    """

    dtype: str
    computing: str
    weight: str = ""  # the dtype of the weights, if there are any
    ignoring: bool = False

    @property
    def name(self) -> str:
        words = [f"weight_{self.weight}"] * bool(self.weight) + ["ignoring"] * self.ignoring
        shape = [f"d{self.dimensions}", f"i{self.index}"]
        return "_".join(["fastact_labels", self.dtype, self.computing, *words, *shape])

    @cached_property
    def streams(self) -> tuple[Argument, ...]:
        return (
            Argument("label", "pointer", self.dtype),
            Argument("ids", "pointer", LABEL_TYPE, True),
            Argument("own", "pointer", self.computing, True),
        )

    @cached_property
    def values(self) -> tuple[Argument, ...]:
        weight = (Argument("weight", "pointer", self.weight), Argument("weight_stride", "index"))
        ignored = (Argument("ignored", "value", LABEL_TYPE),)
        factor = Argument("factor", "value", self.computing)
        count = Argument("classes", "value", LABEL_TYPE)
        return (*weight * bool(self.weight), count, *ignored * self.ignoring, factor)

    def step(self) -> list[str]:
        """The text for one element."""
        share = "factor"
        if self.weight:
            at = "multiply(index(place), weight_stride)"
            share = f"times(factor, converted(load_{self.weight}(weight, {at})))"
        ignored = "number == ignored" if self.ignoring else "False"
        return [
            f"number = whole(load_{self.dtype}(label, at_label))",
            "known = (number >= 0) & (number < classes)",
            f"unwanted = {ignored}",
            "place = number if known and not unwanted else ZERO",
            f"share = {share}",
            "wrong = IGNORED if unwanted else WRONG",
            f"store_{LABEL_TYPE}(ids, at_ids, number if known and not unwanted else wrong)",
            f"store_{self.computing}(own, at_own, share if known and not unwanted else NOTHING)",
        ]


Helper = Copy | Labels
