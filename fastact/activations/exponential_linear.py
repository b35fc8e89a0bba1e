"""Exponential linear units: the identity for x > 0, an exponential that levels off below."""

from fastact.activations.record import Accuracy, Activation, Parameter
from fastact.numerics.exponential import LOWEST, SMALL, clamp, exponential_parts
from fastact.numerics.language import ByDtype, fma, scalar, select

# scale and scale * alpha of selu (Klambauer et al., 2017), made by ci/coefficients.py: rounded
# down, and the rest
SELU_SCALE = ByDtype(1.0507009, 1.0507009873554805)
SELU_SCALE_TAIL = ByDtype(8.441663771998183e-08, 3.987484766715415e-17)
SELU_DEPTH = ByDtype(1.7580993, 1.7580993408473768)
SELU_DEPTH_TAIL = ByDtype(2.3296717680252718e-08, 1.415351938008446e-17)
SELU_NEAREST = 1.0507009873554805
SELU_DEPTH_EXCESS = ByDtype(1.3251081692420615e-08, 8.050466234327054e-18)  # TAIL / DEPTH


@scalar
def elu_forward(x, alpha):
    s, r, u = exponential_parts(clamp(x, LOWEST, 0.0), -0.0)
    # alpha ((s - 1) + s r + s u), the rounding error of the first product carried along
    s = SMALL * s
    high = alpha * (s - 1.0)
    low = fma(alpha, s - 1.0, -high)
    s = alpha * s
    return select(x > 0.0, x, high + fma(s, r, fma(s, u, low)))


@scalar
def elu_grad(x, alpha):
    s, r, u = exponential_parts(clamp(x, LOWEST, 0.0), -0.0)
    s = alpha * s
    return select(x > 0.0, 1.0, SMALL * fma(s, r + u, s))


@scalar
def elu_grad_from_output(y, alpha):
    return select(y > 0.0, 1.0, y + alpha)


@scalar
def elu_alpha_grad(x, alpha):
    return elu_forward(select(x > 0.0, 0.0, x), 1.0)


@scalar
def quotient(x, alpha):
    """(z, low): z + low = x/alpha for x < 0, as far as exp(x/alpha) matters."""
    z = clamp(x / alpha, LOWEST, 0.0)
    return z, select(z > LOWEST, fma(-z, alpha, x) / alpha, 0.0)


@scalar
def celu_forward(x, alpha):
    below = select(x > 0.0, 0.0, x)
    z, low = quotient(below, alpha)
    s, r, u = exponential_parts(z, low)
    s = SMALL * s
    high = alpha * (s - 1.0)
    low = fma(alpha, s - 1.0, -high)
    # near 0, where s = 1, alpha r is x itself
    curved = fma(alpha * s, u, low)
    straight = select(s == 1.0, below + curved, fma(alpha * s, r, curved))
    return select(x > 0.0, x, high + straight)


@scalar
def celu_grad(x, alpha):
    z, low = quotient(select(x > 0.0, 0.0, x), alpha)
    s, r, u = exponential_parts(z, low)
    return select(x > 0.0, 1.0, SMALL * fma(s, r + u, s))


@scalar
def celu_grad_from_output(y, alpha):
    return select(y > 0.0, 1.0, (y + alpha) / alpha)


@scalar
def celu_alpha_grad(x, alpha):
    """expm1(z) - z exp(z), z = x/alpha: near 0, u - z (z + u) with u = exp(z) - 1 - z."""
    z, low = quotient(select(x > 0.0, 0.0, x), alpha)
    s, r, u = exponential_parts(z, low)
    s = SMALL * s
    e = fma(s, r + u, s)
    return select(s == 1.0, fma(-z, r + u, u), fma(-z, e, e - 1.0))


@scalar
def selu_forward(x):
    s, r, u = exponential_parts(clamp(x, LOWEST, 0.0), -0.0)
    s = SMALL * s
    high = SELU_DEPTH * (s - 1.0)
    low = fma(SELU_DEPTH, s - 1.0, -high) + SELU_DEPTH_TAIL * fma(s, r, s - 1.0)
    s = SELU_DEPTH * s
    below = high + fma(s, r, fma(s, u, low))
    return select(x > 0.0, fma(SELU_SCALE, x, SELU_SCALE_TAIL * x), below)


@scalar
def selu_grad(x):
    s, r, u = exponential_parts(clamp(x, LOWEST, 0.0), -0.0)
    s = SELU_DEPTH * s
    below = SMALL * fma(s, r + (u + SELU_DEPTH_EXCESS), s)
    return select(x > 0.0, SELU_NEAREST, below)


@scalar
def selu_grad_from_output(y):
    return select(y > 0.0, SELU_NEAREST, (y + SELU_DEPTH) + SELU_DEPTH_TAIL)


CLEVERT = (
    "D.-A. Clevert, T. Unterthiner, S. Hochreiter, Fast and accurate deep network learning by "
    "exponential linear units (ELUs), ICLR 2016"
)

BARRON = (
    "J. T. Barron, Continuously differentiable exponential linear units, arXiv:1704.07483, 2017"
)
KLAMBAUER = (
    "G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter, Self-normalizing neural networks, "
    "NeurIPS 2017"
)

RECORDS = (
    Activation(
        name="elu",
        summary="The exponential linear unit: the identity above 0, saturates at -alpha below.",
        formula="x if x > 0 else alpha * (exp(x) - 1)",
        derivative="1 if x > 0 else alpha * exp(x)",
        forward=elu_forward,
        grad=elu_grad,
        grad_from_output=elu_grad_from_output,
        output_note=(
            "y + alpha is exactly 0 once y has rounded to -alpha, from x = -17 in float32 and "
            "x = -37 in float64, and loses digits long before; needs alpha > 0"
        ),
        limits=("-alpha", "inf"),
        grad_limits=("0.0", "1.0"),
        parameters=(Parameter("alpha", 1.0, "-alpha is the limit at -inf"),),
        parameter_grads={"alpha": elu_alpha_grad},
        kinks=("0.0",),
        kink_note="the derivative at 0 is taken as alpha",
        accuracy={"float32": Accuracy(1.0, 1.08), "float64": Accuracy(1.23, 1.08)},
        sources=(CLEVERT,),
        numpy="np.where(x > 0, x, alpha * (np.exp(x) - 1))",
        stable="np.where(x > 0, x, alpha * np.expm1(x))",
        stable_note="expm1 from its own polynomial, so that nothing cancels near 0",
        torch="F.elu(x, alpha)",
        jax="jax.nn.elu(x, alpha)",
        use=(
            "Hidden layers where relu dies or shifts the mean: negative outputs push the mean "
            "activation towards 0, and the derivative is continuous for alpha = 1."
        ),
    ),
    Activation(
        name="celu",
        summary="An elu whose derivative is continuous for every alpha.",
        formula="x if x > 0 else alpha * (exp(x / alpha) - 1)",
        derivative="1 if x > 0 else exp(x / alpha)",
        forward=celu_forward,
        grad=celu_grad,
        grad_from_output=celu_grad_from_output,
        output_note=(
            "(y + alpha) / alpha is exactly 0 once y has rounded to -alpha, from x = -17 alpha in "
            "float32 and x = -37 alpha in float64, and loses digits long before"
        ),
        parameters=(Parameter("alpha", 1.0, "-alpha is the limit at -inf", "positive"),),
        parameter_grads={"alpha": celu_alpha_grad},
        limits=("-alpha", "inf"),
        grad_limits=("0.0", "1.0"),
        accuracy={"float32": Accuracy(1.37, 1.23), "float64": Accuracy(1.66, 1.19)},
        sources=(BARRON,),
        numpy="np.where(x > 0, x, alpha * (np.exp(x / alpha) - 1))",
        stable="np.where(x > 0, x, alpha * np.expm1(x / alpha))",
        stable_note=(
            "the rounding error of x/alpha is carried along into the exponential, and near 0 the "
            "quotient is not multiplied back"
        ),
        torch="F.celu(x, alpha)",
        jax="jax.nn.celu(x, alpha)",
        use="As elu, where alpha differs from 1 and a jump of the derivative at 0 is unwanted.",
    ),
    Activation(
        name="selu",
        summary="A scaled elu that keeps mean 0 and variance 1 from layer to layer.",
        formula=(
            "scale * x if x > 0 else scale * alpha * (exp(x) - 1), "
            "with scale = 1.0507009873554805, alpha = 1.6732632423543772"
        ),
        derivative="scale if x > 0 else scale * alpha * exp(x)",
        forward=selu_forward,
        grad=selu_grad,
        grad_from_output=selu_grad_from_output,
        output_note=(
            "y + scale alpha is exactly 0, or one rounding, once y has reached its limit, and "
            "loses digits long before"
        ),
        limits=("-1.7580993408473768", "inf"),
        grad_limits=("0.0", "1.0507009873554805"),
        kinks=("0.0",),
        kink_note="the derivative at 0 is taken as scale * alpha",
        accuracy={"float32": Accuracy(1.0, 1.01), "float64": Accuracy(1.08, 0.93)},
        sources=(KLAMBAUER,),
        numpy="1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1))",
        stable=(
            "1.05070098735548049342 * np.where(x > 0, x, 1.67326324235437728482 * np.expm1(x))"
        ),
        stable_note="as elu, with the constants in two parts: they hold beyond their last digit",
        torch="F.selu(x)",
        jax="jax.nn.selu(x)",
        use=(
            "Deep fully connected networks without normalisation layers, with weights drawn with "
            "variance 1/n: activations stay normalised by themselves."
        ),
    ),
)
