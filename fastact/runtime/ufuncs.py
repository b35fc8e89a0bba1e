"""Records -> numpy.ufuncs, created in microseconds, compiled per dtype when first called."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from fastact.activations.directions import Direction
from fastact.activations.paired import Pointwise
from fastact.rowwise.record import Operand, RowOp
from fastact.runtime.arrivals import when_imported
from fastact.runtime.loops import COMPUTING, Loop, RowLoop, driver_entry, loop_addresses
from fastact.runtime.numpy_api import make_ufunc, register_loop, words

# In NumPy's order of promotion: integers find the same float that np.exp gives them.
DTYPES = ("float16", "float32", "float64")


def build(
    name: str,
    doc: str,
    entry: str,
    make_loop: Callable[[str], Any],
    types_of: Callable[[Any], list[Any]],
    outputs: int,
    signature: str | None = None,
) -> np.ufunc:
    """A ufunc with one loop per dtype, each behind the same entry of the driver.

    Its name is unique, because pickle finds it by that name (`fastact.pickling`).
    """
    loops = [make_loop(dtype) for dtype in DTYPES]
    types = [types_of(dtype) for dtype in DTYPES]
    data = words(len(loops))
    for k, loop in enumerate(loops):
        data[k] = loop.address
    addresses = loop_addresses(entry, len(loops))
    inputs = len(types[0]) - outputs
    made = make_ufunc(name, doc, inputs, outputs, addresses, data, types, signature)
    if hasattr(made, "__dict__"):  # NumPy 2.2: pickle then need not search all modules
        made.__module__ = "fastact.pickling"

    def add_bfloat16() -> None:
        from ml_dtypes import bfloat16

        loop = make_loop("bfloat16")
        register_loop(made, driver_entry(entry), loop.address, types_of(np.dtype(bfloat16)))

    when_imported("ml_dtypes", add_bfloat16)
    return made


@cache
def ufunc(record: Pointwise, direction: Direction, defaults: bool) -> np.ufunc:
    """The ufunc of one direction of an op.

    With `defaults` it takes the arrays alone and the parameters have their default values;
    otherwise the parameters are operands, after the arrays, and broadcast like them.
    """

    def types_of(dtype: Any) -> list[Any]:
        # Half types take their parameters in float32: 0.01 is not a float16.
        parameters = [] if defaults else [COMPUTING.get(str(dtype), dtype)] * len(record.parameters)
        return [dtype] * len(direction.arrays) + parameters + [dtype] * len(direction.outputs)

    several = record.parameters and not defaults
    return build(
        record.name + direction.suffix + ("_with_parameters" if several else ""),
        record.summary,
        "ufunc_loop",
        lambda dtype: Loop(record, direction, dtype, defaults),
        types_of,
        len(direction.outputs),
    )


@cache
def gufunc(op: RowOp, empty: float, general: bool = False) -> np.ufunc:
    """The generalized ufunc of a row op; `empty` is the value of a row with nothing in it."""
    inputs, results = op.operands(general), op.results()

    def core(operands: tuple[Operand, ...]) -> str:
        return ",".join("(n)" if o.is_row else "()" for o in operands)

    policy = "nan" if math.isnan(empty) else "zero"
    other = "" if policy == (op.policy or "nan") else f"_{policy}"
    return build(
        op.name + other + ("_where" if general else ""),
        op.summary,
        "row_loop",
        lambda dtype: RowLoop(op, dtype, empty, general),
        lambda dtype: [o.dtype or dtype for o in (*inputs, *results)],
        len(results),
        f"{core(inputs)}->{core(results)}",
    )
