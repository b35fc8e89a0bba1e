"""Which scalars the text of a row kernel calls, by the names it calls them: for every target."""

from __future__ import annotations

from typing import Any

from fastact.compile.rowcode import by_dtype
from fastact.compile.vectors import outputs, parameters
from fastact.cuda import sums
from fastact.cuda.row_kinds import Rows
from fastact.rowwise.exponential import UNIT, scaled_weight, weight

# name -> (scalar, whether it is computed in the dtype of what is computed once per row)
COMMON: dict[str, tuple[Any, bool]] = {
    "added": (sums.added, False),
    "joined": (sums.joined, False),
    "single": (sums.single, False),
    "plus": (sums.plus, False),
    "times": (sums.times, False),
    "over": (sums.over, False),
    "opposite": (sums.opposite, False),
    "entry_maximum": (sums.entry_maximum, False),
    "recentred": (sums.recentred, False),
    "chunk_scale": (sums.chunk_scale, False),
    "scaled_chunk_scale": (sums.scaled_chunk_scale, False),
    "wide_single": (sums.single, True),
    "wide_plus": (sums.plus, True),
    "wide_below": (sums.below, True),
    "wide_weight": (weight, True),
}


def scalars(kernel: Rows) -> dict[str, tuple[Any, str]]:
    """name -> (scalar, computing dtype)"""
    op = kernel.op
    of_op = {
        "terms": (op.terms, False),
        "wide_terms": (op.terms, True),
        "apply": (op.apply, False),
        "merge": (op.merge, False),
        "finish": (op.finish, True),
        "value_of": (op.value, True),
        "label_value_of": (op.label_value, True),
        "weight": (scaled_weight if kernel.scaled else weight, False),
    }
    return {
        name: (source, kernel.finishing if wide else kernel.computing)
        for name, (source, wide) in {**COMMON, **of_op}.items()
        if source is not None
    }


def shape(source: Any) -> tuple[int, int]:
    """(arguments, results) of a scalar."""
    return len(parameters(source)), outputs(source)


def constants(kernel: Rows) -> dict[str, tuple[float, str]]:
    """name -> (value, dtype)"""
    computing, finishing = kernel.computing, kernel.finishing
    return {
        "ZERO": (0.0, computing),
        "ONE": (1.0, computing),
        "INF": (float("inf"), computing),
        "MINUS_INF": (float("-inf"), computing),
        "UNIT": (by_dtype(UNIT, computing), computing),
        "NAN": (float("nan"), computing),
        "START": (kernel.op.start or 0.0, computing),
        "FINISH_NAN": (float("nan"), finishing),
        "FINISH_ZERO": (0.0, finishing),
        "FINISH_ONE": (1.0, finishing),
        "FINISH_UNIT": (by_dtype(UNIT, computing), finishing),
        "WIDE_UNIT": (by_dtype(UNIT, finishing), finishing),
    }
