"""Where pickle finds fastact's ufuncs: `swish`, `swish_with_parameters`, `softmax_where`, ...

NumPy pickles a ufunc by its module and name. Dask sends the ufuncs themselves to its workers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np

from fastact import registry
from fastact.runtime.functions import directions_of
from fastact.runtime.row_functions import empty_value
from fastact.runtime.ufuncs import gufunc, ufunc


@cache
def makers() -> dict[str, Callable[[], np.ufunc]]:
    """What makes each ufunc, by its name."""
    made: list[tuple[str, Callable[[], np.ufunc]]] = []
    for record in registry.RECORDS.values():
        for direction in directions_of(record):
            name = record.name + direction.suffix
            made.append((name, partial(ufunc, record, direction, bool(record.parameters))))
            if record.parameters:
                made.append((f"{name}_with_parameters", partial(ufunc, record, direction, False)))
    for op in registry.ROW_OPS:
        for policy in ("nan", "zero"):
            other = "" if policy == (op.policy or "nan") else f"_{policy}"
            for ending, general in (("", False), ("_where", True)):
                maker = partial(gufunc, op, empty_value(op, policy), general)
                made.append((op.name + other + ending, maker))
    return dict(made)


def __getattr__(name: str) -> np.ufunc:
    table = makers()
    if name not in table:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return table[name]()
