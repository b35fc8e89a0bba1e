"""The small language in which every scalar function of fastact is written.

A scalar function is ordinary Python: arithmetic, comparisons, calls of other scalar
functions, and the primitives named here. It names neither a dtype nor a target. The
compiler (`fastact.compile.specialize`) turns it into one function per dtype and target:

* a float literal, and a module-level float, becomes a constant of the dtype computed in;
  an integer literal becomes an integer of the same width (for bit patterns);
* a `ByDtype` constant becomes the value for that dtype;
* a primitive becomes the target's own instruction;
* `polynomial(x, coefficients)` becomes nested fused multiply-adds.

So write float constants with a decimal point, and write `select` where `if` would make the
processor branch: a loop over branch-free code becomes SIMD code.

A function may have a second source for processors that look up a table of 32 float32 in two
registers, a lane at a time, in one instruction (`@name.by_tables`; AVX-512's vpermi2ps). There
`pieces` and `rarely` may stand, and the name of a scalar, its own too, means the plain source,
which is what other targets use.

This module imports nothing heavy: declarations are read at import, compiled much later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class DtypeConstant:
    """A constant whose value depends on the dtype computed in."""

    single: Any
    double: Any


def ByDtype(single: Any, double: Any) -> Any:  # noqa: N802
    """A DtypeConstant, typed as the number that it will be once the source is specialised."""
    return DtypeConstant(single, double)


@dataclass(eq=False)
class Scalar:
    """A scalar function: one source for both dtypes, or one source each.

    Attributes
    ----------
    single, double
        The Python sources for float32 and float64; the same function unless the
        algorithm differs (`@name.for_double`).
    tables
        A float32 source that looks tables up (`@name.by_tables`), or None.
    """

    single: Callable[..., Any]
    double: Callable[..., Any] = field(default=None)  # type: ignore[assignment]
    tables: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        if self.double is None:
            self.double = self.single
        self.__name__ = self.single.__name__
        self.__doc__ = self.single.__doc__

    def for_double(self, source: Callable[..., Any]) -> Scalar:
        """Decorator: give float64 an algorithm of its own."""
        self.double = source
        return self

    def by_tables(self, source: Callable[..., Any]) -> Scalar:
        """Decorator: give float32 an algorithm for processors that look tables up."""
        self.tables = source
        return self

    def source(self, dtype: str) -> Callable[..., Any]:
        """The Python source for a computing dtype, "float32" or "float64"."""
        return self.single if dtype == "float32" else self.double

    def __call__(self, *args: Any) -> Any:
        raise TypeError(
            f"{self.__name__} is a scalar source; compile it with fastact.compile.specialize"
        )


scalar = Scalar


class Primitive:
    """A name that each target maps to an instruction of its own."""

    def __init__(self, meaning: Callable[..., Any]) -> None:
        self.__name__ = meaning.__name__
        self.__doc__ = meaning.__doc__

    def __call__(self, *args: Any) -> Any:
        raise TypeError(f"{self.__name__} is a primitive of compiled scalar code")


@Primitive
def fma(a, b, c):
    """a*b + c, rounded once."""


@Primitive
def select(condition, a, b):
    """a where condition holds, else b; both are evaluated, nothing branches."""


@Primitive
def rint(x):
    """x rounded to the nearest integer, ties to even."""


@Primitive
def sqrt(x):
    """The correctly rounded square root."""


@Primitive
def copysign(magnitude, sign):
    """magnitude with the sign bit of sign."""


@Primitive
def bits(x):
    """The bit pattern of a float, as a signed integer of the same width."""


@Primitive
def from_bits(i):
    """The float with this bit pattern."""


@Primitive
def as_float(i):
    """A signed integer converted to the float type of the same width."""


@Primitive
def iadd(a, b):
    """a + b on integers, wrapping, without widening."""


@Primitive
def isub(a, b):
    """a - b on integers, wrapping, without widening."""


@Primitive
def iand(a, b):
    """a & b on integers."""


@Primitive
def ior(a, b):
    """a | b on integers."""


@Primitive
def ishl(a, count):
    """a << count on integers of the same width."""


@Primitive
def ishr(a, count):
    """a >> count on integers, arithmetic: the sign is kept."""


@Primitive
def polynomial(x, coefficients):
    """Horner's rule with fma, highest power first; expanded when the source is specialised."""


@Primitive
def pieces(x, index, table, low=None):
    """A polynomial in x less a centre: entry `index` modulo 32 of each row of `table`.

    The first row holds the centres, the others the coefficients, highest power first. With `low`
    it is the polynomial at x + low, low being what rounding took from x.
    """


@Primitive
def pieces_linear_last(x, index, table):
    """The same, the linear term added last: near a zero of the function that is the whole value."""


@Primitive
def pieces_from_line(x, index, table):
    """The same for x >= 0 and a function that is x near 0: to that, piece 0 is what is added.

    The centre of piece 0 and its constant are 0; the other constants are larger than x less the
    centre.
    """


@Primitive
def rarely(condition, a, b):
    """a where condition holds, else b; a is computed only if one of the lanes needs it."""
