"""Dying units: relu units that no input of the training set switches on any more."""

from __future__ import annotations

from functools import partial
from typing import Any

import fastact as fa
from fastact.lab.data import Digits, load
from fastact.lab.finding import Finding
from fastact.lab.network import Network
from fastact.lab.training import descend

ACTIVATIONS = ("relu", "leaky_relu", "elu")
WIDTH, DEPTH = 64, 5
STEPS, EVERY = 300, 25
# Steps that are far too long at first, as at a rate that nobody has tuned; clipped, so that
# the other activations survive them.
ROUGH, ROUGH_RATE, RATE, LIMIT = 25, 3.0, 0.05, 2.0


def dead_share(network: Network, data: Digits) -> float:
    """The share of hidden units that are saturated for every image of the training set."""
    hidden = network.forward(data.x)[1][:-1]
    dead = [(fa.saturation(z, network.activation, axis=0) == 1).mean() for z in hidden]
    return float(sum(dead) / len(dead))


def counted(activation: str, seed: int) -> tuple[list[float], float]:
    """The share of dead units every few steps, and the accuracy on images never seen."""
    data = load()
    sizes = (data.pixels, *[WIDTH] * (DEPTH - 1), data.targets.shape[1])
    network = Network.build(activation, sizes, seed)
    shares = [dead_share(network, data)]
    rate = lambda step: ROUGH_RATE if step < ROUGH else RATE  # noqa: E731
    for step in descend(network, data, STEPS, rate, seed, LIMIT):
        if step.number % EVERY == EVERY - 1:
            shares.append(dead_share(network, data))
    return shares, network.accuracy(data.test_x, data.test_digits)


def dying(seed: int = 0) -> Finding:
    """Dead units counted over training."""
    found = {a: counted(a, seed) for a in ACTIVATIONS}
    rows = [
        (
            a,
            f"{shares[0]:.1%}",
            f"{shares[ROUGH // EVERY]:.1%}",
            f"{shares[-1]:.1%}",
            f"{accuracy:.0%}",
        )
        for a, (shares, accuracy) in found.items()
    ]
    relu, *others = (found[a] for a in ACTIVATIONS)
    seen = (
        f"{ROUGH} steps at a rate far too large kill {relu[0][ROUGH // EVERY]:.0%} of the relu "
        f"units, and {STEPS - ROUGH} good steps later {relu[0][-1]:.0%} are still dead; "
        f"leaky_relu and elu lose at most {max(max(s) for s, _ in others):.0%} and reach "
        f"{min(a for _, a in others):.0%} or more where relu reaches {relu[1]:.0%}."
    )
    return Finding(
        "dying",
        "How many units die, and do they come back?",
        f"digits, {DEPTH} layers of {WIDTH}, {ROUGH} steps at rate {ROUGH_RATE:g}, then "
        f"{STEPS - ROUGH} at {RATE:g}; a unit is dead if no image gives it a slope of 1/128",
        ("activation", "dead at first", f"after {ROUGH} steps", f"after {STEPS}", "test accuracy"),
        rows,
        seen,
        {
            "steps": [k * EVERY for k in range(STEPS // EVERY + 1)],
            "dead": {a: s for a, (s, _) in found.items()},
            "accuracy": {a: accuracy for a, (_, accuracy) in found.items()},
        },
        partial(draw, found={a: s for a, (s, _) in found.items()}),
    )


def draw(figure: Any, theme: Any, found: dict[str, list[float]]) -> None:
    """The share of dead units over training."""
    from fastact.plotting.style import line

    axes = figure.subplots()
    for k, (activation, shares) in enumerate(found.items()):
        steps = [EVERY * n for n in range(len(shares))]
        look = line(theme, k, len(shares)) | {"markevery": 1}
        axes.plot(steps, [100 * s for s in shares], label=activation, **look)
    axes.axvspan(0, ROUGH, facecolor=theme.shade, hatch="//", edgecolor=theme.faint, linewidth=0)
    axes.set_xlabel(f"step; shaded: rate {ROUGH_RATE:g}, then {RATE:g}")
    axes.set_ylabel("dead units, %")
    axes.set_title("units that no image switches on")
    axes.grid(True)
    axes.legend(loc="best", fontsize=9)
