"""The logistic function and its relatives from one shared set of intermediate values.

For z >= 0 let E = exp(z) = S (1 + t), S = 2**n. Everything here is made of

    w = 1/(1 + E) = sigma(-z),

with a residual: `rem` so that w (1 + rem) is accurate far beyond the rounding of w. All of it is
scaled: S and 1/w carry a factor UNIT, a small power of two, so that w is a normal number where
the result is subnormal. The last step of each function multiplies by UNIT and rounds once.
"""

from fastact.numerics.exponential import (
    EXPM1,
    LN2,
    LN2_TAIL,
    LOG2E,
    power_of_two,
)
from fastact.numerics.language import ByDtype, copysign, fma, polynomial, scalar, select

UNIT = ByDtype(2.0**-64, 2.0**-512)
# ROUNDER plus the exponent bias, less the exponent of UNIT
SHIFT = ByDtype(12582912.0 + 127.0 - 64.0, 6755399441055744.0 + 1023.0 - 512.0)
# beyond these S would overflow; the results are 0 or saturated long before
LIMIT = ByDtype(131.0, 1039.0)
# the largest rounding error of a product below LIMIT
LIMIT_ERROR = ByDtype(2.0**-17, 2.0**-43)
# below this tanh(x) = x - x**3/3 + ... rounds to x
TINY = ByDtype(2.0**-13, 2.0**-28)


@scalar
def exponential_parts(z, low):
    """(z, n, r, s, u) with exp(z + low) = s (1 + r + u) / UNIT for 0 <= z; nan goes through r."""
    shifted = fma(z, LOG2E, SHIFT)
    n = shifted - SHIFT
    r = fma(n, -LN2, z) + low
    u = r * r * polynomial(r, EXPM1)
    return n, r, power_of_two(shifted), u


@scalar
def logistic_parts(z, low):
    """(w, rem) with sigma(-z - low) = UNIT w (1 + rem) for 0 <= z <= LIMIT."""
    n, r, s, u = exponential_parts(z, low)
    t = r + u
    w = 1.0 / fma(s, t, s + UNIT)
    ws = w * s
    rem = fma(-ws, t, 1.0 - ws)
    rem = fma(-UNIT, w, rem)
    return w, fma(n, LN2_TAIL, rem)


@scalar
def limited(z):
    """z moved below LIMIT; nan stays nan."""
    return select(LIMIT < z, LIMIT, z)


@scalar
def product(a, b):
    """(z, low): |a b| as z + low exactly, z moved below LIMIT."""
    a = abs(a)
    b = abs(b)
    z = limited(a * b)
    low = fma(a, b, -z)
    return z, select(LIMIT_ERROR < low, LIMIT_ERROR, low)


@scalar
def logistic(x):
    """sigma(x)"""
    w, rem = logistic_parts(limited(abs(x)), -0.0)
    w = fma(w, rem, w)
    return select(x < 0.0, UNIT * w, fma(-UNIT, w, 1.0))


@scalar
def slope_parts(z, low):
    """(w, lo) with sigma'(z + low) = UNIT (w + w lo); sigma' = sigma - sigma**2 at -z."""
    w, rem = logistic_parts(z, low)
    tail = UNIT * w
    return w, fma(rem, fma(-2.0, tail, 1.0), -tail)


@scalar
def tanh_parts(z, low):
    """tanh((z + low)/2) = (E - 1)/(E + 1) for TINY <= z"""
    _, r, s, u = exponential_parts(z, low)
    t = r + u
    w = 1.0 / fma(s, t, s + UNIT)
    y = fma(s, t, s - UNIT) * w
    rest = fma(-s, y, s)
    rem = fma(rest, u, fma(rest, r, fma(-y, s + UNIT, s - UNIT)))
    return fma(rem, w, y)
