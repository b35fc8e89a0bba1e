"""exp and expm1 without branches, tables or library calls.

x = n ln 2 + r with integer n and |r| <= ln(2)/2, then exp(x) = 2**n (1 + t), t = expm1(r).

n comes from adding a number so large that the sum's last bit is worth 1: the addition rounds,
and n stands in the low bits of the sum, ready to be shifted into an exponent. No conversion
between floats and integers is needed (AVX2 has none for 64 bits). An exponent bias hidden in
the added number makes the shifted bits a power of two without another addition.
"""

from fastact.numerics.language import (
    ByDtype,
    bits,
    fma,
    from_bits,
    ishl,
    polynomial,
    scalar,
    select,
)

LOG2E = 1.4426950408889634  # 1/ln 2
LN2 = ByDtype(0.6931472, 0.6931471805599453)
LN2_TAIL = ByDtype(-1.904654323148236e-09, 2.3190468138462996e-17)  # ln 2 - LN2
FRACTION = ByDtype(23, 52)  # bits of a float below its exponent
ROUNDER = ByDtype(12582912.0, 6755399441055744.0)  # 1.5 * 2**23, 1.5 * 2**52

# (expm1(r) - r) / r**2 on [-ln(2)/2, ln(2)/2], from ci/coefficients.py; the first such that
# exp(r) has the least relative error, the second such that expm1(r) has
EXPM1 = ByDtype(
    (
        0.0013818312,
        0.008368534,
        0.041668292,
        0.16666523,
        0.49999994,
    ),
    (
        2.500703413090771e-08,
        2.7630223093100954e-07,
        2.755755938521542e-06,
        2.4801493099899534e-05,
        0.00019841269544688738,
        0.0013888888943758173,
        0.008333333333471317,
        0.04166666666652865,
        0.16666666666666463,
        0.5000000000000011,
    ),
)
EXPM1_RELATIVE = ByDtype(
    (
        0.00019760989,
        0.0013932313,
        0.008333547,
        0.041666493,
        0.16666666,
        0.5,
    ),
    (
        2.089801932766295e-09,
        2.5108652209040338e-08,
        2.7557315683291136e-07,
        2.75572452026702e-06,
        2.4801587294999137e-05,
        0.00019841269885348381,
        0.0013888888888886732,
        0.008333333333321775,
        0.04166666666666669,
        0.16666666666666677,
        0.5,
    ),
)
# 2**-n for the n of the smallest result: keeps the power of two of a subnormal result normal
SMALL = ByDtype(2.0**-32, 2.0**-64)
SMALL_SHIFT = ByDtype(12582912.0 + 127.0 + 32.0, 6755399441055744.0 + 1023.0 + 64.0)
LOWEST = ByDtype(-106.0, -750.0)  # exp of less rounds to 0


@scalar
def power_of_two(shifted):
    """2**n from the low bits of n + bias + ROUNDER."""
    return from_bits(ishl(bits(shifted), FRACTION))


@scalar
def clamp(x, low, high):
    """x moved into [low, high]; nan stays nan."""
    x = select(low > x, low, x)
    return select(high < x, high, x)


@scalar
def exponential_parts(x):
    """(s, r, u) with exp(x) = SMALL s (1 + r + u) for LOWEST <= x <= 0; nan goes through r."""
    shifted = fma(x, LOG2E, SMALL_SHIFT)
    n = shifted - SMALL_SHIFT
    r = fma(n, -LN2_TAIL, fma(n, -LN2, x))
    return power_of_two(shifted), r, r * r * polynomial(r, EXPM1_RELATIVE)
