"""The gain of an activation: how much larger weights must be to keep the signal's size."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

import fastact as fa

# Gauss-Legendre nodes on each piece between kinks. The density of the normal distribution is
# 1e-32 at 12, which no function of moderate growth brings back.
NODES = 96
END = 12.0
PIECE = 2.0  # the longest piece: 96 nodes are far more than smooth functions need on it


@lru_cache(maxsize=1)
def legendre() -> tuple[Any, Any]:
    return np.polynomial.legendre.leggauss(NODES)


def corners(record: Any, parameters: dict[str, Any]) -> Any:
    """Where the integral is cut: at the kinks, so that every piece is smooth."""
    scope = {"inf": np.inf, "nan": np.nan} | record.parameter_values(**parameters)
    kinks = [float(eval(k, {"__builtins__": {}}, scope)) for k in record.kinks]
    steps = np.arange(-END, END + PIECE / 2, PIECE)
    return np.unique(np.clip([*steps, *kinks], -END, END))


def mean_square(function: Any, record: Any, parameters: dict[str, Any]) -> float:
    """E[function(z)^2] of a standard normal z, by quadrature."""
    nodes, weights = legendre()
    ends = corners(record, parameters)
    half, middle = np.diff(ends) / 2, (ends[1:] + ends[:-1]) / 2
    z = (middle[:, None] + half[:, None] * nodes).ravel()
    density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    with np.errstate(all="ignore"):
        values = function(z, **parameters) ** 2 * density * (half[:, None] * weights).ravel()
    return float(values.sum())


def gain(op: str, derivative: bool = False, **parameters: Any) -> float:
    """The factor by which weights are scaled so that an activation keeps the signal's size.

    For a standard normal z it is 1/sqrt(E[f(z)^2]): weights with variance gain^2/n, n inputs per
    unit, then keep the mean square of the pre-activations from layer to layer. With
    `derivative=True` it is 1/sqrt(E[f'(z)^2]), which keeps the gradients' size on their way
    back instead. relu has sqrt(2) both ways; for most ops the two differ, and one of the passes
    shrinks or grows a little.

    The expectation is computed by quadrature of the op itself, cut at its kinks, so every op
    and every parameter has a gain. Tables elsewhere hold conventions beside it: PyTorch's
    `calculate_gain` gives 5/3 for tanh, where this is 1.5925, and 1 for the sigmoid and 3/4
    for selu, where this is 1.8463 and 1.

    Parameters
    ----------
    op : str
        Name of an elementwise op.
    derivative : bool, default False
        Whether to keep the gradients' size instead of the signal's.
    **parameters
        Parameters of the op, such as `negative_slope=0.2`; numbers.

    Returns
    -------
    float

    Raises
    ------
    KeyError
        If there is no op of that name.
    TypeError
        For an op that does not map one input to one output, or has no such parameter.
    ValueError
        If the expectation is 0 or not finite: nothing flows, and no weights could mend it.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, Delving deep into rectifiers, ICCV 2015
    G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter, Self-normalizing neural networks,
    NIPS 2017

    Examples
    --------
    >>> import fastact as fa
    >>> round(fa.gain("relu"), 12), round(fa.gain("tanh"), 4)
    (1.414213562373, 1.5925)
    """
    found = fa.get(op)
    if getattr(found, "grad", None) is None or not hasattr(found.record, "limits"):
        raise TypeError(f"gain: op {op!r} does not map one input to one output")
    known = [p.name for p in found.record.parameters]
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise TypeError(f"gain: {found.record.name} takes no parameter {', '.join(unknown)}")
    function = found.grad if derivative else found
    square = mean_square(function, found.record, parameters)
    if not 0 < square < np.inf:
        part = "derivative" if derivative else "output"
        raise ValueError(f"gain: the mean square of the {part} of {found.record.name} is {square}")
    return float(1 / np.sqrt(square))
