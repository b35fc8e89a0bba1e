"""Loops: what a ufunc runs for one op, direction and dtype, found or compiled on first use."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastact.activations.directions import Direction
from fastact.activations.paired import Pointwise
from fastact.compile import abi
from fastact.rowwise.record import MASK, Form, RowOp
from fastact.runtime import state
from fastact.runtime.numpy_api import keep, words

# A call is shared with workers that are awake when it would take this long alone.
WORTHWHILE_NANOSECONDS = float(abi.WORTHWHILE * abi.SHARING)

# A call that reads and writes more than this has nothing left in the second-level cache when it
# ends; its results go past the caches.
LARGE_BYTES = 16 << 20

COMPUTING = {"float16": "float32", "bfloat16": "float32"}
ITEMSIZE = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}

# Held across a fork, so that no child is born while another thread compiles.
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )
_loops: list[Any] = []


class CompileError(RuntimeError):
    """A kernel could not be compiled or loaded."""


def failure(error: BaseException) -> tuple[int, int]:
    """(exception class, thread) for an error that a ufunc loop cannot raise itself.

    The driver sets it on the calling thread as an asynchronous exception, so that it appears as
    soon as NumPy returns to the interpreter, before any result is seen.
    """
    message = f"{type(error).__name__}: {error}"
    kind = type(
        "CompileError",
        (CompileError,),
        {"__init__": lambda self: CompileError.__init__(self, message), "__module__": "fastact"},
    )
    return id(keep(kind)), threading.get_ident()


@contextmanager
def numba_enabled() -> Iterator[None]:
    """Numba compiles, whatever NUMBA_DISABLE_JIT says: that is meant for the user's functions.

    Nor do its warnings concern the user, who has no part in what is compiled here.
    """
    with warnings.catch_warnings(action="ignore"):
        if "numba" not in sys.modules and not os.environ.get("NUMBA_DISABLE_JIT"):
            yield  # row ops are compiled without Numba
            return
        from numba.core import config

        before, config.DISABLE_JIT = config.DISABLE_JIT, 0
        try:
            yield
        finally:
            config.DISABLE_JIT = before


def stored(name: str, build: Callable[[], bytes]) -> bytes:
    """An object from the store, or built now and stored."""
    from fastact.runtime import store

    code = store.get(name)
    if code is None:
        with numba_enabled():
            code = build()
        store.put(name, code)
    return code


def load(name: str, symbols: tuple[str, ...], build: Callable[[], bytes]) -> list[int]:
    """Addresses of the symbols of a stored or newly built object."""
    from fastact.compile.loading import load_object

    with np.errstate(all="ignore"):  # the caller's setting is not meant for the compiler
        return load_object(stored(name, build), symbols)


def build_driver() -> bytes:
    from fastact.compile.build import build_driver

    return build_driver()


def driver_entry(name: str) -> int:
    """The address of one of the engine's own functions; loads the engine the first time."""
    slot = abi.entry_slot(name)
    with _lock:
        if not state.STATE[slot]:
            symbols = tuple(f"fastact_{entry}" for entry in abi.ENTRIES)
            addresses = load("driver", symbols, build_driver)
            for index, address in enumerate(addresses):
                state.STATE[abi.STATE_ENTRIES + index] = address
        return int(state.STATE[slot])


class Loop:
    """One op, direction and dtype: its block, which the driver reads, and its kernels."""

    def __init__(self, record: Pointwise, direction: Direction, dtype: str, defaults: bool) -> None:
        self.record = record
        self.direction = direction
        self.dtype = dtype
        self.block = words(abi.LOOP_SLOTS)
        computing = np.dtype(COMPUTING.get(dtype, dtype))
        self.block[abi.LOOP_ARRAYS] = len(direction.arrays)
        self.block[abi.LOOP_PARAMETERS] = len(record.parameters)
        self.block[abi.LOOP_OUTPUTS] = len(direction.outputs)
        self.block[abi.LOOP_ITEMSIZE] = ITEMSIZE[dtype]
        self.block[abi.LOOP_PARAMETER_ITEMSIZE] = computing.itemsize
        self.block[abi.LOOP_STATE] = state.ADDRESS
        self.block[abi.LOOP_INDEX] = len(_loops)
        streams = len(direction.arrays) + len(direction.outputs)
        self.block[abi.LOOP_LARGE] = LARGE_BYTES // (streams * ITEMSIZE[dtype])
        # Another library's defaults are not constants: the kernel's name tells only the op's own.
        self.constant = defaults and bool(record.parameters) and not getattr(record, "like", "")
        if defaults:
            values = keep(np.zeros(8 * len(record.parameters), np.uint8))
            for k, value in enumerate(record.defaults):
                values[8 * k : 8 * k + computing.itemsize] = np.frombuffer(
                    computing.type(value).tobytes(), np.uint8
                )
            self.block[abi.LOOP_DEFAULTS] = values.ctypes.data
        _loops.append(self)

    @property
    def address(self) -> int:
        return ctypes.addressof(self.block)

    def symbol(self, variant: int) -> str:
        ending = "" if variant == abi.FIXED else f"_{abi.VARIANTS[variant]}"
        return f"fastact_{self.record.name}{self.direction.suffix}_{self.dtype}{ending}"

    def build(self, variant: int) -> bytes:
        from fastact.compile.build import build_kernel

        return build_kernel(self.record, self.direction, self.dtype, variant, self.symbol(variant))

    def resolve(self, variant: int) -> None:
        """Fill the slot of a kernel."""
        with _lock:
            slot = abi.LOOP_KERNEL + variant
            if self.block[slot]:
                return
            form = abi.DEFAULT if variant == abi.FIXED and self.constant else variant
            symbol = self.symbol(form)
            if symbol not in _kernels:
                (_kernels[symbol],) = load(symbol, (symbol,), lambda: self.build(form))
            if variant != abi.STREAMING:
                cost = self.nanoseconds_per_element(_kernels[symbol])
                self.block[abi.LOOP_THRESHOLD] = int(WORTHWHILE_NANOSECONDS / cost)
            self.block[slot] = _kernels[symbol]

    def nanoseconds_per_element(self, kernel: int, blocks: int = 128) -> float:
        """The cost of the kernel on this machine, in cache: about 30 us to find out.

        A call of one block is subtracted: it costs what the call itself costs.
        """
        operands = (
            self.block[abi.LOOP_ARRAYS]
            + self.block[abi.LOOP_PARAMETERS]
            + self.block[abi.LOOP_OUTPUTS]
        )
        areas = np.zeros((operands, blocks * abi.BLOCK), np.float64)
        pointers = (ctypes.c_void_p * operands)(*(a.ctypes.data for a in areas))
        call = ctypes.CFUNCTYPE(None, ctypes.c_ssize_t, ctypes.c_void_p)(kernel)

        def best(count: int) -> int:
            times = []
            for _ in range(5):
                start = time.perf_counter_ns()
                call(count, ctypes.addressof(pointers))
                times.append(time.perf_counter_ns() - start)
            return min(times)

        return max((best(blocks) - best(1)) / ((blocks - 1) * abi.BLOCK), 0.02)


class RowLoop:
    """One row op, form and dtype: its block and its tasks."""

    def __init__(self, op: RowOp, dtype: str, empty: float, general: bool = False) -> None:
        self.form = Form(op, dtype, general)
        operands = (*op.operands(general), *op.results())
        self.block = words(abi.ROW_LOOP_SLOTS)
        self.block[abi.LOOP_ITEMSIZE] = ITEMSIZE[dtype]
        self.block[abi.LOOP_STATE] = state.ADDRESS
        self.block[abi.LOOP_INDEX] = len(_loops)
        self.block[abi.LOOP_EMPTY] = int(np.float64(empty).view(np.int64))
        self.block[abi.LOOP_OPERANDS] = len(operands)
        self.block[abi.LOOP_AXES] = sum(1 << k for k, o in enumerate(operands) if o.is_row)
        self.block[abi.LOOP_ALWAYS_NARROW] = int(self.form.has_precise)
        self.block[abi.LOOP_MASK] = operands.index(MASK) if general else -1
        streams = sum(o.is_row for o in operands)
        self.block[abi.LOOP_LARGE] = LARGE_BYTES // (streams * ITEMSIZE[dtype])
        # Half a nanosecond an entry is what softmax takes on one thread (bench/).
        self.block[abi.LOOP_THRESHOLD] = int(WORTHWHILE_NANOSECONDS / 0.5)
        _loops.append(self)

    @property
    def address(self) -> int:
        return ctypes.addressof(self.block)

    @property
    def symbol(self) -> str:
        general = "_general" if self.form.general else ""
        return f"fastact_{self.form.op.name}{general}_{self.form.dtype}"

    def slots(self, variant: int) -> dict[str, int]:
        """The tasks of a variant, each with the slot that holds its address."""
        if variant == abi.STREAMING:
            return {"streaming": abi.LOOP_ROW_STREAMING}
        return {n: abi.LOOP_ROW_ENTRIES + abi.ROW_ENTRIES.index(n) for n in self.form.entries}

    def object_name(self, variant: int) -> str:
        return f"{self.symbol}_large" if variant == abi.STREAMING else self.symbol

    def build(self, variant: int = abi.FIXED) -> bytes:
        from fastact.compile.row_objects import build_rows

        return build_rows(self.form, self.object_name(variant), tuple(self.slots(variant)))

    def resolve(self, variant: int) -> None:
        """Fill the slots of the tasks."""
        with _lock:
            slots, name = self.slots(variant), self.object_name(variant)
            first = next(iter(slots))
            if self.block[slots[first]]:
                return
            symbols = {task: f"{name}_{task}" for task in slots}
            if symbols[first] not in _kernels:
                addresses = load(name, tuple(symbols.values()), lambda: self.build(variant))
                _kernels.update(zip(symbols.values(), addresses, strict=True))
            for task, symbol in reversed(symbols.items()):
                self.block[slots[task]] = _kernels[symbol]


_kernels: dict[str, int] = {}


@ctypes.CFUNCTYPE(None, ctypes.c_ssize_t, ctypes.c_ssize_t)
def _resolve(index: int, variant: int) -> None:
    loop = _loops[index]
    try:
        loop.resolve(variant)
    except BaseException as error:
        loop.block[abi.LOOP_ERROR], loop.block[abi.LOOP_THREAD] = failure(error)


state.STATE[abi.STATE_RESOLVE] = ctypes.cast(_resolve, ctypes.c_void_p).value or 0


def loop_addresses(entry: str, count: int) -> Any:
    """An array with the address of a driver loop, once per dtype of a ufunc."""
    return keep((ctypes.c_void_p * count)(*[driver_entry(entry)] * count))
