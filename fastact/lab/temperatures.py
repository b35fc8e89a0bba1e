"""Softmax with temperature: how sure a trained classifier says it is."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import fastact as fa
from fastact.lab.data import load
from fastact.lab.finding import Finding, short
from fastact.lab.network import Network, cross_entropy
from fastact.lab.training import descend

TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
SIZES = (64, 64)
STEPS, RATE = 300, 0.05


def temperature(seed: int = 0) -> Finding:
    """The probabilities of one trained network at several temperatures."""
    data = load()
    network = Network.build("tanh", (data.pixels, *SIZES, data.targets.shape[1]), seed)
    for _ in descend(network, data, STEPS, lambda _: RATE, seed):
        pass
    logits = network.forward(data.test_x)[1][-1]
    found = {}
    for t in TEMPERATURES:
        p = fa.softmax(logits, temperature=t)
        log_p = fa.log_softmax(logits / t)
        found[t] = {
            "confidence": float(p.max(axis=-1).mean()),
            "entropy": float(-(p * log_p).sum(axis=-1).mean() / np.log(2)),
            "loss": cross_entropy(logits, data.test_targets, t),
            "accuracy": float((p.argmax(axis=-1) == data.test_digits).mean()),
            # d loss / d logits = (p - target) / t
            "gradient": float(np.linalg.norm((p - data.test_targets) / t, axis=-1).mean()),
        }
    rows = [
        (
            f"{t:g}",
            f"{f['confidence']:.1%}",
            f"{f['entropy']:.2f}",
            short(f["loss"]),
            short(f["gradient"]),
            f"{f['accuracy']:.1%}",
        )
        for t, f in found.items()
    ]
    doubtful = logits[fa.softmax(logits).max(axis=-1).argmin()]
    cold, hot = found[min(TEMPERATURES)], found[max(TEMPERATURES)]
    best = min(found, key=lambda t: found[t]["loss"])
    seen = (
        f"From temperature {min(TEMPERATURES):g} to {max(TEMPERATURES):g} the mean largest "
        f"probability falls from {cold['confidence']:.0%} to {hot['confidence']:.0%} while the "
        f"decisions, {cold['accuracy']:.0%} of them right, stay the same; "
        f"the loss is least at {best:g}."
    )
    return Finding(
        "temperature",
        "What does the temperature of a softmax change?",
        f"digits, a network with two hidden layers of tanh, {STEPS} steps, images never seen",
        ("temperature", "largest p", "entropy, bits", "loss", "gradient", "accuracy"),
        rows,
        seen,
        {"found": found},
        partial(draw, logits=doubtful, found=found),
    )


def draw(figure: Any, theme: Any, logits: Any, found: dict[float, dict[str, float]]) -> None:
    """One image's probabilities, and the means over all images."""
    from fastact.plotting.style import line

    left, right = figure.subplots(1, 2)
    for k, t in enumerate(TEMPERATURES):
        look = line(theme, k, len(logits)) | {"markevery": 1}
        left.plot(fa.softmax(logits, temperature=t), label=f"{t:g}", **look)
    left.set_title("probabilities of the most doubtful image")
    left.set_xlabel("digit")
    left.set_xticks(range(len(logits)))
    left.legend(title="temperature", fontsize=8)
    for k, (key, label) in enumerate(
        (("confidence", "mean largest p"), ("accuracy", "accuracy"), ("loss", "loss"))
    ):
        values = [f[key] for f in found.values()]
        look = line(theme, k, len(values)) | {"markevery": 1}
        right.semilogx(list(found), values, label=label, base=2, **look)
    right.set_xticks(list(found), [f"{t:g}" for t in found])
    right.set_title("all test images")
    right.set_xlabel("temperature")
    right.legend(loc="best", fontsize=9)
    for axes in (left, right):
        axes.grid(True)
