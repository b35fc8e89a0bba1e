"""Public functions as they are made, for adapters that must know each of them.

A function is made when it is first asked for. An adapter that listens here hears of those that
exist already, and then of each new one, without asking for all of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from fastact.runtime.arrivals import when_imported

Listener = Callable[..., None]

# Numba calls the entry points of installed packages before it compiles; a checkout that is merely
# on the path has none, so the adapter is told when Numba comes.
ADAPTERS = {
    "numba": "fastact.interop.numba_extension",
    "numba.cuda": "fastact.interop.numba_cuda_extension",
}

_made: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
_listeners: list[Listener] = []


def announce(function: Callable[..., Any], *declaration: Any) -> None:
    """Tell the adapters of a new public function and what it was made from."""
    if not _made:
        for library, adapter in ADAPTERS.items():
            when_imported(library, partial(start, adapter))
    _made.append((function, declaration))
    for listener in _listeners:
        listener(function, *declaration)


def start(adapter: str) -> None:
    """Let an adapter begin; its failure must not fail the import of its library."""
    try:
        import_module(adapter).init()
    except Exception as error:
        warnings.warn(f"{adapter} is not available: {error!r}", RuntimeWarning, stacklevel=2)


def listen(listener: Listener) -> None:
    """Call `listener(function, *declaration)` for every public function, made or to be made."""
    if listener in _listeners:
        return
    _listeners.append(listener)
    for function, declaration in tuple(_made):
        listener(function, *declaration)
