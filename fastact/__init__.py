"""Activation functions for NumPy: stable, exact to the last digit or two, and fast.

    >>> import fastact as fa
    >>> fa.sigmoid([-1000.0, 0.0, 1000.0])
    array([0. , 0.5, 1. ])

Every op `f` comes as `fa.f`, `fa.f_grad`, `fa.f_backward`, `fa.f_value_and_grad` and, where the
derivative has a closed form in the output, `fa.f_backward_from_output`. `fa.names()` lists
the ops and `fa.get(name)` tells all about one.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fastact.runtime.state import (
    get_num_threads,
    get_target,
    set_num_threads,
    set_target,
    use_target,
)

__version__ = "0.1.0"

_HERE = (
    "get_num_threads",
    "get_target",
    "set_num_threads",
    "set_target",
    "use_target",
)
# Functions that no record makes, and the room of each: imported when first asked for.
_ELSEWHERE = {
    "clip_by_global_norm": "fastact.training.clipping",
    "gain": "fastact.training.gains",
    "get": "fastact.registry",
    "names": "fastact.registry",
    "plot": "fastact.plotting",
    "pointer": "fastact.interop.pointers",
    "saturation": "fastact.training.saturation",
}


def __getattr__(name: str) -> Any:
    """Functions are made when first asked for: importing fastact stays cheap."""
    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module 'fastact' has no attribute {name!r}")
    registry = import_module("fastact.registry")

    if name in _ELSEWHERE:
        value: Any = getattr(import_module(_ELSEWHERE[name]), name)
    elif name == "__all__":
        value = sorted((*_HERE, *_ELSEWHERE, *registry.public_functions()))
    else:
        makers = registry.public_functions()
        if name not in makers:
            raise AttributeError(f"module 'fastact' has no attribute {name!r}")
        value = makers[name]()
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    registry = import_module("fastact.registry")

    return sorted({*globals(), *_HERE, *_ELSEWHERE, *registry.public_functions()})
