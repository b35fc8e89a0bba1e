"""The derivatives that people write in NumPy: what fastact's backward passes are timed against.

`x` is the input and `y` the output; parameters are in scope. These are the textbook forms,
with the digits they lose in the tails.
"""

from __future__ import annotations

# f'(x)
OF_INPUT = {
    "identity": "np.ones_like(x)",
    "binary_step": "np.zeros_like(x)",
    "bipolar_step": "np.zeros_like(x)",
    "sigmoid": "(s := 1 / (1 + np.exp(-x))) * (1 - s)",
    "bipolar_sigmoid": "steepness / 2 * (1 - np.tanh(steepness / 2 * x) ** 2)",
    "tanh": "1 - np.tanh(x) ** 2",
    "relu": "(x > 0).astype(x.dtype)",
    "leaky_relu": "np.where(x > 0, x.dtype.type(1), negative_slope)",
    "elu": "np.where(x > 0, 1.0, alpha * np.exp(x))",
    "relu6": "((x > 0) & (x < 6)).astype(x.dtype)",
    "squared_relu": "2 * np.maximum(x, 0)",
    "threshold": "(x > threshold).astype(x.dtype)",
    "celu": "np.where(x > 0, 1.0, np.exp(x / alpha))",
    "selu": "1.0507009873554805 * np.where(x > 0, 1.0, 1.6732632423543772 * np.exp(x))",
    "hard_tanh": "((x > min) & (x < max)).astype(x.dtype)",
    "clipped_linear": (
        "np.where((slope * x + offset > min) & (slope * x + offset < max), x.dtype.type(slope), 0)"
    ),
    "hard_sigmoid": "np.where(np.abs(x) < 3, x.dtype.type(1 / 6), 0)",
    "hard_swish": "np.where(x >= 3, 1, np.where(x <= -3, 0, (2 * x + 3) / 6))",
    "soft_shrink": "(np.abs(x) > lambd).astype(x.dtype)",
    "hard_shrink": "(np.abs(x) > lambd).astype(x.dtype)",
    "softsign": "1 / (1 + np.abs(x)) ** 2",
    "squareplus": "(1 + x / np.sqrt(x * x + b)) / 2",
    "sparse_plus": "np.clip((x + 1) / 2, 0, 1)",
    "sparse_sigmoid": "np.where(np.abs(x) < 1, x.dtype.type(0.5), 0)",
    "swish": "(s := 1 / (1 + np.exp(-beta * x))) + beta * x * s * (1 - s)",
    "gelu_tanh": (
        "0.5 * (1 + (t := np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))) "
        "+ 0.5 * x * (1 - t * t) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x * x)"
    ),
    "gelu_quick": "(s := 1 / (1 + np.exp(-1.702 * x))) + 1.702 * x * s * (1 - s)",
    "mish": ("(t := np.tanh(np.log1p(np.exp(x)))) + x * (1 - t * t) / (1 + np.exp(-x))"),
    "softplus": "1 / (1 + np.exp(-beta * x))",
    "log_sigmoid": "1 / (1 + np.exp(x))",
    "tanhshrink": "np.tanh(x) ** 2",
    "log1mexp": "1 / (np.exp(x) - 1)",
    "logit": "1 / (x * (1 - x))",
    "dish": "0.5 * (1 + x / (r := np.sqrt(1 + x * x)) + x / r**3)",
    "gelu": (
        "0.5 * (1 + scipy.special.erf(x / np.sqrt(2))) "
        "+ x * np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)"
    ),
}

# f' as a function of the output
OF_OUTPUT = {
    "softplus": "-np.expm1(-beta * y)",
    "log_sigmoid": "-np.expm1(y)",
    "log1mexp": "np.expm1(-y)",
    "logit": "(1 + np.exp(y)) * (1 + np.exp(-y))",
    "identity": "np.ones_like(y)",
    "sigmoid": "y * (1 - y)",
    "bipolar_sigmoid": "steepness / 2 * (1 - y) * (1 + y)",
    "tanh": "(1 - y) * (1 + y)",
    "relu": "(y > 0).astype(y.dtype)",
    "leaky_relu": "np.where(y > 0, y.dtype.type(1), negative_slope)",
    "elu": "np.where(y > 0, 1.0, y + alpha)",
    "celu": "np.where(y > 0, 1.0, (y + alpha) / alpha)",
    "selu": "np.where(y > 0, 1.0507009873554805, y + 1.7580993408473768)",
    "relu6": "((y > 0) & (y < 6)).astype(y.dtype)",
    "squared_relu": "2 * np.sqrt(np.maximum(y, 0))",
    "hard_tanh": "((y > min) & (y < max)).astype(y.dtype)",
    "hard_sigmoid": "np.where((y > 0) & (y < 1), y.dtype.type(1 / 6), 0)",
    "soft_shrink": "(y != 0).astype(y.dtype)",
    "hard_shrink": "(y != 0).astype(y.dtype)",
    "softsign": "(1 - np.abs(y)) ** 2",
    "squareplus": "y * y / (y * y + b / 4)",
    "sparse_plus": "np.sqrt(np.clip(y, 0, 1))",
    "sparse_sigmoid": "np.where((y > 0) & (y < 1), y.dtype.type(0.5), 0)",
}
