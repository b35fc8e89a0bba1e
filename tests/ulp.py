"""Units in the last place: sampling a dtype evenly in them, and measuring errors in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from mpmath import mp

UNSIGNED = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def info(dtype: Any) -> Any:
    """`np.finfo`, for bfloat16 too."""
    if np.dtype(dtype).name != "bfloat16":
        return np.finfo(dtype)
    import ml_dtypes

    return ml_dtypes.finfo(dtype)


def ulp(exact: Any, dtype: Any) -> Any:
    """The spacing of the dtype in the binade of an exact value; that of subnormals below."""
    info = np.finfo(dtype)
    binade = mp.mag(exact) - 1 if exact else info.minexp
    binade = min(max(binade, int(info.minexp)), int(info.maxexp) - 1)
    return mp.ldexp(1, binade - int(info.nmant))


def as_exact(got: Any, dtype: Any) -> Any:
    """A computed value as mpf; infinity stands for the first value past the largest."""
    value = float(got)
    if np.isinf(value):
        return mp.sign(value) * mp.ldexp(1, int(np.finfo(dtype).maxexp))
    return mp.mpf(value)


def ulp_error(got: Any, exact: Any, dtype: Any) -> float:
    """|got - exact| in units in the last place of exact; infinite if only one of them is nan.

    An infinite result is right from half a unit past the largest number on.
    """
    if np.isnan(float(got)) or mp.isnan(exact):
        return 0.0 if np.isnan(float(got)) and mp.isnan(exact) else float("inf")
    with mp.workprec(max(mp.prec, 160)):
        past = mp.ldexp(1, int(np.finfo(dtype).maxexp))
        exact = min(max(exact, -past), past)
        return float(abs(as_exact(got, dtype) - exact) / ulp(exact, dtype))


def ulp_errors(got: np.ndarray, exact: Sequence[Any]) -> np.ndarray:
    """`ulp_error` of each entry."""
    pairs = zip(got.tolist(), exact, strict=True)
    return np.array([ulp_error(g, e, got.dtype) for g, e in pairs])


def ulp_interval_error(got: Any, ends: tuple[Any, Any], dtype: Any) -> float:
    """The error against the nearest value of an interval: 0 inside."""
    low, high = min(ends), max(ends)
    value = as_exact(got, dtype) if not np.isnan(float(got)) else mp.nan
    if low <= value <= high:
        return 0.0
    return min(ulp_error(got, low, dtype), ulp_error(got, high, dtype))


def neighbours(x: Any, steps: Iterable[int], dtype: Any) -> np.ndarray:
    """x moved by whole steps of its dtype, across zero where need be."""
    info = np.finfo(dtype)
    unsigned = UNSIGNED[info.dtype.itemsize]
    pattern = int(np.asarray(x, dtype).view(unsigned))
    sign = 1 << (info.bits - 1)
    ordinal = sign - pattern if pattern & sign else pattern
    out = []
    for step in steps:
        n = ordinal + step
        out.append(n if n >= 0 else sign | -n)
    return np.array(out, unsigned).view(dtype)


def ulp_uniform(dtype: Any, low: float, high: float, n: int, rng: Any) -> np.ndarray:
    """n values in [low, high], 0 <= low, each stratum of equally many ULPs hit once."""
    unsigned = UNSIGNED[np.dtype(dtype).itemsize]
    first, last = (int(np.asarray(v, dtype).view(unsigned)) for v in (low, high))
    edges = np.linspace(0, 1, n, endpoint=False) + rng.random(n) / n
    return (first + (edges * (last - first)).astype(unsigned)).astype(unsigned).view(dtype)


def samples(dtype: Any, n: int, around: Iterable[float] = (), seed: int = 0) -> np.ndarray:
    """About n finite values: even in ULPs over the whole line, and dense where it matters.

    A quarter lies anywhere between the least subnormal and the largest number, a quarter
    where functions of order 1 change, half evenly on the interval of ordinary arguments;
    then every special value, the ends of the range of exp, and 3 ULPs either side of each
    point of `around` (kinks).
    """
    rng = np.random.default_rng(seed)
    info = np.finfo(dtype)
    quarter = n // 4
    smallest, top = float(info.smallest_subnormal), float(info.max)
    exp_top = float(np.log(info.max.astype(np.float64)))
    exp_low = -float(np.log(np.float64(info.smallest_normal))) + info.nmant * np.log(2)
    parts = [
        ulp_uniform(dtype, smallest, top, quarter, rng),
        ulp_uniform(dtype, 2.0 ** -(info.nmant + 4), 2.0 * exp_low, quarter, rng),
        rng.uniform(0.0, 24.0, 2 * quarter).astype(dtype),
    ]
    x = np.concatenate(parts)
    x *= rng.choice(np.array([-1, 1], dtype), x.size)
    special = np.array([0.0, smallest, info.smallest_normal, info.eps, 1.0, top], dtype)
    edge = np.concatenate([neighbours(v, range(-3, 4), dtype) for v in (0.0, *around)])
    border = np.linspace(exp_top - 3, exp_low + 3, 24).astype(dtype)
    below_top = np.nextafter(info.max, dtype(0))
    last = np.array([below_top, np.nextafter(info.smallest_normal, dtype(0))], dtype)
    fixed = np.concatenate([special, border, last])
    return np.concatenate([x, fixed, -fixed, edge])
