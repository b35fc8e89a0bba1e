"""Modules, and the swap of a model's activations for them.

A module holds its function: looked up in `forward`, torch.compile would trace how it is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from fastact.interop.catalogue import elementwise, fused, losses, rowwise
from fastact.interop.torch.functions import function, row_function
from fastact.interop.torch.fused import fused_function, torch_name
from fastact.interop.torch.losses import loss_function


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
        self.function = function(op)
        self.parameters_of_op = parameters

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.function(x, **self.parameters_of_op)
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
        self.function = row_function(op)
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.function(x, self.dim)
        return y

    def extra_repr(self) -> str:
        return f"{self.op}, dim={self.dim}"


class FusedActivation(nn.Module):
    """A fused op of one array as a module: `FusedActivation("glu", dim=1)`."""

    def __init__(self, op: str, **numbers: int) -> None:
        super().__init__()
        allowed = [name for name, entry in fused().items() if len(entry.arrays) == 1]
        if op not in allowed:
            raise ValueError(f"op must be one of {', '.join(allowed)}; got {op!r}")
        names = [torch_name(n.name) for n in fused()[op].numbers]
        if wrong := sorted(set(numbers) - set(names)):
            raise TypeError(f"{op} has no argument {wrong[0]!r}; it has {', '.join(names)}")
        self.op = op
        self.function = fused_function(op)
        self.numbers = numbers

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.function(x, **self.numbers)
        return y

    def extra_repr(self) -> str:
        return ", ".join([self.op, *(f"{k}={v}" for k, v in self.numbers.items())])


class PReLU(nn.Module):
    """prelu with its weight: one, or one per channel; channels are axis 1, as in torch."""

    op = "prelu"

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.function = fused_function(self.op)
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if weight.numel() > 1 and x.dim() > 2:
            weight = weight.view(-1, *(1 for _ in range(x.dim() - 2)))
        y: Tensor = self.function(x, weight)
        return y

    def extra_repr(self) -> str:
        return f"{self.op}, num_parameters={self.weight.numel()}"


class Loss(nn.Module):
    """A loss as a module: `Loss("softmax_cross_entropy", dim=1, label_smoothing=0.1)`.

    The options are those of the function; tensors among them move with the module.
    """

    def __init__(self, op: str, **options: Any) -> None:
        super().__init__()
        if op not in losses():
            raise ValueError(f"op must be one of {', '.join(losses())}; got {op!r}")
        self.op = op
        self.function = loss_function(op)
        self.arrays = losses()[op].arrays
        for name in self.arrays:
            self.register_buffer(name, options.pop(name, None))
        names = [torch_name(n) for n, d in losses()[op].signature if d is not None]
        if wrong := sorted(set(options) - set(names)):
            raise TypeError(f"{op} has no option {wrong[0]!r}; it has {', '.join(names)}")
        self.options = options

    def options_for(self, logits: Tensor, target: Tensor) -> dict[str, Any]:
        arrays = {name: getattr(self, name) for name in self.arrays}
        return {**self.options, **arrays}

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        options = self.options_for(logits, target)
        value: Tensor = self.function(logits, target, **options)
        return value

    def extra_repr(self) -> str:
        return ", ".join([self.op, *(f"{k}={v!r}" for k, v in self.options.items())])


class ClassLoss(Loss):
    """softmax_cross_entropy as torch calls it: classes along axis 1 of a batch."""

    def __init__(self, **options: Any) -> None:
        super().__init__("softmax_cross_entropy", **options)

    def options_for(self, logits: Tensor, target: Tensor) -> dict[str, Any]:
        options = super().options_for(logits, target) | {"dim": min(1, logits.dim() - 1)}
        if target.is_floating_point() and options["ignore_index"] < 0:
            options["ignore_index"] = None  # torch's default, which means nothing here
        return options


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


def glu(module: Any) -> nn.Module | str:
    return FusedActivation("glu", dim=module.dim)


def prelu(module: Any) -> nn.Module | str:
    return PReLU(module.weight)


def class_loss(module: Any) -> nn.Module | str:
    return ClassLoss(
        weight=module.weight,
        ignore_index=module.ignore_index,
        label_smoothing=module.label_smoothing,
        reduction=module.reduction,
    )


def binary_loss(module: Any) -> nn.Module | str:
    return Loss(
        "sigmoid_cross_entropy",
        weight=module.weight,
        pos_weight=module.pos_weight,
        reduction=module.reduction,
    )


REPLACEMENTS: dict[type[nn.Module], Callable[[Any], nn.Module | str]] = {
    nn.BCEWithLogitsLoss: binary_loss,
    nn.CELU: elementwise_of("celu", alpha="alpha"),
    nn.CrossEntropyLoss: class_loss,
    nn.ELU: elementwise_of("elu", alpha="alpha"),
    nn.GELU: gelu,
    nn.GLU: glu,
    nn.Hardshrink: elementwise_of("hard_shrink", lambd="lambd"),
    nn.Hardsigmoid: elementwise_of("hard_sigmoid"),
    nn.Hardswish: elementwise_of("hard_swish"),
    nn.Hardtanh: elementwise_of("hard_tanh", min="min_val", max="max_val"),
    nn.LeakyReLU: elementwise_of("leaky_relu", negative_slope="negative_slope"),
    nn.LogSigmoid: elementwise_of("log_sigmoid"),
    nn.LogSoftmax: rowwise_of("log_softmax"),
    nn.Mish: elementwise_of("mish"),
    nn.PReLU: prelu,
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
CANDIDATES = ("BCEWithLogitsLoss", "CrossEntropyLoss", *nn.modules.activation.__all__)
ACTIVATIONS = tuple(
    kind
    for kind in map(vars(nn).get, CANDIDATES)
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
        if isinstance(new, nn.Module) and only is not None and new.op not in only:
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
