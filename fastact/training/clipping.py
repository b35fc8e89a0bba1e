"""Gradient clipping by the norm of all gradients together."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from fastact.compile.squares import SUMS, build_squares
from fastact.runtime.loops import load

FLOATS = ("float16", "bfloat16", "float32", "float64")
# Squares of float64 leave the range of float64: then everything is scaled by a power of 2.
SMALL, LARGE = 1e-250, 1e290
SHIFT = 600
TINY_FACTOR = 1e-30  # a smaller factor is applied in float64: float32 has none below 1e-38


@cache
def squares(dtype: str) -> Any:
    """The compiled sum of squares of a dtype, as a C function."""
    symbol = f"fastact_squares_{dtype}"
    (address,) = load(symbol, (symbol,), lambda: build_squares(dtype, symbol))
    return ctypes.CFUNCTYPE(ctypes.c_ssize_t, *[ctypes.c_ssize_t] * 4)(address)


def sum_of_squares(arrays: Sequence[Any], scale: float) -> float:
    """The sum of (scale * g)^2 over all entries of all arrays, nearly correctly rounded."""
    factor = np.array(scale)
    sums = np.empty((len(arrays), SUMS))
    for array, row in zip(arrays, sums, strict=True):
        flat = np.ascontiguousarray(array)
        squares(array.dtype.name)(flat.size, flat.ctypes.data, factor.ctypes.data, row.ctypes.data)
    plain = float(sums[:, : SUMS // 2].sum())
    if not math.isfinite(plain):
        return plain
    return math.fsum(sums.ravel())


def norm_of(arrays: Sequence[Any]) -> tuple[float, int]:
    """(r, k), the norm of all entries being r * 2^k: it may be too large for a float64."""
    total = sum_of_squares(arrays, 1.0)
    if SMALL < total < LARGE or (total == 0 and all(a.dtype.name != "float64" for a in arrays)):
        return math.sqrt(total), 0
    down = not total < LARGE
    total = sum_of_squares(arrays, math.ldexp(1.0, -SHIFT if down else SHIFT))
    return math.sqrt(total), SHIFT if down else -SHIFT


def check(grads: Any, out: Any) -> tuple[list[Any], list[Any] | None]:
    """The gradients as arrays, and where to write; errors name what is wrong."""
    if isinstance(grads, np.ndarray) or not isinstance(grads, Sequence):
        raise TypeError(
            "clip_by_global_norm: grads must be a list or tuple of arrays, "
            f"got {type(grads).__name__}"
        )
    arrays = [np.asarray(g) for g in grads]
    for k, array in enumerate(arrays):
        if array.dtype.name not in FLOATS:
            raise TypeError(
                f"clip_by_global_norm: grads[{k}] has dtype {array.dtype}; it may be "
                "float16, bfloat16, float32 or float64"
            )
    arrays = [a if a.dtype.isnative else a.astype(a.dtype.newbyteorder("=")) for a in arrays]
    if out is None:
        return arrays, None
    if not isinstance(out, Sequence) or len(out) != len(arrays):
        raise ValueError(f"clip_by_global_norm: out must be {len(arrays)} arrays, one for each")
    for k, (array, target) in enumerate(zip(arrays, out, strict=True)):
        good = isinstance(target, np.ndarray) and target.flags.writeable
        if not good or target.shape != array.shape or target.dtype != array.dtype:
            raise ValueError(
                f"clip_by_global_norm: out[{k}] must be a writeable array of shape {array.shape} "
                f"and dtype {array.dtype}"
            )
    return arrays, list(out)


def scaled(array: Any, factor: float, exponent: int, out: Any) -> Any:
    """factor * 2^exponent * array, rounded to the dtype of the array."""
    wide = array.dtype.name == "float64" or abs(factor) < TINY_FACTOR
    computing = np.float64 if wide else np.float32
    target = np.empty_like(array) if out is None else out
    with np.errstate(all="ignore"):
        if exponent:
            array = array * np.ldexp(1.0, exponent)
        np.multiply(array, computing(factor), out=target, dtype=computing, casting="unsafe")
    return target


def clip_by_global_norm(grads: Any, max_norm: float, out: Any = None) -> tuple[list[Any], float]:
    """Scale gradients down together so that the norm of all of them is at most max_norm.

    The norm is that of all entries of all arrays, as if they were one vector: the direction of
    the step stays what it was. It is summed in compensated float64 arithmetic, so that neither
    many entries nor large ones spoil it, and cannot overflow on the way.

    Parameters
    ----------
    grads : list or tuple of array_like
        float16, bfloat16, float32 or float64, any shapes; dtypes may differ.
    max_norm : float
        Finite and positive.
    out : list or tuple of arrays, optional
        Where to write, one for each; `out=grads` clips in place.

    Returns
    -------
    clipped : list of arrays
        With the shapes and dtypes of the gradients. Where the norm is small enough already and
        no `out` is given, they are the gradients themselves, not copies.
    norm : float
        What the norm was before. Where it is inf or nan, every entry of the result is nan, so
        that nothing broken passes for a gradient.

    Raises
    ------
    TypeError
        If grads is no list or tuple, or an array is not real floating point.
    ValueError
        If max_norm is not finite and positive, or `out` does not fit.

    References
    ----------
    R. Pascanu, T. Mikolov, Y. Bengio, On the difficulty of training recurrent neural networks,
    ICML 2013

    Examples
    --------
    >>> import fastact as fa
    >>> clipped, norm = fa.clip_by_global_norm([np.array([3.0]), np.array([[4.0]])], 1.0)
    >>> norm, [g.ravel().tolist() for g in clipped]
    (5.0, [[0.6000000000000001], [0.8]])
    """
    if not (isinstance(max_norm, int | float | np.number) and 0 < max_norm < math.inf):
        raise ValueError(
            f"clip_by_global_norm: max_norm must be finite and positive, got {max_norm!r}"
        )
    arrays, targets = check(grads, out)
    root, exponent = norm_of(arrays)
    with np.errstate(over="ignore"):  # finite entries can have a norm beyond float64
        norm = float(np.ldexp(root, exponent))
    if not math.isfinite(root):
        factor = math.nan
    elif norm <= max_norm:
        if targets is None:
            return arrays, norm
        factor, exponent = 1.0, 0
    else:
        factor = float(max_norm) / root
    places = targets or [None] * len(arrays)
    return [scaled(a, factor, -exponent, t) for a, t in zip(arrays, places, strict=True)], norm
