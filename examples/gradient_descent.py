"""Gradient descent, step by step: every number of one step, then the whole descent.

    python examples/gradient_descent.py

A network with two inputs, two hidden units and one output learns the exclusive or:

    z1 = x W1 + b1      h = tanh(z1)
    z2 = h W2 + b2      p = sigmoid(z2)
    loss = mean of -(t log p + (1 - t) log(1 - p))

The chain rule goes through it from the back. With d.. for the derivative of the loss,

    dz2 = (p - t) / n                the sigmoid and the logarithm together
    dW2 = h^T dz2                    db2 = sum of dz2
    dh  = dz2 W2^T
    dz1 = dh * tanh'(z1)             fa.tanh_backward(dh, z1)
    dW1 = x^T dz1                    db1 = sum of dz1

and the update rule moves every weight a little against its derivative: w <- w - rate * dw.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import fastact as fa

X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
T = np.array([[0.0], [1.0], [1.0], [0.0]])
START = {
    "W1": np.array([[0.6, 0.4], [0.5, 0.9]]),
    "b1": np.array([0.1, -0.2]),
    "W2": np.array([[0.7], [-0.8]]),
    "b2": np.array([0.05]),
}
RATE = 0.8
STEPS = 400


def forward(w: dict[str, Any]) -> dict[str, Any]:
    """Every intermediate value on the way to the loss."""
    z1 = X @ w["W1"] + w["b1"]
    h = fa.tanh(z1)
    z2 = h @ w["W2"] + w["b2"]
    p = fa.sigmoid(z2)
    # log p = -softplus(-z), log(1 - p) = -softplus(z): no logarithm of a rounded p
    pairs = np.stack([np.zeros_like(z2), z2], axis=-1)
    log_p = fa.log_softmax(pairs)
    loss = -(T * log_p[..., 1] + (1 - T) * log_p[..., 0]).mean()
    return {"z1": z1, "h": h, "z2": z2, "p": p, "loss": loss}


def backward(w: dict[str, Any], v: dict[str, Any]) -> dict[str, Any]:
    """The chain rule, one factor at a time."""
    dz2 = (v["p"] - T) / len(X)
    dh = dz2 @ w["W2"].T
    dz1 = fa.tanh_backward(dh, v["z1"])
    return {
        "dz2": dz2,
        "dW2": v["h"].T @ dz2,
        "db2": dz2.sum(axis=0),
        "dh": dh,
        "dz1": dz1,
        "dW1": X.T @ dz1,
        "db1": dz1.sum(axis=0),
    }


def update(w: dict[str, Any], d: dict[str, Any], rate: float = RATE) -> dict[str, Any]:
    """w <- w - rate * dw"""
    return {name: value - rate * d[f"d{name}"] for name, value in w.items()}


def descend(w: dict[str, Any], steps: int = STEPS) -> tuple[dict[str, Any], list[float]]:
    """The weights after so many steps, and the loss before each."""
    losses = []
    for _ in range(steps):
        values = forward(w)
        losses.append(float(values["loss"]))
        w = update(w, backward(w, values))
    return w, losses


def table(title: str, values: dict[str, Any]) -> Table:
    shown = Table(title=title, title_justify="left", min_width=40)
    shown.add_column("name")
    shown.add_column("value")
    for name, value in values.items():
        shown.add_row(name, np.array2string(np.asarray(value), precision=4, suppress_small=True))
    return shown


def main() -> None:
    console = Console()
    values = forward(START)
    gradients = backward(START, values)
    console.print(table("1. forward", values))
    console.print(table("2. backward, by the chain rule", gradients))
    console.print(table(f"3. update, rate {RATE}", update(START, gradients)))
    w, losses = descend(START)
    course = {str(k): losses[k] for k in (0, 1, 10, 100, STEPS - 1)}
    console.print(table("4. and again: the loss after so many steps", course))
    p = forward(w)["p"]
    console.print(f"exclusive or of {X.tolist()}: {np.round(p.ravel(), 3).tolist()}")
    if not ((p > 0.5) == T).all():
        raise SystemExit(1)


if __name__ == "__main__":
    main()
