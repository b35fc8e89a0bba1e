"""Activations that saturate on both sides: the sigmoids and tanh."""

from fastact.activations.record import Accuracy, Activation, Parameter
from fastact.numerics.hyperbolic import (
    NEAR,
    SATURATED,
    complement,
    odd_series,
    odd_series_at,
    tanh_difference,
    tanh_square,
)
from fastact.numerics.language import copysign, fma, rarely, scalar, select
from fastact.numerics.logistic import (
    HIGHEST,
    ROOT_OF_UNIT,
    UNIT,
    at_most,
    logistic,
    logistic_parts,
    product,
    scaled_slope,
    slope_part,
)
from fastact.numerics.logistic_table import LOGISTIC_END, logistic_from_table, slope_from_table
from fastact.numerics.secant_table import SECANT_END, secant_square_from_table
from fastact.numerics.tanh_table import tanh_from_table


@scalar
def sigmoid_forward(x):
    return logistic(x)


@sigmoid_forward.by_tables
def sigmoid_forward_by_tables(x):
    return logistic_from_table(x)


@scalar
def sigmoid_grad(x):
    w, rest = logistic_parts(at_most(abs(x), HIGHEST), -0.0)
    part = slope_part(w, rest)
    return UNIT * fma(w, part, w)


@sigmoid_grad.by_tables
def sigmoid_grad_by_tables(x):
    a = abs(x)
    return rarely(a > LOGISTIC_END, sigmoid_grad(x), slope_from_table(a))


@scalar
def sigmoid_grad_from_output(y):
    return y * (1.0 - y)


@scalar
def tanh_forward(x):
    a = at_most(abs(x), SATURATED)
    near = odd_series(a)
    far = complement(a, -0.0)
    return copysign(select(far > near, far, near), x)


@tanh_forward.by_tables
def tanh_forward_by_tables(x):
    return copysign(tanh_from_table(abs(x)), x)


@scalar
def tanh_grad(x):
    a = abs(x)
    w, rest = logistic_parts(at_most(a + a, HIGHEST), -0.0)
    part = slope_part(w, rest)
    return (4.0 * UNIT) * fma(w, part, w)


@tanh_grad.by_tables
def tanh_grad_by_tables(x):
    a = abs(x)
    return rarely(a > SECANT_END, tanh_grad(x), secant_square_from_table(a))


@scalar
def far_from_zero(w, rest):
    """1 - 2 W with W = UNIT w (1 + rest): what the first sum loses goes to the small term."""
    w = (-2.0 * UNIT) * w
    high = 1.0 + w
    return high + fma(w, rest, (1.0 - high) + w)


@scalar
def tanh_joint(x):
    """tanh(x) and sech(x)**2 from the one exponential that the derivative needs."""
    a = abs(x)
    w, rest = logistic_parts(at_most(a + a, HIGHEST), -0.0)
    part = slope_part(w, rest)
    far = far_from_zero(w, rest)
    near = odd_series(at_most(a, NEAR))
    y = copysign(select(a > NEAR, far, near), x)
    return y, (4.0 * UNIT) * fma(w, part, w)


@scalar
def tanh_grad_from_output(y):
    return (1.0 - y) * (1.0 + y)


@scalar
def bipolar_sigmoid_forward(x, steepness):
    half = 0.5 * steepness
    a = half * abs(x)
    low = select(SATURATED < a, 0.0, fma(half, abs(x), -a))
    a = at_most(a, SATURATED)
    near = odd_series_at(a, low)
    far = complement(a, low)
    return copysign(select(far > near, far, near), x)


@scalar
def bipolar_slope(steepness, w, part):
    """2 UNIT steepness (w + w part), the rounding errors of both products carried along."""
    p = steepness * w
    g = fma(p, part, p)
    lost = fma(fma(steepness, w, -p), 1.0 + part, fma(p, part, p - g))
    return (2.0 * UNIT) * (g + lost)


@scalar
def bipolar_sigmoid_grad(x, steepness):
    z, low, _ = product(steepness, x)
    w, rest = logistic_parts(z, -0.0)
    # sigma(-z - low) = sigma(-z) (1 - low sigma(z))
    return bipolar_slope(steepness, w, slope_part(w, fma(low, fma(UNIT, w, -1.0), rest)))


@scalar
def bipolar_sigmoid_joint(x, steepness):
    """As tanh_joint; the rounding error of steepness x goes into both."""
    z, low, _ = product(steepness, x)
    w, rest = logistic_parts(z, -0.0)
    rest = fma(low, fma(UNIT, w, -1.0), rest)
    far = far_from_zero(w, rest)
    near = odd_series_at(0.5 * at_most(z, NEAR + NEAR), 0.5 * low)
    y = copysign(select(z > NEAR + NEAR, far, near), x)
    return y, bipolar_slope(steepness, w, slope_part(w, rest))


@scalar
def bipolar_sigmoid_steepness_grad(x, steepness):
    slope = scaled_slope(x, steepness)
    large = (ROOT_OF_UNIT * x) * (ROOT_OF_UNIT * slope)
    product = select(abs(x) > 1.0, large, x * (UNIT * slope))
    return 2.0 * select(slope == 0.0, 0.0, product)


@scalar
def bipolar_sigmoid_grad_from_output(y, steepness):
    return (0.5 * steepness) * (1.0 - y) * (1.0 + y)


# tanh(x) = x/(1 + c) with Lambert's continued fraction c = x**2/(3 + x**2/(5 + ...))
LAMBERT = "x * x / 21"
for odd in range(19, 1, -2):
    LAMBERT = f"x * x / ({odd} + {LAMBERT})"

RUMELHART = (
    "D. E. Rumelhart, G. E. Hinton, R. J. Williams, Learning representations by "
    "back-propagating errors, Nature 323, 1986"
)
GREGOR = "K. Gregor, Y. LeCun, Learning fast approximations of sparse coding, ICML 2010"
LECUN = "Y. LeCun, L. Bottou, G. B. Orr, K.-R. Mueller, Efficient BackProp, 1998"
ZURADA = "J. M. Zurada, Introduction to Artificial Neural Systems, West Publishing, 1992"

RECORDS = (
    Activation(
        name="sigmoid",
        summary="The logistic function: squashes the line into (0, 1).",
        formula="1 / (1 + exp(-x))",
        derivative="sigmoid(x) * sigmoid(-x)",
        forward=sigmoid_forward,
        grad=sigmoid_grad,
        grad_from_output=sigmoid_grad_from_output,
        output_note=(
            "y (1 - y) is exactly 0 once y has rounded to 1, from x = 17 in float32 and x = 37 "
            "in float64, and loses digits long before; y near 0 keeps all of them"
        ),
        limits=("0.0", "1.0"),
        grad_limits=("0.0", "0.0"),
        accuracy={"float32": Accuracy(0.99, 1.0), "float64": Accuracy(0.95, 1.02)},
        sources=(
            "P. F. Verhulst, Notice sur la loi que la population suit dans son accroissement, "
            "Correspondance mathematique et physique 10, 1838",
            RUMELHART,
        ),
        numpy="1 / (1 + np.exp(-x))",
        stable=(
            "np.where(x < 0, np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))), "
            "1 / (1 + np.exp(-np.abs(x))))"
        ),
        stable_note=(
            "w = 1/(1 + exp(|x|)), scaled away from the subnormals and corrected by its residual; "
            "then w or 1 - w by the sign of x"
        ),
        scipy="scipy.special.expit(x)",
        torch="torch.sigmoid(x, out=out)",
        jax="jax.nn.sigmoid(x)",
        use=(
            "Output layer of a binary classifier, and gates. In hidden layers it saturates: the "
            "derivative is at most 1/4, so gradients vanish through many layers."
        ),
    ),
    Activation(
        name="bipolar_sigmoid",
        summary="The sigmoid stretched to (-1, 1), with a steepness.",
        formula="(1 - exp(-steepness * x)) / (1 + exp(-steepness * x)) = tanh(steepness * x / 2)",
        derivative="steepness / 2 * (1 + f(x)) * (1 - f(x))",
        forward=bipolar_sigmoid_forward,
        grad=bipolar_sigmoid_grad,
        joint=bipolar_sigmoid_joint,
        grad_from_output=bipolar_sigmoid_grad_from_output,
        output_note=(
            "(1 + y) (1 - y) is exactly 0 once y has rounded to 1 or -1, from "
            "|steepness x| = 18 in float32 and 38 in float64, and loses digits long before"
        ),
        parameters=(
            Parameter("steepness", 1.0, "slope at 0 is steepness/2; 2 makes it tanh", "positive"),
        ),
        parameter_grads={"steepness": bipolar_sigmoid_steepness_grad},
        limits=("-1.0", "1.0"),
        grad_limits=("0.0", "0.0"),
        accuracy={"float32": Accuracy(1.13, 1.21), "float64": Accuracy(1.64, 1.15)},
        sources=(ZURADA,),
        numpy="(1 - np.exp(-steepness * x)) / (1 + np.exp(-steepness * x))",
        stable="np.tanh(0.5 * steepness * x)",
        stable_note=(
            "tanh of steepness x / 2, where the rounding error of the product is carried along "
            "into the exponential"
        ),
        torch="torch.tanh(0.5 * steepness * x, out=out)",
        jax="jnp.tanh(0.5 * steepness * x)",
        use=(
            "Hidden layers of small networks with targets -1 and 1; centred on 0, so it trains "
            "faster than the sigmoid, and saturates like it."
        ),
        odd=True,
    ),
    Activation(
        name="tanh",
        summary="The hyperbolic tangent: squashes the line into (-1, 1), slope 1 at 0.",
        formula="tanh(x)",
        derivative="sech(x)**2 = 4 * exp(-2|x|) / (1 + exp(-2|x|))**2",
        forward=tanh_forward,
        grad=tanh_grad,
        joint=tanh_joint,
        grad_from_output=tanh_grad_from_output,
        output_note=(
            "(1 - y) (1 + y) is exactly 0 once y has rounded to 1 or -1, from |x| = 9 in float32 "
            "and 19 in float64, and loses digits long before"
        ),
        limits=("-1.0", "1.0"),
        grad_limits=("0.0", "0.0"),
        accuracy={"float32": Accuracy(1.0, 1.0), "float64": Accuracy(1.43, 1.02)},
        sources=(LECUN,),
        numpy="np.tanh(x)",
        stable_note=(
            "an odd polynomial near 0, elsewhere 1 - 2e/(1 + e) with e = exp(-2|x|); the "
            "derivative comes from the exponential, not from 1 - y**2, so it keeps its digits "
            "where y has rounded to 1"
        ),
        torch="torch.tanh(x, out=out)",
        jax="jnp.tanh(x)",
        use=(
            "Recurrent networks and small hidden layers; zero-centred, so it trains better than "
            "the sigmoid, and its gradient still vanishes in saturation."
        ),
        odd=True,
    ),
    Activation(
        name="tanhshrink",
        aliases=("tanh_shrink",),
        summary="What tanh takes from its input: close to 0 around 0, x - 1 or x + 1 far out.",
        formula="x - tanh(x)",
        derivative="tanh(x)**2",
        forward=tanh_difference,
        grad=tanh_square,
        limits=("-inf", "inf"),
        grad_limits=("1.0", "1.0"),
        accuracy={"float32": Accuracy(1.5, 1.69), "float64": Accuracy(1.32, 1.48)},
        sources=(GREGOR,),
        numpy="x - np.tanh(x)",
        stable=f"np.where(np.abs(x) < 1, x * (c := {LAMBERT}) / (1 + c), x - np.tanh(x))",
        stable_note=(
            "x - tanh(x) cancels around 0, where it is x**3/3: a polynomial there, elsewhere "
            "|x| - 1 + 2e/(1 + e) with e = exp(-2|x|)"
        ),
        torch="F.tanhshrink(x)",
        jax="x - jnp.tanh(x)",
        use="Sparse coding and denoising: small inputs are damped smoothly, large ones kept.",
        odd=True,
    ),
)
