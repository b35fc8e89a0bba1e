"""Row ops called without NumPy's ufunc machinery, on arrays whose shapes are known to fit.

NumPy copies an input of a generalized ufunc that is also an output. Row tasks can work in place,
so a loss that overwrites its logits is called here and needs no second array.
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


def run(op: RowOp, operands: list[np.ndarray]) -> None:
    """Call a row op on all its operands, outputs included; on the GPU if that is the target.

    Those along the row have the row as last axis; the other axes are the same for all operands,
    broadcast already.
    """
    if elsewhere.host_too():
        from fastact.gpu import host

        return host.run_rows(op, operands)
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
