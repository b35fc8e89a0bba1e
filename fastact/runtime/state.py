"""The engine's state: targets, threads, the pool's memory, and what happens at a fork."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fastact.compile import abi
from fastact.runtime import elsewhere
from fastact.runtime.numpy_api import words

TARGETS = {
    "auto": abi.TARGET_AUTO,
    "serial": abi.TARGET_SERIAL,
    "parallel": abi.TARGET_PARALLEL,
    "cuda": abi.TARGET_CUDA,
}

# What waking the workers takes the caller, until it has been measured: on a virtual machine, whose
# host has put a processor to sleep, 19 us; on a processor of one's own, 2 us.
WAKING_NANOSECONDS = 20_000

STATE = words(abi.STATE_SLOTS)
ADDRESS = ctypes.addressof(STATE)


def available_cpus() -> int:
    """Processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def initial_threads() -> tuple[int, str]:
    """The number of threads to begin with, and what decided it."""
    for variable in ("FASTACT_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(variable, "").split(",")[0].strip()
        if value.isdigit() and int(value) > 0:
            return int(value), variable
    return available_cpus(), "processors available"


def reset_pool() -> None:
    """A pool without workers: at start, and in a forked child, where no worker lives on."""
    for index in (
        abi.STATE_STARTED,
        abi.STATE_NUMBERED,
        abi.STATE_OWNED,
        abi.STATE_JOB,
        abi.STATE_ACTIVE,
        abi.STATE_JOINED,
        abi.STATE_ASLEEP,
    ):
        STATE[index] = 0
    ctypes.memset(ADDRESS + 8 * abi.STATE_MUTEX, 0, 8 * (abi.STATE_SIGNALS - abi.STATE_MUTEX))
    ctypes.memset(ADDRESS + 8 * abi.STATE_SLEEPERS, 0, 8 * abi.SLEEPERS)
    STATE[abi.STATE_PID] = os.getpid()
    if HAS_POOL:
        _initialize_mutex(ADDRESS + 8 * abi.STATE_MUTEX, None)
        _initialize_condition(ADDRESS + 8 * abi.STATE_WORK, None)
        _initialize_condition(ADDRESS + 8 * abi.STATE_DONE, None)


def c_functions() -> dict[str, int]:
    """Addresses of the C functions that compiled code calls; empty where there are no pthreads."""
    if os.name != "posix":
        return {}
    found = {
        name: ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
        for library in (ctypes.CDLL(None), ctypes.pythonapi)
        for name in abi.FUNCTIONS
        if hasattr(library, name)
    }
    return found if {*abi.FUNCTIONS} <= {*found, *abi.OPTIONAL} else {}


def set_num_threads(n: int) -> None:
    """Set how many threads a parallel call may use, the calling one included.

    Parameters
    ----------
    n : int
        At least 1. More than the processors available is allowed and rarely useful.

    Raises
    ------
    ValueError
        If n is not a positive integer.
    """
    if isinstance(n, bool) or not hasattr(n, "__index__") or n < 1:
        raise ValueError(f"n must be a positive integer, got {n!r}")
    STATE[abi.STATE_THREADS] = n.__index__() if HAS_POOL else 1


def get_num_threads() -> int:
    """How many threads a parallel call may use, the calling one included."""
    return int(STATE[abi.STATE_THREADS])


class Chosen:
    """The target that was chosen, the blocks that run with another, and the tasks that are serial.

    Blocks and tasks of several threads overlap and end in any order. So none remembers what it
    found: each takes away what it brought, and the block that began last is in force.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.target = "auto"
        self.targets: dict[object, str] = {None: self.target}  # by block; None: outside of all
        self.serial_tasks = 0

    def apply(self) -> None:
        self.target = next(reversed(self.targets.values()))
        in_force = "serial" if self.serial_tasks else self.target
        STATE[abi.STATE_TARGET] = TARGETS[in_force]
        elsewhere.set_reason("target", in_force == "cuda")

    def change(self, target: str) -> None:
        """Of the block that began last, until it ends; outside of all if none runs."""
        with self.lock:
            self.targets[next(reversed(self.targets))] = target
            self.apply()

    def begin(self, block: object, target: str) -> None:
        with self.lock:
            self.targets[block] = target
            self.apply()

    def end(self, block: object) -> None:
        with self.lock:
            del self.targets[block]
            self.apply()

    def count(self, tasks: int) -> None:
        with self.lock:
            self.serial_tasks += tasks
            self.apply()

    def after_in_child(self) -> None:
        self.lock = threading.Lock()  # a thread that is gone may have held it

    def forget(self, target: str) -> None:
        """Have "auto" where a target was chosen that can no longer compute."""
        with self.lock:
            for block, chosen in self.targets.items():
                if chosen == target:
                    self.targets[block] = "auto"
            self.apply()


_chosen = Chosen()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_chosen.after_in_child)


forget_target = _chosen.forget


def checked(target: str) -> str:
    """A target that has a name, whether or not it can compute."""
    if target not in TARGETS:
        raise ValueError(f"target must be one of {', '.join(map(repr, TARGETS))}, got {target!r}")
    return target


def available(target: str) -> str:
    """A target that can compute."""
    if checked(target) == "cuda":
        from fastact.gpu.driver import driver

        driver()
    return target


def set_target(target: str) -> None:
    """Choose where calls run: "auto", "serial", "parallel" or "cuda".

    "auto" runs in parallel from a size on that depends on the op's cost; "parallel" runs in
    parallel whatever the size; "serial" uses the calling thread alone. Results are the same
    bits everywhere. Arrays that lie on a GPU are computed there under each of them; "cuda" takes
    arrays from the host there too, and brings the results back. Inside a block of `use_target`
    it holds until that block ends.

    Raises
    ------
    ValueError
        If the target is not one of these.
    RuntimeError
        If it is "cuda" and there is no GPU to compute on; the message says what is missing.
    """
    _chosen.change(available(target))


def get_target() -> str:
    """The target that was chosen."""
    return _chosen.target


@contextmanager
def use_target(target: str) -> Iterator[None]:
    """Run a block of code with another target.

    The target belongs to the process: other threads see it too while the block runs. Where blocks
    of several threads overlap, the one that began last is in force, in whatever order they end.
    """
    block = object()
    _chosen.begin(block, available(target))
    try:
        yield
    finally:
        _chosen.end(block)


@contextmanager
def serial_task() -> Iterator[None]:
    """Calls use the calling thread alone while any such block runs, whatever target is chosen."""
    _chosen.count(1)
    try:
        yield
    finally:
        _chosen.count(-1)


_functions = c_functions()
HAS_POOL = bool(_functions)
if HAS_POOL:
    _initializer = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    _initialize_mutex = _initializer(_functions["pthread_mutex_init"])
    _initialize_condition = _initializer(_functions["pthread_cond_init"])
    for _index, _name in enumerate(abi.FUNCTIONS):
        STATE[abi.STATE_FUNCTIONS + _index] = _functions.get(_name, 0)
    STATE[abi.STATE_SIG_BLOCK] = int(signal.SIG_BLOCK)
    STATE[abi.STATE_CLOCK] = time.CLOCK_MONOTONIC
    STATE[abi.STATE_WAKING] = WAKING_NANOSECONDS
    os.register_at_fork(after_in_child=reset_pool)
reset_pool()
set_num_threads(initial_threads()[0])
try:
    _chosen.change(checked(os.environ.get("FASTACT_TARGET") or "auto"))
except ValueError as _error:
    raise ValueError(f"FASTACT_TARGET: {_error}") from None
