"""What an op costs inside a user's own Numba loop, beside the library's ufunc on the same array.

    python bench/interop.py [op ...]

One thread, in cache, calls interleaved, the best of each. The loop is compiled twice: with vectors
of 512 bits, which fastact asks for in a function that calls it, and with the 256 bits that LLVM
prefers on processors with AVX-512.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

import fastact as fa
from fastact.interop import numba_elementwise

OPS = ("gelu", "swish", "elu", "sigmoid", "tanh", "mish")
ELEMENTS = 16384
ROUNDS = 300
GOAL = 1.1


def loop_over(op: Callable[..., Any], width: int, x: np.ndarray, y: np.ndarray) -> Any:
    """A user's loop, compiled for vectors of so many bits."""

    @numba.njit
    def loop(x, y):
        for i in range(x.size):
            y[i] = op(x[i])

    chosen = numba_elementwise.VECTOR_WIDTH
    numba_elementwise.VECTOR_WIDTH = width
    try:
        loop(x, y)
    finally:
        numba_elementwise.VECTOR_WIDTH = chosen
    return loop


def best(calls: list[Callable[[], Any]]) -> list[float]:
    """The shortest time of each call, in ns per element."""
    shortest = [float("inf")] * len(calls)
    for _ in range(ROUNDS):
        for k, call in enumerate(calls):
            start = time.perf_counter_ns()
            call()
            shortest[k] = min(shortest[k], time.perf_counter_ns() - start)
    return [t / ELEMENTS for t in shortest]


def main(ops: list[str]) -> None:
    print(f"ns per element, {ELEMENTS} elements; in a loop over the ufunc: <= {GOAL} is the goal")
    for dtype in (np.float32, np.float64):
        x = np.random.default_rng(0).normal(0, 3, ELEMENTS).astype(dtype)
        y = np.empty_like(x)
        for name in ops:
            op = getattr(fa, name)
            wide, usual = (loop_over(op, width, x, y) for width in (512, 256))
            with fa.use_target("serial"):
                calls = [lambda: op(x, out=y), lambda: wide(x, y), lambda: usual(x, y)]  # noqa: B023
                ufunc, *loops = best(calls)
            ratios = "  ".join(
                f"{bits} bits {t:5.3f} ({t / ufunc:4.2f}x)"
                for bits, t in zip((512, 256), loops, strict=True)
            )
            print(f"{name:10} {np.dtype(dtype).name}  ufunc {ufunc:5.3f}  {ratios}")


if __name__ == "__main__":
    main(sys.argv[1:] or [name for name in OPS if name in fa.names()])
