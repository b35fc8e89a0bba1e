"""Where compiled code that is not ours finds a loop of fastact.

Such code may outlive the process that compiled it (Numba's `cache=True`), so it holds a key, never
an address, and asks here once per process.
"""

from __future__ import annotations

import ctypes
from functools import cache

from fastact.runtime.functions import directions_of
from fastact.runtime.loops import Loop, RowLoop, driver_entry, load
from fastact.runtime.numpy_api import words

LOOP_WORDS = 3


def elementwise_key(name: str, direction: str, dtype: str, defaults: bool) -> str:
    """The key of an elementwise loop; with `defaults` its parameters are no operands."""
    return f"elementwise {name} {direction} {dtype} {int(defaults)}"


def row_key(name: str, dtype: str, empty: float, general: bool) -> str:
    """The key of a loop over rows; `empty` stands for a row with nothing in it."""
    return f"row {name} {dtype} {empty} {int(general)}"


@cache
def address(key: str) -> int:
    """The address of three words: a loop with the signature of NumPy's, its data, and `iterate`."""
    from fastact import registry

    kind, name, *rest = key.split()
    if kind == "row":
        dtype, empty, general = rest
        losses = (op for loss in registry.LOSS_RECORDS.values() for op in loss.ops)
        (op,) = (op for op in (*registry.ROW_OPS, *losses) if op.name == name)
        loop: Loop | RowLoop = RowLoop(op, dtype, float(empty), bool(int(general)))
        entry = driver_entry("row_loop")
    else:
        direction, dtype, defaults = rest
        record = registry.RECORDS.get(name) or registry.PAIRED[name]
        (chosen,) = (d for d in directions_of(record) if d.name == direction)
        loop = Loop(record, chosen, dtype, bool(int(defaults)))
        entry = driver_entry("ufunc_loop")
    loop.resolve(0)  # here an error can be raised
    found = words(LOOP_WORDS)
    found[0], found[1], found[2] = entry, loop.address, iterate()
    return ctypes.addressof(found)


@cache
def iterate() -> int:
    """The address of the function that runs a loop over arrays of any shape."""

    def build() -> bytes:
        from fastact.compile.build import build_iterate

        return build_iterate()

    return load("iterate", ("fastact_iterate",), build)[0]
