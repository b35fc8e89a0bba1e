"""Smooth relatives of the rectifiers: x times something between 0 and 1."""

from fastact.activations.record import Accuracy, Activation, Parameter
from fastact.numerics.cubic_tables import END, FASTER, SLOPE, SLOWLY, TAIL
from fastact.numerics.exact import two_product
from fastact.numerics.language import ByDtype, fma, pieces, rarely, scalar, select
from fastact.numerics.logistic import (
    ROOT_OF_UNIT,
    UNIT,
    at_most,
    logistic_parts,
    product,
    scaled_slope,
)
from fastact.numerics.logistic_table import LOGISTIC_END, argument, falling_from_table
from fastact.numerics.pieces import piece_of
from fastact.numerics.swish_table import SWISH_END, swish_slope_from_table

# gelu_quick: 1.702, and what rounding took from it
QUICK = ByDtype(1.7020000219345093, 1.702)
QUICK_TAIL = ByDtype(-2.193450927734375e-08, 4.263256414560601e-17)
# gelu_tanh: 2 sqrt(2/pi) (x + 0.044715 x**3), its linear factor in a short and a rest part
LINEAR = ByDtype(1.595768928527832, 1.5957691216057341)
LINEAR_TAIL = ByDtype(1.930778986805098e-07, -3.430362161966579e-15)
CUBIC = ByDtype(0.07135481387376785, 0.07135481627260025)
CUBIC_TAIL = ByDtype(2.3988323959931355e-09, -6.175149918155315e-19)
CUBIC_FAR = ByDtype(11.3, 23.0)  # gelu_tanh and its derivative of less than minus this round to 0


@scalar
def times_sigmoid(x, above, z, low, outside):
    """x sigma(z + low) above 0, x sigma(-z - low) below; z is at its bound where outside.

    Both from p = x sigma(-z - low) / UNIT: it and x - UNIT p. Zeros belong below.
    """
    w, rest = logistic_parts(z, low)
    # far below 0 the limit is 0; x times the smallest w would be nan at -inf
    p = select(outside, -0.0, x * fma(w, rest, w))
    return fma(select(above, -UNIT, UNIT), p, select(above, x, -0.0))


@scalar
def slope_weight(w, rest):
    """(W, lost): W + lost = UNIT w (1 + rest)"""
    whole = fma(w, rest, w)
    return UNIT * whole, UNIT * fma(w, rest, w - whole)


@scalar
def slope_product(above, w, rest, factor):
    """UNIT w (1 + rest) factor below 0; above 0: 1 less that."""
    below = w * factor
    below = below + fma(below, rest, fma(w, factor, -below))
    return select(above, fma(-UNIT, below, 1.0), UNIT * below)


@scalar
def swish_forward(x, beta):
    z, low, outside = product(beta, x)
    return times_sigmoid(x, beta * x > 0.0, z, low, outside)


@swish_forward.by_tables
def swish_forward_by_tables(x, beta):
    z, low = argument(beta, x)
    s = falling_from_table(z, low)
    above = beta * x > 0.0
    near = fma(select(above, -x, x), s, select(above, x, -0.0))
    return rarely(z > LOGISTIC_END, swish_forward(x, beta), near)


@scalar
def swish_grad(x, beta):
    z, low, _ = product(beta, x)
    w, rest = logistic_parts(z, low)
    # below 0, with W = w (1 + rest): W (1 - z (1 - W)); above 0: 1 less that
    factor = (1.0 - z) + fma(z, UNIT * fma(w, rest, w), -low)
    return slope_product((x > 0.0) == (beta > 0.0), w, rest, factor)


@swish_grad.by_tables
def swish_grad_by_tables(x, beta):
    z, low = argument(beta, x)
    below = swish_slope_from_table(z, low)
    near = select((x > 0.0) == (beta > 0.0), 1.0 - below, below)
    return rarely(z > SWISH_END, swish_grad(x, beta), near)


@scalar
def quick_argument(x):
    """(z, low, outside): z + low = |1.702 x|"""
    z, low, outside = product(QUICK, x)
    return z, select(outside, 0.0, fma(QUICK_TAIL, abs(x), low)), outside


@scalar
def gelu_quick_forward(x):
    z, low, outside = quick_argument(x)
    return times_sigmoid(x, x > 0.0, z, low, outside)


@scalar
def gelu_quick_grad(x):
    z, low, _ = quick_argument(x)
    w, rest = logistic_parts(z, low)
    whole, lost = slope_weight(w, rest)
    # as for swish; here low is not far below the last digit of z
    factor = (1.0 - z) + fma(z, whole, fma(z, lost, fma(low, whole, -low)))
    return slope_product(x > 0.0, w, rest, factor)


@scalar
def cubic_argument(x):
    """(a, q, q_low, p, p_low) with u = a (p + p_low), p = LINEAR + q, q + q_low = CUBIC a**2.

    LINEAR has few digits, so that LINEAR - p is exact.
    """
    a = at_most(abs(x), CUBIC_FAR)
    square, square_low = two_product(a, a)
    q, q_low = two_product(CUBIC, square)
    q_low = q_low + fma(CUBIC_TAIL, square, CUBIC * square_low)
    p = q + LINEAR
    return a, q, q_low, p, ((LINEAR - p) + q) + (LINEAR_TAIL + q_low)


@scalar
def gelu_tanh_forward(x):
    a, _, _, p, p_low = cubic_argument(x)
    z, low = two_product(a, p)
    return times_sigmoid(x, x > 0.0, z, fma(a, p_low, low), abs(x) > CUBIC_FAR)


@gelu_tanh_forward.by_tables
def gelu_tanh_forward_by_tables(x):
    # as for gelu
    a = at_most(abs(x), END)
    tail = pieces(a, piece_of(a, SLOWLY, FASTER), TAIL)
    return rarely(x < -END, gelu_tanh_forward(x), select(x < -0.0, -0.0, x) - tail)


@scalar
def gelu_tanh_grad(x):
    a, q, q_low, p, p_low = cubic_argument(x)
    z, low = two_product(a, p)
    # x u' = a (LINEAR + 3 q)
    p3 = fma(3.0, q, LINEAR)
    p3_low = fma(3.0, q, LINEAR - p3) + fma(3.0, q_low, LINEAR_TAIL)
    slope, slope_low = two_product(a, p3)
    slope_low = fma(a, p3_low, slope_low)
    w, rest = logistic_parts(z, fma(a, p_low, low))
    whole, lost = slope_weight(w, rest)
    # 1 - slope (1 - W); where slope is large, rounding that sum would show
    d = 1.0 - slope
    part = fma(slope, whole, fma(slope, lost, fma(slope_low, whole, -slope_low)))
    factor = d + part
    factor_low = select(slope > 2.0, (d - factor) + part, 0.0)
    below = w * factor
    below = below + fma(below, rest, fma(w, factor_low, fma(w, factor, -below)))
    return select(x > 0.0, fma(-UNIT, below, 1.0), UNIT * below)


@gelu_tanh_grad.by_tables
def gelu_tanh_grad_by_tables(x):
    a = at_most(abs(x), END)
    slope = pieces(a, piece_of(a, SLOWLY, FASTER), SLOPE)
    return rarely(x < -END, gelu_tanh_grad(x), select(x < 0.0, slope, 1.0 - slope))


@scalar
def swish_beta_grad(x, beta):
    slope = scaled_slope(x, beta)
    # x comes first where the slope alone would be too small, and last where x**2 would
    small = ROOT_OF_UNIT * x
    product = select(abs(x) > 1.0, (small * slope) * small, (UNIT * slope) * x * x)
    return select(slope == 0.0, 0.0, product)


RAMACHANDRAN = (
    "P. Ramachandran, B. Zoph, Q. V. Le, Searching for activation functions, ICLR workshop 2018"
)
HENDRYCKS = "D. Hendrycks, K. Gimpel, Gaussian error linear units (GELUs), arXiv:1606.08415, 2016"
ELFWING = (
    "S. Elfwing, E. Uchibe, K. Doya, Sigmoid-weighted linear units for neural network function "
    "approximation in reinforcement learning, Neural Networks 107, 2018"
)

RECORDS = (
    Activation(
        name="swish",
        aliases=("silu",),
        summary="x times its own sigmoid.",
        formula="x * sigmoid(beta * x)",
        derivative="s + beta * x * s * (1 - s) with s = sigmoid(beta * x)",
        forward=swish_forward,
        grad=swish_grad,
        limits=(
            "0.0 if beta > 0 else -inf if beta < 0 else nan",
            "inf if beta > 0 else 0.0 if beta < 0 else nan",
        ),
        grad_limits=(
            "0.0 if beta > 0 else 1.0 if beta < 0 else nan",
            "1.0 if beta > 0 else 0.0 if beta < 0 else nan",
        ),
        parameters=(Parameter("beta", 1.0, "0 gives x/2 (nan at inf), large ones relu"),),
        parameter_grads={"beta": swish_beta_grad},
        accuracy={"float32": Accuracy(2.0, 2.0), "float64": Accuracy(1.91, 2.0)},
        sources=(RAMACHANDRAN, HENDRYCKS, ELFWING),
        numpy="x / (1 + np.exp(-beta * x))",
        stable=(
            "x * np.where(beta * x < 0, np.exp(-np.abs(beta * x)), 1) "
            "/ (1 + np.exp(-np.abs(beta * x)))"
        ),
        stable_note=(
            "the product with x comes before the scaling into the subnormals, and the rounding "
            "error of beta x is carried along into the exponential"
        ),
        torch="F.silu(x)",
        jax="x * jax.nn.sigmoid(beta * x)",
        use=(
            "Hidden layers of deep networks, where it often beats relu; smooth, not monotonic, "
            "and its gradient does not die for moderately negative inputs."
        ),
    ),
    Activation(
        name="gelu_tanh",
        summary="The tanh form of gelu: a function of its own, within 5e-4 of gelu.",
        formula="x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))",
        derivative=(
            "s + x * u' * s * (1 - s) with s = sigmoid(u), "
            "u = 2 * sqrt(2 / pi) * (x + 0.044715 * x**3)"
        ),
        forward=gelu_tanh_forward,
        grad=gelu_tanh_grad,
        limits=("0.0", "inf"),
        grad_limits=("0.0", "1.0"),
        accuracy={"float32": Accuracy(1.72, 1.89), "float64": Accuracy(1.72, 1.8)},
        sources=(HENDRYCKS,),
        numpy="0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))",
        stable=(
            "x / (1 + np.exp(np.minimum("
            "-2 * np.sqrt(2 / np.pi) * (x + x * x * x * 44715 / 1000000), 11000)))"
        ),
        stable_note=(
            "1 + tanh loses every digit where tanh is near -1; here it is twice a sigmoid, and the "
            "rounding error of the cubic is carried along into the exponential"
        ),
        torch='F.gelu(x, approximate="tanh")',
        jax="jax.nn.gelu(x)",
        use=(
            "Transformers trained with it, such as GPT-2: use it where the weights expect it, and "
            "gelu elsewhere."
        ),
    ),
    Activation(
        name="gelu_quick",
        aliases=("quick_gelu",),
        summary="The sigmoid form of gelu: swish with beta = 1.702, within 0.021 of gelu.",
        formula="x * sigmoid(1.702 * x)",
        derivative="s + 1.702 * x * s * (1 - s) with s = sigmoid(1.702 * x)",
        forward=gelu_quick_forward,
        grad=gelu_quick_grad,
        limits=("0.0", "inf"),
        grad_limits=("0.0", "1.0"),
        accuracy={"float32": Accuracy(1.8, 1.86), "float64": Accuracy(1.76, 1.76)},
        sources=(HENDRYCKS,),
        numpy="x / (1 + np.exp(-1.702 * x))",
        stable="x / (1 + np.exp(np.minimum(-x * 1702 / 1000, 11000)))",
        stable_note=(
            "as swish, with the digits of 1.702 that its floating-point number lacks carried along"
        ),
        torch="x * torch.sigmoid(1.702 * x)",
        jax="x * jax.nn.sigmoid(1.702 * x)",
        use="Models trained with it, such as CLIP; cheaper than gelu where nothing is cached.",
    ),
)
