"""The record of an activation function: declared once, everything else is derived from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastact.numerics.language import Scalar


@dataclass(frozen=True)
class Parameter:
    """A parameter of an activation: its name, default, domain and meaning."""

    name: str
    default: float
    meaning: str
    domain: str = "finite"  # "finite", "positive" (finite and > 0), "nonnegative"


@dataclass(frozen=True)
class Accuracy:
    """Largest error in units in the last place, measured against the mpmath oracle."""

    forward: float
    grad: float


EXACT = {"float32": Accuracy(0.0, 0.0), "float64": Accuracy(0.0, 0.0)}


@dataclass(frozen=True, eq=False)
class Activation:
    """One elementwise activation function.

    `forward` and `grad` are scalar sources of (x, *parameters). `grad_from_output` is the
    derivative as a function of (y, *parameters), where it has a closed form in the output.
    `parameter_grads` are the derivatives with respect to the parameters that are trained.
    """

    name: str
    summary: str
    formula: str
    derivative: str
    forward: Scalar
    grad: Scalar
    limits: tuple[str, str]  # value at -inf and +inf, as expressions in the parameters
    grad_limits: tuple[str, str]
    accuracy: dict[str, Accuracy]  # "float32" and "float64"
    sources: tuple[str, ...]
    numpy: str  # the naive expression that people write; x, np, scipy and parameters in scope
    use: str  # when people choose it, and what it does to training, in one or two sentences
    parameters: tuple[Parameter, ...] = ()
    constraint: str = ""  # what must hold between the parameters, as an expression in them
    parameter_grads: Mapping[str, Scalar] = field(default_factory=dict)
    grad_from_output: Scalar | None = None
    joint: Scalar | None = None  # (f, f'), where they can share more than the compiler finds
    output_note: str = ""  # what accuracy is lost by keeping only the output
    kinks: tuple[str, ...] = ()  # where f or f' jumps, as expressions in the parameters
    kink_note: str = ""  # the values chosen there
    stable: str = ""  # the stable NumPy expression, where it differs from the naive one
    stable_note: str = ""  # the stable form used here, and why
    scipy: str = ""  # SciPy's form, if it has one; x and scipy.special in scope
    torch: str = ""  # PyTorch's form, if it has one; x, out, torch and F in scope
    jax: str = ""  # JAX's form, if it has one; x, jax and jnp in scope
    odd: bool | str = False  # f(-x) = -f(x): always, never, or where this holds of the parameters
    aliases: tuple[str, ...] = field(default=())
    like: str = ""  # the library whose parameter names and defaults these are

    @property
    def scalars(self) -> dict[str, Scalar]:
        """The scalar sources by the names that they have in the expressions of directions."""
        own = {n: getattr(self, n) for n in ("forward", "grad", "grad_from_output", "joint")}
        own |= {f"{name}_grad": source for name, source in self.parameter_grads.items()}
        return {name: source for name, source in own.items() if source is not None}

    @property
    def defaults(self) -> tuple[float, ...]:
        return tuple(p.default for p in self.parameters)

    def parameter_values(self, **given: Any) -> dict[str, Any]:
        """The parameters by name, defaults filled in."""
        return {p.name: given.get(p.name, p.default) for p in self.parameters}
