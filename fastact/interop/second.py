"""Second derivatives, for the libraries that differentiate twice.

NumPy expressions over x (in float64), the parameters, y = f(x) and g = f'(x); `fa` is fastact.
An op that is not listed has none: asking for it is an error, never a silent zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastact as fa

ZERO = "np.zeros_like(x)"  # almost everywhere: the derivative is constant between the kinks
BELOW_ZERO = "np.where(x > 0, 0, {0})"
# of x sigmoid(b x); the clip keeps 0 * inf away, sigmoid' is 0 there
LOGISTIC = (
    "(lambda b, z: b * fa.sigmoid_grad(z) * (2 - z * np.tanh(z / 2)))"
    "({0}, np.clip({0} * x, -800, 800))"
)
# of x sigmoid(z(x)) with z = c (x + a x^3), c = 2 sqrt(2 / pi), a = 0.044715: product rule
GELU_TANH = (
    "(lambda x, c, a: (lambda z, z1, z2: fa.sigmoid_grad(z)"
    " * (2 * z1 + x * (z2 - z1 * z1 * np.tanh(z / 2))))"
    "(c * (x + a * x**3), c * (1 + 3 * a * x**2), 6 * c * a * x))"
    "(np.clip(x, -40, 40), 2 * np.sqrt(2 / np.pi), 0.044715)"
)
# of x t with t = tanh(p), p = softplus(x): 2 t' + x t''
MISH = (
    "(lambda x, p, s: fa.tanh_grad(p)"
    " * (2 * s + x * (fa.sigmoid_grad(x) - 2 * np.tanh(p) * s * s)))"
    "(np.clip(x, -800, 800), np.logaddexp(0, x), fa.sigmoid(x))"
)

SECOND: dict[str, str] = {
    **dict.fromkeys(
        (
            "identity",
            "binary_step",
            "bipolar_step",
            "relu",
            "relu6",
            "leaky_relu",
            "threshold",
            "hard_tanh",
            "hard_sigmoid",
            "clipped_linear",
            "sparse_sigmoid",
            "soft_shrink",
            "hard_shrink",
        ),
        ZERO,
    ),
    "squared_relu": "np.where(x > 0, 2.0, 0.0)",
    "hard_swish": "np.where(np.abs(x) < 3, 1 / 3, 0.0)",
    "sparse_plus": "np.where(np.abs(x) < 1, 0.5, 0.0)",
    "sigmoid": "-g * np.tanh(x / 2)",
    "bipolar_sigmoid": "-steepness * y * g",
    "tanh": "-2 * y * g",
    "tanhshrink": "2 * np.tanh(x) * fa.tanh_grad(x)",
    "softsign": "-2 * np.sign(x) / (1 + np.abs(x)) ** 3",
    "elu": BELOW_ZERO.format("g"),
    "selu": BELOW_ZERO.format("g"),
    "celu": BELOW_ZERO.format("g / alpha"),
    "softplus": "beta * fa.sigmoid_grad(beta * x)",
    "log_sigmoid": "-fa.sigmoid_grad(x)",
    "squareplus": "b / 2 / (x * x + b) ** 1.5",
    "swish": LOGISTIC.format("beta"),
    "gelu_quick": LOGISTIC.format("1.702"),
    "gelu": "np.exp(-x * x / 2) / np.sqrt(2 * np.pi) * (2 - np.minimum(x * x, 2000))",
    "gelu_tanh": GELU_TANH,
    "mish": MISH,
    "dish": "(2 - x * x) / (2 * (1 + x * x) ** 2.5)",
    "logit": "(2 * x - 1) / (x * (1 - x)) ** 2",
    "log1mexp": "-0.25 / np.sinh(np.clip(x, -700, 700) / 2) ** 2",
}


def second_derivative(op: Any, x: Any, parameters: tuple[Any, ...]) -> Any:
    """f''(x), computed in float64 and rounded to the dtype of x."""
    with np.errstate(all="ignore"):
        value = evaluated(op, np.asarray(x, np.float64), parameters, np)
    return np.asarray(value).astype(np.asarray(x).dtype)


def evaluated(op: Any, x: Any, parameters: tuple[Any, ...], library: Any) -> Any:
    """f''(x) by the functions of a library that are named and called as NumPy's."""
    parameters = (*parameters, *op.record.defaults[len(parameters) :])
    scope = dict(zip((p.name for p in op.parameters), parameters, strict=True))
    y, g = op.value_and_grad(x, *parameters)
    return eval(SECOND[op.name], {"np": library, "fa": fa, "x": x, "y": y, "g": g, **scope})
