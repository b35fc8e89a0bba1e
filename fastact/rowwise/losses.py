"""Cross-entropy losses with their gradients, as row ops that never store probabilities.

The loss of a row with target weights q, Q = sum(q), is

    sum(q (log(sum(exp(x))) - x)) = Q log1p(o + n - 1) + sum(q (m - x)),

with the largest entry taken out of the sum as in log_softmax, and its gradient is
Q softmax(x) - q. Class ids are a q with one entry. `factor` is what the loss of a row counts for
in the reduction.
"""

from __future__ import annotations

import math
from typing import Any

from fastact.numerics.language import Scalar, fma, scalar, select
from fastact.numerics.logarithm import log1p
from fastact.rowwise.exponential import exponential
from fastact.rowwise.logarithmic import nothing, others, others_merged
from fastact.rowwise.record import Loss, Operand, Option, RowOp
from fastact.rowwise.softmax import as_it_is
from fastact.rowwise.sparsemax import two_as_they_are

INF = math.inf
NAN = math.nan


@scalar
def rest_of_sum(m, s0, s1, unit):
    """sum(exp(x - m)) - 1; nan without a finite entry or with several infinite ones."""
    unclear = ((m == INF) & (s1 > 1.0)) | ((s1 == 0.0) & (s0 == 0.0))
    return select(unclear, NAN, fma(s0, unit, s1 - 1.0))


@scalar
def probability_less_one(rest, drop):
    """softmax(x) - 1 at an entry that lies `drop` below the maximum, exact near 0."""
    p = exponential(-drop) / (rest + 1.0)
    return select(p > 0.5, -rest / (rest + 1.0), p - 1.0)


# Class ids


@scalar
def class_loss(m, s0, s1, unit, drop, factor):
    return factor * (drop + log1p(rest_of_sum(m, s0, s1, unit)))


@scalar
def class_finish(m, s0, s1, unit, factor):
    return factor * unit / (rest_of_sum(m, s0, s1, unit) + 1.0)


@scalar
def class_apply(e, c0):
    return e * c0


@scalar
def class_label(m, s0, s1, unit, drop, factor):
    return factor * probability_less_one(rest_of_sum(m, s0, s1, unit), drop)


# Any targets: s2 = sum(q (m - x)), s3 = sum(q)


@scalar
def against(e, x, m, q):
    o, n = others(e, x, m)
    return o, n, select(q == 0.0, 0.0, q * (m - x)), q


@scalar
def against_merged(s0, s1, s2, s3, factor, is_largest, gap, unit):
    o, n = others_merged(s0, s1, factor, is_largest, unit)
    return o, n, s2 + select(s3 == 0.0, 0.0, s3 * gap), s3


# Class ids with label smoothing: the targets are `share` w everywhere, and `own` more at the label


@scalar
def smoothed_terms(e, w, x, m):
    return against(e, x, m, w)


@scalar
def smoothed_loss(m, s0, s1, s2, s3, unit, drop, own, share):
    log_sum = log1p(rest_of_sum(m, s0, s1, unit))
    return own * (drop + log_sum) + share * fma(s3, log_sum, s2)


@scalar
def smoothed_finish(m, s0, s1, s3, unit, own, share):
    q = fma(share, s3, own)
    return q * unit / (rest_of_sum(m, s0, s1, unit) + 1.0), share


@scalar
def smoothed_apply(e, w, c0, c1):
    return fma(e, c0, -(c1 * w))


@scalar
def smoothed_label(m, s0, s1, s3, unit, drop, own, share, w_label):
    rest = rest_of_sum(m, s0, s1, unit)
    q = fma(share, s3, own)
    # For p near 1 and for p near 0: neither subtracts from 1 what is small against it
    high = fma(q, probability_less_one(rest, drop), share * (s3 - w_label))
    p = exponential(-drop) / (rest + 1.0)
    low = fma(q, p, -fma(share, w_label, own))
    return select(p > 0.5, high, low)


# Probabilities: the targets are w (kept p + share)


@scalar
def target(p, w, kept, share):
    return w * fma(kept, p, share)


@scalar
def probabilities_terms(e, p, w, x, m, kept, share):
    return against(e, x, m, target(p, w, kept, share))


@scalar
def probabilities_loss(m, s0, s1, s2, s3, unit, factor):
    return factor * fma(s3, log1p(rest_of_sum(m, s0, s1, unit)), s2)


@scalar
def probabilities_finish(m, s0, s1, s3, unit, factor):
    return factor * s3 * unit / (rest_of_sum(m, s0, s1, unit) + 1.0), factor


@scalar
def probabilities_apply(e, p, w, c0, c1, kept, share):
    return fma(e, c0, -(c1 * target(p, w, kept, share)))


# Sigmoid: every entry is a loss of its own


@scalar
def sigmoid_parts(x):
    """(log(1 + exp(-|x|)), sigma(x), sigma(-x))"""
    e = exponential(-abs(x))
    large = 1.0 / (1.0 + e)
    small = e * large
    positive = x > 0.0
    return log1p(e), select(positive, large, small), select(positive, small, large)


@scalar
def part(share, value):
    """share * value, 0 if the share is 0: value may be infinite."""
    return select(share == 0.0, 0.0, share * value)


@scalar
def sigmoid_both(t, x, p):
    """The loss at target t with positive weight p, and its derivative."""
    log_sum, up, down = sigmoid_parts(x)
    positive = select(x > 0.0, x, 0.0)
    negative = select(x < 0.0, -x, 0.0)
    yes, no = p * t, 1.0 - t
    loss = part(yes, negative + log_sum) + part(no, positive + log_sum)
    return select(x == x, loss, x), no * up - yes * down


@scalar
def sigmoid_loss(t, x):
    loss, _ = sigmoid_both(t, x, 1.0)
    return loss


@scalar
def sigmoid_grad(t, x, c0):
    _, grad = sigmoid_both(t, x, 1.0)
    return grad * c0


@scalar
def sigmoid_pair(t, x):
    return sigmoid_both(t, x, 1.0)


@scalar
def weighted_loss(p, w, t, x):
    loss, _ = sigmoid_both(t, x, p)
    return part(w, loss)


@scalar
def weighted_grad(p, w, t, x, c0):
    _, grad = sigmoid_both(t, x, p)
    return grad * w * c0


@scalar
def weighted_pair(p, w, t, x):
    loss, grad = sigmoid_both(t, x, p)
    return part(w, loss), grad * w


@scalar
def total_loss(s0, factor):
    return s0 * factor


@scalar
def factor_alone(factor):
    return factor


FACTOR = Operand("factor", False, "float64", uniform=True)
SHARE = Operand("share", False, "float64", uniform=True)
KEPT = Operand("kept", False, "float64", uniform=True)
OWN_FACTOR = Operand("factor", False, "float64")
OWN_WEIGHT = Operand("own", False, "float64")
LABEL = Operand("label", False, "int64")


def loss_op(name: str, inputs: tuple[str, ...], **scalars: Any) -> RowOp:
    return RowOp(name=name, summary=name, formula=name, inputs=inputs, sources=(), **scalars)


def softmax_losses(
    name: str,
    inputs: tuple[str, ...],
    extra: tuple[Operand, ...],
    gradient: dict[str, Scalar],
    **common: Scalar,
) -> dict[bool, RowOp]:
    """The op without and with a gradient."""
    shared = {"extra": extra, "value_dtype": "float64", **common}
    return {
        False: loss_op(name, inputs, finish=nothing, **shared),
        True: loss_op(f"{name}_value_and_grad", inputs, **shared, **gradient),
    }


CLASS = softmax_losses(
    "class_cross_entropy",
    ("x",),
    (OWN_FACTOR, LABEL),
    {"finish": class_finish, "apply": class_apply, "label_value": class_label},
    terms=others,
    merge=others_merged,
    value=class_loss,
)
SMOOTHED = softmax_losses(
    "smoothed_cross_entropy",
    ("w", "x"),
    (OWN_WEIGHT, SHARE, LABEL),
    {"finish": smoothed_finish, "apply": smoothed_apply, "label_value": smoothed_label},
    terms=smoothed_terms,
    merge=against_merged,
    value=smoothed_loss,
)
PROBABILITIES = softmax_losses(
    "probability_cross_entropy",
    ("p", "w", "x"),
    (KEPT, SHARE, FACTOR),
    {"finish": probabilities_finish, "apply": probabilities_apply},
    terms=probabilities_terms,
    merge=against_merged,
    value=probabilities_loss,
)


def sigmoid_losses(
    name: str, inputs: tuple[str, ...], loss: Scalar, grad: Scalar, pair: Scalar
) -> dict[tuple[bool, bool], RowOp]:
    """By whether losses are summed along the row, and whether a gradient is wanted."""
    summed = {
        "terms": loss,
        "merge": as_it_is,
        "value": total_loss,
        "value_dtype": "float64",
        "extra": (FACTOR,),
    }
    return {
        (True, False): loss_op(f"{name}_sum", inputs, finish=nothing, **summed),
        (True, True): loss_op(
            f"{name}_sum_value_and_grad", inputs, finish=factor_alone, apply=grad, **summed
        ),
        (False, False): loss_op(name, inputs, terms=None, finish=nothing, apply=loss),
        (False, True): loss_op(
            f"{name}_value_and_grad", inputs, terms=None, finish=nothing, apply=pair, row_outputs=2
        ),
    }


SIGMOID = sigmoid_losses("sigmoid_loss", ("t", "x"), sigmoid_loss, sigmoid_grad, sigmoid_pair)
WEIGHTED_SIGMOID = sigmoid_losses(
    "weighted_sigmoid_loss", ("p", "w", "t", "x"), weighted_loss, weighted_grad, weighted_pair
)


# What a GPU adds up the losses of all rows with, in the dtype that they are computed in


@scalar
def counted(x):
    return x, 1.0


@scalar
def sum_or_empty(s0, s1, empty):
    return select(s1 == 0.0, empty, s0)


TOTAL = loss_op(
    "total", ("x",), terms=counted, merge=two_as_they_are, finish=nothing, value=sum_or_empty
)
REDUCTION = Option(
    "reduction",
    "'mean', 'sum' or 'none', default 'mean'",
    "What becomes of the losses; with 'none' each has its own gradient.",
)
OWN_LABEL = "labels[:, None]"
NUMPY_CLASSES = (
    f"(lambda d: (np.log(np.exp(d).sum(-1)) - np.take_along_axis(d, {OWN_LABEL}, -1)[:, 0]).mean())"
    "(logits - logits.max(-1, keepdims=True))",
    f"(lambda p: (-np.log(np.take_along_axis(p, {OWN_LABEL}, -1)).mean(), "
    f"(p - ({OWN_LABEL} == np.arange(p.shape[-1]))) / len(p)))"
    "((lambda e: e / e.sum(-1, keepdims=True))(np.exp(logits - logits.max(-1, keepdims=True))))",
)
NUMPY_BINARY = (
    "np.mean(np.maximum(logits, 0) - logits * targets + np.log1p(np.exp(-np.abs(logits))))",
    "(np.mean(np.maximum(logits, 0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))), "
    "(1 / (1 + np.exp(-logits)) - targets) / logits.size)",
)
BY_AUTOGRAD = "(lambda loss: (loss.detach(), *torch.autograd.grad(loss, leaf)))({0})"
TORCH_CLASSES = "F.cross_entropy({0}, labels)"
TORCH_BINARY = "F.binary_cross_entropy_with_logits({0}, targets)"


def in_torch(form: str) -> tuple[str, str]:
    return form.format("logits"), BY_AUTOGRAD.format(form.format("leaf"))


LOSSES: tuple[Loss, ...] = (
    Loss(
        name="softmax_cross_entropy",
        summary="Cross-entropy of softmax(logits) against class ids or probabilities.",
        formula="mean of log(sum(exp(x))) - x[label]",
        inputs=("logits", "labels"),
        options=(
            Option("axis", "int, default -1", "The axis of `logits` along which the classes lie."),
            Option(
                "weight",
                "array_like of one number per class, optional",
                "What a class counts for; taken in the dtype of the logits where it multiplies "
                "probabilities. The mean over class ids is divided by the weights of the labels.",
            ),
            Option(
                "ignore_index",
                "int, optional",
                "The class id of rows that count for nothing, in or out of range: loss and "
                "gradient 0, not part of the mean. Class ids only.",
            ),
            Option(
                "label_smoothing",
                "float in [0, 1], default 0.0",
                "How much of each target is spread evenly over all classes.",
            ),
            REDUCTION,
        ),
        labels_note=(
            "Class ids, integers of any kind and of the shape of `logits` without `axis`; or "
            "probabilities, floats of the shape of `logits`."
        ),
        notes=(
            "The mean over probabilities is divided by the number of rows. A mean over nothing, "
            "all rows ignored or none there, is nan, its gradient 0. A nan among the logits of a "
            "row that counts shows. Nothing waits for what is in arrays that lie on a GPU: a label "
            "out of range makes the loss and the gradient of its row nan, and weights are not "
            "checked."
        ),
        stable_note=(
            "One pass over each row while it is in the cache: probabilities are stored only as "
            "the gradient that they become. The largest logit enters through log1p, so that a "
            "small loss keeps its digits, and the gradient at a label of probability near 1 is "
            "exact. Losses are summed in float64 in a fixed order."
        ),
        raises=(
            "For a label out of range, shapes that do not match, an unknown reduction, a "
            "weight that is negative or not finite, smoothing outside [0, 1], or an axis out of "
            "bounds; nothing has been written then."
        ),
        example="[[2.0, 0.5, -1.0]], [0]",
        accuracy={"float32": 2.0, "float64": 2.0},
        ops=(*CLASS.values(), *SMOOTHED.values(), *PROBABILITIES.values()),
        numpy=NUMPY_CLASSES,
        torch=in_torch(TORCH_CLASSES),
        sources=("Goodfellow, Bengio, Courville 2016, Deep Learning, section 6.2.2",),
        use="Training a classifier of exclusive classes.",
    ),
    Loss(
        name="sigmoid_cross_entropy",
        summary="Binary cross-entropy of sigmoid(logits) against targets in [0, 1].",
        formula="mean of (1 - t) log(1 + exp(x)) + t log(1 + exp(-x))",
        inputs=("logits", "targets"),
        options=(
            Option(
                "weight",
                "array_like, optional",
                "What each entry counts for; broadcasts against `logits`.",
            ),
            Option(
                "pos_weight",
                "array_like, optional",
                "What the part with t counts for; broadcasts against `logits`.",
            ),
            REDUCTION,
        ),
        labels_note="Targets, numbers of the shape of `logits`.",
        notes="The mean is divided by the number of entries; over none it is nan.",
        stable_note=(
            "Each part is written with exp(-|x|) and log1p, so that both tails of loss and "
            "gradient keep all their digits. Losses are summed in float64 in a fixed order."
        ),
        raises=(
            "For shapes that do not match, an unknown reduction, or weights that are negative or "
            "not finite; nothing has been written then."
        ),
        example="[2.0, -1.0], [1.0, 0.0]",
        accuracy={"float32": 2.0, "float64": 2.0},
        ops=(*SIGMOID.values(), *WEIGHTED_SIGMOID.values()),
        numpy=NUMPY_BINARY,
        torch=in_torch(TORCH_BINARY),
        sources=("Goodfellow, Bengio, Courville 2016, Deep Learning, section 6.2.2",),
        use="Training a classifier of classes that do not exclude each other.",
    ),
)
