"""The logistic function and its relatives from one shared set of intermediate values.

With E = exp(z) = s (1 + t) / UNIT, where s is a power of two and t = expm1(r):

    sigma(-z) = 1/(1 + E) = UNIT w (1 + rest),

where w is a rough reciprocal that has been cut to few bits, so that its products below are exact
and `rest`, found from the residual 1 - (1 + E) UNIT w, is accurate far beyond the last bit of w.
The one rounding that matters is the last one.

Everything is scaled by UNIT, a small power of two: w is a normal number where the result is
subnormal, and each function multiplies by UNIT last.
"""

from fastact.numerics.exponential import EXPM1, LN2, LN2_TAIL, LOG2E, power_of_two
from fastact.numerics.language import (
    ByDtype,
    bits,
    fma,
    from_bits,
    iand,
    polynomial,
    scalar,
    select,
)
from fastact.numerics.reciprocal import rough_reciprocal

UNIT = ByDtype(2.0**-64, 2.0**-512)
ROOT_OF_UNIT = ByDtype(2.0**-32, 2.0**-256)
# with the exponent bias less the exponent of UNIT
SHIFT = ByDtype(12582912.0 + 127.0 - 64.0, 6755399441055744.0 + 1023.0 - 512.0)
# and plus it
FALLING_SHIFT = ByDtype(12582912.0 + 127.0 + 64.0, 6755399441055744.0 + 1023.0 + 512.0)
HIGHEST = ByDtype(130.0, 1039.0)  # sigma(-z) rounds to 0, and w stays normal
LEADING = ByDtype(-(1 << 8), -(1 << 27))  # keeps 16 or 26 bits of a mantissa


@scalar
def at_most(z, high):
    """min(z, high); nan stays nan."""
    return select(high < z, high, z)


@scalar
def logistic_parts(z, low):
    """(w, rest) at z + low for 0 <= z <= HIGHEST and small low."""
    shifted = fma(z, LOG2E, SHIFT)
    n = shifted - SHIFT
    r = fma(n, -LN2, z) + low
    t = fma(r * r, polynomial(r, EXPM1), r)
    s = power_of_two(shifted)
    w = rough_reciprocal(fma(s, t, s + UNIT))
    w = from_bits(iand(bits(w), LEADING))
    ws = w * s
    rest = fma(-ws, t, fma(-UNIT, w, 1.0 - ws))
    # ln 2 is not LN2: E is too large by n LN2_TAIL. That hardly matters where E is small.
    rest = fma(n, LN2_TAIL, rest)
    return w, fma(rest, rest, rest)


@scalar
def falling_exponential(z, low):
    """(s, t) with exp(-(z + low)) = UNIT s (1 + t) for 0 <= z <= HIGHEST and small low."""
    shifted = fma(z, -LOG2E, FALLING_SHIFT)
    n = shifted - FALLING_SHIFT
    r = fma(n, -LN2_TAIL, fma(n, -LN2, -z)) - low
    return power_of_two(shifted), fma(r * r, polynomial(r, EXPM1), r)


@scalar
def product(a, b):
    """(z, low, outside): z + low = |a b|; z is HIGHEST where |a b| is outside the range."""
    a = abs(a)
    b = abs(b)
    z = a * b
    outside = HIGHEST < z
    return at_most(z, HIGHEST), select(outside, 0.0, fma(a, b, -z)), outside


@scalar
def logistic(x):
    """sigma(x)"""
    w, rest = logistic_parts(at_most(abs(x), HIGHEST), -0.0)
    w = fma(w, rest, w)
    return select(x < 0.0, UNIT * w, fma(-UNIT, w, 1.0))


@scalar
def slope_part(w, rest):
    """The part with sigma' = UNIT w (1 + part), from sigma' = sigma - sigma**2 at -z.

    For W = w (1 + rest), W - W**2 = w + w (rest (1 - w - W) - w). Only the last subtraction
    and the last addition round visibly.
    """
    both = w + fma(w, rest, w)
    return fma(rest, fma(-UNIT, both, 1.0), -UNIT * w)


@scalar
def scaled_slope(x, b):
    """sigma'(b x) / UNIT, 0 where the product is outside the range."""
    z, low, outside = product(b, x)
    w, rest = logistic_parts(z, low)
    return select(outside, 0.0, fma(w, slope_part(w, rest), w))
