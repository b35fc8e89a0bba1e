"""The Gaussian error linear unit: x times the probability that a normal variable is below x."""

from fastact.activations.record import Accuracy, Activation
from fastact.numerics.error_function import FAR, HALF_SMALL, SMALL_SQUARED, tail, tail_slope
from fastact.numerics.gaussian_tables import END, far_slope, far_tail, near_slope, near_tail
from fastact.numerics.language import fma, rarely, scalar, select


@scalar
def gelu_forward(x):
    # x Phi(x) is -a Phi(-a) on the left, x - a Phi(-a) on the right
    a = abs(x)
    y = tail(select(FAR < a, FAR, a))
    return fma(-SMALL_SQUARED, y, select(x < 0.0, -0.0, x))


@gelu_forward.by_tables
def gelu_forward_by_tables(x):
    # beyond END the tail is far below the last digit of x, but all of it where x is negative
    near = select(x < -0.0, -0.0, x) - near_tail(abs(x))
    return rarely(x < -END, -far_tail(-x), near)


@scalar
def gelu_grad(x):
    a = abs(x)
    g = tail_slope(select(FAR < a, FAR, a))
    return select(x < 0.0, HALF_SMALL * g, fma(-HALF_SMALL, g, 1.0))


@gelu_grad.by_tables
def gelu_grad_by_tables(x):
    g = near_slope(abs(x))
    return rarely(x < -END, far_slope(-x), select(x < 0.0, g, 1.0 - g))


HENDRYCKS = "D. Hendrycks, K. Gimpel, Gaussian error linear units (GELUs), arXiv:1606.08415, 2016"

RECORDS = (
    Activation(
        name="gelu",
        summary="The Gaussian error linear unit: x times the normal distribution function.",
        formula="x * Phi(x) with Phi(x) = erfc(-x / sqrt(2)) / 2",
        derivative="Phi(x) + x * phi(x) with phi(x) = exp(-x**2 / 2) / sqrt(2 * pi)",
        forward=gelu_forward,
        grad=gelu_grad,
        limits=("0.0", "inf"),
        grad_limits=("0.0", "1.0"),
        accuracy={"float32": Accuracy(1.87, 1.95), "float64": Accuracy(1.84, 1.82)},
        sources=(HENDRYCKS,),
        numpy="0.5 * x * (1 + scipy.special.erf(x / np.sqrt(2)))",
        stable="x * scipy.special.ndtr(x)",
        stable_note=(
            "1 + erf loses every digit from x = -5 on; here the tail is exp(-x**2/2) times the "
            "scaled complementary error function, with the rounding error of x**2 carried along"
        ),
        scipy="x * scipy.special.ndtr(x)",
        torch="F.gelu(x)",
        jax="jax.nn.gelu(x, approximate=False)",
        use=(
            "Transformers: between the two linear layers of each block in BERT, GPT and their "
            "successors; smooth, not monotonic, with a small negative dip."
        ),
    ),
)
