"""Row ops called with all their operands, outputs included, on shapes that are known to fit.

NumPy's generalized ufunc does that in 1 us. But it copies an input that is also an output; row
tasks can work in place, so a loss that overwrites large logits is called without it and needs no
second array.
"""

from __future__ import annotations

import ctypes
import math
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from fastact.compile.abi import FIXED
from fastact.rowwise.record import RowOp
from fastact.runtime import elsewhere
from fastact.runtime.loops import RowLoop, driver_entry
from fastact.runtime.ufuncs import gufunc

# Bytes of a row operand up to which NumPy's copy takes less time than the 20 us by which a call
# without NumPy is slower.
COPIED = 1 << 17

_call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


@cache
def rows_of(op: RowOp) -> tuple[bool, ...]:
    """Which operands of an op, outputs included, run along the row."""
    return tuple(kind.is_row for kind in (*op.operands(False), *op.results()))


@cache
def task(op: RowOp, dtype: np.dtype[Any]) -> tuple[RowLoop, Any]:
    """The tasks of an op and the driver's entry that runs them.

    They are loaded here and not by the driver: an error is a plain exception.
    """
    loop = RowLoop(op, dtype.name, math.nan)
    loop.resolve(FIXED)
    return loop, _call(driver_entry("row_loop"))


def merged(
    lead: tuple[int, ...], steps: list[tuple[int, ...]]
) -> tuple[list[int], list[list[int]]]:
    """Axes joined with their neighbour wherever all operands run on through both.

    Every pair of axes that stays apart costs a call of the driver for each index of the first.
    """
    sizes: list[int] = []
    strides: list[list[int]] = [[] for _ in steps]
    for axis, size in enumerate(lead):
        if size == 1 and len(lead) > 1:
            continue
        runs_on = sizes and all(
            own[-1] == size * step[axis] for own, step in zip(strides, steps, strict=True)
        )
        if runs_on:
            sizes[-1] *= size
        else:
            sizes.append(size)
        for own, step in zip(strides, steps, strict=True):
            own[len(sizes) - 1 :] = [step[axis]]
    return sizes, strides


def spread(op: RowOp, operands: list[Any]) -> list[np.ndarray]:
    """The operands as arrays, broadcast to the axes of the key, which has all of them."""
    shape = operands[len(op.inputs) - 1].shape
    return [
        spread_to(shape if is_row else shape[:-1], value)
        for value, is_row in zip(operands, rows_of(op), strict=True)
    ]


def spread_to(shape: tuple[int, ...], value: Any) -> np.ndarray:
    """A number, or an array, for every entry of a shape."""
    if not isinstance(value, np.ndarray):
        data = np.float64(value).tobytes()
        return np.ndarray(shape, np.float64, data, strides=(0,) * len(shape))
    return value if value.shape == shape else np.broadcast_to(value, shape)


def run(op: RowOp, inputs: list[Any], outputs: list[np.ndarray], in_place: bool = False) -> None:
    """Call a row op; on the GPU if that is the target.

    Operands along the row have the row as last axis. The outputs have all the other axes, inputs
    broadcast against them. `in_place`: an output is one of the inputs.
    """
    if elsewhere.host_too():
        from fastact.gpu import host

        return host.run_rows(op, spread(op, [*inputs, *outputs]))
    if in_place and outputs[0].nbytes > COPIED:
        return run_in_place(op, spread(op, [*inputs, *outputs]))
    gufunc(op, math.nan)(*inputs, *outputs)


def run_in_place(op: RowOp, operands: list[np.ndarray]) -> None:
    """Call the tasks of a row op on operands that have been broadcast."""
    along = [a for a, is_row in zip(operands, rows_of(op), strict=True) if is_row]
    loop, call = task(op, along[0].dtype)
    *lead, length = along[0].shape
    if math.prod(lead) == 0:
        return
    sizes, strides = merged(tuple(lead), [a.strides[: len(lead)] for a in operands])
    *more, count = sizes or [1]
    dims = (ctypes.c_ssize_t * 2)(count, length)
    steps = [own[-1] if own else 0 for own in strides] + [a.strides[-1] for a in along]
    step_slots = (ctypes.c_ssize_t * len(steps))(*steps)
    starts = [a.__array_interface__["data"][0] for a in operands]
    for index in product(*map(range, more)):
        places = [
            start + sum(i * step for i, step in zip(index, own, strict=False))
            for start, own in zip(starts, strides, strict=True)
        ]
        pointers = (ctypes.c_void_p * len(places))(*places)
        call(
            ctypes.addressof(pointers),
            ctypes.addressof(dims),
            ctypes.addressof(step_slots),
            loop.address,
        )
