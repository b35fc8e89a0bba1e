"""What is to be done when another library is imported.

Importing it ourselves would cost each program the time, most of them for nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from typing import Any


class Arrivals(MetaPathFinder):
    """Finds no module itself: it adds an action to what loading a module does."""

    def __init__(self) -> None:
        self.actions: dict[str, list[Callable[[], None]]] = {}

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname not in self.actions:
            return None
        finders = (f for f in sys.meta_path if f is not self)
        spec = next((s for f in finders if (s := f.find_spec(fullname, path, target))), None)
        loader: Any = spec and spec.loader
        if loader is not None:
            execute = loader.exec_module

            def exec_module(module: Any) -> None:
                execute(module)
                # only now: a spec may be asked for without an import
                for action in self.actions.pop(fullname, ()):
                    action()
                if not self.actions and self in sys.meta_path:
                    sys.meta_path.remove(self)

            loader.exec_module = exec_module
        return spec


_arrivals = Arrivals()


def when_imported(name: str, action: Callable[[], None]) -> None:
    """Call `action` once the module `name` has been imported: now, if it has."""
    if name in sys.modules:
        action()
        return
    if not _arrivals.actions:
        sys.meta_path.insert(0, _arrivals)
    _arrivals.actions.setdefault(name, []).append(action)
