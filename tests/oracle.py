"""Textbook formulas in high-precision arithmetic, independent of the library.

Each formula is the definition that a textbook prints, not the stable form: mpmath is given
so many digits that cancellation does not matter. Derivatives are textbook closed forms;
`test_oracle.py` checks each against numerical differentiation of its forward formula.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mpmath import mp

# Beyond this argument exp is 0 or infinite in every dtype, also when multiplied by any x:
# evaluating it further would only cost time (mpmath needs 17 ms for exp(1e308)).
BEYOND = 2**16
GUARD_BITS = 160


def exp(t: Any) -> Any:
    return mp.exp(min(max(t, -BEYOND), BEYOND))


def sigma(t: Any) -> Any:
    return 1 / (1 + exp(-t))


def sigma_prime(t: Any) -> Any:
    return exp(-t) / (1 + exp(-t)) ** 2


def sech2(t: Any) -> Any:
    return 4 / (exp(t) + exp(-t)) ** 2


def log1p_exp(t: Any) -> Any:
    return t if t > BEYOND else mp.log1p(exp(t))


def normal_cdf(t: Any) -> Any:
    return mp.erfc(-min(max(t, -BEYOND), BEYOND) / mp.sqrt(2)) / 2


def normal_pdf(t: Any) -> Any:
    return exp(-t * t / 2) / mp.sqrt(2 * mp.pi)


def tanh_argument(x: Any) -> Any:
    """The argument of tanh in the tanh form of GELU (Hendrycks and Gimpel, 2016)."""
    return mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3)


def gelu_tanh_grad(x: Any) -> Any:
    t = tanh_argument(x)
    slope = mp.sqrt(2 / mp.pi) * (1 + 3 * mp.mpf("0.044715") * x**2)
    # (1 + tanh t) / 2 is the sigmoid of 2t
    return sigma(2 * t) + x * sech2(t) * slope / 2


def selu_constants() -> tuple[Any, Any]:
    """(scale, alpha) that keep mean 0 and variance 1 of a normal input (Klambauer et al., 2017)."""
    exp_below_0 = mp.exp(0.5) * mp.erfc(1 / mp.sqrt(2)) / 2  # E[exp(z); z < 0]
    exp2_below_0 = mp.exp(2) * mp.erfc(mp.sqrt(2)) / 2  # E[exp(2z); z < 0]
    alpha = normal_pdf(mp.mpf(0)) / (mp.mpf(1) / 2 - exp_below_0)
    variance = mp.mpf(1) / 2 + alpha**2 * (exp2_below_0 - 2 * exp_below_0 + mp.mpf(1) / 2)
    return 1 / mp.sqrt(variance), alpha


def selu(x: Any) -> Any:
    scale, alpha = selu_constants()
    return scale * x if x > 0 else scale * alpha * (exp(x) - 1)


def selu_grad(x: Any) -> Any:
    scale, alpha = selu_constants()
    return scale if x > 0 else scale * alpha * exp(x)


def selu_grad_from_output(y: Any) -> Any:
    scale, alpha = selu_constants()
    return scale if y > 0 else y + scale * alpha


@dataclass(frozen=True)
class Formula:
    """f(x, *parameters), f'(x, *parameters), and f' from the output y where it exists."""

    forward: Callable[..., Any]
    grad: Callable[..., Any]
    grad_from_output: Callable[..., Any] | None = None


FORMULAS = {
    "identity": Formula(lambda x: x, lambda x: 1, lambda y: 1),
    "binary_step": Formula(lambda x, t: 1 if x >= t else 0, lambda x, t: 0, lambda y, t: 0),
    "bipolar_step": Formula(lambda x, t: 1 if x >= t else -1, lambda x, t: 0, lambda y, t: 0),
    "sigmoid": Formula(sigma, sigma_prime, lambda y: y * (1 - y)),
    "bipolar_sigmoid": Formula(
        lambda x, k: (1 - exp(-k * x)) / (1 + exp(-k * x)),
        lambda x, k: k / 2 * sech2(k * x / 2),
        lambda y, k: k / 2 * (1 + y) * (1 - y),
    ),
    "tanh": Formula(mp.tanh, sech2, lambda y: 1 - y * y),
    "relu": Formula(lambda x: max(x, 0), lambda x: 1 if x > 0 else 0, lambda y: 1 if y > 0 else 0),
    "relu6": Formula(
        lambda x: min(max(x, 0), 6),
        lambda x: 1 if 0 < x < 6 else 0,
        lambda y: 1 if 0 < y < 6 else 0,
    ),
    "squared_relu": Formula(
        lambda x: max(x, 0) ** 2, lambda x: 2 * max(x, 0), lambda y: 2 * mp.sqrt(y)
    ),
    "leaky_relu": Formula(
        lambda x, a: x if x > 0 else a * x,
        lambda x, a: 1 if x > 0 else a,
        lambda y, a: 1 if y > 0 else a,
    ),
    "prelu": Formula(
        lambda x, a: x if x > 0 else a * x,
        lambda x, a: 1 if x > 0 else a,
        lambda y, a: 1 if y > 0 else a,
    ),
    "threshold": Formula(lambda x, t, v: x if x > t else v, lambda x, t, v: 1 if x > t else 0),
    "elu": Formula(
        lambda x, a: x if x > 0 else a * (exp(x) - 1),
        lambda x, a: 1 if x > 0 else a * exp(x),
        lambda y, a: 1 if y > 0 else y + a,
    ),
    "celu": Formula(
        lambda x, a: x if x > 0 else a * (exp(x / a) - 1),
        lambda x, a: 1 if x > 0 else exp(x / a),
        lambda y, a: 1 if y > 0 else y / a + 1,
    ),
    "selu": Formula(selu, selu_grad, selu_grad_from_output),
    "swish": Formula(
        lambda x, b: x * sigma(b * x),
        lambda x, b: sigma(b * x) + b * x * sigma_prime(b * x),
    ),
    "gelu": Formula(lambda x: x * normal_cdf(x), lambda x: normal_cdf(x) + x * normal_pdf(x)),
    "gelu_tanh": Formula(lambda x: x * sigma(2 * tanh_argument(x)), gelu_tanh_grad),
    "gelu_quick": Formula(
        lambda x: x * sigma(mp.mpf("1.702") * x),
        lambda x: (
            sigma(mp.mpf("1.702") * x) + mp.mpf("1.702") * x * sigma_prime(mp.mpf("1.702") * x)
        ),
    ),
    "mish": Formula(
        lambda x: x * mp.tanh(log1p_exp(x)),
        lambda x: mp.tanh(log1p_exp(x)) + x * sech2(log1p_exp(x)) * sigma(x),
    ),
    "softplus": Formula(
        lambda x, b: log1p_exp(b * x) / b,
        lambda x, b: sigma(b * x),
        lambda y, b: 1 - exp(-b * y),
    ),
    "log_sigmoid": Formula(lambda x: -log1p_exp(-x), lambda x: sigma(-x), lambda y: 1 - exp(y)),
    "softsign": Formula(
        lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) ** 2, lambda y: (1 - abs(y)) ** 2
    ),
    "tanhshrink": Formula(lambda x: x - mp.tanh(x), lambda x: mp.tanh(x) ** 2),
    "hard_sigmoid": Formula(
        lambda x: min(max((x + 3) / 6, 0), 1),
        lambda x: mp.mpf(1) / 6 if -3 < x < 3 else 0,
        lambda y: mp.mpf(1) / 6 if 0 < y < 1 else 0,
    ),
    "hard_swish": Formula(
        lambda x: x * min(max((x + 3) / 6, 0), 1),
        lambda x: 0 if x <= -3 else 1 if x >= 3 else (2 * x + 3) / 6,
    ),
    "hard_tanh": Formula(
        lambda x, lo, hi: min(max(x, lo), hi),
        lambda x, lo, hi: 1 if lo < x < hi else 0,
        lambda y, lo, hi: 1 if lo < y < hi else 0,
    ),
    "clipped_linear": Formula(
        lambda x, k, c, lo, hi: min(max(k * x + c, lo), hi),
        lambda x, k, c, lo, hi: k if lo < k * x + c < hi else 0,
    ),
    "soft_shrink": Formula(
        lambda x, b: x - b if x > b else x + b if x < -b else 0,
        lambda x, b: 1 if abs(x) > b else 0,
        lambda y, b: 1 if y != 0 else 0,
    ),
    "hard_shrink": Formula(
        lambda x, b: x if abs(x) > b else 0,
        lambda x, b: 1 if abs(x) > b else 0,
        lambda y, b: 1 if y != 0 else 0,
    ),
    "squareplus": Formula(
        lambda x, b: (x + mp.sqrt(x * x + b)) / 2,
        lambda x, b: (1 + x / mp.sqrt(x * x + b)) / 2,
        lambda y, b: y * y / (y * y + b / 4),
    ),
    "sparse_plus": Formula(
        lambda x: 0 if x <= -1 else x if x >= 1 else (x + 1) ** 2 / 4,
        lambda x: min(max((x + 1) / 2, 0), 1),
        lambda y: min(mp.sqrt(y), 1),
    ),
    "sparse_sigmoid": Formula(
        lambda x: min(max((x + 1) / 2, 0), 1),
        lambda x: mp.mpf(1) / 2 if -1 < x < 1 else 0,
        lambda y: mp.mpf(1) / 2 if 0 < y < 1 else 0,
    ),
    "log1mexp": Formula(
        lambda x: mp.nan if x < 0 else mp.log1p(-exp(-x)),
        lambda x: mp.nan if x < 0 else mp.inf if x == 0 else exp(-x) / (1 - exp(-x)),
        lambda y: exp(-y) - 1,
    ),
    "logit": Formula(
        lambda x: mp.nan if not 0 <= x <= 1 else mp.inf if x == 1 else mp.log(x / (1 - x)),
        lambda x: mp.nan if not 0 <= x <= 1 else mp.inf if x in (0, 1) else 1 / (x * (1 - x)),
        lambda y: (1 + exp(y)) * (1 + exp(-y)),
    ),
    "dish": Formula(
        lambda x: x / 2 * (x / mp.sqrt(1 + x * x) + 1),
        lambda x: (1 + x / mp.sqrt(1 + x * x) + x / mp.sqrt(1 + x * x) ** 3) / 2,
    ),
}  # fmt: skip


def precision(x: float) -> int:
    """Bits enough for a formula at x that cancels like x^2 or 1/x^2 against 1."""
    return GUARD_BITS + (2 * abs(mp.mag(x)) if x else 0)


def evaluate(function: Callable[..., Any], x: float, *parameters: float) -> Any:
    """function(x, *parameters), with digits enough for this x."""
    with mp.workprec(precision(x)):
        return mp.mpf(function(mp.mpf(x), *map(mp.mpf, parameters)))


def softmax(row: list[float]) -> list[Any]:
    """exp(x_i) / sum exp(x_j), exactly enough: only differences to the maximum matter."""
    with mp.workprec(GUARD_BITS):
        top = mp.mpf(max(row))
        weights = [mp.exp(max(mp.mpf(x) - top, -BEYOND)) for x in row]
        total = mp.fsum(weights)
        return [w / total for w in weights]


def softmax_backward(dy: list[float], y: list[Any]) -> list[Any]:
    """y_i (dy_i - sum dy_j y_j): the product with the Jacobian of softmax."""
    with mp.workprec(4 * GUARD_BITS):
        dot = mp.fsum(mp.mpf(d) * p for d, p in zip(dy, y, strict=True))
        return [p * (mp.mpf(d) - dot) for d, p in zip(dy, y, strict=True)]


def cross_entropy(row: list[Any], targets: list[Any]) -> tuple[Any, list[Any]]:
    """(sum q (log sum exp(x) - x), its gradient) for target weights q; 0 times infinity is 0."""
    with mp.workprec(max(mp.prec, 4 * GUARD_BITS)):
        x, q = [mp.mpf(v) for v in row], [mp.mpf(v) for v in targets]
        top = max(x)
        weights = [mp.exp(v - top) for v in x]
        total = mp.fsum(weights)
        log_sum = top + mp.log(total)
        loss = mp.fsum(t * (log_sum - v) for v, t in zip(x, q, strict=True) if t)
        all_q = mp.fsum(q)
        return loss, [all_q * w / total - t for w, t in zip(weights, q, strict=True)]


def binary_cross_entropy(x: Any, t: Any, pos_weight: Any) -> Any:
    """-(p t log(sigma(x)) + (1 - t) log(1 - sigma(x)))"""
    with mp.workprec(max(mp.prec, precision(float(x)), GUARD_BITS)):
        return pos_weight * t * log1p_exp(-x) + (1 - t) * log1p_exp(x)
