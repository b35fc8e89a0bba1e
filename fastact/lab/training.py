"""Stochastic gradient descent, one step at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

import fastact as fa
from fastact.lab.data import Digits
from fastact.lab.network import Network

BATCH = 64


@dataclass(frozen=True)
class Step:
    """What one step saw before it moved."""

    number: int
    loss: float
    norm: float  # of all gradients together, before clipping


def descend(
    network: Network,
    data: Digits,
    steps: int,
    rate: Callable[[int], float],
    seed: int,
    clip: float | None = None,
) -> Iterator[Step]:
    """Train on random batches; the gradients are clipped at the norm `clip`, if it is given."""
    random = np.random.default_rng(seed)
    targets = data.targets
    for number in range(steps):
        batch = random.integers(0, len(data.x), BATCH)
        with np.errstate(all="ignore"):  # a network that explodes shall show that it does
            loss, gradients = network.gradients(data.x[batch], targets[batch])
            clipped, norm = fa.clip_by_global_norm(gradients, clip or 1.0)
            for parameter, step in zip(
                network.parameters, clipped if clip else gradients, strict=True
            ):
                parameter -= rate(number) * step
        yield Step(number, loss, norm)
