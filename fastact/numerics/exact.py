"""Sums and products with the part that rounding would lose, and constants in two parts.

A constant stands as its value rounded down and the rest: both parts are positive, so that
multiplying infinity by the two and adding gives infinity, not nan.
"""

from fastact.numerics.language import ByDtype, fma, scalar

SIXTH = ByDtype(0.16666666, 0.16666666666666666)
SIXTH_TAIL = ByDtype(9.934107462565104e-09, 9.25185853854297e-18)
THIRD = ByDtype(0.3333333, 0.3333333333333333)
THIRD_TAIL = ByDtype(1.9868214925130207e-08, 1.850371707708594e-17)


@scalar
def two_sum(a, b):
    """(s, rest): s + rest = a + b exactly (Knuth)."""
    s = a + b
    part = s - a
    return s, (a - (s - part)) + (b - part)


@scalar
def quick_two_sum(a, b):
    """(s, rest): s + rest = a + b exactly if a is a multiple of b's last place (Dekker)."""
    s = a + b
    return s, b - (s - a)


@scalar
def two_product(a, b):
    """(p, rest): p + rest = a b exactly, unless rest is below the smallest number."""
    p = a * b
    return p, fma(a, b, -p)
