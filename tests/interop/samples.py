"""Points at which every op can be differentiated numerically: inside its domain, off its kinks."""

from __future__ import annotations

import numpy as np
import ops

from fastact.interop.catalogue import elementwise, rowwise

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
