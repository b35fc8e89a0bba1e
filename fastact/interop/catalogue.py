"""What the adapters offer, derived from the registry: an op is covered by being declared."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any

import numpy as np

from fastact import registry
from fastact.activations.directions import DIRECTIONS
from fastact.activations.paired import Paired
from fastact.interop import compositions
from fastact.interop.second import SECOND, second_derivative
from fastact.runtime.functions import function as array_function
from fastact.runtime.halves import HALVED

NO_SECOND = (
    "{name} has no second derivative in fastact: its first derivative cannot be differentiated "
    "once more. Ops that have one: {ops}"
)


@dataclass(frozen=True)
class Elementwise:
    """An elementwise op of one array, with the functions that an adapter needs."""

    name: str
    record: Any
    forward: Callable[..., Any]
    grad: Callable[..., Any]
    backward: Callable[..., Any]
    value_and_grad: Callable[..., Any]
    backward_from_output: Callable[..., Any] | None

    @property
    def aliases(self) -> tuple[str, ...]:
        return tuple(self.record.aliases)

    @cached_property
    def parameters(self) -> tuple[Any, ...]:
        return tuple(self.record.parameters)

    def second(self, x: Any, *parameters: Any) -> Any:
        """The second derivative at x.

        Raises
        ------
        NotImplementedError
            If fastact has none for this op.
        """
        if self.name not in SECOND:
            raise NotImplementedError(NO_SECOND.format(name=self.name, ops=", ".join(SECOND)))
        return second_derivative(self, x, parameters)


@dataclass(frozen=True)
class RowWise:
    """An op along an axis: its forward pass, and the backward pass that keeps the least."""

    name: str
    record: Any
    forward: Callable[..., Any]
    from_input: Callable[..., Any]  # the backward pass of (dy, x)
    from_output: Callable[..., Any] | None  # that of (dy, y)

    @property
    def keeps_output(self) -> bool:
        """Whether `backward` takes (dy, y), else (dy, x)."""
        return self.from_output is not None

    @property
    def backward(self) -> Callable[..., Any]:
        return self.from_output or self.from_input

    @property
    def reduces(self) -> bool:
        """Whether the axis is gone from the result."""
        return self.record.apply is None


@dataclass(frozen=True)
class Number:
    """An argument of a fused op that is no array; without a default it must be given."""

    name: str
    kind: str  # "float" or "int"
    default: float | None


Shape = tuple[int, ...]


@dataclass(frozen=True)
class Fused:
    """An op with one backward pass for all its arrays, which adapters call as it is.

    `forward(*arrays, *numbers, out=None)`; `backward(dy, *arrays, *numbers, out=None)` is a tuple
    of partials, written to those of `out`, each of the shape of its array or of the common shape.
    `compose(library, *arrays, *numbers)` is the same in differentiable steps. An op of one array
    whose gradient follows from the output alone has both of the backward pass from there too.
    """

    name: str
    record: Any
    arrays: tuple[str, ...]
    numbers: tuple[Number, ...]
    forward: Callable[..., Any]
    backward: Callable[..., tuple[Any, ...]]
    compose: Callable[..., Any]
    shape: Callable[..., Shape]  # of the result, from those of the arrays and the numbers
    from_output: Callable[..., tuple[Any, ...]] | None = None  # (dy, y, *numbers)
    compose_from_output: Callable[..., tuple[Any, ...]] | None = None

    @property
    def aliases(self) -> tuple[str, ...]:
        return tuple(getattr(self.record, "aliases", ()))

    @property
    def keeps_shapes(self) -> bool:
        """Whether each partial has the shape of its array, not the common one."""
        form = getattr(self.record, "form", None)
        return len(self.arrays) == 1 or bool(form and form.backward.results)

    @property
    def signature(self) -> tuple[tuple[str, str | None], ...]:
        """The arguments: names, and defaults as they are written."""
        arrays = ((name, None) for name in self.arrays)
        written = ((n.name, None if n.default is None else repr(n.default)) for n in self.numbers)
        return (*arrays, *written)


@dataclass(frozen=True)
class CrossEntropy:
    """A loss of logits and a target, alone and with the gradient of the logits.

    `forward(logits, target, **options)`, `value_and_grad(..., out=None)`, and
    `compose(library, logits, target, **options)`, the same in differentiable steps.
    """

    name: str
    record: Any
    forward: Callable[..., Any]
    value_and_grad: Callable[..., Any]
    compose: Callable[..., Any]
    signature: tuple[tuple[str, str | None], ...]  # as that of Fused

    def options(self, *given: Any) -> dict[str, Any]:
        """What comes after the logits and their target, by name."""
        return dict(zip((name for name, _ in self.signature[2:]), given, strict=True))

    @property
    def arrays(self) -> tuple[str, ...]:
        """The options that are arrays."""
        return tuple(name for name, _ in self.signature if name.endswith("weight"))


@cache
def losses() -> dict[str, CrossEntropy]:
    """The losses, by name."""
    found = {}
    for name, record in registry.LOSS_RECORDS.items():
        op = registry.get(name)
        declared = inspect.signature(op.forward).parameters.values()
        signature = tuple(
            (p.name, None if p.default is p.empty else repr(p.default)) for p in declared
        )
        found[name] = CrossEntropy(
            name, record, op.forward, op.value_and_grad, compositions.LOSSES[name], signature
        )
    return found


def checked(op: Any, numbers: tuple[Number, ...], values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The numbers of a call: integers where integers are asked for."""
    for number, value in zip(numbers, values, strict=True):
        is_integer = hasattr(value, "__index__") and not isinstance(value, bool)
        if number.kind == "int" and not is_integer:
            raise TypeError(f"{op.name}: {number.name} must be an integer, got {value!r}")
    return values


@cache
def elementwise() -> dict[str, Elementwise]:
    """The ops of one array and numbers as parameters, by name."""
    found = {}
    for name, record in registry.RECORDS.items():
        op = registry.get(name)
        takes = tuple(inspect.signature(op.forward).parameters)
        numbers = tuple(p.name for p in record.parameters)
        if takes[: 1 + len(numbers)] == (*DIRECTIONS["forward"].arrays, *numbers):
            found[name] = Elementwise(
                name,
                record,
                op.forward,
                op.grad,
                op.backward,
                op.value_and_grad,
                op.backward_from_output,
            )
    return found


@cache
def rowwise() -> dict[str, RowWise]:
    """The ops of one array along any axis that have a backward pass, by name."""
    found = {}
    for name, record in registry.ROW_FAMILIES.items():
        op = registry.get(name)
        takes = tuple(inspect.signature(op.forward).parameters)
        if takes[:2] != ("x", "axis") or op.backward is None:
            continue
        found[name] = RowWise(name, record, op.forward, op.backward, op.backward_from_output)
    return found


Arguments = Iterable[tuple[str, str | None]]  # names, and defaults as they are written


def with_signature(module: str, name: str, arguments: Arguments, call: Callable[..., Any]) -> Any:
    """A function of that signature which calls `call` with all its arguments, by position."""
    arguments = list(arguments)
    written = ", ".join(n if d is None else f"{n}={d}" for n, d in arguments)
    passed = ", ".join(n for n, _ in arguments)
    scope: dict[str, Any] = {"call": call}
    exec(f"def {name}({written}):\n    return call({passed})\n", scope)
    made = scope[name]
    made.__module__ = module
    return made


AXIS = Number("axis", "int", -1)


def pair(op: Paired) -> Fused:
    forward, backward = (array_function(op, d) for d in op.form.directions)
    return Fused(
        op.name,
        op,
        op.form.arrays,
        tuple(Number(p.name, "float", p.default) for p in op.parameters),
        forward,
        backward,
        partial(compositions.pair, op),
        partial(broadcast, op),
    )


def broadcast(op: Paired, first: Shape, second: Shape, *_: Any) -> Shape:
    try:
        return np.broadcast_shapes(first, second)
    except ValueError:
        one, other = op.form.arrays
        raise ValueError(
            f"{op.name}: shapes do not broadcast: {one} {first}, {other} {second}"
        ) from None


def with_axis(shape: Shape, axis: int, length: int) -> Shape:
    return tuple(length if k == axis % len(shape) else n for k, n in enumerate(shape))


def of_one(
    name: str,
    numbers: tuple[Number, ...],
    compose: Callable[..., Any],
    shape: Callable[..., Shape],
    compose_from_output: Callable[..., Any] | None = None,
) -> Fused:
    op = registry.get(name)

    def alone(function: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
        return lambda *given, out=(None,): (function(*given, out=out[0]),)

    made = Fused(name, op.record, ("x",), numbers, op.forward, alone(op.backward), compose, shape)
    if compose_from_output is None:
        return made
    return replace(
        made,
        from_output=alone(op.backward_from_output),
        compose_from_output=lambda *given: (compose_from_output(*given),),
    )


@cache
def fused() -> dict[str, Fused]:
    """Ops of two arrays, and ops of one whose arguments or shapes are their own."""
    found = {name: pair(op) for name, op in registry.PAIRED.items() if name != HALVED}
    gate = partial(compositions.halves, registry.PAIRED[HALVED])
    for op in (
        of_one(HALVED, (AXIS,), gate, lambda x, axis: with_axis(x, axis, x[axis] // 2)),
        of_one(
            "causal_softmax",
            (Number("offset", "int", 0),),
            compositions.causal_softmax,
            lambda x, offset: x,
            compositions.softmax_backward,
        ),
        of_one(
            "maxout",
            (Number("groups", "int", None), AXIS),
            compositions.maxout,
            lambda x, groups, axis: with_axis(x, axis, groups),
        ),
    ):
        found[op.name] = op
    return found


def table(
    function: Callable[[str], Any],
    row_function: Callable[[str], Any],
    fused_function: Callable[[str], Any],
    loss_function: Callable[[str], Any],
) -> dict[str, Callable[[], Any]]:
    """What makes each public function of an adapter, by name, aliases included."""
    made: dict[str, Callable[[], Any]] = {}
    for ops, make in ((elementwise(), function), (fused(), fused_function)):
        for name, op in ops.items():
            for known in (name, *op.aliases):
                made[known] = partial(make, name)
    made |= {name: partial(row_function, name) for name in rowwise()}
    made |= {name: partial(loss_function, name) for name in losses()}
    return made


def lazily(
    module: str, namespace: dict[str, Any], made: dict[str, Callable[[], Any]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a module whose functions are made when first asked for."""

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name not in made:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value = namespace[name] = made[name]()
        return value

    def __dir__() -> list[str]:  # noqa: N807
        return sorted({*namespace, *made})

    return __getattr__, __dir__
