"""log_softmax and logsumexp: the largest entry is taken out of the sum.

With o the sum of exp(x - m) over all entries but the largest ones, of which there are n,

    log(sum(exp(x))) = m + log1p(o + n - 1),

which keeps the digits of o where it is small: there log(1 + o) would round to 0.
"""

from __future__ import annotations

import math

from fastact.numerics.language import fma, scalar, select
from fastact.numerics.logarithm import log1p
from fastact.rowwise.record import RowOp
from fastact.rowwise.softmax import OVER_MAX, SOURCES, as_it_is, softmax_finish

INF = math.inf
NAN = math.nan


@scalar
def others(e, x, m):
    """The weight of an entry that is not the largest, and whether it is one of those.

    -0.0 is what changes no sum: adding it under a condition is one instruction.
    """
    largest = x == m
    return select(largest, -0.0, e), select(largest, 1.0, -0.0)


@scalar
def others_merged(s0, s1, factor, is_largest, unit):
    """The largest entries of a block are among the others of the row, unless it has them too."""
    return s0 * factor + s1 * (1.0 - is_largest) * (factor / unit), s1 * is_largest


@scalar
def log_of_sum(s0, s1, unit):
    """log(sum(exp(x - m)))"""
    return log1p(s0 * unit + (s1 - 1.0))


@scalar
def is_empty(s0, s1):
    """Whether a row has no entry above -inf; a nan is in s0."""
    return (s1 == 0.0) & (s0 == 0.0)


@scalar
def logsumexp_value(m, s0, s1, unit, empty):
    value = m + log_of_sum(s0, s1, unit)
    return select(is_empty(s0, s1), empty, value)


@scalar
def nothing():
    return 0.0


@scalar
def log_softmax_finish(m, s0, s1, unit, empty):
    several = (m == INF) & (s1 > 1.0)
    c = select(several, NAN, log_of_sum(s0, s1, unit))
    return select(is_empty(s0, s1), -empty, c)


@scalar
def log_softmax_apply(x, m, c0):
    return (x - m) - c0


@scalar
def weights_and_dy(e, dy):
    return e, dy


@scalar
def weights_scaled(s0, s1, factor):
    return s0 * factor, s1


@scalar
def log_softmax_backward_finish(m, s0, s1, unit, empty):
    """sum(dy) / sum(exp), and what the whole row is multiplied by."""
    c = softmax_finish(m, s0, unit, empty)
    return c * s1, select(s0 == 0.0, empty, 1.0)


@scalar
def log_softmax_backward_apply(e, dy, c0, c1):
    return fma(-e, c0, dy) * c1


@scalar
def sum_of_dy(dy):
    return dy


@scalar
def scaled_sum(s0, unit):
    return s0 * unit


@scalar
def log_softmax_from_output_apply(e, dy, c0):
    return fma(-e, c0, dy)


@scalar
def weights(e):
    return e


@scalar
def logsumexp_backward_finish(m, s0, unit, empty, dy):
    return softmax_finish(m, s0, unit, empty) * dy


@scalar
def weighted(e, c0):
    return e * c0


STABLE = (
    "The largest entry is taken out of the sum and enters through log1p, so that the logarithm "
    "keeps its digits where one entry dominates; sums are taken in a fixed order that neither "
    "layout nor threads change."
)
LOGSUMEXP = "(x.max(-1) + np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1)))"
LOG_SOFTMAX = (
    "(lambda d: d - np.log(np.exp(d).sum(-1, keepdims=True)))(x - x.max(-1, keepdims=True))"
)

ROW_OPS: tuple[RowOp, ...] = (
    RowOp(
        name="log_softmax",
        summary="Logarithm of softmax, exact where softmax is near 1 or underflows.",
        formula="x - log(sum(exp(x)))",
        inputs=("x",),
        terms=others,
        merge=others_merged,
        finish=log_softmax_finish,
        quick=True,
        apply=log_softmax_apply,
        empty=-INF,
        edges=(
            "A row with one +inf has its limit (0 there, -inf elsewhere); with several, or with "
            "-inf alone, or with a nan, the row is nan. A scalar is a row of one entry."
        ),
        accuracy={"float32": 3.0, "float64": 3.0},
        sources=SOURCES,
        numpy=LOG_SOFTMAX,
        scipy="scipy.special.log_softmax(x, axis=-1)",
        torch="torch.log_softmax(x, -1)",
        stable_note=STABLE,
        use="The log-probabilities of a classifier, for a likelihood or a beam search.",
    ),
    RowOp(
        name="log_softmax_backward",
        summary="Vector-Jacobian product of `log_softmax`, from its input.",
        formula="dy - softmax(x) * sum(dy)",
        inputs=("dy", "x"),
        terms=weights_and_dy,
        merge=weights_scaled,
        finish=log_softmax_backward_finish,
        apply=log_softmax_backward_apply,
        output="dx",
        sources=SOURCES,
        numpy=f"dy - {OVER_MAX} * dy.sum(-1, keepdims=True)",
        stable_note=STABLE,
    ),
    RowOp(
        name="log_softmax_backward_from_output",
        summary="Vector-Jacobian product of `log_softmax`, from its output.",
        formula="dy - exp(y) * sum(dy)",
        inputs=("dy", "y"),
        fixed=True,
        policy="",
        terms=sum_of_dy,
        merge=as_it_is,
        finish=scaled_sum,
        apply=log_softmax_from_output_apply,
        output="dx",
        sources=SOURCES,
        numpy="dy - np.exp(y) * dy.sum(-1, keepdims=True)",
        torch="torch.ops.aten._log_softmax_backward_data(dy, y, -1, y.dtype)",
        stable_note="An absolute error of y is a relative error of exp(y).",
    ),
    RowOp(
        name="logsumexp",
        summary="Logarithm of the sum of the exponentials of a row.",
        formula="log(sum(exp(x)))",
        inputs=("x",),
        terms=others,
        merge=others_merged,
        finish=nothing,
        value=logsumexp_value,
        precise=True,
        policy="zero",
        empty=-INF,
        many_axes=True,
        edges="A row with a +inf gives inf, a row of -inf or of no entries -inf, a nan gives nan.",
        accuracy={"float32": 1.5, "float64": 1.5},
        sources=SOURCES,
        numpy=LOGSUMEXP,
        scipy="scipy.special.logsumexp(x, axis=-1)",
        torch="torch.logsumexp(x, -1)",
        stable_note=STABLE,
        use="A smooth maximum; the normaliser of probabilities that are kept as logarithms.",
    ),
    RowOp(
        name="logsumexp_backward",
        summary="Vector-Jacobian product of `logsumexp`, from its input.",
        formula="dy * softmax(x)",
        inputs=("dy", "x"),
        per_row=("dy",),
        policy="zero",
        many_axes=True,
        terms=weights,
        finish=logsumexp_backward_finish,
        apply=weighted,
        output="dx",
        sources=SOURCES,
        numpy=f"dy[..., None] * {OVER_MAX}",
        stable_note=STABLE,
    ),
)
