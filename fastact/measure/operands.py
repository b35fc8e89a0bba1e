"""The arrays that providers read and write, shared by all of them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from fastact.measure.cases import Case

SEED = 20240607
SPREAD = 2.0  # standard deviation of the inputs: float16's exp overflows beyond 11
INPUTS = ("x", "dy", "y", "a", "b", "weight")
OUTPUTS = ("out", "out2")


def numpy_dtype(name: str) -> Any:
    """The NumPy dtype of a name; bfloat16 comes from ml_dtypes."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


@cache
def array(name: str, dtype: str, shape: tuple[int, ...]) -> Any:
    """One operand: normal random numbers, the same in every run, or a result to write to.

    `y` stands for a forward result: what a backward pass costs does not depend on the values.
    Results are filled, so that their pages are in memory before anything is timed.
    """
    if name in OUTPUTS:
        return np.ones(shape, numpy_dtype(dtype))
    values = np.random.default_rng((SEED, INPUTS.index(name)))
    normal = values.standard_normal(shape, dtype=np.float32) * np.float32(SPREAD)
    return normal.astype(numpy_dtype(dtype))


def operand(case: Case, name: str) -> Any:
    """The operand of a case by its name in a provider's statement."""
    if name == "axis":
        return case.axis
    if name == "labels":
        return class_ids(case.shape)
    if name == "ab":
        return np.concatenate([array(half, case.dtype, case.shape) for half in "ab"], -1)
    if name == "targets":
        return (array("y", case.dtype, case.shape) > 0).astype(numpy_dtype(case.dtype))
    return array(NAMESAKES.get(name, name), case.dtype, case.shape_of(name))


@cache
def class_ids(shape: tuple[int, ...]) -> Any:
    """A class for every row."""
    return np.random.default_rng(SEED).integers(0, shape[-1], shape[:-1])


NAMESAKES = {"logits": "x", "leaf": "x"}  # of a loss; the leaf of autograd's graph
NAMES = (*INPUTS, *OUTPUTS, *NAMESAKES, "ab", "labels", "targets", "axis")


def forget() -> None:
    """Give the memory of all arrays back."""
    array.cache_clear()
    class_ids.cache_clear()
