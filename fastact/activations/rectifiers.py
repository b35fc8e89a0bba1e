"""Rectifiers: the identity for x > 0, and something smaller or nothing below."""

from fastact.activations.record import Accuracy, Activation, Parameter
from fastact.numerics.exponential import LOWEST, SMALL, clamp, exponential_parts
from fastact.numerics.language import ByDtype, fma, scalar, select

EXACT = {"float32": Accuracy(0.0, 0.0), "float64": Accuracy(0.0, 0.0)}
LARGEST = ByDtype(3.4028234663852886e38, 1.7976931348623157e308)


@scalar
def relu_forward(x):
    return select(x <= 0.0, 0.0, x)


@scalar
def relu_grad(x):
    return select(x > 0.0, 1.0, select(x <= 0.0, 0.0, x))


@scalar
def leaky_relu_forward(x, negative_slope):
    # a slope of 0 at -inf: the limit is 0, and 0 * inf would be nan
    finite = select(negative_slope == 0.0, select(-LARGEST > x, -LARGEST, x), x)
    return select(x > 0.0, x, negative_slope * finite)


@scalar
def leaky_relu_grad(x, negative_slope):
    return select(x > 0.0, 1.0, select(x <= 0.0, negative_slope, x))


@scalar
def elu_forward(x, alpha):
    s, r, u = exponential_parts(clamp(x, LOWEST, 0.0))
    # alpha ((s - 1) + s r + s u), the rounding error of the first product carried along
    s = SMALL * s
    high = alpha * (s - 1.0)
    low = fma(alpha, s - 1.0, -high)
    s = alpha * s
    return select(x > 0.0, x, high + fma(s, r, fma(s, u, low)))


@scalar
def elu_grad(x, alpha):
    s, r, u = exponential_parts(clamp(x, LOWEST, 0.0))
    s = alpha * s
    return select(x > 0.0, 1.0, SMALL * fma(s, r + u, s))


@scalar
def elu_grad_from_output(y, alpha):
    return select(y > 0.0, 1.0, y + alpha)


GLOROT = "X. Glorot, A. Bordes, Y. Bengio, Deep sparse rectifier neural networks, AISTATS 2011"
NAIR = (
    "V. Nair, G. E. Hinton, Rectified linear units improve restricted Boltzmann machines, ICML 2010"
)
MAAS = (
    "A. L. Maas, A. Y. Hannun, A. Y. Ng, Rectifier nonlinearities improve neural network "
    "acoustic models, ICML 2013"
)
CLEVERT = (
    "D.-A. Clevert, T. Unterthiner, S. Hochreiter, Fast and accurate deep network learning by "
    "exponential linear units (ELUs), ICLR 2016"
)

RECORDS = (
    Activation(
        name="relu",
        summary="The rectified linear unit: negative inputs become 0.",
        formula="max(x, 0)",
        derivative="1 if x > 0 else 0",
        forward=relu_forward,
        grad=relu_grad,
        grad_from_output=relu_grad,
        output_note="none",
        limits=("0.0", "inf"),
        grad_limits=("0.0", "1.0"),
        kinks=("0.0",),
        kink_note="the derivative at 0 is taken as 0",
        accuracy=EXACT,
        sources=(NAIR, GLOROT),
        numpy="np.maximum(x, 0)",
        torch="torch.clamp_min(x, 0, out=out)",
        use=(
            "The default for hidden layers: cheap, and its gradient does not vanish for x > 0. A "
            "unit whose input is always negative gets no gradient and stays dead."
        ),
    ),
    Activation(
        name="leaky_relu",
        summary="A rectifier with a small slope for negative inputs.",
        formula="x if x > 0 else negative_slope * x",
        derivative="1 if x > 0 else negative_slope",
        forward=leaky_relu_forward,
        grad=leaky_relu_grad,
        limits=("-negative_slope * inf if negative_slope else 0.0", "inf"),
        grad_limits=("negative_slope", "1.0"),
        parameters=(
            Parameter("negative_slope", 0.01, "slope for x <= 0; may exceed 1 or be negative"),
        ),
        kinks=("0.0",),
        kink_note="the derivative at 0 is taken as negative_slope",
        accuracy={"float32": Accuracy(0.5, 0.0), "float64": Accuracy(0.5, 0.0)},
        sources=(MAAS,),
        numpy="np.where(x > 0, x, negative_slope * x)",
        torch="F.leaky_relu(x, negative_slope)",
        use="Where relu units die: a little gradient always flows for negative inputs.",
    ),
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
        kinks=("0.0",),
        kink_note="the derivative at 0 is taken as alpha",
        accuracy={"float32": Accuracy(0.95, 0.96), "float64": Accuracy(1.1, 1.0)},
        sources=(CLEVERT,),
        numpy="np.where(x > 0, x, alpha * (np.exp(x) - 1))",
        stable="np.where(x > 0, x, alpha * np.expm1(x))",
        stable_note="expm1 from its own polynomial, so that nothing cancels near 0",
        torch="F.elu(x, alpha)",
        use=(
            "Hidden layers where relu dies or shifts the mean: negative outputs push the mean "
            "activation towards 0, and the derivative is continuous for alpha = 1."
        ),
    ),
)
