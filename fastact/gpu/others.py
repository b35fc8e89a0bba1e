"""Arrays of the host that are more than NumPy's: those of other libraries, and NumPy's subclasses.

A library whose arrays have `__array_ufunc__` calls the ufunc with pieces of its own, when and in
the order that it wants. It is handed a stand-in, which computes them on the GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from fastact.runtime.functions import foreign
from fastact.runtime.outputs import Options

# What a ufunc takes if it is not told; libraries are told the rest alone
OPTIONS: dict[str, Any] = Options()._asdict() | {"axis": -1}


class OnGpu:
    """A ufunc as far as others ask; a call of it goes to the GPU."""

    def __init__(self, call: np.ufunc, compute: Callable[..., Any]) -> None:
        self.call, self.compute = call, compute

    def __getattr__(self, name: str) -> Any:
        if name in ("call", "compute"):  # not there yet
            raise AttributeError(name)
        return getattr(self.call, name)

    def __repr__(self) -> str:
        return repr(self.call)

    def __call__(self, *operands: Any, **options: Any) -> Any:
        return self.compute(*operands, **options)


def handed_over(
    call: np.ufunc, compute: Callable[..., Any], operands: Sequence[Any], options: dict[str, Any]
) -> Any:
    """What the libraries of the operands make of a call."""
    told = {n: v for n, v in options.items() if v is not OPTIONS[n]}
    for value in (*operands, *told.get("out", ())):
        if foreign(value):
            made = value.__array_ufunc__(OnGpu(call, compute), "__call__", *operands, **told)
            if made is not NotImplemented:
                return made
    kinds = ", ".join(type(value).__name__ for value in operands)
    raise TypeError(f"{call.__name__}: no library takes operands of the types {kinds}")


def like_operands(
    call: np.ufunc, operands: Iterable[Any], results: Sequence[np.ndarray], outs: Sequence[Any]
) -> list[Any]:
    """Results as the subclass of NumPy's array that the operands have, as NumPy makes them."""
    given = tuple(operands)
    subclasses = [a for a in given if isinstance(a, np.ndarray) and type(a) is not np.ndarray]
    if not subclasses:
        return list(results)
    first = max(subclasses, key=lambda a: a.__array_priority__)
    return [
        result
        if out is not None
        else first.__array_wrap__(result, (call, (*given, *outs), k), result.ndim == 0)
        for k, (result, out) in enumerate(zip(results, outs, strict=True))
    ]
