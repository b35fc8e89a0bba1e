"""Mish and dish: x times a smooth step that is built from softplus, and its algebraic imitation.

With E = exp(-|x|), tanh(softplus(x)) is a quotient of polynomials in E:

    x < 0:  E (1 - (E**2 + E)/D),  D = E**2 + 2 E + 2
    x > 0:  1 - E**2/D,            D = E**2 + E + 1/2

Each derivative is one more such quotient, and both take the same reciprocal of D.
"""

from fastact.activations.record import Accuracy, Activation
from fastact.numerics.exact import quick_two_sum, two_product, two_sum
from fastact.numerics.exponential import clamp
from fastact.numerics.language import (
    ByDtype,
    copysign,
    fma,
    pieces,
    pieces_linear_last,
    rarely,
    scalar,
    select,
    sqrt,
)
from fastact.numerics.logistic import UNIT, at_most, falling_exponential
from fastact.numerics.mish_tables import HIGHEST, LOWEST, MISH, SLOPE, STEPS
from fastact.numerics.pieces import step_of

FAR = ByDtype(110.0, 753.0)  # mish of less rounds to 0
HUGE = ByDtype(2.0**30, 2.0**60)  # dish is x or -1/(4x) beyond
VANISHED = ByDtype(2.0**100, 2.0**600)  # its derivative rounds to 0


@scalar
def mish_parts(x):
    """(a, s, t, e, w, rest): a = |x|, E = UNIT s (1 + t), e is E rounded, 1/D = w (1 + rest)."""
    a = at_most(abs(x), FAR)
    s, t = falling_exponential(a, 0.0)
    e = UNIT * fma(s, t, s)
    negative = x < 0.0
    linear = select(negative, e + e, e)
    g = fma(e, e, linear)
    d, low = quick_two_sum(select(negative, 2.0, 0.5), g)
    low = low + fma(e, e, linear - g)
    w = 1.0 / d
    return a, s, t, e, w, fma(-w, low, fma(-w, d, 1.0))


@scalar
def mish_forward(x):
    a, s, t, e, w, rest = mish_parts(x)
    negative = x < 0.0
    linear = select(negative, e, 0.0)
    n = fma(e, e, linear)
    q, low = two_product(n, w)
    low = low + fma(q, rest, fma(e, e, linear - n) * w)
    # below 0: -a s (1 + t) (1 - q), whose factors' product is little above 1/2 at worst
    scaled = a * s
    below = fma(scaled, ((t + 0.5) - q) - fma(q, t, fma(low, t, low)), 0.5 * scaled)
    return select(negative, -UNIT * below, fma(-a, q + low, x))


@mish_forward.by_tables
def mish_forward_by_tables(x):
    near = clamp(x, LOWEST, HIGHEST)
    y = pieces_linear_last(near, step_of(near, STEPS), MISH) + (x - near)
    return rarely(x < LOWEST, mish_forward(x), copysign(y, x))


@scalar
def mish_grad(x):
    a, s, t, e, w, rest = mish_parts(x)
    negative = x < 0.0
    # m + m_low = c a (1 + E)/D with c = 4 below 0 and 1 above
    one = 1.0 + e
    scale = select(negative, 4.0, 1.0)
    p, p_low = two_product(scale * a, one)
    p_low = fma(scale * a, (1.0 - one) + e, p_low)
    m, m_low = two_product(p, w)
    m_low = m_low + fma(m, rest, p_low * w)
    # below 0: (E/D) (2 + E - m), above: 1 - (E**2/D) (1 - m)
    n = select(negative, 2.0 + e, 1.0)
    n_low = select(negative, (2.0 - n) + e, 0.0)
    b, b_low = two_sum(n, -m)
    v, v_low = two_product(b, w)
    v_low = v_low + fma(v, rest, (b_low + (n_low - m_low)) * w)
    below = s * (v + fma(v, t, fma(v_low, t, v_low)))
    return select(negative, UNIT * below, fma(-e, e * (v + v_low), 1.0))


@mish_grad.by_tables
def mish_grad_by_tables(x):
    near = clamp(x, LOWEST, HIGHEST)
    g = pieces(near, step_of(near, STEPS), SLOPE)
    return rarely(x < LOWEST, mish_grad(x), g)


@scalar
def dish_forward(x):
    a = abs(x)
    huge = a > HUGE
    p = fma(a, a, 1.0)
    root = sqrt(p)
    # x/2 (1 - a/r) with r = sqrt(1 + a**2) is x/(2 r (r + a)): nothing cancels
    d = fma(a, root, p)
    low = fma(a, root, p - d) + fma(a, a, 1.0 - p)
    w = select(huge, 0.25, 1.0) / select(huge, a, d)
    rest = select(huge, 0.0, fma(-w, low, fma(-w, d, 1.0)))
    q, lost = two_product(select(huge, -1.0, -0.5 * a), w)
    return select(x > 0.0, x, 0.0) + (q + fma(q, rest, lost))


@scalar
def dish_grad(x):
    a = at_most(abs(x), VANISHED)
    huge = a > HUGE
    p = fma(a, a, 1.0)
    v = select(huge, 0.5, 1.0) / select(huge, a, p)
    # above 0: k/2 with k = 1 + a/r (1 + 1/p); below: (2 - k)/2 = -v (1 - v - v**2)/(2 k)
    # 1/p is v + low, and a/r is c + c_low
    low = v * fma(-v, fma(a, a, 1.0 - p), fma(-v, p, 1.0))
    root = sqrt(v)
    c = a * root
    c_low = fma(a, root, -c) + 0.5 * c * p * (fma(-root, root, v) + low)
    one = 1.0 + v
    k = fma(c, one, 1.0)
    k_low = fma(c, one, 1.0 - k) + fma(c, (1.0 - one) + v, c_low * one)
    # b + b_low = v**2 + v - 1 has a zero
    square, square_low = two_product(v, v)
    less = v - 1.0
    b, b_low = two_sum(square, less)
    b_low = fma(low, fma(2.0, v, 1.0), b_low + (square_low + (v - (1.0 + less))))
    n, n_low = two_product(0.5 * v, b)
    n_low = n_low + 0.5 * fma(v, b_low, low * b)
    w = 1.0 / k
    q = n * w
    below = q + w * (fma(-q, k, n) + fma(-q, k_low, n_low))
    # 1/(2a) squared; what the quotient lost counts twice
    below = select(huge, -fma(square, 4.0 * fma(-v, a, 0.5), square), below)
    return select(x < 0.0, below, select(huge, 1.0, 0.5 * (k + k_low)))


MISRA = "D. Misra, Mish: a self regularized non-monotonic activation function, BMVC 2020"
THINC = "M. Honnibal, I. Montani et al., thinc: a refreshing functional take on deep learning"

RECORDS = (
    Activation(
        name="mish",
        summary="x times the hyperbolic tangent of its softplus.",
        formula="x * tanh(log(1 + exp(x)))",
        derivative="t + x * (1 - t**2) * sigmoid(x) with t = tanh(log(1 + exp(x)))",
        forward=mish_forward,
        grad=mish_grad,
        limits=("0.0", "inf"),
        grad_limits=("0.0", "1.0"),
        accuracy={"float32": Accuracy(1.9, 1.41), "float64": Accuracy(1.81, 1.3)},
        sources=(MISRA,),
        numpy="x * np.tanh(np.log1p(np.exp(x)))",
        stable=(
            "x * np.where(x < 0, np.exp(-np.abs(x)) * (np.exp(-np.abs(x)) + 2) "
            "/ (np.exp(-np.abs(x)) * (np.exp(-np.abs(x)) + 2) + 2), "
            "(1 + 2 * np.exp(-np.abs(x))) "
            "/ (1 + 2 * np.exp(-np.abs(x)) * (1 + np.exp(-np.abs(x)))))"
        ),
        stable_note=(
            "a quotient of polynomials in exp(-|x|), the product with x before the scaling into "
            "the subnormals"
        ),
        torch="F.mish(x)",
        jax="jax.nn.mish(x)",
        use=(
            "Convolutional networks such as object detectors, in place of relu or swish; smooth, "
            "not monotonic, and a little more costly than swish elsewhere."
        ),
    ),
    Activation(
        name="dish",
        summary="Swish without an exponential: the sigmoid is an algebraic step.",
        formula="x / 2 * (1 + x / sqrt(1 + x**2))",
        derivative="(1 + x / sqrt(1 + x**2) + x / sqrt(1 + x**2)**3) / 2",
        forward=dish_forward,
        grad=dish_grad,
        limits=("0.0", "inf"),
        grad_limits=("0.0", "1.0"),
        accuracy={"float32": Accuracy(1.25, 1.25), "float64": Accuracy(1.2, 1.09)},
        sources=(THINC,),
        numpy="0.5 * x * (x / np.sqrt(1 + x * x) + 1)",
        stable=(
            "np.where(x > 0, x, 0) - 0.5 * np.abs(x) / (1 + x * x + np.abs(x) * np.sqrt(1 + x * x))"
        ),
        stable_note="below 0 as x/(2 r (r + |x|)) with r = sqrt(1 + x**2), where nothing cancels",
        use="In place of swish or gelu where a square root is cheaper than an exponential.",
    ),
)
