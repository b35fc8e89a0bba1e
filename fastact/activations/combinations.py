"""Gated units, biases added before an activation, and the rectifier whose slope is trained."""

from collections.abc import Mapping

from fastact.activations.paired import BIAS, GATE, SLOPE, Form, Paired
from fastact.activations.record import Activation

DAUPHIN = (
    "Y. N. Dauphin, A. Fan, M. Auli, D. Grangier, Language modeling with gated convolutional "
    "networks, ICML 2017"
)
SHAZEER = "N. Shazeer, GLU variants improve transformer, arXiv:2002.05202, 2020"
SHOEYBI = (
    "M. Shoeybi et al., Megatron-LM: training multi-billion parameter language models using model "
    "parallelism, arXiv:1909.08053, 2019, which fuses bias and gelu"
)
HE = (
    "K. He, X. Zhang, S. Ren, J. Sun, Delving deep into rectifiers: surpassing human-level "
    "performance on ImageNet classification, ICCV 2015"
)
FEED_FORWARD = "Feed-forward layers of transformers, where it replaces the first layer: "
ONE_PASS = "What follows a linear layer, with the layer's bias added on the way: "

# name -> form, activation, summary, when people choose it, source
OPS: dict[str, tuple[Form, str, str, str, str]] = {
    "glu": (
        GATE,
        "sigmoid",
        "The first half of x, times the sigmoid of the second half.",
        "Convolutional language models; the linear half passes gradients undiminished.",
        DAUPHIN,
    ),
    "swiglu": (
        GATE,
        "swish",
        "The product of a and the swish of b.",
        FEED_FORWARD + "LLaMA and most models after it.",
        SHAZEER,
    ),
    "geglu": (
        GATE,
        "gelu",
        "The product of a and the gelu of b.",
        FEED_FORWARD + "T5 v1.1 and LaMDA, among others.",
        SHAZEER,
    ),
    "geglu_tanh": (
        GATE,
        "gelu_tanh",
        "The product of a and the tanh form of gelu of b.",
        FEED_FORWARD + "Gemma, whose gelu is the tanh form.",
        SHAZEER,
    ),
    "reglu": (
        GATE,
        "relu",
        "The product of a and the rectified b.",
        FEED_FORWARD + "the cheapest of the gates; half of its outputs are 0.",
        SHAZEER,
    ),
    "bias_relu": (
        BIAS,
        "relu",
        "The rectifier of x + b, without storing the sum.",
        ONE_PASS + "one pass over memory instead of two.",
        SHOEYBI,
    ),
    "bias_gelu": (
        BIAS,
        "gelu",
        "The gelu of x + b, without storing the sum.",
        ONE_PASS + "one pass over memory instead of two.",
        SHOEYBI,
    ),
    "bias_gelu_tanh": (
        BIAS,
        "gelu_tanh",
        "The tanh form of gelu of x + b, without storing the sum.",
        ONE_PASS + "what Megatron-LM fuses.",
        SHOEYBI,
    ),
    "bias_swish": (
        BIAS,
        "swish",
        "The swish of x + b, without storing the sum.",
        ONE_PASS + "one pass over memory instead of two.",
        SHOEYBI,
    ),
    "prelu": (
        SLOPE,
        "leaky_relu",
        "A rectifier whose slope for negative inputs is trained.",
        "Where the slope of leaky_relu shall be learned, one for all or one per channel; 0.25 is "
        "the usual start.",
        HE,
    ),
}
ALIASES = {"bias_swish": ("bias_silu",)}


def paired_ops(activations: Mapping[str, Activation]) -> tuple[Paired, ...]:
    """The records of all ops of two arrays."""
    return tuple(
        Paired(name, form, activations[inner], summary, (source,), use, ALIASES.get(name, ()))
        for name, (form, inner, summary, use, source) in OPS.items()
    )
