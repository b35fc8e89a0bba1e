"""Which piece of a table an argument belongs to: `pieces` in `fastact.numerics.language`."""

from fastact.numerics.language import bits, fma, ishr, scalar

ROUNDING = 12582912.0  # 1.5 * 2**23: a sum with it has the nearest integer in its low bits
EIGHTHS = 20  # bits of a mantissa after its first three


@scalar
def piece_of(a, slowly, faster):
    """The integer next to (slowly + faster a) a, in the low bits."""
    return bits(fma(a, fma(a, faster, slowly), ROUNDING))


@scalar
def step_of(x, steps):
    """The integer next to steps x, in the low bits."""
    return bits(fma(x, steps, ROUNDING))


@scalar
def eighth_of(a, scale, offset):
    """Which eighth of a binade offset + scale a is in: eight pieces are as long as eight before."""
    return ishr(bits(fma(a, scale, offset)), EIGHTHS)
