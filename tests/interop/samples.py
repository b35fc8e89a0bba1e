"""Points at which every op can be differentiated numerically: inside its domain, off its kinks."""

from __future__ import annotations

import numpy as np
import ops

from fastact.interop.catalogue import elementwise, fused, losses, rowwise

ELEMENTWISE = tuple(elementwise().values())
ROWWISE = tuple(rowwise().values())


def name_of(op):
    return op.name


def smooth_points(op, count=9, parameters=None):
    """Points at least 0.05 from a kink, and 0.1 from where f or f' ceases to be finite."""
    case = ops.Case(op.name, op.record.defaults if parameters is None else parameters)
    x = np.linspace(-4.2, 4.1, 301)
    good = np.ones(x.shape, bool)
    for near in (x - 0.1, x, x + 0.1):
        good &= np.isfinite(op.value_and_grad(near, *case.parameters)).all(axis=0)
    for kink in case.kinks:
        good &= np.abs(x - kink) > 0.05
    x = x[good]
    return x[np.linspace(0, x.size - 1, count).astype(int)]


def other_parameters(op):
    """Values of the parameters that are not the defaults."""
    return tuple(ops.OTHER_VALUES[p.domain][0] for p in op.record.parameters)


def fused_cases():
    """(op, float64 arrays, numbers): away from kinks, one of two arrays broadcast."""
    rng = np.random.default_rng(3)
    x = rng.permuted(np.linspace(-3.1, 2.9, 24)).reshape(4, 6)
    for op in fused().values():
        if len(op.arrays) > 1:
            parameters = tuple(1.5 for _ in op.numbers)
            yield op, (x, np.linspace(-1.05, 1.07, 6)), parameters
    own = {
        "glu": [(-1,), (0,)],
        "causal_softmax": [(0,), (2,)],
        "maxout": [(3, -1), (2, 0)],
    }
    for name, calls in own.items():
        for numbers in calls:
            yield fused()[name], (x,), numbers


def loss_cases():
    """(loss, logits, target, options): every kind of target, weight and reduction."""
    rng = np.random.default_rng(4)
    x, p = rng.normal(0, 2, (4, 6)), rng.uniform(0.1, 1, (4, 6))
    weight = rng.uniform(0.5, 2, 6)
    ids = np.array([0, 5, -1, 2])
    softmax, sigmoid = losses().values()
    yield softmax, x, ids, {"ignore_index": -1}
    yield softmax, x, np.arange(6) % 4, {"axis": 0, "reduction": "sum"}
    yield softmax, x, ids, {"weight": weight, "ignore_index": -1, "reduction": "none"}
    yield softmax, x, ids, {"weight": weight, "ignore_index": -1, "label_smoothing": 0.2}
    yield softmax, x, p, {"weight": weight, "label_smoothing": 0.1}
    yield softmax, x, p, {"reduction": "none"}
    yield sigmoid, x, p, {}
    yield sigmoid, x, p, {"weight": weight, "pos_weight": weight[::-1], "reduction": "none"}
    yield sigmoid, x, p, {"pos_weight": weight, "reduction": "sum"}


def case_id(value):
    return value.name if hasattr(value, "name") else ""


FUSED = tuple(fused_cases())
LOSSES = tuple(loss_cases())
