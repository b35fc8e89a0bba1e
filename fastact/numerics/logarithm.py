"""log and log1p without branches, tables or library calls.

x = 2**k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)). With s = f/(2 + f) and h = f**2/2,

    log(1 + f) = 2 atanh(s) = f - (h - s (h + s**2 P(s**2))),

where f is exact and everything after it is small. Near x = 1, where log is small, k is 0 and no
digits are lost.
"""

from fastact.numerics.exponential import EXPONENT, FRACTION, LN2, LN2_TAIL
from fastact.numerics.language import (
    ByDtype,
    bits,
    copysign,
    fma,
    from_bits,
    iadd,
    iand,
    ishr,
    isub,
    polynomial,
    scalar,
    select,
)

# (2 atanh(s)/s - 2)/s**2 in s**2, from ci/coefficients.py
ATANH = ByDtype(
    (
        0.29870942,
        0.3997758,
        0.66666776,
    ),
    (
        0.14795751624672887,
        0.15314074421948481,
        0.18183563197979535,
        0.22222198599679158,
        0.28571428742066474,
        0.3999999999941654,
        0.6666666666666734,
    ),
)
INF = float("inf")
NAN = float("nan")
SQRT_HALF_BITS = ByDtype(0x3F3504F3, 0x3FE6A09E667F3BCD)
ONE_BITS = ByDtype(0x3F800000, 0x3FF0000000000000)
ROUNDER = ByDtype(12582912.0, 6755399441055744.0)  # 1.5 * 2**23, 1.5 * 2**52
ROUNDER_BITS = ByDtype(0x4B400000, 0x4338000000000000)
NORMAL = ByDtype(2.0**-126, 2.0**-1022)
SCALE = ByDtype(2.0**24, 2.0**54)  # makes a subnormal number normal
SCALE_LOG2 = ByDtype(24.0, 54.0)
LARGE = ByDtype(2.0**60, 2.0**120)  # adding 1 changes nothing


@scalar
def split(x):
    """(k, e, m): x = 2**k m for normal x > 0; e is k in the exponent's bits."""
    i = isub(bits(x), SQRT_HALF_BITS)
    e = iand(i, EXPONENT)
    k = from_bits(iadd(ishr(i, FRACTION), ROUNDER_BITS)) - ROUNDER
    return k, e, from_bits(isub(bits(x), e))


@scalar
def sum_of_logs(k, f, lost):
    """k ln 2 + log(1 + f + lost), lost far below f."""
    s = f / (2.0 + f)
    square = s * s
    half = 0.5 * f * f
    high = fma(k, LN2, f)
    low = fma(k, LN2_TAIL, (fma(k, LN2, -high) + f) + lost)
    return high + (fma(s, fma(square, polynomial(square, ATANH), half), low) - half)


@scalar
def log(x):
    """The natural logarithm of x."""
    subnormal = x < NORMAL
    k, _, m = split(select(subnormal, x * SCALE, x))
    k = select(subnormal, k - SCALE_LOG2, k)
    y = sum_of_logs(k, m - 1.0, 0.0)
    y = select(x > 0.0, y, select(x == 0.0, -INF, NAN))
    return select(x < INF, y, x)


@scalar
def log1p(x):
    """log(1 + x)"""
    u = 1.0 + x
    k, e, m = split(u)
    # u is rounded: f comes from x itself, unless x is so large that the scale would underflow
    scale = from_bits(isub(ONE_BITS, e))
    f = fma(scale, x, scale - 1.0)
    lost = fma(scale, x, (scale - 1.0) - f)
    large = x > LARGE
    f = select(large, m - 1.0, f)
    y = copysign(sum_of_logs(k, f, select(large, 0.0, lost)), x)
    y = select(u > 0.0, y, select(u == 0.0, -INF, NAN))
    return select(x < INF, y, x)
