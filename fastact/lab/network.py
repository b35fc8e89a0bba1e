"""A multilayer perceptron that shows its gradients: all its functions are fastact's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

import fastact as fa

Array = Any


def normal(random: Any, inputs: int, outputs: int, deviation: float) -> Array:
    return random.normal(0.0, deviation, (inputs, outputs))


def glorot(random: Any, inputs: int, outputs: int, gain: float) -> Array:
    """Between what keeps the signal and what keeps the gradient (Glorot and Bengio, 2010)."""
    return normal(random, inputs, outputs, gain * np.sqrt(2 / (inputs + outputs)))


def lecun(random: Any, inputs: int, outputs: int, gain: float) -> Array:
    """Keeps the signal's size (LeCun et al., 1998), given the gain of the activation."""
    return normal(random, inputs, outputs, gain * np.sqrt(1 / inputs))


def he(random: Any, inputs: int, outputs: int, gain: float) -> Array:
    """LeCun's with the gain of relu, whatever the activation (He et al., 2015)."""
    return lecun(random, inputs, outputs, fa.gain("relu"))


def orthogonal(random: Any, inputs: int, outputs: int, gain: float) -> Array:
    """Stretches no direction more than another (Saxe et al., 2014)."""
    large, small = max(inputs, outputs), min(inputs, outputs)
    q, r = np.linalg.qr(random.normal(0.0, 1.0, (large, small)))
    q = q * np.sign(np.diag(r))  # uniform over all rotations
    return gain * (q if inputs >= outputs else q.T)


INITIALISATIONS: dict[str, Callable[[Any, int, int, float], Array]] = {
    "glorot": glorot,
    "lecun": lecun,
    "he": he,
    "orthogonal": orthogonal,
}


@dataclass
class Network:
    """Dense layers, one activation between them, softmax and cross-entropy at the end."""

    activation: str
    weights: list[Array]
    biases: list[Array]

    @classmethod
    def build(
        cls,
        activation: str,
        sizes: tuple[int, ...],
        seed: int,
        initialisation: str = "lecun",
        gain: float | None = None,
        scale: float = 1.0,
    ) -> Network:
        """A network whose hidden weights have the gain of its activation, times `scale`."""
        random = np.random.default_rng(seed)
        gain = fa.gain(activation) if gain is None else gain
        make = INITIALISATIONS[initialisation]
        gains = [1.0, *[gain] * (len(sizes) - 2)]  # the first layer reads no activations
        weights = [
            scale * make(random, n, m, g) for (n, m), g in zip(pairwise(sizes), gains, strict=True)
        ]
        return cls(activation, weights, [np.zeros(m) for m in sizes[1:]])

    @property
    def parameters(self) -> list[Array]:
        return self.weights + self.biases

    def forward(self, x: Array) -> tuple[list[Array], list[Array]]:
        """The input of each layer, and its pre-activations; the last ones are the logits."""
        op = fa.get(self.activation)
        inputs, before = [x], []
        for w, b in zip(self.weights, self.biases, strict=True):
            before.append(inputs[-1] @ w + b)
            inputs.append(op(before[-1]))
        return inputs[:-1], before

    def gradients(self, x: Array, targets: Array) -> tuple[float, list[Array]]:
        """The mean cross-entropy and its gradients, in the order of the parameters."""
        op = fa.get(self.activation)
        inputs, before = self.forward(x)
        loss = cross_entropy(before[-1], targets)
        dz = (fa.softmax(before[-1]) - targets) / len(x)  # softmax and cross-entropy together
        weights, biases = [], []
        for layer in reversed(range(len(self.weights))):
            weights.append(inputs[layer].T @ dz)
            biases.append(dz.sum(axis=0))
            if layer:
                dz = op.backward(dz @ self.weights[layer].T, before[layer - 1])
        return loss, weights[::-1] + biases[::-1]

    def accuracy(self, x: Array, digits: Array) -> float:
        return float((self.forward(x)[1][-1].argmax(axis=-1) == digits).mean())


def cross_entropy(logits: Array, targets: Array, temperature: float = 1.0) -> float:
    """The mean of -log p of the right class; targets are rows with one 1."""
    return float(-(fa.log_softmax(logits / temperature) * targets).sum(axis=-1).mean())


def norms(gradients: list[Array]) -> list[float]:
    """The norm of each gradient alone."""
    return [fa.clip_by_global_norm([g], 1.0)[1] for g in gradients]
