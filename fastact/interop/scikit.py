"""scikit-learn: activations for MLPClassifier and MLPRegressor, added and taken away again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.neural_network._base import ACTIVATIONS, DERIVATIVES
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
from sklearn.utils._param_validation import StrOptions

from fastact import registry
from fastact.interop.catalogue import Elementwise, elementwise

MODELS = (BaseMultilayerPerceptron, MLPClassifier, MLPRegressor)
OWN = frozenset(DERIVATIVES)  # what scikit-learn itself offers
_registered: set[str] = set()


def refusal(op: Elementwise) -> str | None:
    """Why scikit-learn cannot train with an op; None if it can."""
    if op.backward_from_output is None:
        return (
            f"scikit-learn passes only the output to the derivative of an activation, and "
            f"the derivative of {op.name} does not follow from its output"
        )
    return None


def in_place(op: Elementwise) -> tuple[Callable[..., None], Callable[..., None]]:
    """The activation and its derivative, as scikit-learn calls them."""
    backward = op.backward_from_output
    assert backward is not None

    def activation(X: np.ndarray) -> None:  # noqa: N803
        op.forward(X, out=X)

    def derivative(Z: np.ndarray, delta: np.ndarray) -> None:  # noqa: N803
        backward(delta, Z, out=delta)

    return activation, derivative


def allow() -> None:
    """Let the models accept the names registered now."""
    for model in MODELS:
        model._parameter_constraints["activation"] = [StrOptions(OWN | _registered)]


@dataclass(frozen=True)
class Registration:
    """What `register` did. As a context manager it is undone at the end of the block."""

    names: tuple[str, ...]  # values of `activation` that now work
    refused: dict[str, str]  # ops that cannot be used, and why

    def unregister(self) -> None:
        """Take these names away again."""
        unregister(*self.names)

    def __enter__(self) -> Registration:
        return self

    def __exit__(self, *_: object) -> None:
        self.unregister()


def register(*ops: str, prefix: str = "fastact_") -> Registration:
    """Make ops available as `MLPClassifier(activation="fastact_elu")` and so on.

    Only ops whose derivative follows from the output can be offered: that is all that
    scikit-learn hands to it. Parameters have their default values. A model trained so can be
    unpickled and used wherever the same names are registered.

    Parameters
    ----------
    *ops : str
        Which ops; all that can be used by default.
    prefix : str
        What the names begin with.

    Returns
    -------
    Registration
        `names`, and `refused` with the reason for each op that cannot be used.

    Raises
    ------
    ValueError
        If an op asked for is unknown or cannot be used, or if a name is scikit-learn's own.
    """
    known = elementwise()
    for op in ops:
        if registry.ALIASES.get(op, op) not in known:
            raise ValueError(f"op must be one of {', '.join(known)}; got {op!r}")
    chosen = {op: known[registry.ALIASES.get(op, op)] for op in ops or known}
    refused = {name: why for name, op in chosen.items() if (why := refusal(op))}
    if ops and refused:
        raise ValueError("; ".join(refused.values()))
    names = {prefix + name: op for name, op in chosen.items() if name not in refused}
    if taken := sorted(({*ACTIVATIONS} - _registered).intersection(names)):
        raise ValueError(f"scikit-learn has its own {', '.join(taken)}; choose another prefix")
    for name, entry in names.items():
        ACTIVATIONS[name], DERIVATIVES[name] = in_place(entry)
    _registered.update(names)
    allow()
    return Registration(tuple(names), refused)


def unregister(*names: str) -> None:
    """Take away names that `register` has added; all of them by default."""
    for name in names or tuple(_registered):
        if name in _registered:
            _registered.discard(name)
            del ACTIVATIONS[name], DERIVATIVES[name]
    allow()
