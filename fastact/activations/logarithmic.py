"""Activations that are logarithms: of probabilities, of sums and differences of exponentials."""

from fastact.activations.record import Accuracy, Activation, Parameter
from fastact.numerics.exponential import LN2, LN2_TAIL, expm1
from fastact.numerics.language import (
    ByDtype,
    fma,
    from_bits,
    iadd,
    pieces,
    polynomial,
    rarely,
    scalar,
    select,
)
from fastact.numerics.logarithm import (
    ATANH,
    INF,
    NAN,
    NORMAL,
    ONE_BITS,
    SCALE,
    SCALE_LOG2,
    split,
)
from fastact.numerics.logistic import (
    HIGHEST,
    UNIT,
    at_most,
    logistic,
    logistic_parts,
    product,
    slope_part,
)
from fastact.numerics.logistic_table import (
    LOGISTIC_END,
    argument,
    falling_from_table,
    logistic_from_table,
)
from fastact.numerics.logsum import log1mexp, log1p_exp, reciprocal_expm1
from fastact.numerics.pieces import step_of
from fastact.numerics.softplus_table import END, STEPS, TAIL

STEEPEST = 2.0**126  # softplus by its table: 1/beta of more is subnormal in float32
LARGEST = ByDtype(3.4028235e38, 1.7976931348623157e308)


@scalar
def near_tail(a):
    """log(1 + exp(-a)) up to END"""
    return pieces(a, step_of(a, STEPS), TAIL)


@scalar
def softplus_forward(x, beta):
    z, low, outside = product(beta, x)
    s, rest, c, p = log1p_exp(z, low)
    line = select(x > 0.0, x, 0.0)
    # UNIT/beta by a reciprocal that does not change from element to element; the scale goes to
    # whichever factor then stays a normal number
    wide = beta < 1.0
    reciprocal = at_most(1.0 / beta, LARGEST)
    lost = reciprocal * fma(-reciprocal, beta, 1.0)
    r = reciprocal * select(wide, UNIT, 1.0)
    lost = lost * select(wide, UNIT, 1.0)
    s = s * select(wide, 1.0, UNIT)
    rest = fma(rest * select(wide, 1.0, UNIT), r, fma(s, lost, line))
    c_over = c * reciprocal
    rest = fma(fma(c, reciprocal, -c_over), p, rest)
    return select(outside, line, fma(s, r, fma(c_over, p, rest)))


@softplus_forward.by_tables
def softplus_forward_by_tables(x, beta):
    z, low, _ = product(beta, x)
    tail = near_tail(at_most(z, END))
    # what rounding took from z: for small ones the derivative is not quite -tail, but then it is
    # far below the last digit
    tail = fma(tail, -low, tail)
    reciprocal = 1.0 / beta
    lost = reciprocal * fma(-reciprocal, beta, 1.0)
    near = fma(tail, reciprocal, fma(tail, lost, select(x > 0.0, x, 0.0)))
    # no table for large negative z, nor for a beta whose reciprocal is no normal number
    far = select(beta < NORMAL, HIGHEST, select(beta > STEEPEST, HIGHEST, z))
    return rarely(select(x > 0.0, 0.0, far) > END, softplus_forward(x, beta), near)


@scalar
def softplus_grad(x, beta):
    z, low, _ = product(beta, x)
    w, rest = logistic_parts(z, low)
    w = fma(w, rest, w)
    return select(x < 0.0, UNIT * w, fma(-UNIT, w, 1.0))


@softplus_grad.by_tables
def softplus_grad_by_tables(x, beta):
    z, low = argument(beta, x)
    s = falling_from_table(z, low)
    return rarely(z > LOGISTIC_END, softplus_grad(x, beta), select(x < 0.0, s, 1.0 - s))


@scalar
def softplus_beta_grad(x, beta):
    """-(z sigma(-z) + log1p(exp(-z))) / beta**2 with z = |beta x|, on both sides of 0."""
    z, low, _ = product(beta, x)
    w, part = logistic_parts(z, low)
    s, rest, c, p = log1p_exp(z, low)
    tail = s + fma(c, p / UNIT, rest)
    return (-UNIT / beta) * (fma(z, fma(w, part, w), tail) / beta)


@scalar
def softplus_grad_from_output(y, beta):
    return -expm1(-(beta * y))


@scalar
def log_sigmoid_forward(x):
    s, rest, c, p = log1p_exp(at_most(abs(x), HIGHEST), 0.0)
    return fma(-UNIT, s, fma(-c, p, fma(-UNIT, rest, select(x < 0.0, x, 0.0))))


@log_sigmoid_forward.by_tables
def log_sigmoid_forward_by_tables(x):
    near = select(x < 0.0, x, -0.0) - near_tail(at_most(abs(x), END))
    return rarely(x > END, log_sigmoid_forward(x), near)


@scalar
def log_sigmoid_grad(x):
    return logistic(-x)


@log_sigmoid_grad.by_tables
def log_sigmoid_grad_by_tables(x):
    return logistic_from_table(-x)


@scalar
def log_sigmoid_grad_from_output(y):
    return -expm1(y)


@scalar
def log1mexp_grad(x):
    return select(x < 0.0, NAN, reciprocal_expm1(abs(x)))


@scalar
def log1mexp_grad_from_output(y):
    # 1/(exp(x) - 1) = exp(-y) - 1
    return expm1(-y)


@scalar
def logit_forward(x):
    u = 1.0 - x
    lost = (1.0 - u) - x
    subnormal = x < NORMAL
    scaled = select(subnormal, x * SCALE, x)
    k, e, _ = split(scaled / u)
    power = from_bits(iadd(ONE_BITS, e))
    # x/u = 2**k (1 + s)/(1 - s), where the numerator of s is exact around 1/2
    part = fma(-power, lost, fma(-power, u, scaled))
    s = part / fma(power, u, scaled)
    k = select(subnormal, k - SCALE_LOG2, k)
    square = s * s
    twice = s + s
    high = fma(k, LN2, twice)
    low = fma(k, LN2_TAIL, fma(k, LN2, -high) + twice)
    y = high + fma(s * square, polynomial(square, ATANH), low)
    y = select(x > 0.0, y, select(x == 0.0, -INF, NAN))
    return select(x < 1.0, y, select(x == 1.0, INF, NAN))


@scalar
def logit_grad(x):
    u = 1.0 - x
    p = abs(x * u)
    low = fma(x, u, -p) + x * ((1.0 - u) - x)
    g = 1.0 / p
    g = select(g < INF, fma(g, fma(-g, low, fma(-g, p, 1.0)), g), g)
    return select(x < 0.0, NAN, select(x > 1.0, NAN, g))


@scalar
def logit_grad_from_output(y):
    # 1/sigma'(y): the division comes before the scale, which may make it infinite
    w, rest = logistic_parts(at_most(abs(y), HIGHEST), -0.0)
    return 1.0 / fma(w, slope_part(w, rest), w) / UNIT


DUGAS = (
    "C. Dugas, Y. Bengio, F. Belisle, C. Nadeau, R. Garcia, Incorporating second-order functional "
    "knowledge for better option pricing, NIPS 13, 2001"
)
MAECHLER = "M. Maechler, Accurately computing log(1 - exp(-|a|)), Rmpfr package vignette, 2012"
BERKSON = (
    "J. Berkson, Application of the logistic function to bio-assay, Journal of the American "
    "Statistical Association 39, 1944"
)
BISHOP = "C. M. Bishop, Neural Networks for Pattern Recognition, Oxford University Press, 1995"

RECORDS = (
    Activation(
        name="softplus",
        summary="The smooth relu: log(1 + exp(x)), whose derivative is the sigmoid.",
        formula="log(1 + exp(beta * x)) / beta",
        derivative="sigmoid(beta * x)",
        forward=softplus_forward,
        grad=softplus_grad,
        grad_from_output=softplus_grad_from_output,
        output_note=(
            "1 - exp(-beta y) keeps its digits, also where the derivative is small; where y is "
            "large it is 1 as it should be"
        ),
        parameter_grads={"beta": softplus_beta_grad},
        limits=("0.0", "inf"),
        grad_limits=("0.0", "1.0"),
        parameters=(Parameter("beta", 1.0, "large ones make it relu", "positive"),),
        accuracy={"float32": Accuracy(2.0, 1.1), "float64": Accuracy(2.0, 1.07)},
        sources=(DUGAS,),
        numpy="np.log(1 + np.exp(beta * x)) / beta",
        stable="(np.maximum(beta * x, 0) + np.log1p(np.exp(-np.abs(beta * x)))) / beta",
        stable_note=(
            "max(x, 0) + log(1 + e)/beta with e = exp(-beta |x|) and a polynomial for the "
            "logarithm that begins with e; no threshold beyond which it is cut off"
        ),
        torch="F.softplus(x, beta)",
        jax="jax.nn.softplus(beta * x) / beta",
        use=(
            "Outputs that must be positive, such as variances and rates; smooth everywhere, and "
            "its gradient never dies entirely."
        ),
    ),
    Activation(
        name="log_sigmoid",
        aliases=("logsigmoid",),
        summary="The logarithm of the sigmoid: minus the softplus of -x.",
        formula="log(sigmoid(x)) = -log(1 + exp(-x))",
        derivative="sigmoid(-x)",
        forward=log_sigmoid_forward,
        grad=log_sigmoid_grad,
        grad_from_output=log_sigmoid_grad_from_output,
        output_note="1 - exp(y) keeps its digits, also where the derivative is small",
        limits=("-inf", "0.0"),
        grad_limits=("1.0", "0.0"),
        accuracy={"float32": Accuracy(1.5, 0.99), "float64": Accuracy(1.49, 0.92)},
        sources=(BISHOP,),
        numpy="np.log(1 / (1 + np.exp(-x)))",
        stable="np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))",
        stable_note=(
            "min(x, 0) - log(1 + e) with e = exp(-|x|) and a polynomial for the logarithm that "
            "begins with e"
        ),
        scipy="scipy.special.log_expit(x)",
        torch="F.logsigmoid(x)",
        jax="jax.nn.log_sigmoid(x)",
        use=(
            "Log-likelihoods of binary outcomes, where the sigmoid itself would round to 0 or 1; "
            "contrastive losses and energy models."
        ),
    ),
    Activation(
        name="log1mexp",
        summary="log(1 - exp(-x)): the logarithm of a complementary probability.",
        formula="log(1 - exp(-x)), for x >= 0",
        derivative="1 / (exp(x) - 1)",
        forward=log1mexp,
        grad=log1mexp_grad,
        grad_from_output=log1mexp_grad_from_output,
        output_note="exp(-y) - 1 doubles the rounding error of y where |y| is about 1, more beyond",
        limits=("nan", "0.0"),
        grad_limits=("nan", "0.0"),
        accuracy={"float32": Accuracy(1.59, 1.28), "float64": Accuracy(1.63, 1.55)},
        sources=(MAECHLER,),
        numpy="np.log(1 - np.exp(-x))",
        stable="np.where(x < 0.7, np.log(-np.expm1(-x)), np.log1p(-np.exp(-x)))",
        stable_note=(
            "below ln 2 as log(x) plus a smooth function of one sign with it, above ln 2 from a "
            "polynomial in exp(-x) all of whose terms have one sign; -inf at 0, nan below"
        ),
        jax="jax.nn.log1mexp(x)",
        use=(
            "Log-probabilities of the complement: from log p to log(1 - p) with x = -log p, "
            "without leaving log space."
        ),
    ),
    Activation(
        name="logit",
        summary="The inverse of the sigmoid: the logarithm of the odds.",
        formula="log(x / (1 - x)), for 0 <= x <= 1",
        derivative="1 / (x * (1 - x))",
        forward=logit_forward,
        grad=logit_grad,
        grad_from_output=logit_grad_from_output,
        output_note=(
            "(1 + exp(y)) (1 + exp(-y)) multiplies the rounding error of y by |y|, which is 103 in "
            "float32 and 745 in float64 at most"
        ),
        limits=("nan", "nan"),
        grad_limits=("nan", "nan"),
        accuracy={"float32": Accuracy(1.75, 0.51), "float64": Accuracy(1.63, 0.51)},
        sources=(BERKSON,),
        numpy="np.log(x / (1 - x))",
        stable="np.log(x) - np.log1p(-x)",
        stable_note=(
            "log(x/(1 - x)) = k ln 2 + 2 atanh(s) with the quotient s formed from x and 1 - x "
            "directly: around 1/2, where the logarithm vanishes, s is exact; -inf at 0, inf at 1, "
            "nan outside"
        ),
        scipy="scipy.special.logit(x)",
        torch="torch.logit(x, out=out)",
        jax="jax.scipy.special.logit(x)",
        use=(
            "From probabilities to unbounded scores, as in logistic regression and calibration; "
            "not an activation of hidden layers."
        ),
    ),
)
