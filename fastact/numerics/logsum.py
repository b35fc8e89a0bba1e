"""log(1 + exp(-z)) and log(1 - exp(-x)), to the last digits of their tails.

The first is e (1 + e P(e)) with e = exp(-z) in (0, 1]; the second, where x > ln 2, is the like of
-log(1 - w) with w = exp(-x) in [0, 1/2]. What follows the 1 is far from -1, so nothing cancels. For
x < ln 2 the second is log(x) + log((1 - exp(-x))/x), where the last term is smooth and the two have
one sign.
"""

from fastact.numerics.exponential import LN2, SMALL, exponential_parts
from fastact.numerics.language import ByDtype, fma, polynomial, scalar, select
from fastact.numerics.logarithm import INF, log
from fastact.numerics.logistic import UNIT, at_most, falling_exponential

# (-log(1 - w)/w - 1)/w in w on [0, 1/2], from ci/coefficients.py
LOG_COMPLEMENT = ByDtype(
    (
        1.743468,
        -2.476492,
        1.9709556,
        -0.59227514,
        0.34006894,
        0.17587452,
        0.25186864,
        0.33326325,
        0.5000009,
    ),
    (
        26.974638132735002,
        -114.03058938072735,
        228.86177830664928,
        -285.5555116695379,
        247.21814759325332,
        -156.69435188307102,
        75.2872845755701,
        -27.748223835671617,
        8.085757793956725,
        -1.7176625053948973,
        0.40667641928174914,
        0.057136540530021235,
        0.11555980967044373,
        0.1246536541858756,
        0.1428768165406013,
        0.16666588326863452,
        0.20000002060774377,
        0.24999999967381206,
        0.3333333333359684,
        0.4999999999999925,
    ),
)
# (log(1 + e)/e - 1)/e in e on [0, 1], from ci/coefficients.py
LOG1P = ByDtype(
    (
        -0.0032904055,
        0.020085996,
        -0.057456855,
        0.106611,
        -0.1534487,
        0.196921,
        -0.24958019,
        0.33330464,
        -0.4999993,
    ),
    (
        2.533505413062677e-05,
        -0.00029181228815563354,
        0.0015959770143006199,
        -0.00554377788939432,
        0.013839892445072687,
        -0.026745808269273898,
        0.04230207866075261,
        -0.05750361568687041,
        0.07035643546997664,
        -0.0808126192774854,
        0.09013173380807964,
        -0.09981020970035584,
        0.11107507433925157,
        -0.12499479873644496,
        0.14285658932459058,
        -0.16666662501921525,
        0.19999999791548748,
        -0.24999999993685934,
        0.33333333333235254,
        -0.4999999999999946,
    ),
)
# log((1 - exp(-x))/x)/x on [0, ln 2], from ci/coefficients.py
LOG_RATIO = ByDtype(
    (
        -0.0003351241,
        -1.0487101e-05,
        0.041669812,
        -0.5000003,
    ),
    (
        6.994338744920819e-09,
        -1.1367208393952153e-07,
        8.609436923809653e-09,
        5.5070722451849956e-06,
        1.4016604079573299e-09,
        -0.00034722249734068004,
        3.1277624194192326e-11,
        0.041666666664862594,
        -0.4999999999999621,
    ),
)
VANISHED = ByDtype(106.0, 750.0)  # exp(-x) of more rounds to 0


@scalar
def minus_log_complement(w, rest):
    """-log(1 - W)/SMALL for W = SMALL w (1 + rest), 0 <= W <= 1/2."""
    whole = SMALL * fma(w, rest, w)
    p = whole * polynomial(whole, LOG_COMPLEMENT)
    return fma(w, fma(rest, p, rest) + p, w)


@scalar
def log1p_exp(z, low):
    """(s, rest, c, p): UNIT s + c p + UNIT rest = log(1 + exp(-(z + low))), 0 <= z <= HIGHEST.

    The first is the largest, the last added one rounds visibly: whatever else there is to add
    goes to the others first.
    """
    power, t = falling_exponential(z, low)
    s = fma(power, t, power)
    e = UNIT * s
    # what rounding took from e counts 1/(1 + e), for which 1 - e/2 will do
    lost = fma(power, t, power - s)
    return s, fma(-0.5 * e, lost, lost), e * e, polynomial(e, LOG1P)


@scalar
def log1mexp(x):
    """log(1 - exp(-x))"""
    s, r, u = exponential_parts(-at_most(x, VANISHED), -0.0)
    far = SMALL * minus_log_complement(s, r + u)
    near = fma(x, polynomial(x, LOG_RATIO), log(x))
    return select(x > LN2, -far, near)


@scalar
def reciprocal_expm1(x):
    """1/(exp(x) - 1) = e/(1 - e) with e = exp(-x), for x >= 0."""
    s, r, u = exponential_parts(-at_most(x, VANISHED), -0.0)
    scale = SMALL * s
    # 1 - scale (1 + r + u), the rounding error of the first sum carried along
    rest = 1.0 - scale
    high = fma(-scale, r, rest)
    low = fma(-scale, r, rest - high)
    last = fma(-scale, u, low)
    d = high + last
    w = 1.0 / d
    t = r + u
    t = t + (1.0 + t) * fma(-w, (high - d) + last, fma(-w, d, 1.0))
    # small x: the quotient is large; large x: it is next to the subnormals, and scaled up
    small = x < 1.0
    q = w * select(small, scale, s)
    y = select(small, 1.0, SMALL) * fma(q, t, q)
    return select(w < INF, y, w + r)
