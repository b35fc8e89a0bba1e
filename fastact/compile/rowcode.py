"""What every row task needs: its op's demands, operands, per-row values and vector reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from fastact.compile.abi import (
    BATCH,
    FOLD,
    GROUP,
    LANES,
    NARROW,
    R_EMPTY,
    R_INNER,
    R_LENGTH,
    R_OUTER,
    R_POINTERS,
)
from fastact.compile.strips import (
    INFINITY_BITS,
    STORED,
    VECTOR_BYTES,
    WORD,
    Code,
    word,
)
from fastact.compile.vectors import FLOAT, Vectors, intrinsic, outputs, parameters, splat
from fastact.numerics.language import Scalar, scalar, select
from fastact.rowwise.exponential import (
    UNIT,
    exponential,
    scaled_weight,
    weight,
)
from fastact.rowwise.record import MASK, SCALE, Form, Operand

BIT = ir.IntType(1)
DOUBLE = FLOAT["float64"]
INF = float("inf")


def by_dtype(constant: Any, dtype: str) -> float:
    return float(constant.single if dtype == "float32" else constant.double)


@scalar
def two_sum(a, b):
    """a + b as a rounded sum and its error (Knuth; terms of any sign)."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


@scalar
def below(m, x):
    """m - x, 0 where they are equal, even if infinite."""
    return select(m == x, 0.0, m - x)


@scalar
def block_scale(m, row_m):
    """How a block of a long row enters the row: see `scaled` in fastact.rowwise.record."""
    factor = exponential(select(m == row_m, 0.0, m - row_m))
    return factor, select(m == row_m, 1.0, 0.0), select(m == row_m, 0.0, row_m - m)


class Needs:
    """What an op's scalars ask for, read from the names of their arguments."""

    def __init__(self, form: Form) -> None:
        op, general = form.op, form.general
        self.inputs = op.operands(general)
        self.results = op.results()
        self.rows = [o.name for o in self.inputs if o.is_row and o is not MASK]
        self.key = self.rows[-1]
        self.terms = parameters(op.terms) if op.terms else ()
        self.apply = parameters(op.apply) if op.apply else ()
        self.sums = outputs(op.terms) if op.terms else 0
        self.constants = outputs(op.finish)
        self.weight = "e" in self.terms or "e" in self.apply
        self.keep = "e" in self.terms and "e" in self.apply
        per_row = [s for s in (op.finish, op.value, op.label_value) if s]
        entries = {*self.terms, *self.apply}
        asked = entries | {name for s in per_row for name in parameters(s)}
        self.top = not op.fixed and (self.weight or "m" in asked)
        self.scaled = general and op.scalable
        self.rounds = op.start is not None
        self.per_row = [o for o in self.inputs if not o.is_row]
        self.splat = [o for o in self.per_row if o.name in entries]
        self.label = any(o.name == "label" for o in self.per_row)
        self.at_label = [n for n in self.rows if f"{n}_label" in asked or "drop" in asked]
        # Row operands that each pass reads. A weight is made of the key.
        self.in_sums = self.of(self.terms, "e" in self.terms)
        self.in_apply = self.of(self.apply, "e" in self.apply)
        self.in_apply_kept = self.of(self.apply, "e" in self.apply and not self.keep)

    def of(self, names: tuple[str, ...], weight: bool) -> list[str]:
        return [n for n in self.rows if n in names or (weight and n == self.key)]

    def position(self, name: str) -> int:
        """The slot of an operand."""
        return [o.name for o in (*self.inputs, *self.results)].index(name)


class RowCode(Code):
    """A task on rows, while it is written."""

    def __init__(self, form: Form, module: ir.Module, symbol: str) -> None:
        super().__init__(module, symbol, 3)
        self.form, self.op, self.dtype, self.general = form, form.op, form.dtype, form.general
        self.stored = form.dtype  # of the entries that the passes read and write
        self.precise = module.globals.get(symbol.rpartition("_")[0] + "_precise")
        self.need = Needs(form)
        self.outs = [o.name for o in self.need.results if o.is_row]
        _, _, self.computing, self.item_size = STORED[form.dtype]
        if form.precise:
            self.computing = "float64"
        self.real = FLOAT[self.computing]
        self.size = 4 if self.computing == "float32" else 8
        self.lanes = VECTOR_BYTES // self.size
        self.parts = LANES // self.lanes
        self.chunk = FOLD[self.computing]  # entries between two folds
        self.entries = Vectors(self.builder, self.computing, self.lanes, self.entry)
        self.group = Vectors(self.builder, "float64", GROUP)
        self.some = Vectors(self.builder, self.computing, GROUP)
        self.double = Vectors(self.builder, "float64", 1)
        self.job = self.pointer(self.arguments[0])
        self.start, self.stop = self.arguments[1:]
        self.length = self.slot(self.job, R_LENGTH)
        count = range(len(self.need.inputs) + len(self.need.results))
        self.base = [self.slot(self.job, R_POINTERS + k) for k in count]
        self.outer = [self.slot(self.job, R_OUTER + k) for k in count]
        self.inner = [self.slot(self.job, R_INNER + k) for k in count]
        self.batch = BATCH
        self.arrays: dict[str, Any] = {}

    # One value per row of a batch

    def array(self, name: str) -> Any:
        """An array of `batch` words, zero at first: no lane of a vector is ever garbage."""
        if name not in self.arrays:
            kind = ir.ArrayType(WORD, self.batch)
            place = self.area(8 * self.batch)
            ir.IRBuilder(self.entry).store(ir.Constant(kind, None), place)
            self.arrays[name] = place
        return self.arrays[name]

    def put(self, name: str, b: Any, value: Any) -> None:
        size = 4 if value.type == FLOAT["float32"] else 8
        self.builder.store(value, self.item(self.array(name), b, size))

    def take(self, name: str, b: Any, kind: Any = None) -> Any:
        kind = kind or DOUBLE
        size = 4 if kind == FLOAT["float32"] else 8
        return self.builder.load(self.item(self.array(name), b, size), typ=kind)

    # Scalars

    def wide(self, value: Any) -> Any:
        """A value of the computing dtype as a float64."""
        return value if value.type == DOUBLE else self.builder.fpext(value, DOUBLE)

    def close(self, value: Any) -> Any:
        """A float64 rounded to the computing dtype."""
        return value if value.type == self.real else self.builder.fptrunc(value, self.real)

    def number(self, value: float) -> Any:
        return ir.Constant(self.real, value)

    def scalar(self, vectors: Vectors, source: Scalar, *args: Any) -> list[Any]:
        """Call a scalar source on scalars."""
        return [
            self.builder.extract_element(r, ir.Constant(ir.IntType(32), 0))
            for r in vectors.call(source, [vectors.splat(a) for a in args])
        ]

    def bit(self, value: bool) -> Any:
        return ir.Constant(BIT, int(value))

    # Operands

    def size_of(self, name: str) -> int:
        """Bytes per entry of a row operand."""
        return 1 if name == MASK.name else self.item_size

    def direct(self, name: str) -> Any:
        """Whether the rows of an operand can be used where they lie."""
        inner = self.inner[self.need.position(name)]
        return self.builder.icmp_signed("==", inner, word(self.size_of(name)))

    def all(self, conditions: list[Any]) -> Any:
        result = self.bit(True)
        for condition in conditions:
            result = self.builder.and_(result, condition)
        return result

    def address(self, name: str, row: Any, index: Any = None) -> Any:
        """Where an entry of an operand, or its value for a row, lies."""
        b, k = self.builder, self.need.position(name)
        place = b.add(self.base[k], b.mul(row, self.outer[k]))
        if index is not None:
            place = b.add(place, b.mul(index, self.inner[k]))
        return self.pointer(place)

    def element(self, name: str, row: Any, index: Any) -> Any:
        """One entry of a row operand as float64."""
        value = self.load(self.dtype, self.address(name, row, index), 1)
        return self.wide(self.builder.extract_element(value, ir.Constant(ir.IntType(32), 0)))

    def row_value(self, operand: Operand, row: Any) -> Any:
        """What an operand with one value per row says: an integer or a float64."""
        place = self.address(operand.name, row)
        if operand.dtype == "int64":
            return self.builder.load(place, typ=WORD)
        value = self.load(operand.dtype or self.dtype, place, 1)
        return self.wide(self.builder.extract_element(value, ir.Constant(ir.IntType(32), 0)))

    # Steps for all rows of a batch

    def start_rows(self, b: Any) -> None:
        """What follows from the maxima of GROUP rows of the batch: the scales of their weights."""
        code, some = self.builder, self.some
        kind, wide = some.type, self.group.type

        def put(name: str, values: Any) -> None:
            size = 4 if values.type == kind and self.size == 4 else 8
            code.store(values, self.item(self.array(name), b, size), align=size)

        def column(name: str, kind: Any, size: int) -> Any:
            return code.load(self.item(self.array(name), b, size), typ=kind, align=size)

        def widened(values: Any) -> Any:
            return values if kind == wide else code.fpext(values, wide)

        def rounded(values: Any) -> Any:
            return values if kind == wide else code.fptrunc(values, kind)

        zero = some.constant(0.0)
        m = column("key", kind, self.size) if self.need.top else zero
        none = code.fcmp_ordered("==", m, some.constant(-INF))
        true = widened(m)
        if self.need.scaled:
            scale = column("scale", wide, 8)
            true = code.fmul(true, scale)
            high = rounded(scale)
            put("high", high)
            put("tail", rounded(code.fsub(scale, widened(high))))
        special = code.fcmp_ordered("==", m, some.constant(INF))
        put("m", true)
        put("special", code.zext(special, ir.VectorType(WORD, GROUP)))
        put("entry", code.select(code.or_(special, none), zero, m))

    def finish_rows(self, b: Any) -> list[Any]:
        """The constants of the GROUP rows of the batch from b on, into their arrays."""
        code, op, kind = self.builder, self.op, self.group.type

        def column(name: str) -> Any:
            return code.load(self.item(self.array(name), b, 8), typ=kind, align=8)

        def called(source: Any, *names: str) -> Callable[[], Any]:
            return lambda: self.group.call(source, [column(n) for n in names])[0]

        names: dict[str, Any] = {
            "m": lambda: column("m"),
            "drop": called(below, "m", f"{self.need.key}_label"),
            "unit": self.group.constant(by_dtype(UNIT, self.computing)),
            "empty": self.group.splat(code.bitcast(self.slot(self.job, R_EMPTY), DOUBLE)),
            SCALE.name: self.group.constant(1.0),
        }
        if self.need.rounds:
            names["c"] = self.widened_column("c", b)
        own = [f"s{j}" for j in range(self.need.sums)]
        own += [o.name for o in self.need.per_row if o.dtype != "int64"]
        own += [f"{n}_label" for n in self.need.at_label]
        names |= {name: (lambda name=name: column(name)) for name in own}
        if op.quick and self.computing == "float32":
            constants = self.some.bind(op.finish, {n: self.rounded(v) for n, v in names.items()})
        else:
            constants = self.group.bind(op.finish, names)
            names |= {f"c{j}": c for j, c in enumerate(constants)}
        kept = [
            c if c.type == self.some.type else code.fptrunc(c, self.some.type) for c in constants
        ]
        for j, c in enumerate(kept):
            code.store(c, self.item(self.array(f"c{j}"), b, self.size), align=self.size)
            if j == 0 and self.need.rounds:
                self.raise_round(b, c)
        for name, source in (("value", op.value), ("label value", op.label_value)):
            if source is not None:
                (value,) = self.group.bind(source, names)
                code.store(value, self.item(self.array(name), b, 8), align=8)
        return kept

    def rounded(self, value: Any) -> Callable[[], Any]:
        """A float64 value of GROUP rows, or what makes it, as one that makes it float32."""
        return lambda: self.builder.fptrunc(value() if callable(value) else value, self.some.type)

    # Rounds: an op with a `start` is reduced again until its c0 rises no more

    def raise_round(self, b: Any, c: Any) -> None:
        """Make c0 the next c of GROUP rows, and note which of them have moved."""
        place = self.item(self.array("c"), b, self.size)
        old = self.builder.load(place, typ=self.some.type, align=self.size)
        moving = self.builder.fcmp_ordered(">", c, old)
        self.builder.store(c, place, align=self.size)
        flags = self.builder.zext(moving, ir.VectorType(WORD, GROUP))
        self.builder.store(flags, self.item(self.array("moving"), b, 8), align=8)

    def widened_column(self, name: str, b: Any) -> Any:
        """Values of GROUP rows, of the computing dtype, as float64."""
        place = self.item(self.array(name), b, self.size)
        values = self.builder.load(place, typ=self.some.type, align=self.size)
        kind = self.group.type
        return values if values.type == kind else self.builder.fpext(values, kind)

    def begin_rounds(self, rows: Any) -> None:
        """The first c of the rows of a batch."""
        assert self.op.start is not None
        with self.loop(word(0), rows, word(1)) as i:
            self.put("c", i, self.number(self.op.start))
            self.put("moving", i, word(1))

    def any_moving(self, rows: Any) -> Any:
        """Whether some row of the batch needs another round."""
        kind = ir.VectorType(WORD, GROUP)
        found = self.variable(ir.Constant(kind, None))
        with self.loop(word(0), rows, word(GROUP)) as i:
            flags = self.builder.load(self.item(self.array("moving"), i, 8), typ=kind, align=8)
            self.builder.store(self.builder.or_(self.get(found, kind), flags), found)
        flag = self.fold(self.get(found, kind), self.builder.or_)
        return self.builder.icmp_unsigned("!=", flag, word(0))

    # Values of one row

    def take_labelled(self, b: Any, row: Any) -> None:
        """The entries that the label names."""
        label = self.take("label", b, WORD)
        with self.when(self.builder.icmp_signed(">=", label, word(0))):
            for name in self.need.at_label:
                self.put(f"{name}_label", b, self.element(name, row, label))

    def write_values(self, b: Any, row: Any) -> None:
        """The output with one value per row."""
        (result,) = [o for o in self.need.results if not o.is_row]
        value = self.take("value", b)
        if self.need.label:
            ignored = self.builder.icmp_signed("<", self.take("label", b, WORD), word(0))
            value = self.builder.select(ignored, ir.Constant(DOUBLE, 0.0), value)
        self.write_scalar(value, result.dtype or self.dtype, self.address("value", row))
        if self.form.has_precise:
            # Where the maximum and the logarithm cancel, float32 is not enough.
            small = self.builder.fcmp_ordered(
                "<",
                intrinsic(self.builder, "llvm.fabs.f64", DOUBLE, [value]),
                ir.Constant(DOUBLE, 1.0),
            )
            with self.when(small):
                self.call_precise(row, self.builder.add(row, word(1)))

    def precise_if_narrow(self) -> Any:
        """Where the task is to stop: at once if short rows have been computed in float64."""
        if not self.form.has_precise:
            return self.stop
        narrow = self.builder.icmp_signed("<=", self.length, word(NARROW))
        with self.when(narrow):
            self.call_precise(self.start, self.stop)
        return self.builder.select(narrow, self.start, self.stop)

    def call_precise(self, start: Any, stop: Any) -> None:
        """Compute rows again in float64."""
        self.builder.call(self.precise, [self.arguments[0], start, stop])

    def write_scalar(self, value: Any, dtype: str, place: Any) -> None:
        self.store(dtype, splat(value, 1, self.builder), place)

    def write_labelled(self, b: Any, row: Any, first: Any, count: Any) -> None:
        """The entry of the output that the label names, if it lies in this part of the row."""
        code, label = self.builder, self.take("label", b, WORD)
        inside = code.and_(
            code.icmp_signed(">=", label, first),
            code.icmp_signed("<", label, code.add(first, count)),
        )
        with self.when(inside):
            place = self.labelled_place(b, row, label)
            self.write_scalar(self.take("label value", b), self.dtype, place)

    def labelled_place(self, b: Any, row: Any, label: Any) -> Any:
        return self.address(self.outs[0], row, label)

    # Vectors of entries

    def fill_bits(self, name: str) -> int:
        """The bit pattern of what stands for a missing entry: -inf in the key, elsewhere 0."""
        if name != self.need.key or not self.need.top:
            return 0
        sign = 0 if self.op.negate else 1 << (8 * STORED[self.stored][3] - 1)
        return INFINITY_BITS[self.stored] | sign

    def read(self, name: str, place: Any, mask: Any) -> Any:
        """A vector of a row operand; where the mask fails, what `fill_bits` says."""
        fill, bits = None, self.fill_bits(name)
        if mask is not None and bits:
            memory, _, _, size = STORED[self.stored]
            integers = ir.VectorType(ir.IntType(8 * size), self.lanes)
            pattern = ir.Constant(integers, [bits] * self.lanes)
            fill = self.builder.bitcast(pattern, ir.VectorType(memory, self.lanes))
        value = self.computed(self.load(self.stored, place, self.lanes, mask, fill))
        negated = name == self.need.key and self.op.negate
        return self.builder.fneg(value) if negated else value

    def computed(self, value: Any) -> Any:
        """A vector of float32 or of the computing dtype as one of the computing dtype."""
        kind = ir.VectorType(self.real, value.type.count)
        return value if value.type == kind else self.builder.fpext(value, kind)

    def weight(self, key: Any, row: dict[str, Any]) -> Any:
        args = [key, row["m"]]
        if self.need.scaled:
            more = [row["high"], row["tail"]]
            return self.entries.call(scaled_weight, args + more)[0]
        return self.entries.call(weight, args)[0]

    def larger_of(self, a: Any, b: Any) -> Any:
        """The larger; b if a is nan."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def combined(self, totals: list[Any]) -> list[Any]:
        """Totals added up, halves upon halves."""
        while len(totals) > 1:
            half = len(totals) // 2
            pairs = zip(totals[:half], totals[half:], strict=True)
            totals = [self.added(a, b) for a, b in pairs]
        return list(totals[0])

    def added(self, a: Any, b: Any) -> list[Any]:
        """The sum of two totals: [high, low], of which low is the error of float64 entries.

        Sums of float32 entries are exact enough in float64 alone: their low is None.
        """
        if self.computing == "float32":
            return [self.builder.fadd(a[0], b[0]), None]
        vectors = Vectors(self.builder, "float64", a[0].type.count)
        high, low = vectors.call(two_sum, [a[0], b[0]])
        for part in (a[1], b[1]):
            low = low if part is None else self.builder.fadd(part, low)
        return [high, low]

    def single_of(self, total: list[Any]) -> Any:
        """A total as one vector."""
        return total[0] if total[1] is None else self.builder.fadd(*total)

    def stored_total(self, places: tuple[Any, Any]) -> list[Any]:
        low = self.get(places[1], self.group.type) if self.computing == "float64" else None
        return [self.get(places[0], self.group.type), low]

    def add_to_total(self, places: tuple[Any, Any], pieces: list[Any], fresh: Any = None) -> None:
        """Add vectors of float64, halves upon halves, to a total in memory, 0 if it is `fresh`."""
        value = self.combined([(piece, None) for piece in pieces])
        total = self.stored_total(places)
        if fresh is not None:
            none = self.group.constant(0.0)
            total = [t if t is None else self.builder.select(fresh, none, t) for t in total]
        for place, part in zip(places, self.added(total, value), strict=True):
            if part is not None:
                self.builder.store(part, place)
