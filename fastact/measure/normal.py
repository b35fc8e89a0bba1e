"""The normal distribution function in extended precision, for real and complex-step arguments.

SciPy's own stops at double precision. Near 0 this is the series

    Phi(x) - 1/2 = phi(x) (x + x**3/3 + x**5/(3 5) + ...),

whose terms have one sign; further out Laplace's continued fraction for Mills' ratio. phi is
computed from a square that is split in two, so that its digits survive in the far tail.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SPLIT = np.longdouble(1.5)  # where the series hands over to the continued fraction
SERIES_TERMS = 60
FRACTION_TERMS = 300
ROOT_TWO_PI = np.sqrt(8 * np.arctan(np.longdouble(1)))


def density(x: Any) -> Any:
    """exp(-x**2/2)/sqrt(2 pi)"""
    head = x.real.astype(np.float32).astype(np.longdouble)  # its square is exact
    return np.exp(-head * head / 2) * np.exp(-(x - head) * (x + head) / 2) / ROOT_TWO_PI


def ndtr(x: Any) -> Any:
    """Phi(x), the probability that a normal variable is at most x."""
    with np.errstate(all="ignore"):
        x = np.where(np.abs(x.real) > 1000, np.sign(x.real) * np.longdouble(1000), x)
        a = np.where(x.real < 0, -x, x)
        near = np.where(a.real < SPLIT, a, 0)
        term = series = near
        for k in range(1, SERIES_TERMS):
            term = term * near * near / (2 * k + 1)
            series = series + term
        far = np.where(a.real < SPLIT, SPLIT, a)
        fraction = far
        for k in range(FRACTION_TERMS, 0, -1):
            fraction = far + k / fraction
        half = np.longdouble(0.5)
        tail = np.where(a.real < SPLIT, half - density(a) * series, density(a) / fraction)
        return np.where(x.real < 0, tail, 1 - tail)
