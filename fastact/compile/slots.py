"""What the engine's own functions stand on: slots of 64 bits, and a way to raise an error.

An error is left with the thread that called, which raises it when NumPy returns to Python.
"""

from __future__ import annotations

from numba import njit

from fastact.compile.abi import LOOP_ERROR, LOOP_THREAD, function_slot
from fastact.compile.machine import call0, call1, call2, load, store

GIL_ENSURE = function_slot("PyGILState_Ensure")
GIL_RELEASE = function_slot("PyGILState_Release")
SET_EXCEPTION = function_slot("PyThreadState_SetAsyncExc")

compiled = njit(error_model="numpy", forceinline=True)


@compiled
def slot(base, index):
    return load(base + 8 * index)


@compiled
def set_slot(base, index, value):
    store(base + 8 * index, value)


@compiled
def raise_in_caller(state, loop):
    """Leave the error of a failed compilation with the thread that called the ufunc."""
    held = call0(slot(state, GIL_ENSURE))
    call2(slot(state, SET_EXCEPTION), slot(loop, LOOP_THREAD), slot(loop, LOOP_ERROR))
    call1(slot(state, GIL_RELEASE), held)
