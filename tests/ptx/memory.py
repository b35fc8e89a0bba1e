"""Memory that knows its bounds: global buffers, and the shared memory of each block."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from ptx.faults import Misaligned, OutOfBounds, Race, ReadOnly, Uninitialised, Unwritten

GLOBAL_BASE = 0x7F00_0000_0000
GUARD = 1 << 20  # bytes of nothing between buffers: a near miss never hits the neighbour
SHARED_WINDOW = 0x10_0000_0000  # where generic addresses of shared memory begin
WIDEST = 16


class Buffer:
    """An array in global memory.

    Parameters
    ----------
    array
        The values; an output starts uninitialised, whatever the array holds.
    role
        "in" (stores are faults), "out" (reads before a store are faults) or "inout".
    lead
        Bytes between the 256-byte boundary and the first element: a view into an array.
    holes
        True where `array` covers more than the kernel may write (a strided view's gaps).
    """

    def __init__(self, array: np.ndarray, role: str = "in", lead: int = 0) -> None:
        if role not in ("in", "out", "inout"):
            raise ValueError(f"role is {role!r}; it may be 'in', 'out' or 'inout'")
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self.dtype, self.shape, self.role, self.lead = array.dtype, array.shape, role, lead
        self.nbytes = flat.size
        room = -(-(lead + flat.size) // WIDEST) * WIDEST + WIDEST
        self.bytes = np.zeros(room, np.uint8)
        self.bytes[lead : lead + flat.size] = flat
        self.initialised = np.zeros(room, bool)
        self.initialised[lead : lead + flat.size] = role != "out"
        self.written = np.zeros(room, np.uint8)  # how often, up to 255
        self.base = 0

    @property
    def address(self) -> int:
        """Of the first element, once the buffer is placed."""
        return self.base + self.lead

    @property
    def array(self) -> np.ndarray:
        """The values now."""
        inside = self.bytes[self.lead : self.lead + self.nbytes]
        return inside.copy().view(self.dtype).reshape(self.shape)

    def write_counts(self) -> np.ndarray:
        """How often each element was written."""
        inside = self.written[self.lead : self.lead + self.nbytes]
        return inside.reshape(*self.shape, self.dtype.itemsize).max(axis=-1)

    def check_written(self, expected: np.ndarray | None = None) -> None:
        """Every element written (or every one of `expected`), none of the others."""
        wanted = np.ones(self.shape, bool) if expected is None else expected
        wrong = np.argwhere((self.write_counts() > 0) != wanted)
        if len(wrong):
            at = tuple(int(i) for i in wrong[0])
            what = "was not written" if wanted[at] else "was written and must not be"
            raise Unwritten(f"element {at} of {self.shape} {what} ({len(wrong)} in all)")


class GlobalMemory:
    """All buffers, at addresses far apart, and counts of what moved."""

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.next = GLOBAL_BASE
        # (load or store, bytes per access) -> bytes moved
        self.traffic: Counter[tuple[str, int]] = Counter()

    def place(self, buffer: Buffer) -> Buffer:
        buffer.base = self.next
        self.next += -(-buffer.bytes.size // 256) * 256 + GUARD
        self.buffers.append(buffer)
        return buffer

    def _parts(self, addresses: np.ndarray, size: int) -> Any:
        """(buffer, selection, offsets) for each buffer that the addresses meet."""
        off = addresses % size != 0
        if off.any():
            raise Misaligned(f"{size}-byte access at {int(addresses[off][0]):#x}")
        left = np.ones(addresses.shape, bool)
        for buffer in self.buffers:
            offsets = addresses - np.int64(buffer.base)
            inside = (offsets >= buffer.lead) & (offsets + size <= buffer.lead + buffer.nbytes)
            if inside.all():
                yield buffer, slice(None), offsets
                return
            if inside.any():
                yield buffer, inside, offsets[inside]
                left &= ~inside
        if left.any():
            raise OutOfBounds(self._where(int(addresses[left][0]), size))

    def _where(self, address: int, size: int) -> str:
        near = min(self.buffers, key=lambda b: abs(b.address - address), default=None)
        where = f"{size}-byte access at {address:#x}"
        if near is None:
            return where
        at = address - near.address
        return f"{where}: byte {at} of a {near.role} buffer of {near.nbytes} bytes"

    def load(self, addresses: np.ndarray, size: int, part: int) -> np.ndarray:
        """`size`-byte accesses, read `part` bytes at a time: shape (n, size // part)."""
        self.traffic["load", size] += size * addresses.size
        unit = np.dtype(f"u{part}")
        out = np.empty((addresses.size, size // part), unit)
        for buffer, chosen, offsets in self._parts(addresses, size):
            known = buffer.initialised.view(unit)
            index = (offsets // part)[:, None] + np.arange(size // part)
            if not (known[index] == unit.type(int("01" * part, 16))).all():
                raise Uninitialised(f"a load of memory never written, of {buffer.nbytes} bytes")
            out[chosen] = buffer.bytes.view(unit)[index]
        return out

    def store(self, addresses: np.ndarray, size: int, values: np.ndarray) -> None:
        """`values` of shape (n, parts), one row of `size` bytes for each address."""
        self.traffic["store", size] += size * addresses.size
        part = values.dtype.itemsize
        unit = values.dtype
        ones = unit.type(int("01" * part, 16))
        for buffer, chosen, offsets in self._parts(addresses, size):
            if buffer.role == "in":
                raise ReadOnly(f"a store into an input of {buffer.nbytes} bytes")
            index = (offsets // part)[:, None] + np.arange(size // part)
            buffer.bytes.view(unit)[index] = values[chosen]
            buffer.initialised.view(unit)[index] = ones
            counts = buffer.written.view(unit)
            np.add.at(counts, index, ones)

    def update(self, addresses: np.ndarray, dtype: np.dtype[Any], combine: Any) -> np.ndarray:
        """Atomics, one thread after the other; the old values."""
        old = np.empty(addresses.size, dtype)
        for i, address in enumerate(addresses):
            one = np.array([address])
            old[i] = self.load(one, dtype.itemsize, dtype.itemsize).view(dtype)[0, 0]
            new = np.array([[combine(old[i], i)]], dtype).view(f"u{dtype.itemsize}")
            self.store(one, dtype.itemsize, new)
        return old


# Who touched a byte of shared memory last: a thread, nobody, threads of several warps, or
# several threads of warp w, written as ONE_WARP - w.
NOBODY, MANY, ONE_WARP = -1, -2, -3


class SharedMemory:
    """The shared memory of every block of a launch, with who touched each byte when.

    Two accesses of one byte by different threads, one of them a store, are a race unless a
    barrier of the block lies between them, or both threads are of one warp and a barrier
    of that warp does.
    """

    def __init__(self, blocks: int, nbytes: int, threads: int) -> None:
        self.nbytes = nbytes
        shape = (blocks, -(-nbytes // WIDEST) * WIDEST)
        self.bytes = np.zeros(shape, np.uint8)
        self.initialised = np.zeros(shape, bool)
        # per byte: the last writer and reader, and how many barriers of the block and of
        # its warp a thread had passed when it came
        self.writer = np.full(shape, NOBODY, np.int32)
        self.reader = np.full(shape, NOBODY, np.int32)
        self.write_time = np.zeros((2, *shape), np.int64)
        self.read_time = np.zeros((2, *shape), np.int64)
        self.barriers = np.zeros(blocks, np.int64)
        self.warp_barriers = np.zeros((blocks, -(-threads // 32)), np.int64)

    def _index(self, blocks: np.ndarray, offsets: np.ndarray, size: int) -> Any:
        if (offsets % size != 0).any():
            raise Misaligned(f"{size}-byte access of shared memory")
        outside = (offsets < 0) | (offsets + size > self.nbytes)
        if outside.any():
            at = int(offsets[outside][0])
            raise OutOfBounds(f"byte {at} of {self.nbytes} bytes of shared memory")
        return blocks[:, None], offsets[:, None] + np.arange(size)

    def _conflict(self, at: Any, who: Any, time: Any, threads: Any, blocks: Any) -> Any:
        """Was another thread here since the last barrier that orders the two?"""
        other, warp = who[at], threads[:, None] // 32
        same_warp = (other >= 0) & (other // 32 == warp) | (other == ONE_WARP - warp)
        ordered = time[0][at] < self.barriers[blocks][:, None]
        ordered |= same_warp & (time[1][at] < self.warp_barriers[blocks, threads // 32][:, None])
        return (other != NOBODY) & (other != threads[:, None]) & ~ordered

    def _stamp(self, at: Any, time: Any, threads: Any, blocks: Any) -> None:
        time[0][at] = self.barriers[blocks][:, None]
        time[1][at] = self.warp_barriers[blocks, threads // 32][:, None]

    def load(self, blocks: Any, threads: Any, offsets: Any, size: int, part: int) -> np.ndarray:
        at = self._index(blocks, offsets, size)
        if not self.initialised[at].all():
            raise Uninitialised("a load of shared memory never written")
        if self._conflict(at, self.writer, self.write_time, threads, blocks).any():
            raise Race("a load of shared memory that another thread wrote, with no barrier")
        earlier = self._conflict(at, self.reader, self.read_time, threads, blocks)
        self._remember_readers(at, threads, earlier)
        self._stamp(at, self.read_time, threads, blocks)
        return self.bytes[at].view(f"u{part}")

    def _remember_readers(self, at: Any, threads: Any, earlier: Any) -> None:
        mine = np.broadcast_to(threads[:, None], earlier.shape)
        before = self.reader[at]
        self.reader[at] = mine
        # others beside this thread: since the last barrier, or in this very load
        for companion, beside in ((before, earlier), (self.reader[at], self.reader[at] != mine)):
            warp = mine // 32
            same = (companion >= 0) & (companion // 32 == warp) | (companion == ONE_WARP - warp)
            rows = np.broadcast_to(at[0], beside.shape)
            for chosen, mark in ((beside & same, ONE_WARP - warp), (beside & ~same, None)):
                marks = mark[chosen] if mark is not None else MANY
                self.reader[rows[chosen], at[1][chosen]] = marks

    def store(self, blocks: Any, threads: Any, offsets: Any, size: int, values: Any) -> None:
        at = self._index(blocks, offsets, size)
        for who, time, what in (
            (self.writer, self.write_time, "wrote"),
            (self.reader, self.read_time, "read"),
        ):
            if self._conflict(at, who, time, threads, blocks).any():
                raise Race(f"a store to shared memory that another thread {what}, with no barrier")
        self.writer[at] = threads[:, None]
        if (self.writer[at] != threads[:, None]).any():
            raise Race("two threads store to one byte of shared memory at once")
        self._stamp(at, self.write_time, threads, blocks)
        self.bytes[at] = np.ascontiguousarray(values).view(np.uint8)
        self.initialised[at] = True
