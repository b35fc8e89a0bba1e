"""Ops of two arrays made from an activation of one: a form, and the activation that it is given.

A gate multiplies by the activation of the other half, a bias is added before it, a trained
slope is the activation's own parameter. Each form is declared once; an op names its form and its
activation, and the scalars, parameters and derivatives of the activation serve.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from fastact.activations.directions import Direction, Result
from fastact.activations.record import Accuracy, Activation, Parameter
from fastact.numerics.language import Scalar

ONE_PRODUCT = Accuracy(0.0, 0.5)


@dataclass(frozen=True)
class Form:
    """How a second array enters: expressions over the activation's scalars, `{p}` its parameters.

    In `formula` and `partials` {f} is the name of the activation.
    """

    arrays: tuple[str, str]
    formula: str
    partials: tuple[str, str]  # the derivatives with respect to the two arrays, as formulas
    shapes: str  # how the two arrays meet
    forward: Direction
    backward: Direction
    inner: str  # what the activation is applied to
    outer: str = "{0}"  # what is done with its value
    roundings: Accuracy = ONE_PRODUCT  # ulp that products add to the activation's error
    torch: str = ""  # PyTorch's form, where it does not follow from the activation's
    stands_for: str = ""  # the parameter of the activation that the second array is

    @property
    def directions(self) -> tuple[Direction, Direction]:
        return self.forward, self.backward

    def written(self, expression: str) -> str:
        """An expression of the activation over x, as an expression over the two arrays."""
        second = self.arrays[1]
        if self.stands_for:
            expression = re.sub(rf"\b{self.stands_for}\b", second, expression)
        return self.outer.format(re.sub(r"\bx\b", self.inner, expression))


GATE = Form(
    arrays=("a", "b"),
    formula="a * {f}(b)",
    partials=("{f}(b)", "a * {f}'(b)"),
    shapes="a and b broadcast against each other; both partials have the common shape.",
    forward=Direction("forward", "", ("a", "b"), ("y",), "a * forward(b{p})"),
    backward=Direction(
        "backward",
        "_backward",
        ("dy", "a", "b"),
        ("da", "db"),
        "(dy * forward(b{p}), (dy * a) * grad(b{p}))",
    ),
    inner="b",
    outer="a * ({0})",
    roundings=Accuracy(1.0, 2.0),
)
BIAS = Form(
    arrays=("x", "b"),
    formula="{f}(x + b)",
    partials=("{f}'(x + b)", "{f}'(x + b)"),
    shapes=(
        "b broadcasts against x, so that one value per entry of the last axis is the bias of a "
        "layer; each partial has the shape of its argument, summed over what was broadcast."
    ),
    forward=Direction("forward", "", ("x", "b"), ("y",), "forward(x + b{p})"),
    backward=Direction(
        "backward",
        "_backward",
        ("dy", "x", "b"),
        ("dx",),
        "dy * grad(x + b{p})",
        (Result("dx", 0, "x"), Result("db", 0, "b")),
    ),
    inner="(x + b)",
)
SLOPE = Form(
    arrays=("x", "weight"),
    formula="x if x > 0 else weight * x",
    partials=("1 if x > 0 else weight", "0 if x > 0 else x"),
    shapes=(
        "weight broadcasts against x: a number, or one value per channel with the channels last "
        "(or of shape (channels, 1, 1)); each partial has the shape of its argument, summed over "
        "what was broadcast."
    ),
    forward=Direction("forward", "", ("x", "weight"), ("y",), "forward(x, weight)"),
    backward=Direction(
        "backward",
        "_backward",
        ("dy", "x", "weight"),
        ("dx", "dweight"),
        "(dy * grad(x, weight), dy * negative_slope_grad(x, weight))",
        (Result("dx", 0, "x"), Result("dweight", 1, "weight")),
    ),
    inner="x",
    torch="torch.where(x > 0, x, weight * x)",
    stands_for="negative_slope",
)


@dataclass(frozen=True, eq=False)
class Paired:
    """One op of two arrays."""

    name: str
    form: Form
    activation: Activation
    summary: str
    sources: tuple[str, ...]
    use: str  # when people choose it
    aliases: tuple[str, ...] = field(default=())

    @property
    def formula(self) -> str:
        return self.form.formula.format(f=self.activation.name)

    @property
    def derivative(self) -> str:
        """Both partial derivatives."""
        return ", ".join(p.format(f=self.activation.name) for p in self.form.partials)

    @property
    def numpy(self) -> str:
        """The NumPy expression that people write; the two arrays, np and parameters in scope."""
        return self.form.written(self.activation.numpy)

    @property
    def torch(self) -> str:
        """PyTorch's form; the two arrays, torch, F and parameters in scope."""
        form = self.activation.torch.replace(", out=out", "")
        return self.form.torch or self.form.written(form)

    @property
    def jax(self) -> str:
        """JAX's form; the two arrays, jax, jnp and parameters in scope."""
        return self.form.written(self.activation.jax)

    @property
    def accuracy(self) -> dict[str, Accuracy]:
        """The largest error of the value and of the partials before they are summed."""
        more = self.form.roundings
        return {
            dtype: Accuracy(inner.forward + more.forward, inner.grad + more.grad)
            for dtype, inner in self.activation.accuracy.items()
        }

    @property
    def stable_note(self) -> str:
        """How it is computed."""
        sums = "sums run in short chains that are added up in float64, in a fixed order"
        own = f"from the scalars of {self.activation.name}, both partials in one pass"
        return f"{own}; {sums}" if self.form.backward.results else own

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return () if self.form.stands_for else self.activation.parameters

    @property
    def constraint(self) -> str:
        return "" if self.form.stands_for else self.activation.constraint

    def parameter_values(self) -> dict[str, float]:
        """The default parameters by name."""
        return {p.name: p.default for p in self.parameters}

    @property
    def defaults(self) -> tuple[float, ...]:
        return tuple(p.default for p in self.parameters)

    @property
    def scalars(self) -> Mapping[str, Scalar]:
        return self.activation.scalars


Pointwise = Activation | Paired
