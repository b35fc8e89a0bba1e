"""The record of an op that reduces along an axis: declared once, like an activation.

A row op is a reduction followed by an elementwise pass, and both are written as scalars of
one or two inputs (here x, or dy and x), the last of which is the key:

    m      = max of the key over the row                (if there is a weight)
    e      = weight(x, m)                               (once per entry)
    s0, s1 = sums over the row of terms(e, [dy,] x, m)
    c0, c1 = finish(m, s0, s1, unit, empty)             (once per row, in float64)
    out    = apply(e, [dy,] x, m, c0, c1)               (once per entry)

`unit` is the scale in which weights are kept and `empty` stands for a row with nothing in it.
The compiler decides how often `e` is computed, in which order sums are taken, and how rows
are laid over vectors, threads and caches.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastact.numerics.language import Scalar, scalar


@scalar
def scaled(s0, s1, factor, unit):
    """How the sums of one block of a long row enter the row's: scaled to the row's maximum."""
    return s0 * factor, s1 * factor


@dataclass(frozen=True, eq=False)
class RowOp:
    """One op along an axis, in one direction."""

    name: str
    summary: str
    formula: str
    inputs: tuple[str, ...]
    terms: Scalar
    finish: Scalar
    apply: Scalar
    accuracy: dict[str, float]
    sources: tuple[str, ...]
    numpy: str  # the expression that people write; x, dy, y, np in scope, along the last axis
    stable_note: str
    weight: Scalar | None = None  # None: no maximum is needed
    merge: Scalar = scaled
    sums: int = 1
    output: str = "y"
    scipy: str = ""
    torch: str = ""
    use: str = ""
