"""Where an implementation goes from one piece to another, found by watching it.

A scalar source is run on arrays with primitives that note what decides about the formula: the
conditions of `select`, and the exponents made by shifts (the pieces of a reduced argument). A join
is a pair of neighbouring inputs on which these differ. So nothing has to be declared, and a new
threshold is found where it is.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np

import fastact as fa
from fastact.activations.directions import DIRECTIONS, program
from fastact.compile.specialize import INTEGER, Target, rewrite, specialize
from fastact.compile.tabulated import tables_in_registers
from fastact.numerics.language import Scalar

WORD = {"float32": np.uint32, "float64": np.uint64}
SPAN = {"float32": 300.0, "float64": 1200.0}  # the range of exp, with room
STEP = 1 / 16  # shorter than a piece of exp or of log near 1
PER_BINADE = 24

# What the sources have decided so far: one row per decision, one entry per input.
_noted: list[Any] = []


def note(value: Any) -> Any:
    _noted.append(value)
    return value


def floats_of(dtype: str) -> Any:
    return np.dtype(dtype).type


def halves(a: Any) -> Any:
    """A float64 as a sum of two with half the digits (Veltkamp)."""
    big = a * (2.0**27 + 1)
    high = big - (big - a)
    return high, a - high


def fma(a: Any, b: Any, c: Any) -> Any:
    """float32 by way of more digits; float64 from the exact product and sum (Dekker, Knuth)."""
    a, b, c = np.broadcast_arrays(a, b, c)
    if c.dtype == np.float32:
        return (a.astype(np.longdouble) * b + c).astype(np.float32)
    p = a * b
    (a1, a2), (b1, b2) = halves(a), halves(b)
    lost = ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2
    s = p + c
    part = s - p
    exact = s + (((p - (s - part)) + (c - part)) + lost)
    return np.where(np.isfinite(exact), exact, s)


def select(condition: Any, a: Any, b: Any) -> Any:
    return np.where(note(np.asarray(condition)), a, b)


def pieces(x: Any, index: Any, table: Any, low: Any = 0.0, line: bool = False) -> Any:
    centre, value, *rest, last = (np.float32(row)[note(index & 31)] for row in table)
    d = (x - centre) + np.float32(low)
    for c in rest:
        value = fma(value, d, c)
    return fma(value, d, np.maximum(d, last) if line else last)


def as_words(x: Any) -> Any:
    x = np.asarray(x)
    return x.view(INTEGER[x.dtype.name])


def as_floats(i: Any) -> Any:
    i = np.asarray(i)
    return i.view(np.float32 if i.dtype == np.int32 else np.float64)


PRIMITIVES = {
    "fma": fma,
    "select": select,
    "rint": lambda x: note(np.rint(x)),
    "sqrt": np.sqrt,
    "copysign": np.copysign,
    "bits": as_words,
    "from_bits": as_floats,
    "as_float": lambda i: i.astype(np.float32 if i.dtype == np.int32 else np.float64),
    "iadd": np.add,
    "isub": np.subtract,
    "iand": np.bitwise_and,
    "ior": np.bitwise_or,
    "ishl": lambda a, n: note(np.left_shift(a, n)),
    "ishr": lambda a, n: note(np.right_shift(a, n)),
    "pieces": pieces,
    "pieces_linear_last": pieces,  # in the same pieces
    "pieces_from_line": partial(pieces, line=True),
    "rarely": select,
}


# Inside a source that looks tables up, scalars are their plain selves
PLAIN = Target("plain", PRIMITIVES, lambda function: function)


def tabulated(source: Scalar) -> Any:
    """The source that the library runs where the processor looks tables up."""
    assert source.tables is not None
    return rewrite(source.tables, "float32", PLAIN)


WATCHED = Target("watched", PRIMITIVES, PLAIN.jit, tabulated if tables_in_registers() else None)


def decisions(source: Scalar, dtype: str, x: Any, parameters: tuple[float, ...]) -> Any:
    """What decides about the formula at each input: an array with a column per input."""
    _noted.clear()
    kind = floats_of(dtype)
    with np.errstate(all="ignore"):
        specialize(source, dtype, WATCHED)(x, *(kind(p) for p in parameters))
    rows = [np.broadcast_to(row, x.shape) for row in _noted]
    rows = [row if row.dtype == bool else row.view(WORD[dtype]) for row in rows]
    return np.array([row.astype(np.uint64) for row in rows] or [np.zeros(x.shape, np.uint64)])


def ordinals(x: Any) -> Any:
    """Floats as integers in the same order, -0.0 and 0.0 alike."""
    i = as_words(x).astype(np.int64)
    least = np.int64(-(1 << (8 * x.dtype.itemsize - 1)))
    return np.where(i < 0, least - i, i)


def from_ordinals(n: Any, dtype: str) -> Any:
    least = np.int64(-(1 << (8 * np.dtype(dtype).itemsize - 1)))
    return np.where(n < 0, least - n, n).astype(INTEGER[dtype]).view(dtype)


def grid(dtype: str) -> Any:
    """Increasing finite inputs, so close that between two of them there is one join at most."""
    info = np.finfo(dtype)
    exponents = np.arange(int(info.minexp) - int(info.nmant), int(info.maxexp))
    fractions = 1 + np.arange(PER_BINADE) / PER_BINADE
    binades = np.ldexp(fractions[:, None], exponents[None, :]).ravel()
    positive = np.concatenate([[0.0], binades, np.arange(0, SPAN[dtype], STEP), [float(info.max)]])
    x = np.unique(np.concatenate([-positive, positive]).astype(dtype))
    return x[np.isfinite(x)]


@cache
def joins(op: str, direction: str, dtype: str, parameters: tuple[float, ...]) -> Any:
    """The inputs just above a change of pieces, in increasing order; the one below is the other."""
    tables = dtype == "float32" and tables_in_registers()
    found = program(fa.get(op).record, DIRECTIONS[direction], tables)
    x = grid(dtype)
    x = x[~np.isnan(getattr(fa, op)(x, *parameters))]
    ends: list[Any] = []
    for source in found.sources.values():
        at = decisions(source, dtype, x, parameters)
        changed = np.flatnonzero((at[:, 1:] != at[:, :-1]).any(0))
        low, high = ordinals(x[changed]), ordinals(x[changed + 1])
        below = at[:, changed]
        while np.any(high - low > 1):
            middle = low + (high - low) // 2
            found_there = decisions(source, dtype, from_ordinals(middle, dtype), parameters)
            same = (found_there == below).all(0)
            low, high = np.where(same, middle, low), np.where(same, high, middle)
        ends.append(from_ordinals(high, dtype))
    return np.unique(np.concatenate(ends))
