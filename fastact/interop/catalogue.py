"""What the adapters offer, derived from the registry: an op is covered by being declared."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

from fastact import registry
from fastact.activations.directions import DIRECTIONS
from fastact.interop.second import SECOND, second_derivative

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


def table(
    function: Callable[[str], Any], row_function: Callable[[str], Any]
) -> dict[str, Callable[[], Any]]:
    """What makes each public function of an adapter, by name, aliases included."""
    made: dict[str, Callable[[], Any]] = {}
    for name, op in elementwise().items():
        for known in (name, *op.aliases):
            made[known] = partial(function, name)
    for name in rowwise():
        made[name] = partial(row_function, name)
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
