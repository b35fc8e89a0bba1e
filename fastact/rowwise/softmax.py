"""The softmax family: exp(x - max) with its rounding error carried, sums in a fixed order."""

from __future__ import annotations

import math

from fastact.numerics.exponential import EXPM1, LN2, LN2_TAIL, LOG2E, power_of_two
from fastact.numerics.language import ByDtype, fma, polynomial, scalar, select
from fastact.rowwise.record import RowOp

INF = math.inf
NAN = math.nan

# Weights are kept times 2**64 (2**512), so that an entry which is subnormal in the result is
# a normal number until its last rounding.
UNIT = ByDtype(2.0**-64, 2.0**-512)
SHIFT = ByDtype(12582912.0 + 127.0 + 64.0, 6755399441055744.0 + 1023.0 + 512.0)
LOWEST = ByDtype(-131.0, -1039.0)  # from here on the result is 0 whatever the sum


@scalar
def weight(x, m):
    """exp(x - m) / UNIT for x <= m; 1 / UNIT where x equals m, even if both are infinite.

    The difference of two floats is itself rounded: for x = m - 100 that alone is 32 ulp of
    the exponential in float32. Its error is computed (Knuth's two-sum) and added to the reduced
    argument, where it is no longer negligible.
    """
    d = x - m
    back = d + m
    lost = (x - back) + ((back - d) - m)
    equal = x == m
    d = select(equal, 0.0, d)
    d = select(d < LOWEST, LOWEST, d)
    lost = select(abs(lost) < 1.0, lost, 0.0)
    shifted = fma(d, LOG2E, SHIFT)
    n = shifted - SHIFT
    r = fma(n, -LN2, d)
    r = fma(n, -LN2_TAIL, r + lost)
    t = fma(r * r, polynomial(r, EXPM1), r)
    s = power_of_two(shifted)
    return fma(s, t, s)


@scalar
def softmax_terms(e, x, m):
    return e, 0.0


@scalar
def softmax_finish(m, s0, s1, unit, empty):
    """1/sum; `empty` for a row without a finite entry, nan where the limit is not unique."""
    c = unit / (s0 * unit)
    several = s0 * unit > 1.0
    c = select(m == INF, select(several, NAN, c), c)
    return select(m == -INF, empty, c), 0.0


@scalar
def softmax_apply(e, x, m, c0, c1):
    return e * c0


@scalar
def softmax_backward_terms(e, dy, x, m):
    return e, e * dy


@scalar
def softmax_backward_finish(m, s0, s1, unit, empty):
    c0, _ = softmax_finish(m, s0, s1, unit, empty)
    return c0, s1 / s0


@scalar
def softmax_backward_apply(e, dy, x, m, c0, c1):
    return e * c0 * (dy - c1)


@scalar
def dot_terms(e, dy, y, m):
    return dy * y, 0.0


@scalar
def first_sum(m, s0, s1, unit, empty):
    return s0, 0.0


@scalar
def softmax_from_output_apply(e, dy, y, m, c0, c1):
    return y * (dy - c0)


SOURCES = (
    "Bridle 1990, Probabilistic interpretation of feedforward classification network outputs",
    "Blanchard, Higham, Higham 2021, Accurately computing the log-sum-exp and softmax functions",
)
STABLE = (
    "The row's maximum is subtracted, and the rounding error of that subtraction is carried "
    "into the exponential; sums are taken in a fixed order that neither layout nor threads change."
)

ROW_OPS: tuple[RowOp, ...] = (
    RowOp(
        name="softmax",
        summary="Softmax: exponentials of a row, scaled to sum to one.",
        formula="exp(x - max(x)) / sum(exp(x - max(x)))",
        inputs=("x",),
        weight=weight,
        terms=softmax_terms,
        finish=softmax_finish,
        apply=softmax_apply,
        accuracy={"float32": 4.0, "float64": 4.0},
        sources=SOURCES,
        numpy="(lambda e: e / e.sum(-1, keepdims=True))(np.exp(x - x.max(-1, keepdims=True)))",
        scipy="scipy.special.softmax(x, axis=-1)",
        torch="torch.softmax(x, -1)",
        stable_note=STABLE,
        use="The output layer of a classifier: scores become probabilities.",
    ),
    RowOp(
        name="softmax_backward",
        summary="Vector-Jacobian product of `softmax`, from its input.",
        formula="y * (dy - sum(dy * y)), y = softmax(x)",
        inputs=("dy", "x"),
        weight=weight,
        terms=softmax_backward_terms,
        finish=softmax_backward_finish,
        apply=softmax_backward_apply,
        sums=2,
        output="dx",
        accuracy={},
        sources=SOURCES,
        numpy="(lambda y: y * (dy - (dy * y).sum(-1, keepdims=True)))"
        "((lambda e: e / e.sum(-1, keepdims=True))(np.exp(x - x.max(-1, keepdims=True))))",
        stable_note=STABLE,
    ),
    RowOp(
        name="softmax_backward_from_output",
        summary="Vector-Jacobian product of `softmax`, from its output.",
        formula="y * (dy - sum(dy * y))",
        inputs=("dy", "y"),
        terms=dot_terms,
        finish=first_sum,
        apply=softmax_from_output_apply,
        output="dx",
        accuracy={},
        sources=SOURCES,
        numpy="y * (dy - (dy * y).sum(-1, keepdims=True))",
        torch="torch.ops.aten._softmax_backward_data(dy, y, -1, y.dtype)",
        stable_note="Entries of y that have underflowed to zero stay zero.",
    ),
)
