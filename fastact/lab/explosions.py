"""Exploding gradients: weights that are too large, and what helps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastact.lab.data import load
from fastact.lab.finding import Finding, short
from fastact.lab.network import Network
from fastact.lab.training import Step, descend

ACTIVATION = "relu"
WIDTH = 64
DEEP, SHALLOW = 20, 4
TOO_LARGE = 2.0  # times the right size: 2^20 after 20 layers
STEPS = 150
RATE = 0.02
LIMIT = 1.0  # of the norm, where gradients are clipped


@dataclass(frozen=True)
class Remedy:
    """One way to train the network."""

    title: str
    depth: int = DEEP
    scale: float = 1.0
    initialisation: str = "lecun"
    clip: float | None = None


REMEDIES = (
    Remedy(f"weights {TOO_LARGE:g} times too large", scale=TOO_LARGE),
    Remedy(f"the same, clipped at norm {LIMIT:g}", scale=TOO_LARGE, clip=LIMIT),
    Remedy(f"the same, {SHALLOW} layers", scale=TOO_LARGE, depth=SHALLOW),
    Remedy("glorot", initialisation="glorot"),
    Remedy("he", initialisation="he"),
    Remedy("lecun", initialisation="lecun"),
    Remedy("orthogonal", initialisation="orthogonal"),
)


def trained(remedy: Remedy, seed: int) -> tuple[list[Step], float]:
    """The steps of training with a remedy, and the accuracy on images never seen."""
    data = load()
    sizes = (data.pixels, *[WIDTH] * (remedy.depth - 1), data.targets.shape[1])
    network = Network.build(ACTIVATION, sizes, seed, remedy.initialisation, scale=remedy.scale)
    steps = list(descend(network, data, STEPS, lambda _: RATE, seed, remedy.clip))
    return steps, network.accuracy(data.test_x, data.test_digits)


def exploding(seed: int = 0) -> Finding:
    """One deep network trained from weights that are too large, and with each remedy."""
    found = {remedy.title: trained(remedy, seed) for remedy in REMEDIES}
    rows = []
    for title, (steps, accuracy) in found.items():
        norms = [s.norm for s in steps if math.isfinite(s.norm)]
        last = steps[-1].loss
        rows.append(
            (
                title,
                short(steps[0].norm),
                short(max(norms)),
                short(steps[0].loss),
                short(last),
                f"{accuracy:.0%}",
            )
        )
    bad, clipped, shallow, *good = (found[r.title] for r in REMEDIES)
    lost = next((s.number for s in bad[0] if not math.isfinite(s.loss)), None)
    fate = f"at step {lost + 1} the loss is no number" if lost is not None else "it does not learn"
    end = "stays finite" if math.isfinite(clipped[0][-1].loss) else "is no number either"
    seen = (
        f"With weights {TOO_LARGE:g} times too large the first gradient of {DEEP} layers has norm "
        f"{bad[0][0].norm:.1e} and {fate}; clipped, the loss {end} ({short(clipped[0][-1].loss)}), "
        f"with {SHALLOW} layers the network reaches {shallow[1]:.0%}, and with the right "
        f"initialisation {DEEP} layers reach {min(g[1] for g in good):.0%} to "
        f"{max(g[1] for g in good):.0%}."
    )
    losses = {title: [s.loss for s in steps] for title, (steps, _) in found.items()}
    norms_by = {title: [s.norm for s in steps] for title, (steps, _) in found.items()}
    return Finding(
        "exploding",
        "What do weights that are too large do, and what helps?",
        f"digits, {ACTIVATION}, layers of {WIDTH}, {STEPS} steps at rate {RATE:g}; initialisations "
        "times the gain of the activation",
        ("network", "first norm", "largest norm", "first loss", "last loss", "test accuracy"),
        rows,
        seen,
        {"loss": losses, "norm": norms_by, "accuracy": {t: a for t, (_, a) in found.items()}},
        partial(draw, losses=losses, norms=norms_by),
    )


def draw(
    figure: Any, theme: Any, losses: dict[str, list[float]], norms: dict[str, list[float]]
) -> None:
    """The norm of the gradients and the loss, step by step."""
    from fastact.plotting.style import line

    panels = figure.subplots(1, 2)
    series = (("norm of all gradients", norms), ("loss", losses))
    for axes, (title, found) in zip(panels, series, strict=True):
        for k, (name, values) in enumerate(found.items()):
            shown = [v if math.isfinite(v) and v < 1e12 else math.nan for v in values]
            axes.semilogy(shown, label=name, **line(theme, k, len(shown)) | {"linewidth": 1.4})
            gone = next((n for n, v in enumerate(shown) if math.isnan(v)), None)
            if gone:
                where = gone - 1, shown[gone - 1]
                offset = {"xytext": (12, 12), "textcoords": "offset points", "fontsize": 9}
                axes.annotate(f"no number after step {gone}", where, **offset)
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.grid(True)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
