"""fastact.torch beside PyTorch's own functions: `python bench/adapters.py [op ...]`.

Microseconds of a call on 16 elements (without a gradient, recording one, and a whole step forward
and backward), then nanoseconds per element of a step on 1 Mi float32, and the ratio; then steps of
fused ops on 1024 rows of 1024. The best of many rounds, the competitors in turn. The calls are
compiled ones where `fastact.torch.build()` has been called once; FASTACT_TORCH_NATIVE=0 shows those
in Python.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

import fastact.torch as ft
from fastact.interop.torch import native

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


ROWS = torch.randn(1024, 1024, requires_grad=True)
LABELS = torch.arange(1024) % 1024
TARGETS = torch.rand(1024, 1024)
GATE = torch.randn(1024, 1024, requires_grad=True)
BIAS = torch.randn(1024, requires_grad=True)
MASK = torch.ones(1024, 1024, dtype=torch.bool).triu(1)
FUSED: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "softmax_cross_entropy": (
        lambda: F.cross_entropy(ROWS, LABELS),
        lambda: ft.softmax_cross_entropy(ROWS, LABELS),
    ),
    "sigmoid_cross_entropy": (
        lambda: F.binary_cross_entropy_with_logits(ROWS, TARGETS),
        lambda: ft.sigmoid_cross_entropy(ROWS, TARGETS),
    ),
    "swiglu": (lambda: ROWS * F.silu(GATE), lambda: ft.swiglu(ROWS, GATE)),
    "glu": (lambda: F.glu(ROWS), lambda: ft.glu(ROWS)),
    "bias_gelu_tanh": (
        lambda: F.gelu(ROWS + BIAS, approximate="tanh"),
        lambda: ft.bias_gelu_tanh(ROWS, BIAS),
    ),
    "causal_softmax": (
        lambda: ROWS.masked_fill(MASK, -torch.inf).softmax(-1),
        lambda: ft.causal_softmax(ROWS),
    ),
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


def step_of(f: Callable[[], Any], dy: torch.Tensor) -> Any:
    return torch.autograd.grad(f(), (ROWS, GATE, BIAS), dy, allow_unused=True)


def main(ops: list[str]) -> None:
    print(f"calls: {native.status()}")
    print("16 elements, us: torch, fastact, ratio | 1 Mi, ns per element: torch, fastact, speedup")
    for name, theirs in TORCH.items():
        if name not in ops:
            continue
        functions = (theirs, getattr(ft, name))
        small = both(functions, SMALL, 15, 200)
        (large,) = both(functions, LARGE, 10, 1)[2:]
        parts = [
            f"{kind} {a * 1e6:.2f} {b * 1e6:.2f} {b / a:.2f}"
            for kind, (a, b) in zip(("plain", "recording", "step"), small, strict=True)
        ]
        a, b = (t / LARGE * 1e9 for t in large)
        print(f"{name:12}", " | ".join([*parts, f"{a:.3f} {b:.3f} {a / b:.2f}x"]), flush=True)
    for name, pair in FUSED.items():
        if name not in ops:
            continue
        a, b = best([partial(step_of, f, torch.ones_like(f())) for f in pair], 15, 1)
        print(f"{name:22} {a / LARGE * 1e9:.3f} {b / LARGE * 1e9:.3f} {a / b:.2f}x", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or [*TORCH, *FUSED])
