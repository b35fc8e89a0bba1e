"""Train a multilayer perceptron on handwritten digits: NumPy for matrices, fastact for the rest.

    python examples/train_digits.py --activation swish

The network is trained twice from the same start: with fastact's activations and fused loss, and
with the plain NumPy functions that they replace. Both must predict the same digits.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastact as fa

Array = NDArray[np.float64]
Digits = NDArray[np.int64]

LAYERS = (64, 256, 128, 10)
BATCH = 64
MOMENTUM = 0.9
TARGET_ACCURACY = 0.96

# Both trainings round differently in the last place, and every step passes that on. The weights
# are of order 0.1; after 30 epochs of 22 steps they still agree to this absolute tolerance.
TOLERANCE = 1e-6

SLOPE = 0.01  # of leaky_relu
ALPHA = 1.0  # of elu


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def cross_entropy(logits: Array, digits: Digits) -> tuple[float, Array]:
    """The mean cross-entropy and its gradient."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=-1, keepdims=True)
    rows = np.arange(len(digits))
    loss = float((np.log(total[:, 0]) - shifted[rows, digits]).mean())
    gradient = e / total
    gradient[rows, digits] -= 1
    return loss, gradient / len(digits)


# activation -> plain NumPy forward(x) and backward(dy, x)
PLAIN: dict[str, tuple[Callable[[Array], Array], Callable[[Array, Array], Array]]] = {
    "relu": (lambda x: np.maximum(x, 0), lambda dy, x: dy * (x > 0)),
    "tanh": (np.tanh, lambda dy, x: dy * (1 - np.tanh(x) ** 2)),
    "sigmoid": (sigmoid, lambda dy, x: dy * sigmoid(x) * (1 - sigmoid(x))),
    "swish": (
        lambda x: x * sigmoid(x),
        lambda dy, x: dy * (sigmoid(x) * (1 + x * (1 - sigmoid(x)))),
    ),
    "elu": (
        lambda x: np.where(x > 0, x, ALPHA * np.expm1(x)),
        lambda dy, x: np.where(x > 0, dy, dy * ALPHA * np.exp(x)),
    ),
    "leaky_relu": (
        lambda x: np.where(x > 0, x, SLOPE * x),
        lambda dy, x: np.where(x > 0, dy, SLOPE * dy),
    ),
}

# The first learning rate; it falls linearly to zero. The derivative of sigmoid is at most 1/4.
LEARNING_RATE = {"sigmoid": 0.3}
DEFAULT_LEARNING_RATE = 0.1


@dataclass
class Activations:
    """The functions that a network uses, and the time spent in them."""

    name: str
    forward: Callable[[Array], Array]
    backward: Callable[[Array, Array], Array]
    loss: Callable[[Array, Digits], tuple[float, Array]]
    seconds: float = 0.0

    def timed(self, function: Callable[..., Any], *arguments: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments)
        self.seconds += time.perf_counter() - start
        return result


def fastact_activations(name: str) -> Activations:
    forward, backward = getattr(fa, name), getattr(fa, f"{name}_backward")
    return Activations("fastact", forward, backward, fa.softmax_cross_entropy_value_and_grad)


def plain_activations(name: str) -> Activations:
    return Activations("plain NumPy", *PLAIN[name], cross_entropy)


@dataclass
class Network:
    """A multilayer perceptron with one activation between its layers; it ends in logits."""

    activations: Activations
    weights: list[Array]
    biases: list[Array]
    velocity: list[Array] = field(default_factory=list)

    @classmethod
    def initial(cls, activations: Activations, seed: int) -> Network:
        """He initialisation: the variance of the signal is kept from layer to layer."""
        random = np.random.default_rng(seed)
        pairs = list(pairwise(LAYERS))
        weights = [random.normal(0, np.sqrt(2 / n), (n, m)) for n, m in pairs]
        biases = [np.zeros(m) for _, m in pairs]
        velocity = [np.zeros_like(p) for p in weights + biases]
        return cls(activations, weights, biases, velocity)

    def forward(self, x: Array) -> tuple[list[Array], list[Array]]:
        """The input of every layer with the logits last, and every pre-activation."""
        act, inputs, before = self.activations, [x], []
        for depth, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = inputs[-1] @ w + b
            last = depth == len(self.weights) - 1
            before.append(z)
            inputs.append(z if last else act.timed(act.forward, z))
        return inputs, before

    def gradients(self, x: Array, digits: Digits) -> list[Array]:
        """The gradient of the mean cross-entropy: of all weights, then of all biases."""
        act = self.activations
        inputs, before = self.forward(x)
        _, dz = act.timed(act.loss, inputs[-1], digits)
        weights, biases = [], []
        for depth in reversed(range(len(self.weights))):
            weights.append(inputs[depth].T @ dz)
            biases.append(dz.sum(axis=0))
            if depth:
                dz = act.timed(act.backward, dz @ self.weights[depth].T, before[depth - 1])
        return weights[::-1] + biases[::-1]

    def step(self, x: Array, digits: Digits, rate: float) -> None:
        """One step of gradient descent with momentum."""
        parameters = self.weights + self.biases
        for p, v, g in zip(parameters, self.velocity, self.gradients(x, digits), strict=True):
            v *= MOMENTUM
            v -= rate * g
            p += v

    def predict(self, x: Array) -> Digits:
        return self.forward(x)[0][-1].argmax(axis=-1)


@dataclass(frozen=True)
class Data:
    """The digits as numbers in [0, 1], split into a training and a held-out test set."""

    train: Array
    train_digits: Digits
    test: Array
    test_digits: Digits

    @classmethod
    def load(cls) -> Data:
        images, digits = load_digits(return_X_y=True)
        train, test, train_digits, test_digits = train_test_split(
            images / 16.0, digits, test_size=0.25, random_state=0, stratify=digits
        )
        return cls(train, train_digits, test, test_digits)


def train(network: Network, data: Data, epochs: int, rate: float, seed: int) -> Iterator[int]:
    """Run gradient descent on shuffled mini-batches, yielding after each epoch."""
    random = np.random.default_rng(seed)
    for epoch in range(epochs):
        falling = rate * (1 - epoch / epochs)
        order = random.permutation(len(data.train))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            network.step(data.train[batch], data.train_digits[batch], falling)
        yield epoch


def accuracy(network: Network, x: Array, digits: Digits) -> float:
    return float((network.predict(x) == digits).mean())


def warm_up(name: str) -> None:
    """Call each function once, so that compiling is not counted as computing."""
    x = np.ones((1, 1))
    act = fastact_activations(name)
    act.backward(x, x)
    act.loss(act.forward(x), np.zeros(1, np.int64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--activation", choices=sorted(PLAIN), default="relu")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--learning-rate", type=float, default=None)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    name, epochs, seed = options.activation, options.epochs, options.seed
    rate = options.learning_rate or LEARNING_RATE.get(name, DEFAULT_LEARNING_RATE)

    console = Console()
    data = Data.load()
    warm_up(name)
    networks = [
        Network.initial(act, seed) for act in (fastact_activations(name), plain_activations(name))
    ]
    fast, plain = networks
    epoch_table = Table(
        "epoch", "test loss", "train accuracy", "test accuracy", title=f"{name}, fastact"
    )
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"training twice with {name}", total=epochs)
        runs = zip(*(train(n, data, epochs, rate, seed) for n in networks), strict=True)
        for epoch, _ in runs:
            epoch_table.add_row(
                str(epoch + 1),
                f"{fa.softmax_cross_entropy(fast.forward(data.test)[0][-1], data.test_digits):.4f}",
                f"{accuracy(fast, data.train, data.train_digits):.2%}",
                f"{accuracy(fast, data.test, data.test_digits):.2%}",
            )
            progress.advance(task)
    console.print(epoch_table)
    report(console, fast, plain, data)


def report(console: Console, fast: Network, plain: Network, data: Data) -> None:
    """Print the times and check that both networks are the same."""
    times = Table("activations", "time in activations", "ratio", title="training and evaluation")
    for network in (fast, plain):
        act = network.activations
        ratio = act.seconds / fast.activations.seconds
        times.add_row(act.name, f"{act.seconds * 1e3:.1f} ms", f"{ratio:.2f}")
    console.print(times)

    difference = max(
        float(np.abs(a - b).max())
        for a, b in zip(fast.weights + fast.biases, plain.weights + plain.biases, strict=True)
    )
    same = bool((fast.predict(data.test) == plain.predict(data.test)).all())
    reached = accuracy(fast, data.test, data.test_digits)
    console.print(f"predictions on the test set: {'equal' if same else 'DIFFERENT'}")
    console.print(f"largest difference of a weight: {difference:.1e} (tolerance {TOLERANCE:.0e})")
    console.print(f"test accuracy: {reached:.2%} (expected: {TARGET_ACCURACY:.0%} or more)")
    if not same or difference > TOLERANCE or reached < TARGET_ACCURACY:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
