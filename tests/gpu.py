"""The library's GPU kernels under the PTX interpreter: compiled once, launched on NumPy arrays."""

from functools import cache

import numpy as np
import ops
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from ptx import Buffer, Machine, parse

from fastact.activations.directions import DIRECTIONS
from fastact.cuda import build, kinds
from fastact.registry import RECORDS
from fastact.runtime.functions import directions_of

# FASTACT_TESTS=full runs every kernel for compute capability 9.0 and many for the others; by
# default, a cover in which each op, each form, each dtype and each capability occurs.
FULL = ops.FULL
CAPABILITIES = kinds.CAPABILITIES
DTYPES = {str(dtype): dtype for dtype in ops.DTYPES}
PROBES = ("sigmoid", "swish", "threshold")  # ops with none, one and two parameters


def capability(cc):
    return f"sm_{cc[0]}{cc[1]}"


@cache
def text(kernel, cc):
    return build.ptx(kernel, cc)


@cache
def module(kernel, cc):
    return parse(text(kernel, cc))


def forms():
    """(op, direction) of every elementwise kernel."""
    return [(op, d.name) for op in RECORDS for d in directions_of(RECORDS[op])]


def cover():
    """(op, direction, dtype, capability): each op once and the probes wholly, or all."""
    every = [(op, d, dtype, cc) for op, d in forms() for dtype in DTYPES for cc in CAPABILITIES]
    if FULL:
        return [case for i, case in enumerate(every) if case[3] == (9, 0) or i % 3 == 0]
    chosen = []
    for i, op in enumerate(RECORDS):
        mine = [case for case in every if case[0] == op]
        if op in PROBES:
            # every pair of direction and dtype, the capabilities in turn
            chosen += [mine[k + (k // 5 + i) % 5] for k in range(0, len(mine), 5)]
        else:
            chosen.append(mine[(7 * i) % len(mine)])
    return chosen


def elementwise(op, direction, dtype, layout=None):
    layout = layout or kinds.Layout()
    return kinds.elementwise(RECORDS[op], DIRECTIONS[direction], str(dtype), layout)


class Operand:
    """An array or a view of one in GPU memory: the buffer, and where the view lies in it.

    `whole` is the memory, `view` a view of it; an output's memory starts uninitialised.
    """

    def __init__(self, whole, view=None, role="in", lead=0, skipped=0):
        self.buffer = Buffer(whole, role, lead)
        self.view = whole if view is None else view
        self.dtype = whole.dtype
        # in elements; `skipped` elements before `whole` exist in name only
        itemsize = whole.dtype.itemsize
        start = self.view.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
        self.offset = start - skipped * itemsize
        self.strides = tuple(s // itemsize for s in self.view.strides)
        self.start = start // itemsize

    def place(self, machine):
        if self.buffer not in machine.memory.buffers:
            machine.memory.place(self.buffer)
        return np.int64(self.buffer.address + self.offset)

    def result(self):
        """The view's values now."""
        flat = self.buffer.array.reshape(-1)
        itemsize = self.dtype.itemsize
        strides = [s * itemsize for s in self.strides]
        return np.lib.stride_tricks.as_strided(
            flat[self.start :], self.view.shape, strides, writeable=False
        ).copy()

    def check_written(self):
        """Every element of the view written, exactly once, and nothing beside it."""
        expected = np.zeros(self.buffer.shape, bool)
        flat = expected.reshape(-1)
        places = self.start + sum(
            (np.arange(n).reshape(-1, *(1,) * (self.view.ndim - 1 - d)) * s)
            for d, (n, s) in enumerate(zip(self.view.shape, self.strides, strict=True))
        )
        flat[np.ravel(places)] = True
        self.buffer.check_written(expected)
        assert self.buffer.write_counts().max(initial=0) <= 1, "an element written twice"


def output(shape, dtype):
    return Operand(np.zeros(shape, dtype), role="out")


def launch(kernel, cc, operands, numbers, grid, perturb=None, memory=None, **options):
    """Run a kernel of the table; `operands` and `numbers` by the names of its arguments."""
    machine = Machine(module(kernel, cc), perturb=perturb, memory=memory)
    arguments = []
    for argument in kernel.arguments:
        if argument.kind == "pointer":
            arguments.append(operands[argument.name].place(machine))
        else:
            kind = f"int{kernel.index}" if argument.kind == "index" else argument.dtype
            arguments.append(np.dtype(kind).type(numbers[argument.name]))
    machine.launch(grid, kernel.block, arguments, **options)
    return machine
