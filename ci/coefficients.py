"""Make every coefficient and split constant of `fastact/numerics`, and check the ones in use.

    python ci/coefficients.py            print the tables, ready to paste
    python ci/coefficients.py --check    compare them with those in the modules; 1 if one differs

A polynomial is the weighted minimax fit (Remez exchange, 60 digits). Its coefficients are
rounded one after another, lowest power first; after each rounding the rest is fitted again, so
that the higher powers take up what the rounding lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mpmath as mp
import numpy as np

mp.mp.dps = 60
Real = Callable[[mp.mpf], mp.mpf]


@dataclass(frozen=True)
class Fit:
    """One table: sum of c[k] * x**k approximates `target` on [low, high]."""

    module: str
    name: str
    dtype: str
    target: Real
    weight: Real  # the error that is levelled is weight(x) * (fit(x) - target(x))
    low: float
    high: float
    degree: int
    step: int = 1  # 2: the target is even and the table is in x**2

    @property
    def kind(self) -> type[np.floating]:
        return np.float32 if self.dtype == "single" else np.float64


def rounded(value: mp.mpf, kind: type[np.floating]) -> mp.mpf:
    """The nearest number of the dtype (through 17 digits: no double rounding in practice)."""
    if kind is np.float64:
        return mp.mpf(float(value))
    with mp.workprec(24):
        return +value


def exchange(target: Real, weight: Real, powers: list[int], low: mp.mpf, high: mp.mpf):
    """Coefficients of the minimax fit in the given powers, and its largest weighted error."""
    count = len(powers) + 1
    grid = [
        (low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * k / (40 * count))
        for k in range(40 * count + 1)
    ]
    grid = [x for x in grid if abs(x) > (high - low) / 10**6]
    exact = [target(x) for x in grid]
    # with lower powers fixed, what is left is x**powers[0] times a polynomial: its sign at
    # x < 0 goes into the weight, or the error of the best fit would not alternate there
    scale = [weight(x) * mp.sign(x) ** powers[0] for x in grid]
    nodes = [round(k * (len(grid) - 1) / (count - 1)) for k in range(count)]
    for _ in range(30):
        matrix = mp.matrix(count, count)
        right = mp.matrix(count, 1)
        for row, k in enumerate(nodes):
            for column, power in enumerate(powers):
                matrix[row, column] = grid[k] ** power * scale[k]
            matrix[row, count - 1] = (-1) ** row
            right[row] = exact[k] * scale[k]
        solution = mp.lu_solve(matrix, right)
        fit = list(solution[: count - 1])
        error = [
            s * (sum(c * x**p for c, p in zip(fit, powers, strict=True)) - f)
            for x, f, s in zip(grid, exact, scale, strict=True)
        ]
        peaks = alternation(error, count)
        if peaks == nodes or peaks is None:
            break
        nodes = peaks
    return fit, max(abs(e) for e in error)


def alternation(error: list[mp.mpf], count: int) -> list[int] | None:
    """Where the error peaks, once per change of sign; the `count` largest in a row."""
    peaks: list[int] = []
    for k, e in enumerate(error):
        if peaks and (e > 0) == (error[peaks[-1]] > 0):
            if abs(e) > abs(error[peaks[-1]]):
                peaks[-1] = k
        else:
            peaks.append(k)
    size = lambda k: abs(error[peaks[k]])
    while len(peaks) > count:
        least = min(range(len(peaks)), key=size)
        if len(peaks) == count + 1 or least in (0, len(peaks) - 1):
            peaks.pop(0 if size(0) < size(-1) else -1)
        else:  # an interior peak goes with a neighbour, or the signs would not alternate
            peaks.pop(least)
            peaks.pop(least if size(least) < size(least - 1) else least - 1)
    return peaks if len(peaks) == count else None


def make(fit: Fit) -> tuple[list[float], mp.mpf]:
    """The rounded table, highest power first, and the largest weighted error."""
    low, high = mp.mpf(fit.low), mp.mpf(fit.high)
    powers = list(range(0, fit.step * fit.degree + 1, fit.step))
    done: list[mp.mpf] = []
    for k in range(len(powers)):
        rest = lambda x: fit.target(x) - sum(c * x**p for c, p in zip(done, powers, strict=False))
        found, _ = exchange(rest, fit.weight, powers[k:], low, high)
        done.append(rounded(found[0], fit.kind))
    worst = max(
        abs(
            fit.weight(x)
            * (sum(c * x**p for c, p in zip(done, powers, strict=True)) - fit.target(x))
        )
        for x in mp.linspace(low, high, 2000)
        if x != 0
    )
    return [float(c) for c in reversed(done)], worst
