"""The tail of the normal distribution, through the scaled complementary error function.

For a >= 0, Phi(-a) = exp(-a**2/2) Q(a) with Q(a) = erfcx(a/sqrt 2)/2, which falls smoothly from
1/2 to 1/(a sqrt(2 pi)). Both functions here have the form exp(-a**2/2) * something of order 1,
so they keep all digits however far out they are:

    a Phi(-a)               = exp(-a**2/2) a Q(a),
    Phi(-a) - a phi(a)      = exp(-a**2/2) (Q(a) - a/sqrt(2 pi)).

The rational map h = a/(4 (1 + a/K)) brings the whole half line into a short interval on which
polynomials are good: a Q(a) = h (1 + P(h)). The second function has a zero at ROOT, which is
divided out: Q(a) - a/sqrt(2 pi) = (ROOT - a) (1 + P(h))/2. Each polynomial is taken about a point
that levels its rounding errors.

What the division for h loses is regained from its residual; a is never rounded before its square
reaches the exponential.
"""

from fastact.numerics.exponential import EXPM1, LOG2E, SMALL, SMALL_SHIFT, power_of_two
from fastact.numerics.language import ByDtype, fma, polynomial, scalar

FAR = ByDtype(14.6, 38.7)  # a phi(a) of more rounds to 0
MINUS_HALF_LOG2E = -0.5 * LOG2E
# 2 ln 2 in two parts; n times the first is exact
TWO_LN2_HIGH = ByDtype(1.38629150390625, 1.3862943607382476)
TWO_LN2_LOW = ByDtype(2.8572136e-06, 3.816429858541175e-10)
# with y = -2r, (expm1(r) - r)/y**2 in y
EXPM1_HALVES = ByDtype(
    tuple(c * (-0.5) ** (len(EXPM1.single) + 1 - k) for k, c in enumerate(EXPM1.single)),
    tuple(c * (-0.5) ** (len(EXPM1.double) + 1 - k) for k, c in enumerate(EXPM1.double)),
)

K = ByDtype(2.609375, 3.25)
QUARTER_K_SCALED = ByDtype(2.609375 / 4.0 * 2.0**32, 3.25 / 4.0 * 2.0**64)  # K/(4 SMALL)
FOUR_SMALL = ByDtype(2.0**-30, 2.0**-62)
# (a + K) Q(a)/(K/4) - 1 in h - TAIL_CENTRE, from ci/coefficients.py
TAIL_CENTRE = ByDtype(0.234375, 0.390625)
TAIL = ByDtype(
    (
        -4.865029,
        -0.77409786,
        3.1588433,
        1.9263617,
        -1.3299975,
        -2.0344903,
        0.76421237,
        2.1232886,
        -2.527893,
        0.30572677,
    ),
    (
        1.364297908376541,
        -1.4664102357334459,
        -3.5453137215201007,
        0.4718362489437019,
        3.3563361852102314,
        1.2501519159113776,
        -1.5503504606138783,
        -1.7152408924762779,
        -0.0063749327658943035,
        1.2107428841686287,
        0.721167377451922,
        -0.538847425781533,
        -0.8578200484019518,
        0.06836410129580651,
        0.7917402745692244,
        0.17521371283593928,
        -0.766279923270483,
        -0.24157586476889917,
        0.9515658908431064,
        -0.023569705041020128,
        -1.4863711633715107,
        2.116393493511331,
        -1.69946969825195,
        -0.06634031598232529,
    ),
)
TAIL_LAST = ByDtype(TAIL.single[-1], TAIL.double[-1])
TAIL_UPPER = ByDtype(TAIL.single[:-1], TAIL.double[:-1])
# where Phi(-a) = a phi(a), less 3/4
ROOT_REST = 0.0017915246935644575
# 2 (Q(a) - a/sqrt(2 pi))/(ROOT - a) - 1 in h - SLOPE_CENTRE, from ci/coefficients.py
SLOPE_CENTRE = ByDtype(0.140625, 0.203125)
SLOPE = ByDtype(
    (
        -0.6082107,
        0.59341407,
        0.29560956,
        -0.15557526,
        -0.4973468,
        -0.017864177,
        1.0016088,
        -1.1356283,
        0.15078574,
    ),
    (
        -0.1686534768472302,
        0.5203417807120937,
        -0.5553680100883536,
        0.2039512948917235,
        -0.013906819789703932,
        0.004146784181115385,
        0.04311913222554786,
        0.001966913156913042,
        -0.03822275084006028,
        -0.0421658989382788,
        0.004941353110367333,
        0.06128624828000376,
        0.048392035032080484,
        -0.051736390500452915,
        -0.11437890410682613,
        0.02476833876314343,
        0.2306799703032261,
        -0.040413793681675,
        -0.6044087073233951,
        1.042320546674945,
        -0.9181891069174202,
        0.09572281022659265,
    ),
)
# what the two functions are scaled by
SMALL_SQUARED = ByDtype(2.0**-64, 2.0**-128)
HALF_SMALL = ByDtype(2.0**-33, 2.0**-65)


@scalar
def gaussian(a):
    """(s, t) with exp(-a**2/2) = SMALL s (1 + t), for 0 <= a <= FAR."""
    square = a * a
    shifted = fma(square, MINUS_HALF_LOG2E, SMALL_SHIFT)
    n = shifted - SMALL_SHIFT
    # a**2 + 2 n ln 2 = -2r: the first part is exact
    y = fma(n, TWO_LN2_HIGH, square) + fma(n, TWO_LN2_LOW, fma(a, a, -square))
    return power_of_two(shifted), fma(y * y, polynomial(y, EXPM1_HALVES), -0.5 * y)


@scalar
def quotient(a):
    """(h, c) with SMALL (h - c) = a/(4 (1 + a/K)), c far below h unless a is tiny: then h is 0.

    Without the scale the product w a would lose digits where a is next to the subnormals.
    """
    w = QUARTER_K_SCALED / (a + K)
    h = fma(-K, w, QUARTER_K_SCALED)
    return h, (FOUR_SMALL * w) * fma(-w, a, h)


@scalar
def tail(a):
    """a Phi(-a)/SMALL**2 for 0 <= a <= FAR"""
    s, t = gaussian(a)
    h, c = quotient(a)
    d = fma(-SMALL, c, fma(SMALL, h, -TAIL_CENTRE))
    p = polynomial(d, TAIL)
    # (h - c) (1 + p) (1 + t), the rounding error of the first product carried along
    high = fma(h, p, h)
    low = fma(-c, p, fma(h, p, h - high) - c)
    return s * (high + fma(high, t, fma(low, t, low)))


@tail.for_double
def tail_double(a):
    """What rounding takes from the polynomial's argument and from its last step is carried along.

    Elsewhere it is far below the last digit; here it is what decides about the second ulp.
    """
    s, t = gaussian(a)
    h, c = quotient(a)
    centred = fma(SMALL, h, -TAIL_CENTRE)
    d = fma(-SMALL, c, centred)
    q = polynomial(d, TAIL_UPPER)
    m = d * q
    p = m + TAIL_LAST
    lost = fma(fma(-SMALL, c, centred - d), q, ((m - p) + TAIL_LAST) + fma(d, q, -m))
    high = fma(h, p, h)
    low = fma(h, lost, fma(-c, p, fma(h, p, h - high) - c))
    return s * (high + fma(high, t, fma(low, t, low)))


@scalar
def tail_slope(a):
    """2 (Phi(-a) - a phi(a))/SMALL for 0 <= a <= FAR"""
    s, t = gaussian(a)
    h, c = quotient(a)
    d = fma(-SMALL, c, fma(SMALL, h, -SLOPE_CENTRE))
    p = polynomial(d, SLOPE)
    # (b + ROOT_REST) (1 + t) (1 + p): b is exact unless a is small
    b = 0.75 - a
    high = fma(b, t, b)
    low = fma(ROOT_REST, 1.0 + t, fma(b, t, b - high))
    return s * (high + fma(high, p, fma(low, p, low)))
