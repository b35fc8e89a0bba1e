"""All float32 inputs of an op, or every n-th, judged in units in the last place.

A part of the inputs is small enough for the second-level cache: its float32 results, its float64
ones (the proxy for the exact value) and their comparison are three passes over it, all of them
SIMD code. Processes take chunks of parts, and the chunks are added up in order.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit

import fastact as fa
from fastact.compile.cpu import PRIMITIVES

EDGES = (0.0, 0.5, 1.0, 2.0)  # of the histogram: exact, up to half a unit, one, two, more
INPUTS = 1 << 32
PART = 1 << 14
CHUNK = 1 << 24  # inputs between two marks of progress
CHUNKS = INPUTS // CHUNK
AHEAD = 6  # chunks that are asked for before the first of them is needed
KEPT = 1000
INPUT_ULPS = 2  # near a zero of f', x may be off by so much
PAST = 2.0**128  # the first value past the largest float32
LEAST, MOST = (1023 - 126) << 52, (1023 + 127) << 52  # exponents of float32, as float64 has them
MIRROR = (2 * 1023 + 23) << 52  # less an exponent: the pattern of 1/spacing
EXPONENT = 0x7FF << 52

bits, from_bits, select = (PRIMITIVES[name] for name in ("bits", "from_bits", "select"))


@njit(error_model="numpy", forceinline=True)  # type: ignore[untyped-decorator]
def ulp_error(got: Any, exact: Any) -> Any:
    """A float32 result, given as float64, against an exact value, in float32's units."""
    y = select(got > PAST, PAST, select(got < -PAST, -PAST, got))
    e = select(exact > PAST, PAST, select(exact < -PAST, -PAST, exact))
    exponent = min(max(bits(exact) & EXPONENT, LEAST), MOST)
    error = abs(y - e) * from_bits(MIRROR - exponent)
    error = select(error == error, error, np.inf)
    return select((y != y) & (e != e), 0.0, error)


@njit(error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def fill(first: int, step: int, x: Any, wide: Any) -> None:
    """The floats whose bit patterns are first, first + step and so on; and the same as float64."""
    pattern = x.view(np.int32)
    for i in range(x.size):
        pattern[i] = np.int32(first + step * i)
    for i in range(x.size):
        wide[i] = x[i]


@njit(error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def count(got: Any, exact: Any, counts: Any) -> float:
    """Adds to how many errors exceed each edge; the largest error."""
    n0 = n1 = n2 = n3 = np.int64(0)
    largest = np.int64(0)  # as the bits of a float64: the order is the same
    for i in range(got.size):
        error = ulp_error(np.float64(got[i]), exact[i])
        n0 += np.int64(error > EDGES[0])
        n1 += np.int64(error > EDGES[1])
        n2 += np.int64(error > EDGES[2])
        n3 += np.int64(error > EDGES[3])
        largest = max(largest, bits(error))
    for k, n in enumerate((n0, n1, n2, n3)):
        counts[k] += n
    return from_bits(largest)


@njit(error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def errors_of(got: Any, exact: Any, out: Any) -> None:
    for i in range(got.size):
        out[i] = ulp_error(np.float64(got[i]), exact[i])


@dataclass
class Tally:
    """What has been seen: how many inputs by error, and the worst of them."""

    chunk: int = 0
    histogram: list[int] = field(default_factory=lambda: [0] * (len(EDGES) + 1))
    worst: list[tuple[float, int]] = field(default_factory=list)  # error, bits of x

    @property
    def floor(self) -> float:
        """An error that is not above this cannot be among the worst."""
        return self.worst[-1][0] if len(self.worst) >= KEPT else 0.0

    def count(self, size: int, counts: Any) -> None:
        """Adds `size` errors, of which `counts` exceed the edges."""
        above = [size, *counts.tolist(), 0]
        for k in range(len(self.histogram)):
            self.histogram[k] += above[k] - above[k + 1]

    def keep(self, found: list[tuple[float, int]]) -> None:
        self.worst = sorted([*map(tuple, self.worst), *found], key=lambda w: (-w[0], w[1]))[:KEPT]

    def merge(self, other: Tally) -> None:
        """Adds the next chunk."""
        self.histogram = [a + b for a, b in zip(self.histogram, other.histogram, strict=True)]
        self.keep(other.worst)
        self.chunk += 1


def moved(x: Any, by: int) -> Any:
    """x moved by units in its last place, away from zero if positive."""
    return (x.view(np.int32) + np.int32(by)).view(np.float32)


def interval_errors(call: Callable[..., Any], x: Any, got: Any, errors: Any, near: Any) -> None:
    """Near a zero of f': the distance to the values at x moved by INPUT_ULPS either way."""
    i = np.flatnonzero(near)
    ends = [call(moved(x[i], by).astype(np.float64)) for by in (-INPUT_ULPS, INPUT_ULPS)]
    low, high = np.minimum(*ends), np.maximum(*ends)
    nearest = np.empty((2, i.size))
    for end, row in zip((low, high), nearest, strict=True):
        errors_of(got[i], end, row)
    inside = (got[i] >= low) & (got[i] <= high)
    errors[i] = np.where(inside, 0.0, np.minimum(errors[i], nearest.min(0)))


@dataclass(frozen=True)
class Function:
    """An op in one direction, for given parameters: what a process can be told to call.

    "joint" is the value that comes with the derivative, where an op computes it in its own way.
    """

    op: str
    direction: str = "forward"
    parameters: tuple[float, ...] = ()

    @property
    def formula(self) -> str:
        return "grad" if self.direction == "grad" else "forward"

    def __call__(self, x: Any, out: Any = None) -> Any:
        if self.direction == "joint":
            both = getattr(fa, f"{self.op}_value_and_grad")
            return both(x, *self.parameters, out=out if out is None else (out, np.empty_like(x)))[0]
        function = getattr(fa, self.op + ("_grad" if self.formula == "grad" else ""))
        return function(x, *self.parameters, out=out)


@dataclass(frozen=True)
class Sweep:
    """Every `step`-th float32 input of a function, and the stretches near the zeros of f'."""

    call: Function
    zeros: tuple[tuple[float, float], ...] = ()
    step: int = 1

    def chunk(self, number: int, floor: float) -> Tally:
        """The tally of one chunk; errors up to the floor need not be kept."""
        size = min(PART, CHUNK // self.step)
        x, got = np.empty((2, size), np.float32)
        wide, exact, errors = np.empty((3, size))
        counts = np.zeros(len(EDGES), np.int64)
        tally = Tally()
        with np.errstate(all="ignore"), fa.use_target("serial"):
            begin = number * CHUNK + (29 * number + 11) % self.step  # other last bits each time
            for first in range(begin, (number + 1) * CHUNK, size * self.step):
                fill(first, self.step, x, wide)
                self.call(x, out=got)
                self.call(wide, out=exact)
                near = self.near(x)
                if near is None:
                    if count(got, exact, counts) <= max(floor, tally.floor):
                        continue
                    errors_of(got, exact, errors)
                else:
                    errors_of(got, exact, errors)
                    interval_errors(self.call, x, got, errors, near)
                    counts += [np.count_nonzero(errors > edge) for edge in EDGES]
                found = np.flatnonzero(errors > max(floor, tally.floor))
                if found.size > KEPT:
                    found = found[np.argpartition(-errors[found], KEPT)[:KEPT]]
                tally.keep([(float(errors[i]), first + self.step * int(i)) for i in found])
        tally.count(CHUNK // self.step, counts)
        return tally

    def near(self, x: Any) -> Any:
        """Which inputs are near a zero; None if none is."""
        low, high = sorted((float(x[0]), float(x[-1])))
        if not any(low <= end and high >= begin for begin, end in self.zeros):
            return None
        return np.any([(x > begin) & (x < end) for begin, end in self.zeros], axis=0)


class Workers:
    """A process per processor: threads would wait for each other's Python lock."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        ignore = (signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and ends them
        self.pool = ProcessPoolExecutor(os.cpu_count(), context, signal.signal, ignore)

    def run(self, sweep: Sweep, tally: Tally, after: Callable[[], None]) -> None:
        """Adds all chunks that the tally has not seen, in order, calling `after` each."""
        waiting: deque[Future[Tally]] = deque()
        coming = iter(range(tally.chunk, CHUNKS))
        while True:
            for number in itertools.islice(coming, AHEAD - len(waiting)):
                waiting.append(self.pool.submit(sweep.chunk, number, tally.floor))
            if not waiting:
                return
            tally.merge(waiting.popleft().result())
            after()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)
