"""Exponentials of a row relative to its maximum, with nothing lost in the subtraction.

The difference x - m of two floats is itself rounded: for an entry 100 below the maximum that alone
is 32 ulp of the exponential in float32. Its error is computed (Dekker's fast two-sum) and added to
the reduced argument, where it is no longer negligible. So a row and the same row shifted by a
constant, where that shift is exact, give the same bits.

Weights are kept times 1/UNIT, so that one which is subnormal in the result is a normal number until
its last rounding.
"""

from fastact.numerics.exponential import EXPM1, LN2, LN2_TAIL, LOG2E, power_of_two
from fastact.numerics.language import ByDtype, fma, polynomial, scalar, select

UNIT = ByDtype(2.0**-32, 2.0**-64)
# The number that rounds (1.5 * 2**23, 1.5 * 2**52) plus the exponent bias, less that of UNIT.
SHIFT = ByDtype(12582912.0 + 127.0 + 32.0, 6755399441055744.0 + 1023.0 + 64.0)
# Below this distance from the maximum a weight is 0; the least subnormal lies at -104 and -745.
LOWEST = ByDtype(-109.0, -750.0)


@scalar
def difference(x, m):
    """x - m as d + lost, exactly, for x <= m (Dekker: the larger of two terms comes first)."""
    d = x - m
    large = select(x < -m, x, -m)
    small = select(x < -m, -m, x)
    return d, small - (d - large)


@scalar
def raised(d, lost):
    """exp(d + lost) / UNIT for d <= 1; 0 below LOWEST, so for -inf."""
    shifted = fma(d, LOG2E, SHIFT)
    n = shifted - SHIFT
    r = fma(n, -LN2_TAIL, fma(n, -LN2, d) + lost)
    t = fma(r * r, polynomial(r, EXPM1), r)
    s = power_of_two(shifted)
    return select(d < LOWEST, 0.0, fma(s, t, s))


@scalar
def weight(x, m):
    """exp(x - m) / UNIT for x <= m."""
    d, lost = difference(x, m)
    return raised(d, lost)


@scalar
def scaled_weight(x, m, scale, scale_tail):
    """exp((x - m)(scale + scale_tail)) / UNIT; the product is not rounded."""
    d, lost = difference(x, m)
    z = d * scale
    low = fma(d, scale, -z)
    return raised(z, low + fma(lost, scale, d * scale_tail))


@scalar
def exponential(x):
    """exp(x) for x <= 1; 0 below LOWEST."""
    return raised(x, 0.0) * UNIT
