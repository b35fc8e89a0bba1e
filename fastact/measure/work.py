"""An expression to time: compiled once, run many times without a Python call in between."""

from __future__ import annotations

import ast
import timeit
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

Context = Callable[[], AbstractContextManager[Any]]


def names_in(expression: str) -> set[str]:
    """The names in an expression, those inside its lambdas too."""
    return {n.id for n in ast.walk(ast.parse(expression)) if isinstance(n, ast.Name)}


@dataclass(frozen=True)
class Work:
    """An expression, the names it uses, and the thread setting that it runs under."""

    expression: str
    names: dict[str, Any] = field(repr=False)
    threads: Context = field(default=nullcontext, repr=False)

    def under(self, threads: Context) -> Work:
        """The same work under a thread setting."""
        return replace(self, threads=threads)

    def function(self) -> Callable[[], Any]:
        """The expression as a function without arguments."""
        names = dict(self.names)
        exec(f"def work(): return {self.expression}", names)
        work: Callable[[], Any] = names["work"]
        return work

    def loop(self) -> Callable[[int], float]:
        """A function of n that runs the expression n times and returns the seconds taken."""
        return timeit.Timer(self.expression, globals=self.names).timeit
