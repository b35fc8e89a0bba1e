"""Modules, and the swap of a model's activations for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from fastact.interop.catalogue import elementwise, rowwise
from fastact.interop.torch.functions import function, row_function


class Activation(nn.Module):
    """An elementwise op as a module: `Activation("swish", beta=1.5)`."""

    def __init__(self, op: str, **parameters: float) -> None:
        super().__init__()
        entry = elementwise().get(op)
        if entry is None:
            raise ValueError(f"op must be one of {', '.join(elementwise())}; got {op!r}")
        allowed = {p.name for p in entry.parameters}
        if wrong := sorted(set(parameters) - allowed):
            raise TypeError(
                f"{op} has no parameter {wrong[0]!r}; it has {', '.join(sorted(allowed)) or 'none'}"
            )
        self.op = op
        self.parameters_of_op = parameters

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = function(self.op)(x, **self.parameters_of_op)
        return y

    def extra_repr(self) -> str:
        return ", ".join([self.op, *(f"{k}={v:g}" for k, v in self.parameters_of_op.items())])


class RowActivation(nn.Module):
    """An op along an axis as a module: `RowActivation("softmax", dim=1)`."""

    def __init__(self, op: str, dim: int = -1) -> None:
        super().__init__()
        if op not in rowwise():
            raise ValueError(f"op must be one of {', '.join(rowwise())}; got {op!r}")
        self.op = op
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = row_function(self.op)(x, self.dim)
        return y

    def extra_repr(self) -> str:
        return f"{self.op}, dim={self.dim}"


def elementwise_of(op: str, **attributes: str) -> Callable[[Any], nn.Module | str]:
    """How a module of torch becomes one of ours: its attributes by the op's parameters."""

    def made(module: Any) -> nn.Module | str:
        if op not in elementwise():
            return f"fastact has no {op}"
        return Activation(op, **{p: float(getattr(module, a)) for p, a in attributes.items()})

    return made


def rowwise_of(op: str) -> Callable[[Any], nn.Module | str]:
    def made(module: Any) -> nn.Module | str:
        if module.dim is None:
            return "its dim is None, which torch guesses from the input"
        return RowActivation(op, module.dim)

    return made


def gelu(module: Any) -> nn.Module | str:
    return elementwise_of("gelu_tanh" if module.approximate == "tanh" else "gelu")(module)


REPLACEMENTS: dict[type[nn.Module], Callable[[Any], nn.Module | str]] = {
    nn.CELU: elementwise_of("celu", alpha="alpha"),
    nn.ELU: elementwise_of("elu", alpha="alpha"),
    nn.GELU: gelu,
    nn.Hardshrink: elementwise_of("hard_shrink", lambd="lambd"),
    nn.Hardsigmoid: elementwise_of("hard_sigmoid"),
    nn.Hardswish: elementwise_of("hard_swish"),
    nn.Hardtanh: elementwise_of("hard_tanh", min="min_val", max="max_val"),
    nn.LeakyReLU: elementwise_of("leaky_relu", negative_slope="negative_slope"),
    nn.LogSigmoid: elementwise_of("log_sigmoid"),
    nn.LogSoftmax: rowwise_of("log_softmax"),
    nn.Mish: elementwise_of("mish"),
    nn.ReLU: elementwise_of("relu"),
    nn.ReLU6: elementwise_of("relu6"),
    nn.SELU: elementwise_of("selu"),
    nn.SiLU: elementwise_of("swish"),
    nn.Sigmoid: elementwise_of("sigmoid"),
    nn.Softmax: rowwise_of("softmax"),
    nn.Softmin: rowwise_of("softmin"),
    nn.Softplus: elementwise_of("softplus", beta="beta"),
    nn.Softshrink: elementwise_of("soft_shrink", lambd="lambd"),
    nn.Softsign: elementwise_of("softsign"),
    nn.Tanh: elementwise_of("tanh"),
    nn.Tanhshrink: elementwise_of("tanhshrink"),
    nn.Threshold: elementwise_of("threshold", threshold="threshold", value="value"),
}
ACTIVATIONS = tuple(
    kind
    for kind in map(vars(nn).get, nn.modules.activation.__all__)
    if isinstance(kind, type) and kind is not nn.MultiheadAttention
)


@dataclass
class Report:
    """What `accelerate` did: the model, what was swapped in it, and what was left and why."""

    module: nn.Module
    swapped: list[tuple[str, str, str]] = field(default_factory=list)
    left: list[tuple[str, str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{path or '(the model)'}: {old} -> {new}" for path, old, new in self.swapped]
        lines += [f"{path or '(the model)'}: {old} left, {why}" for path, old, why in self.left]
        return "\n".join(lines) or "no activation modules"


def replacement(module: nn.Module) -> nn.Module | str:
    """Our module for one of torch's, or the reason why there is none."""
    make = REPLACEMENTS.get(type(module))
    if make is None:
        return f"fastact has no module for {type(module).__name__}"
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    if any(hooks):
        return "it has hooks"
    made = make(module)
    if isinstance(made, nn.Module):
        made.train(module.training)
    return made


def accelerate(module: nn.Module, only: tuple[str, ...] | None = None) -> Report:
    """Replace the activation modules of a model by fastact's, in place.

    A module that is used in several places is replaced by one module in all of them. Subclasses
    of torch's modules, modules with hooks and activations called as functions are left as they
    are; the report lists the first two.

    Parameters
    ----------
    module : torch.nn.Module
        The model. If it is itself an activation, its replacement is the report's `module`.
    only : tuple of str, optional
        Replace only by these ops, such as ("mish", "gelu").

    Returns
    -------
    Report
        `module`; `swapped`, tuples (path, old, new); `left`, tuples (path, old, why).
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    report = Report(module)
    made: dict[int, nn.Module | str] = {}
    places = [("", "", module)] if isinstance(module, ACTIVATIONS) else []
    places += [
        (path, name, child)
        for path, parent in module.named_modules()
        for name, child in parent._modules.items()
        if isinstance(child, ACTIVATIONS)
    ]
    for path, name, old in places:
        new = made.setdefault(id(old), replacement(old))
        if isinstance(new, Activation | RowActivation) and only is not None and new.op not in only:
            new = "not among those asked for"
        where = f"{path}.{name}".strip(".")
        if isinstance(new, str):
            report.left.append((where, repr(old), new))
            continue
        report.swapped.append((where, repr(old), repr(new)))
        if name:
            setattr(module.get_submodule(path), name, new)
        else:
            report.module = new
    return report
