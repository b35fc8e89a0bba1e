"""The ops of two arrays and the trained parameters, as cases for the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import oracle
from mpmath import mp

from fastact import registry
from fastact.activations.paired import Paired

PAIRED = tuple(registry.PAIRED.values())
GATES, BIASES, SLOPES = (
    tuple(j for j in PAIRED if j.form.arrays == arrays)
    for arrays in (("a", "b"), ("x", "b"), ("x", "weight"))
)
TRAINED = tuple(
    (record, name) for record in registry.RECORDS.values() for name in record.parameter_grads
)


def formula(op: Paired) -> oracle.Formula:
    """The textbook formula of the activation inside."""
    return oracle.FORMULAS[op.activation.name]


def values(dtype: Any, shape: Any, seed: int, spread: float = 3.0) -> np.ndarray:
    """Normal numbers, none within a tenth of where gelu' and swish' are 0, nor at a kink."""
    x = np.random.default_rng(seed).normal(0, spread, shape)
    x = np.where((x > -1.5) & (x < -0.6), -0.5 * x, x)
    return x.astype(dtype)


def each(function: Callable[..., Any], *arrays: Any) -> list[Any]:
    """A high-precision function of each tuple of entries."""
    flat = (np.asarray(a, np.float64).ravel().tolist() for a in np.broadcast_arrays(*arrays))
    with mp.workprec(4 * oracle.GUARD_BITS):
        return [mp.mpf(function(*map(mp.mpf, entry))) for entry in zip(*flat, strict=True)]


def parameter_slope(name: str, index: int, x: float, parameters: tuple[float, ...]) -> Any:
    """df/dparameter by a symmetric difference in 600 bits."""
    forward = oracle.FORMULAS[name].forward
    with mp.workprec(600 + oracle.precision(x)):
        h = mp.ldexp(1, -200)
        ends = []
        for sign in (-1, 1):
            moved = [mp.mpf(p) + (sign * h if k == index else 0) for k, p in enumerate(parameters)]
            ends.append(forward(mp.mpf(x), *moved))
        return (ends[1] - ends[0]) / (2 * h)
