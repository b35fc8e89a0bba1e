"""Activations from roots and quotients: no exponential is involved."""

from fastact.activations.record import Accuracy, Activation, Parameter
from fastact.numerics.exact import two_product, two_sum
from fastact.numerics.exponential import clamp
from fastact.numerics.language import ByDtype, copysign, fma, scalar, select, sqrt
from fastact.numerics.logistic import at_most

# softsign rounds to 1 from the first on; its derivative to 0 from the second on
NEARLY_ONE = ByDtype(2.0**26, 2.0**56)
VANISHING = ByDtype(2.0**80, 2.0**600)

# squareplus: arguments whose squares would leave the range are moved by a power of two
LARGEST = ByDtype(3.4028234663852886e38, 1.7976931348623157e308)
HUGE = ByDtype(2.0**62, 2.0**510)
HUGE_SQUARE = ByDtype(2.0**124, 2.0**1020)
DOWN = ByDtype(2.0**-66, 2.0**-514)


@scalar
def one_plus(a):
    """(w, rest): 1/(1 + a) = w (1 + rest) for a >= 0."""
    d, lost = two_sum(1.0, a)
    w = 1.0 / d
    return w, fma(-w, lost, fma(-w, d, 1.0))


@scalar
def softsign_forward(x):
    a = at_most(abs(x), NEARLY_ONE)
    w, rest = one_plus(a)
    q, lost = two_product(a, w)
    return copysign(q + fma(q, rest, lost), x)


@scalar
def softsign_grad(x):
    w, rest = one_plus(at_most(abs(x), VANISHING))
    g, lost = two_product(w, w)
    return g + fma(2.0 * rest, g, lost)


@scalar
def softsign_grad_from_output(y):
    return (1.0 - abs(y)) * (1.0 - abs(y))


@scalar
def root_parts(a, b):
    """(h, low, w): h + low = sqrt(a**2 + b) and w = 1/h, for squares within the range."""
    p, lost = two_product(a, a)
    q, rest = two_sum(p, b)
    h = sqrt(q)
    w = 1.0 / h
    return h, (0.5 * w) * (fma(-h, h, q) + (rest + lost)), w


@scalar
def squareplus_parts(x, b):
    """(t, low, h, root_low, w, scale), where t + low = squareplus(-|x|) / scale.

    h + root_low = sqrt(x**2 + b) scale and w = 1/h; the scale is a power of two. With a = |x|,

        squareplus(-a) = b / (2 (sqrt(a**2 + b) + a))  and  squareplus(a) = a + squareplus(-a).
    """
    a = abs(x)
    scale = select(a > HUGE, DOWN, select(b > HUGE_SQUARE, DOWN, 1.0))
    a = at_most(a, LARGEST) * scale
    h, root_low, w = root_parts(a, b * scale * scale)
    d = h + a
    low = (a - (d - h)) + root_low
    v = 0.5 / d
    t = b * v
    u = t + t
    return t, (fma(-u, d, b) - u * low) * v, h, root_low, w, scale


@scalar
def squareplus_forward(x, b):
    t, low, _, _, _, scale = squareplus_parts(x, b)
    t = select(abs(x) > LARGEST, 0.0, t * scale)
    s, rest = two_sum(select(x > 0.0, at_most(x, LARGEST), 0.0), t)
    return select(x > LARGEST, x, s + fma(low, scale, rest))


@scalar
def squareplus_slope(x, b):
    """The derivative at -|x|: squareplus(-|x|) / sqrt(x**2 + b)."""
    t, low, h, root_low, w, scale = squareplus_parts(x, b)
    g = t * w
    g = fma(fma(-g, h, t) + (low - g * root_low), w, g)
    return select(abs(x) > LARGEST, 0.0, g * scale * scale)


@scalar
def squareplus_grad(x, b):
    g = squareplus_slope(x, b)
    return select(x > 0.0, 1.0 - g, g)


@scalar
def squareplus_grad_from_output(y, b):
    return select(y > NEARLY_ONE * sqrt(b), 1.0, y * (y / fma(y, y, 0.25 * b)))


@scalar
def squareplus_b_grad(x, b):
    _, _, _, _, w, scale = squareplus_parts(x, b)
    return select(abs(x) > LARGEST, 0.0, 0.25 * w * scale)


@scalar
def sparse_plus_forward(x):
    middle = clamp(x, -1.0, 1.0)
    s = middle + 1.0
    lost = middle - (s - 1.0)
    return select(x >= 1.0, x, 0.25 * fma(s, s, (s + s) * lost))


@scalar
def sparse_plus_grad(x):
    return fma(0.5, clamp(x, -1.0, 1.0), 0.5)


@scalar
def sparse_plus_grad_from_output(y):
    return sqrt(at_most(y, 1.0))


TURIAN = (
    "J. Turian, J. Bergstra, Y. Bengio, Quadratic features and deep architectures for chunking, "
    "NAACL 2009"
)
BARRON = "J. T. Barron, Squareplus: a softplus-like algebraic rectifier, arXiv:2112.11687, 2021"
MARTINS = (
    "A. F. T. Martins, R. F. Astudillo, From softmax to sparsemax: a sparse model of attention and "
    "multi-label classification, ICML 2016"
)

RECORDS = (
    Activation(
        name="softsign",
        summary="x divided by 1 + |x|: a tanh that saturates slowly.",
        formula="x / (1 + |x|)",
        derivative="1 / (1 + |x|)**2",
        forward=softsign_forward,
        grad=softsign_grad,
        grad_from_output=softsign_grad_from_output,
        output_note=(
            "(1 - |y|)**2 loses digits as y nears 1 and -1, and is exactly 0 from |x| = 2**25 in "
            "float32, 2**54 in float64"
        ),
        limits=("-1.0", "1.0"),
        grad_limits=("0.0", "0.0"),
        accuracy={"float32": Accuracy(0.51, 1.0), "float64": Accuracy(0.51, 0.51)},
        sources=(TURIAN,),
        numpy="x / (1 + np.abs(x))",
        stable_note="the reciprocal of 1 + |x| is corrected by what sum and quotient lost",
        torch="F.softsign(x)",
        jax="jax.nn.soft_sign(x)",
        use=(
            "Hidden layers in place of tanh: it saturates more slowly, so that gradients vanish "
            "later, and it needs no exponential."
        ),
        odd=True,
    ),
    Activation(
        name="squareplus",
        summary="A smooth rectifier made of a square root.",
        formula="(x + sqrt(x**2 + b)) / 2",
        derivative="(1 + x / sqrt(x**2 + b)) / 2",
        forward=squareplus_forward,
        grad=squareplus_grad,
        grad_from_output=squareplus_grad_from_output,
        output_note="y**2 / (y**2 + b/4): a few roundings, nothing cancels",
        parameters=(
            Parameter("b", 4.0, "how round the bend is; towards 0 it becomes relu", "positive"),
        ),
        parameter_grads={"b": squareplus_b_grad},
        limits=("0.0", "inf"),
        grad_limits=("0.0", "1.0"),
        accuracy={"float32": Accuracy(1.01, 0.87), "float64": Accuracy(0.84, 0.87)},
        sources=(BARRON,),
        numpy="(x + np.sqrt(x * x + b)) / 2",
        stable=("np.where(x > 0, x, 0) + b / 2 / (np.sqrt(x * x + b) + np.abs(x))"),
        stable_note=(
            "squareplus(-a) = b/2 / (sqrt(a**2 + b) + a), where nothing cancels, and "
            "squareplus(a) = a + squareplus(-a)"
        ),
        jax="jax.nn.squareplus(x, b)",
        use=(
            "In place of softplus where exponentials are dear: the same shape, with a heavier "
            "tail below 0."
        ),
    ),
    Activation(
        name="sparse_plus",
        summary="0 below -1, the identity above 1, a parabola between.",
        formula="0 if x <= -1 else x if x >= 1 else (x + 1)**2 / 4",
        derivative="min(max((x + 1) / 2, 0), 1)",
        forward=sparse_plus_forward,
        grad=sparse_plus_grad,
        grad_from_output=sparse_plus_grad_from_output,
        output_note="one square root, rounded",
        limits=("0.0", "inf"),
        grad_limits=("0.0", "1.0"),
        accuracy={"float32": Accuracy(0.51, 0.5), "float64": Accuracy(0.51, 0.5)},
        sources=(MARTINS,),
        numpy="np.where(x >= 1, x, (np.clip(x, -1, 1) + 1) ** 2 / 4)",
        jax="jax.nn.sparse_plus(x)",
        use=(
            "A smooth rectifier that is exactly 0 below -1: sparse like relu, with a continuous "
            "derivative."
        ),
    ),
)
