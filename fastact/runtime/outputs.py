"""What a caller says of the result, and where a result can be computed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np


class Options(NamedTuple):
    """What NumPy's ufuncs take beside their operands."""

    out: Any = None
    where: Any = True
    dtype: Any = None
    casting: Any = "same_kind"

    @property
    def outs(self) -> tuple[Any, ...]:
        """What was given for the results; None where nothing was."""
        return self.out if isinstance(self.out, tuple) else (self.out,)


def is_exactly(out: np.ndarray, array: np.ndarray) -> bool:
    """Whether two arrays have the same entries in the same places."""
    there = out.__array_interface__["data"] == array.__array_interface__["data"]
    layouts = ((a.shape, a.strides, a.dtype) for a in (out, array))
    return there and next(layouts) == next(layouts)


def computed_in(
    out: np.ndarray | None,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    inputs: Iterable[Any],
    over: Iterable[Any] = (),
) -> bool:
    """Whether a result can be computed in the array that is to have it, without a copy.

    It must have the result's shape and dtype, and share no memory with an input, but that it may
    be one of those that are read entry by entry, `over`.
    """
    if out is None or out.shape != shape or out.dtype != dtype:
        return False
    for array in inputs:
        if not isinstance(array, np.ndarray):
            continue
        allowed = any(array is other for other in over)
        if array is out:
            if not allowed:
                return False
        elif np.may_share_memory(out, array) and not (allowed and is_exactly(out, array)):
            return False
    return True
