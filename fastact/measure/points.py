"""The sample points on which errors are measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastact.measure.catalogue import parameters_of, record_of
from fastact.measure.operands import numpy_dtype

LINEAR = 20.0
NEAR_ZERO = 1 / 8  # in parts of x: so close to a zero of f', its terms cancel
COUNT = 1024  # points on the linear part, and on each logarithmic tail
# The ends of the logarithmic part: beyond them exponentials of the dtype over- or underflow.
SMALLEST = {"float16": 6.2e-5, "bfloat16": 1.2e-38, "float32": 1.2e-38, "float64": 2.3e-308}
LARGEST = {"float16": 85.0, "bfloat16": 85.0, "float32": 85.0, "float64": 700.0}


def points(op: str, dtype: str) -> Any:
    """Increasing numbers of the dtype, uniform on +-20 and log-spaced on both tails.

    The kinks of the operation are left out: the derivative there is a convention.
    """
    tail = np.geomspace(SMALLEST[dtype], LARGEST[dtype], COUNT)
    spread = np.concatenate([-tail, np.linspace(-LINEAR, LINEAR, 2 * COUNT), tail])
    x = np.unique(spread.astype(numpy_dtype(dtype)).astype(np.float64))
    record = record_of(op)
    at = [eval(k, {"np": np} | parameters_of(op)) for k in getattr(record, "kinks", ())]
    return x[~np.isin(x, at)].astype(numpy_dtype(dtype))


def near_roots(exact: Any, x: Any) -> Any:
    """Points within NEAR_ZERO of where exact values, in increasing order of x, change sign."""
    near = np.zeros(exact.shape, bool)
    for root in x[np.flatnonzero(exact[:-1] * exact[1:] < 0)].astype(np.float64):
        near |= np.abs(x.astype(np.float64) - root) <= NEAR_ZERO * abs(root)
    return near
