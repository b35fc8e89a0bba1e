"""Rectifiers: the identity for x > 0 (or its square), and a line or nothing below."""

from fastact.activations.record import EXACT, Accuracy, Activation, Parameter
from fastact.numerics.language import ByDtype, scalar, select, sqrt

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
def leaky_relu_slope_grad(x, negative_slope):
    return select(x > 0.0, 0.0, x)


@scalar
def squared_relu_forward(x):
    y = relu_forward(x)
    return y * y


@scalar
def squared_relu_grad(x):
    y = relu_forward(x)
    return y + y


@scalar
def squared_relu_grad_from_output(y):
    return 2.0 * sqrt(y)


@scalar
def threshold_forward(x, threshold, value):
    return select(x > threshold, x, select(x <= threshold, value, x))


@scalar
def threshold_grad(x, threshold, value):
    return select(x > threshold, 1.0, select(x <= threshold, 0.0, x))


@scalar
def threshold_value_grad(x, threshold, value):
    return select(x > threshold, 0.0, select(x <= threshold, 1.0, x))


GLOROT = "X. Glorot, A. Bordes, Y. Bengio, Deep sparse rectifier neural networks, AISTATS 2011"
NAIR = (
    "V. Nair, G. E. Hinton, Rectified linear units improve restricted Boltzmann machines, ICML 2010"
)
MAAS = (
    "A. L. Maas, A. Y. Hannun, A. Y. Ng, Rectifier nonlinearities improve neural network "
    "acoustic models, ICML 2013"
)
SO = (
    "D. R. So et al., Primer: searching for efficient transformers for language modeling, "
    "NeurIPS 2021"
)
KONDA = (
    "K. Konda, R. Memisevic, D. Krueger, Zero-bias autoencoders and the benefits of co-adapting "
    "features, ICLR 2015"
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
        jax="jax.nn.relu(x)",
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
        parameter_grads={"negative_slope": leaky_relu_slope_grad},
        kinks=("0.0",),
        kink_note="the derivative at 0 is taken as negative_slope",
        accuracy={"float32": Accuracy(0.5, 0.0), "float64": Accuracy(0.5, 0.0)},
        sources=(MAAS,),
        numpy="np.where(x > 0, x, negative_slope * x)",
        torch="F.leaky_relu(x, negative_slope)",
        jax="jax.nn.leaky_relu(x, negative_slope)",
        use="Where relu units die: a little gradient always flows for negative inputs.",
    ),
    Activation(
        name="squared_relu",
        aliases=("relu_squared",),
        summary="The square of the rectifier.",
        formula="max(x, 0)**2",
        derivative="2 * max(x, 0)",
        forward=squared_relu_forward,
        grad=squared_relu_grad,
        grad_from_output=squared_relu_grad_from_output,
        output_note="2 sqrt(y) is 0 or loses digits where the square was too small to be normal",
        limits=("0.0", "inf"),
        grad_limits=("0.0", "inf"),
        accuracy={"float32": Accuracy(0.5, 0.0), "float64": Accuracy(0.5, 0.0)},
        sources=(SO,),
        numpy="np.maximum(x, 0) ** 2",
        torch="F.relu(x).square()",
        jax="jnp.square(jax.nn.relu(x))",
        use=(
            "Feed-forward layers of transformers (Primer). Smooth at 0; outputs grow with the "
            "square of the input, so it wants normalised inputs."
        ),
    ),
    Activation(
        name="threshold",
        summary="The identity above a threshold, a constant from there down.",
        formula="x if x > threshold else value",
        derivative="1 if x > threshold else 0",
        forward=threshold_forward,
        grad=threshold_grad,
        parameters=(
            Parameter("threshold", 0.0, "inputs up to and including it are replaced"),
            Parameter("value", 0.0, "what they are replaced with"),
        ),
        parameter_grads={"value": threshold_value_grad},
        limits=("value", "inf"),
        grad_limits=("0.0", "1.0"),
        kinks=("threshold",),
        kink_note="f(threshold) = value; the derivative there is taken as 0",
        accuracy=EXACT,
        sources=(KONDA,),
        numpy="np.where(x > threshold, x, value)",
        torch="F.threshold(x, threshold, value)",
        jax="jnp.where(x > threshold, x, value)",
        use=(
            "Sparse codes (value 0, threshold above 0) and the cutting off of noise. It jumps at "
            "the threshold unless value equals it."
        ),
    ),
)
