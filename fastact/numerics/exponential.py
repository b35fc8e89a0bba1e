"""exp and expm1 without branches, tables or library calls.

x = n ln 2 + r with integer n and |r| <= ln(2)/2, then exp(x) = 2**n (1 + t), t = expm1(r).

n comes from adding a number so large that the sum's last bit is worth 1: the addition rounds,
and n stands in the low bits of the sum, ready to be shifted into an exponent. No conversion
between floats and integers is needed (AVX2 has none for 64 bits). An exponent bias hidden in
the added number makes the shifted bits a power of two without another addition. The number,
1.5 * 2**23 or 1.5 * 2**52 plus that bias, is called a SHIFT.
"""

from fastact.numerics.language import (
    ByDtype,
    bits,
    copysign,
    fma,
    from_bits,
    iand,
    ishl,
    isub,
    polynomial,
    scalar,
    select,
)

LOG2E = 1.4426950408889634  # 1/ln 2
LN2 = ByDtype(0.6931472, 0.6931471805599453)
LN2_TAIL = ByDtype(-1.904654323148236e-09, 2.3190468138462996e-17)  # ln 2 - LN2
FRACTION = ByDtype(23, 52)  # bits of a float below its exponent

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
# elu needs exp(x) for x <= 0 only: one power of two does, kept normal by this factor
SMALL = ByDtype(2.0**-32, 2.0**-64)
SMALL_SHIFT = ByDtype(12582912.0 + 127.0 + 32.0, 6755399441055744.0 + 1023.0 + 64.0)
LOWEST = ByDtype(-106.0, -750.0)  # exp of less rounds to 0

# Over the whole line 2**n is the product of two powers, and the hidden bias is doubled
WIDE_SHIFT = ByDtype(12582912.0 + 254.0, 6755399441055744.0 + 2046.0)
HALF_FRACTION = ByDtype(22, 51)
EXPONENT = ByDtype(-(1 << 23), -(1 << 52))  # sign and exponent of a bit pattern
BIAS_TWICE = ByDtype(254 << 23, 2046 << 52)
HIGHEST = ByDtype(90.0, 711.0)  # exp of more is infinite
LOWEST_EXPM1 = ByDtype(-20.0, -40.0)  # expm1 of less rounds to -1


@scalar
def clamp(x, low, high):
    """x moved into [low, high]; nan stays nan."""
    x = select(low > x, low, x)
    return select(high < x, high, x)


@scalar
def power_of_two(shifted):
    """2**n from the low bits of a SHIFT plus n; the bias is hidden in SHIFT."""
    return from_bits(ishl(bits(shifted), FRACTION))


@scalar
def two_powers(shifted):
    """(a, b), powers of two with a b = 2**n, from the low bits of WIDE_SHIFT plus n."""
    pattern = bits(shifted)
    half = iand(ishl(pattern, HALF_FRACTION), EXPONENT)
    return from_bits(half), from_bits(isub(ishl(pattern, FRACTION), half))


@scalar
def exponential_parts(x, low):
    """(s, r, u) with exp(x + low) = SMALL s (1 + r + u) for LOWEST <= x <= 0 and small low.

    nan goes through r.
    """
    shifted = fma(x, LOG2E, SMALL_SHIFT)
    n = shifted - SMALL_SHIFT
    r = fma(n, -LN2_TAIL, fma(n, -LN2, x)) + low
    return power_of_two(shifted), r, r * r * polynomial(r, EXPM1_RELATIVE)


@scalar
def exp(x):
    """exp(x)"""
    x = clamp(x, LOWEST, HIGHEST)
    shifted = fma(x, LOG2E, WIDE_SHIFT)
    n = shifted - WIDE_SHIFT
    r = fma(n, -LN2_TAIL, fma(n, -LN2, x))
    t = fma(r * r, polynomial(r, EXPM1_RELATIVE), r)
    a, b = two_powers(shifted)
    return fma(a, t, a) * b


@scalar
def expm1(x):
    """exp(x) - 1"""
    z = clamp(x, LOWEST_EXPM1, HIGHEST)
    shifted = fma(z, LOG2E, WIDE_SHIFT)
    n = shifted - WIDE_SHIFT
    r = fma(n, -LN2_TAIL, fma(n, -LN2, z))
    u = r * r * polynomial(r, EXPM1_RELATIVE)
    a, b = two_powers(shifted)
    # a - 1/b + a r + a u, the rounding errors of the first two sums carried along
    one = from_bits(isub(BIAS_TWICE, bits(b)))
    c = a - one
    high = fma(a, r, c)
    low = fma(a, r, c - high) + ((a - c) - one)
    return copysign((high + fma(a, u, low)) * b, x)
