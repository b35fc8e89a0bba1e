"""maxout: the largest entry of each group of an axis."""

from __future__ import annotations

import math

from fastact.numerics.language import scalar, select
from fastact.rowwise.logarithmic import nothing
from fastact.rowwise.record import RowOp
from fastact.rowwise.softmax import as_it_is

INF = math.inf


@scalar
def nan_or_zero(x):
    """A maximum passes over a nan; this sum does not."""
    return select(x == x, 0.0, x)


@scalar
def largest(m, s0):
    return select(s0 == 0.0, m, s0)


@scalar
def count_of_largest(x, m):
    """How many entries are the largest, and how many there are."""
    return select(x == x, select(x == m, 1.0, 0.0), x), 1.0


@scalar
def counts_merged(s0, s1, is_largest):
    return s0 * is_largest, s1


@scalar
def share_of_dy(m, s0, s1, dy):
    """What each of the largest entries gets, and the value from which on an entry is one.

    An infinite maximum has become 0, its row relative to it; a row of -inf alone has 0 for m.
    """
    lowest = select(m == INF, 0.0, m)
    return dy / select(s0 == 0.0, s1, s0), select(s0 == 0.0, -INF, lowest)


@scalar
def maxout_backward_apply(x, c0, c1):
    return select(x < c1, 0.0, c0)


SOURCES = ("Goodfellow et al. 2013, Maxout networks",)
EXACT = "Nothing is rounded; every entry is read once."
EDGES = "Infinities are numbers like others; a nan in a group shows."

ROW_OPS: tuple[RowOp, ...] = (
    RowOp(
        name="maxout",
        summary="Maxout: the largest entry of each group of neighbours along an axis.",
        formula="max(x[k * g : (k + 1) * g]), g = n / groups, for k < groups",
        inputs=("x",),
        terms=nan_or_zero,
        merge=as_it_is,
        finish=nothing,
        value=largest,
        policy="",
        groups=True,
        accuracy={"float32": 0.0, "float64": 0.0},
        sources=SOURCES,
        numpy="x.max(-1)",
        torch="torch.amax(x, -1)",
        stable_note=EXACT,
        edges=EDGES,
        use="A layer that learns its own activation, as the largest of several linear pieces.",
    ),
    RowOp(
        name="maxout_backward",
        summary="Vector-Jacobian product of `maxout`, from its input.",
        formula="dy where x is the largest entry of its group, else 0",
        inputs=("dy", "x"),
        per_row=("dy",),
        terms=count_of_largest,
        merge=counts_merged,
        finish=share_of_dy,
        apply=maxout_backward_apply,
        output="dx",
        policy="",
        groups=True,
        sources=SOURCES,
        numpy="(lambda t: dy[..., None] * t / t.sum(-1, keepdims=True))(x == x.max(-1)[..., None])",
        stable_note="Several entries that are equally large share dy evenly.",
        edges=EDGES,
    ),
)
