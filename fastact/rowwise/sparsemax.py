"""sparsemax: the point of the probability simplex that lies nearest to the row.

It is max(x - t, 0) with the t for which that sums to 1. With d = x - max(x), the sum
f(c) = sum(max(d - c, 0)) falls piecewise linearly, so Newton's method from the left,

    c <- (sum(d) - 1) / count   over the entries with d > c,   from c = -1,

rises to the root and stops there after a few rounds: nothing is sorted.
"""

from __future__ import annotations

import math

from fastact.numerics.language import scalar, select
from fastact.rowwise.record import RowOp

INF = math.inf
NAN = math.nan


@scalar
def inside(d, c, value):
    """The value of an entry above the threshold, else 0; a nan is neither."""
    return select(d <= c, 0.0, value)


@scalar
def support(x, m, c):
    d = x - m
    return inside(d, c, d), inside(d, c, 1.0)


@scalar
def threshold(m, s0, s1, c, empty):
    """The next c; `empty` for a row without a finite entry, nan with several infinite ones."""
    c = select(s1 == 0.0, empty, (s0 - 1.0) / s1)
    return select((m == INF) & (s1 > 1.0), NAN, c)


@scalar
def sparsemax_threshold(m, s0, s1, c, empty):
    """The next c, or c where it rises no more; a row that is nan stays so in later rounds."""
    after = threshold(m, s0, s1, c, empty)
    return select((after <= c) | (c != c), c, after)


@scalar
def sparsemax_apply(x, m, c):
    d = x - m
    return inside(d, c, d - c)


@scalar
def support_and_dy(x, dy, m, c):
    s0, s1 = support(x, m, c)
    return s0, s1, inside(x - m, c, dy)


@scalar
def backward_threshold(m, s0, s1, s2, c, empty):
    return sparsemax_threshold(m, s0, s1, c, empty), s2 / select(s1 == 0.0, 1.0, s1)


@scalar
def sparsemax_backward_apply(x, dy, m, c, c1):
    """The last term is 0, or nan where the row has one."""
    d = x - m
    return inside(d, c, (dy - c1) + (d - c) * 0.0)


@scalar
def three_as_they_are(s0, s1, s2):
    return s0, s1, s2


@scalar
def two_as_they_are(s0, s1):
    return s0, s1


@scalar
def positive_dy(dy, y):
    return inside(y, 0.0, dy), inside(y, 0.0, 1.0)


@scalar
def mean_of_dy(s0, s1):
    return s0 / select(s1 == 0.0, 1.0, s1)


@scalar
def sparsemax_from_output_apply(dy, y, c0):
    return inside(y, 0.0, (dy - c0) + (y - y))


SOURCES = (
    "Martins, Astudillo 2016, From softmax to sparsemax",
    "Michelot 1986, A finite algorithm for finding the projection of a point onto the simplex",
)
SORTED = "-np.sort(x.max(-1, keepdims=True) - x, axis=-1)"
NAIVE = (
    "(lambda d, s: np.maximum(d - ((s.cumsum(-1) - 1) / np.ones_like(s).cumsum(-1)).max(-1,"
    f" keepdims=True), 0))(x - x.max(-1, keepdims=True), {SORTED})"
)

ROW_OPS: tuple[RowOp, ...] = (
    RowOp(
        name="sparsemax",
        summary="Sparsemax: probabilities, of which those of low scores are exactly 0.",
        formula="max(x - t, 0), t such that the sum is 1",
        inputs=("x",),
        start=-1.0,
        terms=support,
        merge=two_as_they_are,
        finish=sparsemax_threshold,
        apply=sparsemax_apply,
        accuracy={"float32": 1.0, "float64": 1.0},
        absolute=True,
        sources=SOURCES,
        numpy=NAIVE,
        stable_note=(
            "The threshold is found by Newton's method relative to the maximum, without sorting: "
            "it rises to the root and stops there, mostly after three to six rounds. An entry is "
            "within a unit in the last place of 1."
        ),
        use="Attention or class probabilities in which most entries should be exactly 0.",
    ),
    RowOp(
        name="sparsemax_backward",
        summary="Vector-Jacobian product of `sparsemax`, from its input.",
        formula="dy - mean(dy over y > 0) where y > 0, else 0, y = sparsemax(x)",
        inputs=("dy", "x"),
        start=-1.0,
        terms=support_and_dy,
        merge=three_as_they_are,
        finish=backward_threshold,
        apply=sparsemax_backward_apply,
        output="dx",
        sources=SOURCES,
        stable_note="The support is found as in the forward pass.",
    ),
    RowOp(
        name="sparsemax_backward_from_output",
        summary="Vector-Jacobian product of `sparsemax`, from its output.",
        formula="dy - mean(dy over y > 0) where y > 0, else 0",
        inputs=("dy", "y"),
        policy="",
        terms=positive_dy,
        merge=two_as_they_are,
        finish=mean_of_dy,
        apply=sparsemax_from_output_apply,
        output="dx",
        sources=SOURCES,
        stable_note="An entry that has underflowed to zero counts as outside the support.",
    ),
)
