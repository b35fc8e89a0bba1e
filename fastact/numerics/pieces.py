"""Which piece of a table an argument belongs to: `pieces` in `fastact.numerics.language`."""

from fastact.numerics.language import bits, fma, scalar

ROUNDING = 12582912.0  # 1.5 * 2**23: a sum with it has the nearest integer in its low bits


@scalar
def piece_of(a, slowly, faster):
    """The integer next to (slowly + faster a) a, in the low bits."""
    return bits(fma(a, fma(a, faster, slowly), ROUNDING))


@scalar
def step_of(x, steps):
    """The integer next to steps x, in the low bits."""
    return bits(fma(x, steps, ROUNDING))
