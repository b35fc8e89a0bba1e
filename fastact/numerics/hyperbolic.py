"""tanh as the larger of two approximations, each of which is too small where the other one holds.

Near 0 an odd polynomial, a + a**3 P(a**2); elsewhere 1 - e G(e) with e = exp(-2a), where
G(e) approximates 2/(1 + e). P and G have an even degree, and beyond its interval each lies on
the side that makes the result too small: so the larger one is right, no comparison of a is
needed, and one instruction selects.
"""

from fastact.numerics.exact import two_product
from fastact.numerics.exponential import power_of_two
from fastact.numerics.hyperbolic_tables import DIFFERENCE, END, FASTER, SLOWLY
from fastact.numerics.language import ByDtype, copysign, fma, pieces, polynomial, scalar, select
from fastact.numerics.logistic import HIGHEST, UNIT, at_most, logistic_parts
from fastact.numerics.pieces import piece_of

# exp(-2r) on [-ln(2)/4, ln(2)/4]
EXP_MINUS_2 = ByDtype(
    (
        -0.26475987,
        0.67027414,
        -1.3334265,
        1.9999684,
        -1.9999994,
        1.0,
    ),
    (
        -5.11368721576922e-05,
        0.0002829218563076643,
        -0.00141095375251555,
        0.006349183172614486,
        -0.02539682480754301,
        0.0888888892130252,
        -0.26666666667385347,
        0.6666666666647821,
        -1.3333333333333042,
        2.000000000000003,
        -2.0,
        1.0,
    ),
)
# 2/(1 + e)
COMPLEMENT = ByDtype(
    (
        1.3712068,
        -1.9145778,
        1.9945216,
        -1.9998447,
        1.9999986,
    ),
    (
        0.3563541759673412,
        -1.0311275225882068,
        1.6010429882791022,
        -1.884167369543038,
        1.9760174658947072,
        -1.9964441057542333,
        1.9996244416670985,
        -1.9999722104045246,
        1.999998603198271,
        -1.999999954714025,
        1.9999999991317545,
        -1.9999999999916018,
        1.9999999999999716,
    ),
)
# (tanh(a) - a)/a**3 in a**2
TANH = ByDtype(
    (
        -0.0003583622,
        0.0023011407,
        -0.007945936,
        0.021486647,
        -0.053879842,
        0.13332346,
        -0.33333296,
    ),
    (
        -1.5005559865166864e-05,
        7.487714184104548e-05,
        -0.00022648960544280312,
        0.0005852473591174901,
        -0.0014546181697475363,
        0.003591919811957654,
        -0.00886321200243589,
        0.02186948685619266,
        -0.05396825389830744,
        0.13333333333187697,
        -0.33333333333332277,
    ),
)
# (a - tanh(a))/a**3 in a**2, up to DIFFERENCE_SPLIT
TANH_DIFFERENCE = ByDtype(
    (
        -0.0002083108,
        0.0011583727,
        -0.0035391664,
        0.008932566,
        -0.021915404,
        0.053978566,
        -0.13333413,
        0.33333334,
    ),
    (
        -1.7205945432356048e-08,
        2.038742573280866e-07,
        -1.179251376500422e-06,
        4.58806118129119e-06,
        -1.4077720996016089e-05,
        3.790327486519996e-05,
        -9.614327548171668e-05,
        0.0002388059169097517,
        -0.0005899280168355009,
        0.0014558124103683625,
        -0.003592124663935937,
        0.008863235188873164,
        -0.021869488515235524,
        0.05396825396757801,
        -0.13333333333332467,
        0.3333333333333333,
    ),
)
TANH_DIFFERENCE_UPPER = ByDtype(TANH_DIFFERENCE.single[:-1], TANH_DIFFERENCE.double[:-1])
TANH_DIFFERENCE_LAST = ByDtype(TANH_DIFFERENCE.single[-1], TANH_DIFFERENCE.double[-1])
DIFFERENCE_SPLIT = 1.0
SQUARE_SPLIT = ByDtype(0.8, 0.6)  # within the interval of TANH
MINUS_TWO_LOG2E = -2.8853900817779268
HALF_LN2 = ByDtype(0.34657359, 0.34657359027997264)
SHIFT = ByDtype(12582912.0 + 127.0, 6755399441055744.0 + 1023.0)
SATURATED = ByDtype(10.0, 20.0)  # tanh rounds to 1


NEAR = 0.5  # where an exact comparison chooses, the series ends here


@scalar
def odd_series(a):
    """tanh(a) for small a; too small beyond."""
    square = a * a
    return fma(a * square, polynomial(square, TANH), a)


@scalar
def odd_series_at(a, low):
    """tanh(a + low) for small a, low being the part that a has lost by rounding."""
    square = a * a
    cube, series = a * square, polynomial(square, TANH)
    near = fma(cube, series, a)
    lost = fma(cube, series, a - near)
    # tanh(a + low) = tanh(a) + low sech(a)**2, where the factor need not be precise
    return near + fma(low, fma(-0.58 * a, a, 1.0), lost)


@scalar
def complement(a, low):
    """tanh(a + low) = 1 - e G(e) far from 0, 0 <= a <= SATURATED; too small for small a."""
    shifted = fma(a, MINUS_TWO_LOG2E, SHIFT)
    r = fma(shifted - SHIFT, HALF_LN2, a) + low
    e = power_of_two(shifted) * polynomial(r, EXP_MINUS_2)
    return fma(-e, polynomial(e, COMPLEMENT), 1.0)


@scalar
def tanh_complement(a):
    """(1 - tanh(a))/(2 UNIT) for a >= 0: a sigmoid, to its last digit."""
    w, rest = logistic_parts(at_most(a + a, HIGHEST), -0.0)
    return fma(w, rest, w)


@scalar
def tanh_difference(x):
    """x - tanh(x)"""
    a = abs(x)
    far = fma(2.0 * UNIT, tanh_complement(a), a - 1.0)
    # a (a**2 S): the rounding errors of both products, and of the last step of S, carried along
    square, square_low = two_product(a, a)
    inner = polynomial(square, TANH_DIFFERENCE_UPPER)
    series = fma(square, inner, TANH_DIFFERENCE_LAST)
    lost = fma(square, inner, TANH_DIFFERENCE_LAST - series)
    p, p_low = two_product(square, series)
    near = fma(a, p, a * fma(square_low, series, fma(square, lost, p_low)))
    return copysign(select(a > DIFFERENCE_SPLIT, far, near), x)


@tanh_difference.by_tables
def tanh_difference_by_tables(x):
    """a**3 times a function that is 1/3 at 0; beyond END tanh is 1, and the rest grows as x."""
    whole = abs(x)
    a = at_most(whole, END)
    part = pieces(a, piece_of(a, SLOWLY, FASTER), DIFFERENCE)
    # the rounding errors of the first two products are carried along
    square, square_low = two_product(a, a)
    p, p_low = two_product(square, part)
    y = fma(a, p, a * fma(square_low, part, p_low))
    return copysign(y + (whole - a), x)


@scalar
def tanh_square(x):
    """tanh(x)**2"""
    a = abs(x)
    part = tanh_complement(a)
    far = fma(-2.0 * UNIT, part, 1.0)
    square = a * a
    product = (a * square) * polynomial(square, TANH)
    near = a + product
    closer = a > SQUARE_SPLIT
    high = select(closer, far, near)
    low = select(closer, fma(-2.0 * UNIT, part, 1.0 - far), (a - near) + product)
    return fma(high, high, (high + high) * low)
