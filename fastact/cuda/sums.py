"""Scalars of the row kernels: compensated sums, the edges of a row, how chunks are combined."""

from __future__ import annotations

import math

from fastact.numerics.language import scalar, select
from fastact.rowwise.exponential import exponential

INF = math.inf


@scalar
def added(high, low, value):
    """The compensated total high + low plus a value (Knuth; terms of any sign)."""
    total = high + value
    back = total - high
    return total, low + ((high - (total - back)) + (value - back))


@scalar
def joined(high, low, other_high, other_low):
    """Two compensated totals as one; either may come first."""
    total = high + other_high
    back = total - high
    return total, (low + other_low) + ((high - (total - back)) + (other_high - back))


@scalar
def single(high, low):
    """A compensated total as one number; an infinite or undefined one has no error."""
    return select(abs(high) < INF, high + low, high)


@scalar
def plus(a, b):
    return a + b


@scalar
def opposite(x):
    return -x


@scalar
def entry_maximum(m):
    """What is subtracted from the entries: nothing, where the maximum is infinite."""
    return select(abs(m) < INF, m, 0.0)


@scalar
def recentred(x):
    """An entry of a row whose maximum is +inf, relative to it."""
    return select(x == INF, 0.0, select(x == x, -INF, x))


@scalar
def below(m, x):
    """m - x, 0 where they are equal, even if infinite."""
    return select(m == x, 0.0, m - x)


@scalar
def chunk_scale(m, row_m):
    """How the sums of a chunk enter the row's: factor, is_largest, gap of `RowOp.merge`."""
    factor = exponential(select(m == row_m, 0.0, m - row_m))
    return factor, select(m == row_m, 1.0, 0.0), select(m == row_m, 0.0, row_m - m)


@scalar
def scaled_chunk_scale(m, row_m, scale):
    """The same where keys are multiplied by `scale`."""
    d = select(m == row_m, 0.0, (m - row_m) * scale)
    return exponential(d), select(m == row_m, 1.0, 0.0), -d


@scalar
def times(a, b):
    return a * b


@scalar
def over(a, b):
    return a / b
