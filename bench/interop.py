"""What an op costs inside a user's own Numba loop, beside the library's ufunc on the same array.

    python bench/interop.py [op ...]

One thread, in cache and out of it, calls interleaved, the best of each. A line for each direction
and dtype: the worst ratios, and the mean.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import geometric_mean
from typing import Any

import numba
import numpy as np

import fastact as fa
from fastact.activations.directions import DIRECTIONS
from fastact.measure.catalogue import is_loss, is_paired, is_rowwise

KINDS = ("forward", "grad", "backward", "value_and_grad")
ROUNDS = {1 << 14: 150, 1 << 20: 12}  # by size
GOAL = 1.1


def loop_over(op: Callable[..., Any], direction: str) -> Any:
    """A user's loop over numbers."""
    d = DIRECTIONS[direction]
    names = ("y", "z")[: len(d.outputs)]
    taken = ", ".join(f"{a}[i]" for a in d.arrays)
    made = ", ".join(f"{name}[i]" for name in names)
    source = f"""
def loop({", ".join((*d.arrays, *names))}):
    for i in range({d.arrays[0]}.size):
        {made} = op({taken})
"""
    scope = {"op": op}
    exec(source, scope)
    return numba.njit(scope["loop"])


def best(calls: list[Callable[[], Any]], rounds: int) -> list[float]:
    """The shortest time of each call, in seconds."""
    shortest = [float("inf")] * len(calls)
    for _ in range(rounds):
        for k, call in enumerate(calls):
            start = time.perf_counter()
            call()
            shortest[k] = min(shortest[k], time.perf_counter() - start)
    return shortest


def ratio(name: str, direction: str, dtype: Any, size: int) -> float:
    """The time of the loop in that of the ufunc."""
    d = DIRECTIONS[direction]
    random = np.random.default_rng(0)
    x = {"logit": random.uniform(0.01, 0.99, size)}.get(name, random.normal(0, 3, size))
    x = -abs(x) if name == "log1mexp" else x
    given = [
        random.normal(size=size).astype(dtype) if a == "dy" else x.astype(dtype) for a in d.arrays
    ]
    out = tuple(np.empty(size, dtype) for _ in d.outputs)
    op = getattr(fa, name + d.suffix)
    loop = loop_over(op, direction)
    calls = [lambda: op(*given, out=out), lambda: loop(*given, *out)]
    with fa.use_target("serial"):
        for call in calls:
            call()
        ufunc, own = best(calls, ROUNDS[size])
    return own / ufunc


def main(ops: list[str]) -> None:
    print(f"loop over ufunc: <= {GOAL} is the goal")
    for dtype in (np.float32, np.float64):
        for size in ROUNDS:
            for direction in KINDS:
                found = sorted((ratio(op, direction, dtype, size), op) for op in ops)
                worst = ", ".join(f"{op} {r:.2f}" for r, op in found[:-4:-1])
                mean = geometric_mean(r for r, _ in found)
                kind = f"{np.dtype(dtype).name} {size >> 10:4} Ki {direction:14}"
                print(f"{kind} mean {mean:.2f}  worst {worst}", flush=True)


if __name__ == "__main__":
    every = [n for n in fa.names() if not (is_rowwise(n) or is_loss(n) or is_paired(n))]
    main(sys.argv[1:] or every)
