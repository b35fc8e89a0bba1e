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
    "swish": "(s := 1 / (1 + np.exp(-beta * x))) + beta * x * s * (1 - s)",
}

# f' as a function of the output
OF_OUTPUT = {
    "identity": "np.ones_like(y)",
    "sigmoid": "y * (1 - y)",
    "bipolar_sigmoid": "steepness / 2 * (1 - y) * (1 + y)",
    "tanh": "(1 - y) * (1 + y)",
    "relu": "(y > 0).astype(y.dtype)",
    "leaky_relu": "np.where(y > 0, y.dtype.type(1), negative_slope)",
    "elu": "np.where(y > 0, 1.0, y + alpha)",
}
