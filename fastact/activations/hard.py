"""Piecewise linear stand-ins for sigmoid, tanh and swish: a line, cut off on both sides."""

from fastact.activations.record import EXACT, Accuracy, Activation, Parameter
from fastact.numerics.exact import SIXTH, SIXTH_TAIL, THIRD, THIRD_TAIL, two_product, two_sum
from fastact.numerics.exponential import clamp
from fastact.numerics.language import ByDtype, fma, scalar, select

LARGEST = ByDtype(3.4028234663852886e38, 1.7976931348623157e308)


@scalar
def inside(x, low, high, slope):
    """slope for low < x < high, 0 outside; nan for nan."""
    return select(x > low, select(x < high, slope, 0.0), select(x <= low, 0.0, x))


@scalar
def relu6_forward(x):
    return select(x <= 0.0, 0.0, select(x >= 6.0, 6.0, x))


@scalar
def relu6_grad(x):
    return inside(x, 0.0, 6.0, 1.0)


@scalar
def hard_tanh_forward(x, min, max):
    return clamp(x, min, max)


@scalar
def hard_tanh_grad(x, min, max):
    return inside(x, min, max, 1.0)


@scalar
def below_or_nan(x, edge):
    """1 for x <= edge, 0 above; nan for nan."""
    return select(x <= edge, 1.0, select(x > edge, 0.0, x))


@scalar
def hard_tanh_min_grad(x, min, max):
    return below_or_nan(x, min)


@scalar
def hard_tanh_max_grad(x, min, max):
    return below_or_nan(-x, -max)


@scalar
def line(x, slope, offset):
    """slope x + offset; a slope of 0 holds at infinity too, an offset of 0 keeps the sign of 0."""
    x = select(slope == 0.0, clamp(x, -LARGEST, LARGEST), x)
    return select(offset == 0.0, slope * x, fma(slope, x, offset))


@scalar
def clipped_linear_forward(x, slope, offset, min, max):
    return clamp(line(x, slope, offset), min, max)


@scalar
def on_the_line(x, slope, offset, min, max, y):
    """y where the line, before it is rounded, lies between min and max; 0 elsewhere."""
    v = line(x, slope, offset)
    p, lost = two_product(slope, x)
    s, rest = two_sum(p, offset)
    lost = (s - v) + (rest + lost)
    y = select((v - min) + lost > 0.0, y, 0.0)
    return select(x == x, select((max - v) - lost > 0.0, y, 0.0), x)


@scalar
def clipped_linear_grad(x, slope, offset, min, max):
    return on_the_line(x, slope, offset, min, max, slope)


@scalar
def clipped_linear_slope_grad(x, slope, offset, min, max):
    return on_the_line(x, slope, offset, min, max, x)


@scalar
def clipped_linear_offset_grad(x, slope, offset, min, max):
    return on_the_line(x, slope, offset, min, max, 1.0)


@scalar
def clipped_linear_min_grad(x, slope, offset, min, max):
    return below_or_nan(line(x, slope, offset), min)


@scalar
def clipped_linear_max_grad(x, slope, offset, min, max):
    return below_or_nan(-line(x, slope, offset), -max)


@scalar
def sixth_parts(x):
    """(h, rest): h + rest = (x + 3)/6 for |x| <= 3, where x + 3 near -3 is exact."""
    s = x + 3.0
    lost = x - (s - 3.0)
    rest = fma(s, SIXTH_TAIL, lost * SIXTH)
    h = fma(s, SIXTH, rest)
    return h, fma(s, SIXTH, -h) + rest


@scalar
def hard_sigmoid_forward(x):
    h, _ = sixth_parts(clamp(x, -3.0, 3.0))
    return h


@scalar
def hard_sigmoid_grad(x):
    return inside(x, -3.0, 3.0, 0.16666666666666666)


@scalar
def hard_sigmoid_grad_from_output(y):
    return inside(y, 0.0, 1.0, 0.16666666666666666)


@scalar
def hard_swish_forward(x):
    h, rest = sixth_parts(clamp(x, -3.0, 3.0))
    return select(x <= -3.0, 0.0, select(x >= 3.0, x, fma(x, h, x * rest)))


@scalar
def hard_swish_grad(x):
    s, lost = two_sum(clamp(x, -3.0, 3.0), 1.5)
    g = fma(s, THIRD, fma(s, THIRD_TAIL, lost * THIRD))
    return select(x <= -3.0, 0.0, select(x >= 3.0, 1.0, g))


@scalar
def sparse_sigmoid_forward(x):
    return fma(0.5, clamp(x, -1.0, 1.0), 0.5)


@scalar
def sparse_sigmoid_grad(x):
    return inside(x, -1.0, 1.0, 0.5)


@scalar
def sparse_sigmoid_grad_from_output(y):
    return inside(y, 0.0, 1.0, 0.5)


COURBARIAUX = (
    "M. Courbariaux, Y. Bengio, J.-P. David, BinaryConnect: training deep neural networks with "
    "binary weights during propagations, NeurIPS 2015"
)
KRIZHEVSKY = (
    "A. Krizhevsky, Convolutional deep belief networks on CIFAR-10, 2010, where rectifiers are "
    "first cut off at 6"
)
SANDLER = (
    "M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen, MobileNetV2: inverted residuals and "
    "linear bottlenecks, CVPR 2018"
)
HOWARD = "A. Howard et al., Searching for MobileNetV3, ICCV 2019"
COLLOBERT = "R. Collobert, Large scale machine learning, PhD thesis, Universite Paris 6, 2004"
MARTINS = (
    "A. F. T. Martins, R. F. Astudillo, From softmax to sparsemax: a sparse model of attention and "
    "multi-label classification, ICML 2016"
)
LOW_AND_HIGH = (
    Parameter("min", -1.0, "the lowest output; at most max"),
    Parameter("max", 1.0, "the highest output"),
)

RECORDS = (
    Activation(
        name="relu6",
        summary="The rectifier cut off at 6.",
        formula="min(max(x, 0), 6)",
        derivative="1 if 0 < x < 6 else 0",
        forward=relu6_forward,
        grad=relu6_grad,
        grad_from_output=relu6_grad,
        output_note="none",
        limits=("0.0", "6.0"),
        grad_limits=("0.0", "0.0"),
        kinks=("0.0", "6.0"),
        kink_note="the derivative at both is taken as 0",
        accuracy=EXACT,
        sources=(KRIZHEVSKY, SANDLER),
        numpy="np.minimum(np.maximum(x, 0), 6)",
        torch="F.relu6(x)",
        jax="jax.nn.relu6(x)",
        use=(
            "Networks for phones and for 8-bit arithmetic, where a bounded output quantises well. "
            "Units die above 6 as well as below 0."
        ),
    ),
    Activation(
        name="hard_tanh",
        aliases=("hardtanh",),
        summary="The identity, cut off at min and max.",
        formula="min if x < min else max if x > max else x",
        derivative="1 if min < x < max else 0",
        forward=hard_tanh_forward,
        grad=hard_tanh_grad,
        grad_from_output=hard_tanh_grad,
        output_note="none",
        parameters=LOW_AND_HIGH,
        constraint="min <= max",
        parameter_grads={"min": hard_tanh_min_grad, "max": hard_tanh_max_grad},
        limits=("min", "max"),
        grad_limits=("0.0", "0.0"),
        kinks=("min", "max"),
        kink_note="the derivative at both is taken as 0",
        accuracy=EXACT,
        sources=(COLLOBERT,),
        numpy="np.clip(x, min, max)",
        torch="F.hardtanh(x, min, max)",
        jax="jnp.clip(x, min, max)",
        use=(
            "A cheap tanh for recurrent cells and quantised networks. Outside the two limits the "
            "gradient is exactly 0."
        ),
        odd="min == -max",
    ),
    Activation(
        name="clipped_linear",
        summary="A line, cut off at min and max: most hard activations are special cases.",
        formula="max(min(slope * x + offset, max), min)",
        derivative="slope if min < slope * x + offset < max else 0",
        forward=clipped_linear_forward,
        grad=clipped_linear_grad,
        parameters=(
            Parameter("slope", 1.0, "slope of the line"),
            Parameter("offset", 0.0, "value of the line at 0"),
            *LOW_AND_HIGH,
        ),
        constraint="min <= max",
        parameter_grads={
            "slope": clipped_linear_slope_grad,
            "offset": clipped_linear_offset_grad,
            "min": clipped_linear_min_grad,
            "max": clipped_linear_max_grad,
        },
        limits=(
            "min if slope > 0 else max if slope < 0 else "
            "min if offset < min else max if offset > max else offset",
            "max if slope > 0 else min if slope < 0 else "
            "min if offset < min else max if offset > max else offset",
        ),
        grad_limits=("0.0", "0.0"),
        kinks=("(min - offset) / slope", "(max - offset) / slope"),
        kink_note="the derivative at both is taken as 0",
        accuracy={"float32": Accuracy(0.5, 0.0), "float64": Accuracy(0.5, 0.0)},
        sources=(COLLOBERT, COURBARIAUX),
        numpy="np.clip(slope * x + offset, min, max)",
        stable_note="the product and the sum round once",
        torch="torch.clamp(slope * x + offset, min, max)",
        jax="jnp.clip(slope * x + offset, min, max)",
        use=(
            "Where a library's hard activation has other slopes: slope=0.2, offset=0.5, min=0 is "
            "the hard sigmoid of ONNX and of early Keras."
        ),
        odd="offset == 0 and min == -max",
    ),
    Activation(
        name="hard_sigmoid",
        aliases=("hardsigmoid",),
        summary="A piecewise linear sigmoid: 0 below -3, 1 above 3, a line between.",
        formula="min(max(x / 6 + 1/2, 0), 1)",
        derivative="1/6 if -3 < x < 3 else 0",
        forward=hard_sigmoid_forward,
        grad=hard_sigmoid_grad,
        grad_from_output=hard_sigmoid_grad_from_output,
        output_note="none, unless y has rounded to 1 one step before x reaches 3",
        limits=("0.0", "1.0"),
        grad_limits=("0.0", "0.0"),
        kinks=("-3.0", "3.0"),
        kink_note="the derivative at both is taken as 0",
        accuracy={"float32": Accuracy(0.51, 0.34), "float64": Accuracy(0.51, 0.34)},
        sources=(COURBARIAUX, HOWARD),
        numpy="np.clip((x + 3) / 6, 0, 1)",
        stable_note="x + 3 comes first, so that nothing cancels near -3; 1/6 stands in two parts",
        torch="F.hardsigmoid(x)",
        jax="jax.nn.hard_sigmoid(x)",
        use=(
            "Gates in networks for phones, where an exponential is too dear. Beyond 3 on either "
            "side the gradient is exactly 0."
        ),
    ),
    Activation(
        name="hard_swish",
        aliases=("hardswish", "hard_silu", "hardsilu"),
        summary="A piecewise quadratic swish: x times the hard sigmoid.",
        formula="x * min(max(x / 6 + 1/2, 0), 1)",
        derivative="0 if x <= -3 else 1 if x >= 3 else (2 * x + 3) / 6",
        forward=hard_swish_forward,
        grad=hard_swish_grad,
        limits=("0.0", "inf"),
        grad_limits=("0.0", "1.0"),
        kinks=("-3.0", "3.0"),
        kink_note="the derivative is taken as 0 at -3 and as 1 at 3, from the outer sides",
        accuracy={"float32": Accuracy(0.51, 0.51), "float64": Accuracy(0.51, 0.51)},
        sources=(HOWARD,),
        numpy="x * np.clip((x + 3) / 6, 0, 1)",
        stable_note=(
            "the factor is carried with what its rounding lost; at -inf, where 0 * inf would be "
            "nan, the limit"
        ),
        torch="F.hardswish(x)",
        jax="jax.nn.hard_swish(x)",
        use=(
            "Swish without an exponential, for networks on phones. The derivative jumps at -3 and "
            "3, and is 0 below -3."
        ),
    ),
    Activation(
        name="sparse_sigmoid",
        summary="0 below -1, 1 above 1, a line between: the derivative of sparse_plus.",
        formula="min(max((x + 1) / 2, 0), 1)",
        derivative="1/2 if -1 < x < 1 else 0",
        forward=sparse_sigmoid_forward,
        grad=sparse_sigmoid_grad,
        grad_from_output=sparse_sigmoid_grad_from_output,
        output_note="none, unless y has rounded to 1 one step before x reaches 1",
        limits=("0.0", "1.0"),
        grad_limits=("0.0", "0.0"),
        kinks=("-1.0", "1.0"),
        kink_note="the derivative at both is taken as 0",
        accuracy={"float32": Accuracy(0.5, 0.0), "float64": Accuracy(0.5, 0.0)},
        sources=(MARTINS,),
        numpy="np.clip((x + 1) / 2, 0, 1)",
        jax="jax.nn.sparse_sigmoid(x)",
        use=(
            "The two-class sparsemax: probabilities that can be exactly 0 or 1. There the gradient "
            "is 0 too."
        ),
    ),
)
