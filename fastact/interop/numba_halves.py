"""The gate of the halves of one array inside Numba's compiled code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core.errors import TypingError
from numba.extending import overload

from fastact.activations.directions import Direction
from fastact.interop.numba_typing import UNKNOWN, float_of, given_value, is_array, make_known

BODIES = {
    "forward": """
def body(x, axis=-1):
    n = half(x.shape[{axis}])
    return gate(x[{first}], x[{second}])
""",
    "backward": """
def body(dy, x, axis=-1):
    n = half(x.shape[{axis}])
    found = np.empty(x.shape, dtype)
    found[{first}], found[{second}] = gate(dy, x[{first}], x[{second}])
    return found
""",
}


def half_of(name: str) -> Callable[..., Any]:
    """Half a length, compiled with the caller."""
    message = f"{name}: x must have an even length along the axis"

    def half(length):
        if length % 2:
            raise ValueError(message)
        return length // 2

    return half


def teach_halves(function: Any, gate: Callable[..., Any], direction: Direction) -> None:
    """Teach Numba the function of one array; `gate` is that of two."""
    name = function.__name__

    def half(length):
        raise NotImplementedError

    overload(half)(lambda length: half_of(name))

    def resolve(x: Any, axis: Any) -> Callable[..., Any]:
        if not is_array(x) or x.ndim < 1:
            raise TypingError(f"{name}: x must be an array with an axis, got {x}")
        known = axis if isinstance(axis, int) else given_value(axis)
        if known is UNKNOWN or not isinstance(known, int) or not -x.ndim <= known < x.ndim:
            raise TypingError(
                f"{name}: axis must be an integer from {-x.ndim} to {x.ndim - 1}, written out in "
                f"the call, got {axis}"
            )
        known %= x.ndim
        index = ", ".join("{0}" if k == known else ":" for k in range(x.ndim))
        scope = {"gate": gate, "half": half, "np": np, "dtype": float_of(name, "x", x)}
        exec(
            BODIES[direction.name].format(
                axis=known, first=index.format(":n"), second=index.format("n:")
            ),
            scope,
        )
        made: Callable[..., Any] = scope["body"]  # type: ignore[assignment]
        return made

    if direction.name == "forward":

        @overload(function, prefer_literal=True)
        def glu(x, axis=-1):
            return resolve(x, axis)

    else:

        @overload(function, prefer_literal=True)
        def glu_backward(dy, x, axis=-1):
            return resolve(x, axis)

    make_known()
