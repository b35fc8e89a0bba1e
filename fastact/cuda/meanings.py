"""What the primitives mean, in plain Python on NumPy scalars: for the simulator of numba-cuda.

Slow and exact: fma rounds once, integers wrap, nothing is approximated.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from fastact.compile.specialize import Target, integer

FLOAT = {np.int32: np.float32, np.int64: np.float64}
WORD = {np.float32: np.int32, np.float64: np.int64}


def fma(a: Any, b: Any, c: Any) -> Any:
    kind = type(c)
    with np.errstate(all="ignore"):
        plain = a * b + c
        if not (np.isfinite(a) and np.isfinite(b) and np.isfinite(c)):
            return plain
        exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
        return kind(rounded(exact, kind)) if exact else plain


def rounded(exact: Fraction, kind: Any) -> Any:
    """A fraction as a float of this type, to nearest even.

    Python rounds to float64. To float32 that would round twice: on the way the last bit is made
    odd where something was cut off, which keeps ties from arising.
    """
    try:
        near = float(exact)
    except OverflowError:
        return np.inf if exact > 0 else -np.inf
    if kind is np.float64 or Fraction(near) == exact:
        return near
    pattern = int(np.float64(near).view(np.int64))
    if not pattern & 1:
        away = (exact > Fraction(near)) == (near >= 0) and exact != 0
        pattern += 1 if away else -1
    return np.int64(pattern).view(np.float64)


def wrapping(operation: Any) -> Any:
    """An integer operation that wraps in the type of its first argument."""

    def primitive(a: Any, b: Any) -> Any:
        dtype = "float32" if isinstance(a, np.int32) else "float64"
        return integer(operation(int(a), int(b)), dtype)

    return primitive


def select(condition: Any, a: Any, b: Any) -> Any:
    return a if condition else b


PRIMITIVES: dict[str, Any] = {
    "fma": fma,
    "rint": np.rint,
    "sqrt": np.sqrt,
    "copysign": np.copysign,
    "select": select,
    "bits": lambda x: x.view(WORD[type(x)]),
    "from_bits": lambda i: i.view(FLOAT[type(i)]),
    "as_float": lambda i: FLOAT[type(i)](i),
    "iadd": wrapping(lambda a, b: a + b),
    "isub": wrapping(lambda a, b: a - b),
    "iand": wrapping(lambda a, b: a & b),
    "ior": wrapping(lambda a, b: a | b),
    "ishl": wrapping(lambda a, b: a << b),
    "ishr": wrapping(lambda a, b: a >> b),
}

SIMULATED = Target("simulated", PRIMITIVES, lambda function: function)
