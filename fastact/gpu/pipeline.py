"""Host arrays through a GPU in pieces: copied in, computed, copied out.

Two pieces are under way at once, each with a stream of its own and with page-locked memory for
what it copies: while one is computed, the other one's copies run in both directions.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from fastact.gpu.arrays import Array
from fastact.gpu.driver import CudaError, Driver, driver
from fastact.gpu.plan import contiguous
from fastact.gpu.work import Place, Work

CHUNK = 1 << 24  # bytes of all operands of a piece; copies of this size run at full speed
ALIGNED = 256  # where an operand begins in a piece
DEVICE = 0

Shape = tuple[int, ...]
Piece = tuple[slice, ...]
Compute = Callable[[Work, list[Array], Piece], None]


class Operand(NamedTuple):
    """An array that goes to the GPU or comes from there.

    Its first axes are those that are cut into pieces; one of length 1 is whole in every piece.
    """

    array: np.ndarray
    dtype: np.dtype[Any]  # that it has on the GPU
    summed: bool = False  # every piece has a share of it, to be added

    def part(self, piece: Piece) -> np.ndarray:
        own = zip(self.array.shape, piece, strict=False)
        return self.array[tuple([slice(None) if n == 1 else cut for n, cut in own])]

    def nbytes(self, lengths: Shape) -> int:
        """What a piece of these lengths takes."""
        shape = self.array.shape
        own = [min(n, length) for n, length in zip(shape, lengths, strict=False)]
        return math.prod(own) * math.prod(shape[len(lengths) :]) * self.dtype.itemsize

    def take(self, piece: Piece, made: np.ndarray) -> None:
        """Use what the GPU has made of a piece."""
        part = self.part(piece)
        if self.summed:
            part += made
        else:
            np.copyto(part, made, casting="unsafe")


def size_of(operands: Sequence[Operand], lengths: Shape) -> int:
    return sum(o.nbytes(lengths) + ALIGNED for o in operands)


def cut(shape: Shape, operands: Sequence[Operand]) -> tuple[int, Iterator[Piece]]:
    """The bytes that the largest piece takes, and the pieces, in C order.

    They are cut along the first axis of which a single index is small enough.
    """

    def of_length(axis: int, length: int) -> int:
        return size_of(operands, (*(1,) * axis, length, *shape[axis + 1 :]))

    axis = next((k for k in range(len(shape)) if of_length(k, 1) <= CHUNK), len(shape) - 1)
    one = of_length(axis, 1)
    more = of_length(axis, 2) - one if shape[axis] > 1 else 0
    step = 1 + max(0, CHUNK - one) // more if more else shape[axis]
    ranges = [[slice(k, k + 1) for k in range(n)] for n in shape[:axis]]
    ranges += [[slice(k, min(k + step, shape[axis])) for k in range(0, shape[axis], step)]]
    ranges += [[slice(0, n)] for n in shape[axis + 1 :]]
    return max(CHUNK, one), product(*ranges)


def nothing() -> None:
    """What is left to do for a slot that is not in use."""


class Slot:
    """What one piece needs: a stream, page-locked memory, as much memory on the device."""

    def __init__(self, gpu: Driver) -> None:
        self.gpu, self.size = gpu, 0
        self.pinned = self.device = 0
        self.stream = gpu.create_stream()
        self.finish: Callable[[], None] = nothing

    def reserve(self, size: int) -> None:
        """Have memory of this size; what was needed for a larger row is not kept for smaller."""
        if size == self.size:
            return
        gpu, self.size = self.gpu, 0
        if self.pinned:
            gpu.free_pinned(self.pinned)
        if self.device:
            gpu.free_plain(self.device)
        self.pinned = self.device = 0
        self.pinned = gpu.allocate_pinned(size)  # either may fail: no memory is left
        self.device = gpu.allocate_plain(size)
        self.size = size

    def view(self, offset: int, shape: Any, dtype: Any) -> np.ndarray:
        """A part of the page-locked memory as an array."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        raw = (ctypes.c_char * size).from_address(self.pinned + offset)
        return np.frombuffer(raw, dtype).reshape(shape)

    def abandon(self) -> None:
        """Wait for what is under way, and use none of it."""
        self.finish = nothing
        try:
            self.gpu.synchronize(self.stream)
        except CudaError:
            return  # the call fails for another reason already

    def start(
        self,
        inputs: Sequence[Operand],
        outputs: Sequence[Operand],
        piece: Piece,
        compute: Compute,
    ) -> None:
        """Put a piece under way; `finish` brings it to its end."""
        gpu, staged, arrays, offset = self.gpu, [], [], 0
        for operand in (*inputs, *outputs):
            part = operand.part(piece)
            pinned = self.view(offset, part.shape, operand.dtype)
            staged.append((operand, part, pinned, offset))
            view = contiguous(operand.dtype.name, part.shape)
            arrays.append(Array(None, self.device + offset, view, False, None))
            offset += -(-pinned.nbytes // ALIGNED) * ALIGNED
        count = len(inputs)
        for _, part, pinned, at in staged[:count]:
            np.copyto(pinned, part, casting="unsafe")
            gpu.copy_in(self.device + at, self.pinned + at, pinned.nbytes, self.stream)
        work = Work()
        compute(work, arrays, piece)
        work.recipe().perform(gpu, Place(DEVICE, self.stream, ()), ())
        for _, _, pinned, at in staged[count:]:
            gpu.copy_out(self.pinned + at, self.device + at, pinned.nbytes, self.stream)

        def finish() -> None:
            gpu.synchronize(self.stream)
            self.finish = nothing
            for operand, _, pinned, _ in staged[count:]:
                operand.take(piece, pinned)

        self.finish = finish


class Pipeline:
    """Two slots of a device."""

    def __init__(self, gpu: Driver) -> None:
        self.lock = threading.Lock()
        self.slots = deque(Slot(gpu) for _ in range(2))  # the one in use for longest first

    def run(
        self,
        shape: Shape,
        inputs: Sequence[Operand],
        outputs: Sequence[Operand],
        compute: Compute,
    ) -> None:
        size, pieces = cut(shape, [*inputs, *outputs])
        with self.lock:
            try:
                for slot in self.slots:
                    slot.reserve(size)
                for piece in pieces:
                    slot = self.slots[0]
                    self.slots.rotate(-1)
                    slot.finish()
                    slot.start(inputs, outputs, piece, compute)
                for slot in self.slots:
                    slot.finish()
            except BaseException:
                for slot in self.slots:
                    slot.abandon()
                raise


@lru_cache(maxsize=8)
def pipeline(gpu: Driver) -> Pipeline:
    return Pipeline(gpu)


def run(
    shape: Shape, inputs: Sequence[Operand], outputs: Sequence[Operand], compute: Compute
) -> None:
    """Compute outputs from inputs, all with these first axes, piece by piece.

    `compute` launches what makes the outputs of a piece from its inputs, contiguous on the GPU.
    """
    if not math.prod(shape):
        return
    gpu = driver()
    entered = gpu.enter(DEVICE)
    try:
        pipeline(gpu).run(shape, inputs, outputs, compute)
    finally:
        if entered:
            gpu.leave()
