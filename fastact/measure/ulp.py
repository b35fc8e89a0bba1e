"""Errors in units in the last place."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Format(NamedTuple):
    """A binary floating-point format: bits after the point, least and largest exponent."""

    fraction: int
    least: int
    largest: int


FORMATS = {
    "float16": Format(10, -14, 15),
    "bfloat16": Format(7, -126, 127),
    "float32": Format(23, -126, 127),
    "float64": Format(52, -1022, 1023),
}


def smallest_normal(dtype: str) -> Any:
    """The smallest number of the dtype that has all its digits."""
    return np.ldexp(np.longdouble(1), FORMATS[dtype].least)


def spacing(exact: Any, dtype: str) -> Any:
    """The distance between neighbouring numbers of the dtype around exact values."""
    format_ = FORMATS[dtype]
    exponent = np.frexp(exact)[1] - 1
    return np.ldexp(np.ones_like(exact), np.maximum(exponent, format_.least) - format_.fraction)


def overflowed(exact: Any, dtype: str) -> Any:
    """Exact values, with infinity for those that round to it."""
    format_ = FORMATS[dtype]
    half_way = np.ldexp(2 - np.ldexp(exact.dtype.type(1), -format_.fraction - 1), format_.largest)
    return np.where(np.abs(exact) >= half_way, np.copysign(np.inf, exact), exact)


def ulp_error(got: Any, exact: Any, dtype: str, band: Any = 0.0, unit: Any = None) -> Any:
    """How far results are from exact values, in units in the last place of the dtype.

    `exact` is of a wider type; an error up to `band` is forgiven; `unit` replaces the spacing of
    the dtype. Equal infinities and two nans count as 0, a nan or infinity against a number as inf.
    """
    with np.errstate(all="ignore"):
        got = np.asarray(got).astype(exact.dtype)
        exact = overflowed(exact, dtype)
        excess = np.maximum(np.abs(got - exact) - band, 0)
        unit = spacing(exact, dtype) if unit is None else unit
        error = np.where(np.isnan(excess), np.inf, excess / unit)
        same = (got == exact) | (np.isnan(got) & np.isnan(exact))
    return np.where(same, 0.0, error).astype(np.float64)
