"""Records -> numpy.ufuncs, created in microseconds, compiled when first called."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

import numpy as np

from fastact.activations.directions import Direction
from fastact.activations.record import Activation
from fastact.compile import abi
from fastact.runtime.loops import COMPUTING, Loop, driver_entry, loop_addresses
from fastact.runtime.numpy_api import make_ufunc, register_loop, words

# In NumPy's order of promotion: integers find the same float that np.exp gives them.
DTYPES = ("float16", "float32", "float64")


def loop_types(record: Activation, direction: Direction, dtype: Any, defaults: bool) -> list[Any]:
    """The dtypes of a loop's operands; half types take their parameters in float32."""
    computing = COMPUTING.get(str(dtype), dtype)
    parameters = [] if defaults else [computing] * len(record.parameters)
    return [dtype] * len(direction.arrays) + parameters + [dtype] * len(direction.outputs)


@lru_cache(maxsize=None)
def ufunc(record: Activation, direction: Direction, defaults: bool) -> np.ufunc:
    """The ufunc of one direction of an op.

    With `defaults` it takes the arrays alone and the parameters have their default values;
    otherwise the parameters are operands, after the arrays, and broadcast like them.
    """
    loops = [Loop(record, direction, dtype, defaults) for dtype in DTYPES]
    data = words(len(loops))
    for k, loop in enumerate(loops):
        data[k] = loop.address
    types = [loop_types(record, direction, dtype, defaults) for dtype in DTYPES]
    made = make_ufunc(
        record.name + direction.suffix,
        record.summary,
        len(types[0]) - len(direction.outputs),
        len(direction.outputs),
        loop_addresses("ufunc_loop", len(loops)),
        data,
        types,
    )
    if "ml_dtypes" in sys.modules:
        add_bfloat16(made, record, direction, defaults)
    return made


_with_bfloat16: set[int] = set()


def add_bfloat16(
    made: np.ufunc, record: Activation, direction: Direction, defaults: bool
) -> bool:
    """Give a ufunc its bfloat16 loop; False if it has one already.

    Done when somebody brings a bfloat16 array, so that fastact never imports ml_dtypes itself.
    """
    from ml_dtypes import bfloat16

    if id(made) in _with_bfloat16:
        return False
    _with_bfloat16.add(id(made))
    loop = Loop(record, direction, "bfloat16", defaults)
    types = loop_types(record, direction, np.dtype(bfloat16), defaults)
    register_loop(made, driver_entry("ufunc_loop"), loop.address, types)
    return True


assert abi.MAX_OPERANDS >= 6  # dy, x, three parameters, one output
