"""Smooth relatives of the rectifiers: x times something between 0 and 1."""

from fastact.activations.record import Accuracy, Activation, Parameter
from fastact.numerics.language import fma, scalar, select
from fastact.numerics.logistic import ROOT_OF_UNIT, UNIT, logistic_parts, product, scaled_slope


@scalar
def swish_forward(x, beta):
    z, low, outside = product(beta, x)
    w, rest = logistic_parts(z, low)
    w = fma(w, rest, w)
    # far below 0 the limit is 0; x times the smallest w would be nan at -inf
    below = UNIT * select(outside, -0.0, x * w)
    above = select(outside, x, fma(-x, UNIT * w, x))
    return select((x > 0.0) != (beta > 0.0), below, above)


@scalar
def swish_grad(x, beta):
    z, low, _ = product(beta, x)
    w, rest = logistic_parts(z, low)
    # below 0, with W = w (1 + rest): W (1 - z (1 - W)); above 0: 1 less that
    factor = (1.0 - z) + fma(z, UNIT * fma(w, rest, w), -low)
    below = w * factor
    below = below + fma(below, rest, fma(w, factor, -below))
    return select((x > 0.0) != (beta > 0.0), UNIT * below, fma(-UNIT, below, 1.0))


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
        accuracy={"float32": Accuracy(1.75, 1.81), "float64": Accuracy(1.6, 1.7)},
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
        use=(
            "Hidden layers of deep networks, where it often beats relu; smooth, not monotonic, "
            "and its gradient does not die for moderately negative inputs."
        ),
    ),
)
