"""How much of a layer has stopped learning."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastact as fa

# A slope under 1/128 passes less than a hundredth of a gradient. It is a power of 2, so that
# rounding to a short dtype moves it nowhere, and below 0.01, the usual slope of a leaky unit.
THRESHOLD = 2.0**-7

CHUNK = 1 << 16  # entries whose slopes are held at once


def saturation(
    x: Any,
    op: str,
    axis: int | None = None,
    threshold: float = THRESHOLD,
    **parameters: Any,
) -> Any:
    """Share of the inputs of an activation at which it is saturated: |f'(x)| < threshold.

    A unit that is saturated for every sample is dead for this batch: its weights get next to no
    gradient. With a batch of pre-activations, one row per sample, `axis=0` gives the share
    per unit, and the share of dead units is `(fa.saturation(x, "relu", axis=0) == 1).mean()`.

    Parameters
    ----------
    x : array_like
        Inputs of the activation (pre-activations): float16, bfloat16, float32 or float64.
    op : str
        Name of an elementwise op with a derivative.
    axis : int, optional
        The axis to count along; all entries if None.
    threshold : float, default 1/128
        Slopes smaller than this count as saturated. Not negative.
    **parameters
        Parameters of the op, such as `negative_slope=0.1`.

    Returns
    -------
    float, or array of float64 without the axis
        Counted exactly and divided once; nan of nothing. A nan is not saturated.

    Raises
    ------
    KeyError
        If there is no op of that name.
    TypeError
        For an op without a derivative of one input, or a dtype that is not real.
    ValueError
        For a threshold that is negative or nan, or an axis out of bounds.

    Examples
    --------
    >>> import fastact as fa
    >>> fa.saturation([-9.0, -1.0, 0.0, 1.0, 9.0], "sigmoid")
    0.4
    >>> fa.saturation([[-1.0, 2.0], [-3.0, -1.0]], "relu", axis=0)
    array([1. , 0.5])
    """
    slope = getattr(fa.get(op), "grad", None)
    if slope is None:
        raise TypeError(f"saturation: op {op!r} has no derivative of one input")
    if not threshold >= 0:
        raise ValueError(f"saturation: threshold must be 0 or more, got {threshold!r}")
    x = np.asarray(x)
    if axis is None:
        count, total = _count(x.reshape(-1), slope, threshold, parameters), x.size
        return count / total if total else float("nan")
    rows = np.moveaxis(x, axis, 0)
    if not rows.shape[0]:
        return np.full(rows.shape[1:], np.nan)
    counts = np.zeros(rows.shape[1:], np.int64)
    step = max(1, CHUNK // max(1, counts.size))
    for start in range(0, rows.shape[0], step):
        slopes = np.abs(slope(rows[start : start + step], **parameters))
        counts += (slopes < threshold).sum(axis=0)
    return counts / rows.shape[0]


def _count(x: Any, slope: Any, threshold: float, parameters: dict[str, Any]) -> int:
    """How many of the inputs have a smaller slope, a chunk at a time, in cache."""
    pieces = (x[start : start + CHUNK] for start in range(0, x.size, CHUNK))
    return sum(
        int(np.count_nonzero(np.abs(slope(piece, **parameters)) < threshold)) for piece in pieces
    )
