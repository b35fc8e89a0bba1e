"""Softmax and softmin: exponentials of a row over their sum."""

from __future__ import annotations

import math
from dataclasses import replace

from fastact.numerics.language import Scalar, scalar, select
from fastact.rowwise.record import RowOp

INF = math.inf
NAN = math.nan


@scalar
def softmax_terms(e):
    return e


@scalar
def softmax_finish(m, s0, unit, empty):
    """1/sum; `empty` for a row without a finite entry, nan where the limit is not unique."""
    total = s0 * unit
    c = select((m == INF) & (total > 1.0), NAN, unit / total)
    return select(s0 == 0.0, empty, c)


@scalar
def softmax_apply(e, c0):
    return e * c0


@scalar
def backward_terms(e, dy):
    return e, e * dy


@scalar
def backward_finish(m, s0, s1, unit, empty, scale):
    return softmax_finish(m, s0, unit, empty) * scale, s1 / select(s0 == 0.0, 1.0, s0)


@scalar
def softmax_backward_apply(e, dy, c0, c1):
    return e * c0 * (dy - c1)


@scalar
def softmin_backward_apply(e, dy, c0, c1):
    return e * c0 * (c1 - dy)


@scalar
def both_scaled(s0, s1, factor):
    """Both sums are made of exponentials."""
    return s0 * factor, s1 * factor


@scalar
def dot_terms(dy, y):
    return dy * y


@scalar
def first_sum(s0, scale):
    return s0, scale


@scalar
def as_it_is(s0):
    return s0


@scalar
def softmax_from_output_apply(dy, y, c0, c1):
    return y * (dy - c0) * c1


@scalar
def softmin_from_output_apply(dy, y, c0, c1):
    return y * (c0 - dy) * c1


SOURCES = (
    "Bridle 1990, Probabilistic interpretation of feedforward classification network outputs",
    "Blanchard, Higham, Higham 2021, Accurately computing the log-sum-exp and softmax functions",
)
STABLE = (
    "The row's maximum is subtracted, and the rounding error of that subtraction is carried into "
    "the exponential; sums are taken in a fixed order that neither layout nor threads change."
)
EXPONENTIALS = "(lambda e: e / e.sum(-1, keepdims=True))(np.exp({0}))"
OVER_MAX = EXPONENTIALS.format("x - x.max(-1, keepdims=True)")
UNDER_MIN = EXPONENTIALS.format("x.min(-1, keepdims=True) - x")
PRODUCT = "(lambda y: y * (dy - (dy * y).sum(-1, keepdims=True)))({0})"


def family(
    name: str, formula: str, negate: bool, naive: str, apply: tuple[Scalar, Scalar], **more: str
) -> tuple[RowOp, ...]:
    """The op and its two backward passes."""
    sign = "-" if negate else ""
    from_input, from_output = apply
    torch_backward = "torch.ops.aten._softmax_backward_data(dy, y, -1, y.dtype)"
    return (
        RowOp(
            name=name,
            summary=more["summary"],
            formula=formula,
            inputs=("x",),
            negate=negate,
            scalable=True,
            terms=softmax_terms,
            finish=softmax_finish,
            apply=softmax_apply,
            accuracy={"float32": 4.0, "float64": 4.0},
            sources=SOURCES,
            numpy=naive,
            scipy=f"scipy.special.softmax({sign}x, axis=-1)",
            torch=f"torch.softmax({sign}x, -1)",
            stable_note=STABLE,
            use=more["use"],
        ),
        RowOp(
            name=f"{name}_backward",
            summary=f"Vector-Jacobian product of `{name}`, from its input.",
            formula=f"{sign}y * (dy - sum(dy * y)), y = {name}(x)",
            inputs=("dy", "x"),
            negate=negate,
            scalable=True,
            terms=backward_terms,
            finish=backward_finish,
            merge=both_scaled,
            apply=from_input,
            output="dx",
            sources=SOURCES,
            numpy=sign + PRODUCT.format(naive),
            stable_note=STABLE,
        ),
        RowOp(
            name=f"{name}_backward_from_output",
            summary=f"Vector-Jacobian product of `{name}`, from its output.",
            formula=f"{sign}y * (dy - sum(dy * y))",
            inputs=("dy", "y"),
            scalable=True,
            policy="",
            terms=dot_terms,
            finish=first_sum,
            merge=as_it_is,
            apply=from_output,
            output="dx",
            sources=SOURCES,
            numpy=sign + PRODUCT.format("y"),
            torch=sign + torch_backward,
            stable_note="Entries of y that have underflowed to zero stay zero.",
        ),
    )


SOFTMAX = family(
    "softmax",
    "exp(x) / sum(exp(x))",
    False,
    OVER_MAX,
    (softmax_backward_apply, softmax_from_output_apply),
    summary="Softmax: exponentials of a row, scaled to sum to one.",
    use="The output layer of a classifier: scores become probabilities.",
)
SOFTMIN = family(
    "softmin",
    "exp(-x) / sum(exp(-x))",
    True,
    UNDER_MIN,
    (softmin_backward_apply, softmin_from_output_apply),
    summary="Softmin: softmax of -x, the most weight on the smallest entry.",
    use="Energies or distances become probabilities: the smaller, the likelier.",
)

BELOW = "np.where(np.tri(*x.shape[-2:], dtype=bool), x, -np.inf)"
TORCH_BELOW = "x.masked_fill(torch.ones(x.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)"


def causal(op: RowOp, summary: str, numpy: str, torch: str = "") -> RowOp:
    """A form of softmax whose row i has the entries up to i + offset alone."""
    return replace(
        op,
        name=op.name.replace("softmax", "causal_softmax"),
        summary=summary,
        formula=op.formula.replace("softmax", "causal_softmax") + ", over j <= i + offset",
        causal=True,
        scipy="",
        numpy=numpy,
        torch=torch,
        stable_note=op.stable_note + " Entries beyond the limit are not read.",
        use="The attention of a decoder: a query sees the keys before it.",
    )


OVER_MAX_BELOW = EXPONENTIALS.format(f"(lambda z: z - z.max(-1, keepdims=True))({BELOW})")
CAUSAL = (
    causal(
        SOFTMAX[0],
        "Causal softmax: row i of a matrix over its entries up to i + offset; the others are 0.",
        OVER_MAX_BELOW,
        torch=f"torch.softmax({TORCH_BELOW}, -1)",
    ),
    causal(
        SOFTMAX[1],
        "Vector-Jacobian product of `causal_softmax`, from its input.",
        PRODUCT.format(OVER_MAX_BELOW),
    ),
    causal(
        SOFTMAX[2],
        "Vector-Jacobian product of `causal_softmax`, from its output.",
        PRODUCT.format("y"),
    ),
)

ROW_OPS: tuple[RowOp, ...] = (*SOFTMAX, *SOFTMIN, *CAUSAL)
