"""Vanishing gradients: how much of the gradient reaches the first layer of a deep network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import fastact as fa
from fastact.lab.data import load
from fastact.lab.finding import Finding, short
from fastact.lab.network import Network, norms

WIDTH = 64
SAMPLES = 512
DEPTHS = (5, 10, 20)
ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "swish", "gelu", "mish")


def layer_norms(
    activation: str, depth: int, seed: int, initialisation: str = "lecun"
) -> list[float]:
    """The norm of the gradient of each layer's weights, the first layer first, before training."""
    data = load()
    sizes = (data.pixels, *[WIDTH] * (depth - 1), data.targets.shape[1])
    network = Network.build(activation, sizes, seed, initialisation)
    _, gradients = network.gradients(data.x[:SAMPLES], data.targets[:SAMPLES])
    return norms(gradients[:depth])


def vanishing(
    seed: int = 0,
    activations: Sequence[str] = (),
    depths: Sequence[int] = DEPTHS,
    initialisation: str = "lecun",
) -> Finding:
    """Per-layer gradient norms of networks of several depths, each with its activation's gain."""
    chosen = list(activations) or [a for a in ACTIVATIONS if a in fa.names()]
    found = {a: {d: layer_norms(a, d, seed, initialisation) for d in depths} for a in chosen}
    share = {a: {d: n[0] / n[-1] for d, n in by.items()} for a, by in found.items()}
    deepest = max(depths)
    rows = [
        (
            a,
            f"{fa.gain(a):.3f}",
            *(short(share[a][d]) for d in depths),
            short(found[a][deepest][0]),
            short(found[a][deepest][-1]),
        )
        for a in chosen
    ]
    worst, best = (pick(chosen, key=lambda a: share[a][deepest]) for pick in (min, max))
    seen = (
        f"Through {deepest} layers of {worst} the gradient shrinks to "
        f"{share[worst][deepest]:.1e} of what the last layer gets, through {min(depths)} layers "
        f"to {share[worst][min(depths)]:.1e}; of the others, with weights of the right gain, "
        f"between {min([share[a][deepest] for a in chosen if a != worst] or [1.0]):.2g} and "
        f"{share[best][deepest]:.2g} arrives."
    )
    return Finding(
        "vanishing",
        "How much of the gradient reaches the first layer?",
        f"digits, {SAMPLES} images, layers of {WIDTH}, {initialisation} initialisation times the "
        "gain of the activation, before training",
        (
            "activation",
            "gain",
            *(f"first/last, {d} layers" for d in depths),
            f"first of {deepest}",
            f"last of {deepest}",
        ),
        rows,
        seen,
        {"norms": found, "share": share},
        partial(draw, found={a: by[deepest] for a, by in found.items()}),
    )


def draw(figure: Any, theme: Any, found: dict[str, list[float]]) -> None:
    """The norms, layer by layer."""
    from fastact.plotting.style import line

    axes = figure.subplots()
    for k, (activation, by_layer) in enumerate(found.items()):
        layers = range(1, len(by_layer) + 1)
        look = line(theme, k, len(by_layer)) | {"markevery": 1}
        axes.semilogy(layers, by_layer, label=activation, **look)
    axes.set_xticks(range(1, max(map(len, found.values())) + 1))
    axes.set_xlabel("layer, from the input on")
    axes.set_ylabel("norm of its gradient")
    axes.set_title("gradients on their way back")
    axes.grid(True)
    axes.legend(loc="best", ncols=2, fontsize=9)
