"""Elements that lie apart, made contiguous for a kernel, and its results brought back."""

from __future__ import annotations

from fastact.compile.machine import copy_bytes, move2, move4, move8
from fastact.compile.slots import compiled


@compiled
def gather(destination, source, step, count, itemsize):
    """Strided elements to contiguous ones."""
    if step == itemsize:
        copy_bytes(destination, source, count * itemsize)
    elif itemsize == 4:
        for i in range(count):
            move4(destination + 4 * i, source + step * i)
    elif itemsize == 8:
        for i in range(count):
            move8(destination + 8 * i, source + step * i)
    else:
        for i in range(count):
            move2(destination + 2 * i, source + step * i)


@compiled
def scatter(destination, step, source, count, itemsize):
    """Contiguous elements to strided ones."""
    if step == itemsize:
        copy_bytes(destination, source, count * itemsize)
    elif itemsize == 4:
        for i in range(count):
            move4(destination + step * i, source + 4 * i)
    elif itemsize == 8:
        for i in range(count):
            move8(destination + step * i, source + 8 * i)
    else:
        for i in range(count):
            move2(destination + step * i, source + 2 * i)


@compiled
def pad(area, count, whole, itemsize):
    """Fill up a block with copies of its elements, of which there is one at least.

    Zeros would do, but the logarithm of a zero raises a flag, and clearing that takes 0.15 us.
    """
    while count < whole:
        more = min(count, whole - count)
        copy_bytes(area + count * itemsize, area, more * itemsize)
        count += more
