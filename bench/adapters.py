"""fastact.torch and fastact.jax beside the libraries' own functions: `python bench/adapters.py`.

Microseconds of a call on 16 elements (without a gradient, recording one, and a whole step forward
and backward), then nanoseconds per element of a step on 1 Mi float32, and the ratio. The best of
many rounds, the competitors in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

import fastact.torch as ft

SMALL, LARGE = 16, 1 << 20
TORCH: dict[str, Callable[..., Any]] = {
    "relu": F.relu,
    "elu": F.elu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "log_sigmoid": F.logsigmoid,
    "swish": F.silu,
    "mish": F.mish,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


def best(competitors: list[Callable[[], Any]], rounds: int, calls: int) -> list[float]:
    """The seconds of one call of each."""
    times = [np.inf] * len(competitors)
    for _ in range(rounds):
        for k, run in enumerate(competitors):
            start = time.perf_counter()
            for _ in range(calls):
                run()
            times[k] = min(times[k], (time.perf_counter() - start) / calls)
    return times


def both(
    functions: tuple[Callable[..., Any], ...], size: int, rounds: int, calls: int
) -> list[list[float]]:
    """For each kind of call, the seconds of torch's function and of ours."""
    plain, leaf = torch.randn(size), torch.randn(size, requires_grad=True)
    dy = torch.ones(size)

    def step(f: Callable[..., Any]) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(f(leaf), leaf, dy)

    kinds: list[list[Callable[[], Any]]] = [
        [lambda f=f: f(plain) for f in functions],  # type: ignore[misc]
        [lambda f=f: f(leaf) for f in functions],  # type: ignore[misc]
        [step(f) for f in functions],
    ]
    return [best(kind, rounds, calls) for kind in kinds]


def main() -> None:
    print("16 elements, us: torch, fastact, ratio | 1 Mi, ns per element: torch, fastact, speedup")
    for name, theirs in TORCH.items():
        functions = (theirs, getattr(ft, name))
        small = both(functions, SMALL, 15, 200)
        (large,) = both(functions, LARGE, 10, 1)[2:]
        parts = [
            f"{kind} {a * 1e6:.2f} {b * 1e6:.2f} {b / a:.2f}"
            for kind, (a, b) in zip(("plain", "recording", "step"), small, strict=True)
        ]
        a, b = (t / LARGE * 1e9 for t in large)
        print(f"{name:12}", " | ".join([*parts, f"{a:.3f} {b:.3f} {a / b:.2f}x"]), flush=True)


if __name__ == "__main__":
    main()
