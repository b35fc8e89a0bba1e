"""The record of an op that reduces along an axis: declared once, like an activation.

A row op is a reduction followed by an elementwise pass. Both are scalars whose arguments are
bound by name. Per entry there are the row operands by their own names (the last is the key) and

    m      the largest key of the row (0 if nothing asks for it)
    e      exp(key - m) in units of `unit`
    c      of an op with a `start`: that, then the largest c0 so far

Per row, in float64, there are the operands with one value per row by their names, and

    m, s0, s1, ...   the maximum, and the sums over the row of what `terms` returns
    drop             m - the entry that `label` names
    unit, empty      the scale of e; what stands for a row with nothing in it
    scale            what the key is multiplied by before exp
    c0, c1, ...      what `finish` returns

`terms` makes the sums, `finish` the constants of a row, `apply` the entries of the outputs, and
`value` the outputs with one value per row. The compiler decides how often e is computed, in
which order sums are taken, and how rows are laid over vectors, threads and caches.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fastact.numerics.language import Scalar, scalar

OWN = ""  # the dtype that the op is compiled for


@dataclass(frozen=True)
class Operand:
    """One operand of a row op, as the compiled tasks see it."""

    name: str
    is_row: bool = True  # else it has one value per row
    dtype: str = OWN
    uniform: bool = False  # one value for all rows


@dataclass(frozen=True)
class Form:
    """What one object is compiled from."""

    op: RowOp
    dtype: str
    general: bool = False  # with a mask, a limit and a scale
    precise: bool = False  # computed in float64

    @property
    def has_precise(self) -> bool:
        """Whether some rows are computed again in float64."""
        return self.op.precise and self.dtype != "float64" and not self.precise

    @property
    def entries(self) -> tuple[str, ...]:
        """The tasks of the object: see `fastact.compile.abi.ROW_ENTRIES`."""
        across = () if self.general else ("columns", "narrow")
        return ("rows", *across, "partial", "combine", *(("apply",) if self.op.apply else ()))


IGNORED = -1  # the label of a row that counts for nothing

MASK = Operand("mask", True, "bool")
LIMIT = Operand("limit", False, "int64")
SCALE = Operand("scale", False, "float64")


@scalar
def scaled(s0, factor):
    """How the sums of one block of a long row enter the row's.

    `factor` is exp(maximum of the block - maximum of the row), `is_largest` 1 where they are
    equal, else 0; `gap` is the row's maximum less the block's.
    """
    return s0 * factor


@dataclass(frozen=True, eq=False)
class RowOp:
    """One op along an axis, in one direction."""

    name: str
    summary: str
    formula: str
    inputs: tuple[str, ...]  # the public operands
    terms: Scalar | None
    finish: Scalar
    sources: tuple[str, ...]
    apply: Scalar | None = None
    value: Scalar | None = None
    merge: Scalar = scaled
    label_value: Scalar | None = None  # what the entry of the output named by `label` becomes
    accuracy: dict[str, float] = field(default_factory=dict)
    absolute: bool = False  # errors are in units in the last place of 1, not of the entry
    numpy: str = ""  # the expression that people write; x, dy, y, np in scope, along the last axis
    stable_note: str = ""
    negate: bool = False  # the key is -x
    fixed: bool = False  # the key is at most 0: no maximum is needed
    scalable: bool = False  # has a form in which the key is multiplied by `scale`
    per_row: tuple[str, ...] = ()  # inputs with one value per row
    extra: tuple[Operand, ...] = ()  # operands with one value per row that are not public
    value_dtype: str = OWN
    quick: bool = False  # the constants of a row of float32 are computed in float32
    start: float | None = None  # of c, which rises to the c0 of each round until it stays
    precise: bool = False  # a small value of a row is computed in float64: the maximum cancels
    row_outputs: int = 1  # how many values `apply` returns
    output: str = "y"
    policy: str = "nan"  # for rows with nothing in them; "" where there is no such row
    empty: float = 0.0  # the value of such a row under the policy "zero"
    many_axes: bool = False  # a reduction, over one axis or several
    causal: bool = False  # row i has the entries up to i + offset
    groups: bool = False  # a row is one of the groups that an axis is cut into
    scipy: str = ""
    torch: str = ""
    use: str = ""
    edges: str = ""  # what infinities and nan give, where it is not what softmax does with them

    def operands(self, general: bool) -> tuple[Operand, ...]:
        """The inputs of the compiled tasks; the general form has a mask, a limit and a scale."""
        public = tuple(Operand(name, name not in self.per_row) for name in self.inputs)
        more = (MASK, LIMIT, *((SCALE,) if self.scalable else ())) if general else ()
        return public + self.extra + more

    def results(self) -> tuple[Operand, ...]:
        """The outputs: those along the row, then the one with one value per row."""
        rows = tuple(Operand(f"out{k}") for k in range(self.row_outputs if self.apply else 0))
        return rows + ((Operand("value", False, self.value_dtype),) if self.value else ())


@dataclass(frozen=True)
class Option:
    """An optional argument of a loss, as its documentation tells it."""

    name: str
    kind: str
    meaning: str


@dataclass(frozen=True)
class Loss:
    """A loss, alone and with its gradient: what its functions say of themselves."""

    name: str
    summary: str
    formula: str
    inputs: tuple[str, str]
    options: tuple[Option, ...]
    labels_note: str
    notes: str
    stable_note: str
    raises: str
    example: str  # arguments of a call
    accuracy: dict[str, float]  # of one loss, where all terms have one sign
    ops: tuple[RowOp, ...]  # that compute it
    numpy: tuple[str, str]  # what people write for the loss, and for it with its gradient
    torch: tuple[str, str]
    sources: tuple[str, ...]
    use: str
