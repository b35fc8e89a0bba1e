"""The gradient laboratory: what activations do to the training of a real network.

Every experiment trains or inspects networks on the handwritten digits of scikit-learn and
hands back a `Finding`: a table, what draws a figure, the numbers, and one sentence that says
what was seen.

    from fastact import lab
    print(lab.vanishing().seen)
"""

from __future__ import annotations

from collections.abc import Callable

from fastact.lab.dead_units import dying
from fastact.lab.explosions import exploding
from fastact.lab.finding import Finding
from fastact.lab.gradient_flow import vanishing
from fastact.lab.network import INITIALISATIONS, Network
from fastact.lab.temperatures import temperature

EXPERIMENTS: dict[str, Callable[..., Finding]] = {
    "vanishing": vanishing,
    "exploding": exploding,
    "dying": dying,
    "temperature": temperature,
}

__all__ = [
    "EXPERIMENTS",
    "INITIALISATIONS",
    "Finding",
    "Network",
    "dying",
    "exploding",
    "temperature",
    "vanishing",
]
