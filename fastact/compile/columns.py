"""Row ops -> compiled tasks on rows that lie across memory, and on rows of a few entries.

A vector holds the same entry of neighbouring rows. Entry r goes into the chain that it would go
into in a contiguous row, and chains are folded in the same order: the same bits.

`columns` reads where rows are neighbours in memory (axis 0 of a matrix): several vectors side by
side, one entry of each after the other, so that whole stretches of memory are used. `narrow` takes
rows that are too short to fill vectors of their own: along a row of 2, 30 of 32 lanes would
be idle. They are gathered, or, where they are contiguous and a power of two long, transposed
in registers, which costs a quarter of that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

from llvmlite import ir

from fastact.compile.abi import GROUP, LANES, NARROW, R_ROWS
from fastact.compile.rowcode import INF, RowCode
from fastact.compile.strips import HALF_WORD, POINTER, STORED, VECTOR_BYTES, WORD, word
from fastact.compile.vectors import FLOAT, intrinsic
from fastact.rowwise.record import Form

SIDE_BY_SIDE = 8  # vectors
# A tile whose entries stay in the second-level cache from the first pass to the last.
TILE_BYTES = 1 << 19
DOUBLE_BYTES = 8
AHEAD = 4  # entries
MAXIMA = 4  # chains of maxima of entries in registers
UNROLLED = (2, 4, 8, 16)  # lengths of rows whose entries are all in registers at once
TRANSPOSED = (2, 4, 8, 16)  # lengths of contiguous rows that are transposed in registers


class TileCode(RowCode):
    """The passes over a tile: vectors of rows, every one of which has its own constants."""

    def __init__(self, form: Form, module: ir.Module, symbol: str, vectors: int) -> None:
        super().__init__(form, module, symbol)
        self.batch = vectors * self.lanes
        self.doubles = ir.VectorType(FLOAT["float64"], self.lanes)
        self.pieces = self.lanes // GROUP
        size = vectors * GROUP * self.lanes * DOUBLE_BYTES
        self.totals = [(self.area(size), self.area(size)) for _ in range(self.need.sums)]
        self.pitch = vectors * VECTOR_BYTES
        self.chains = [self.area(LANES * self.pitch) for _ in range(self.need.sums)]
        self.largest = self.area(2 * self.pitch)
        self.bases: dict[str, Any] = {}
        self.pitches: dict[str, Any] = {}
        self.kept: Any = None  # whether exponentials are kept from the sums on
        self.entry_size = self.item_size

    # Where the entries are

    def entry_at(self, name: str, r: Any, v: Any) -> Any:
        """The address of entry r of vector v of rows."""
        b = self.builder
        offset = b.mul(v, word(self.lanes * (self.size if name == "e" else self.entry_size)))
        return self.at(self.bases[name], b.add(b.mul(r, self.pitches[name]), offset))

    def vector_place(self, name: str, v: Any, size: int) -> Any:
        return self.item(self.array(name), self.builder.mul(v, word(self.lanes)), size)

    def vector(self, name: str, v: Any) -> Any:
        """The values of vector v's rows, of the computing dtype."""
        place = self.vector_place(name, v, self.size)
        return self.builder.load(place, typ=self.entries.type, align=self.size)

    def constants_at(self, v: Any, names: tuple[str, ...]) -> dict[str, Any]:
        """The constants of vector v's rows by name."""
        kinds = {"m": "entry", "c": "c"}
        found = {n: self.vector(a, v) for n, a in kinds.items() if a in self.arrays}
        found |= {o.name: self.vector(f"close {o.name}", v) for o in self.need.splat}
        for j in range(self.need.constants):
            if f"c{j}" in names:
                found[f"c{j}"] = self.vector(f"c{j}", v)
        return found

    # Passes

    def sweep(
        self,
        names: list[str],
        first: Any,
        stop: Any,
        rows: Any,
        body: Callable[[Any, Any, Any], None],
    ) -> None:
        """body(r, v, mask) for the entries first to stop: of all vectors, then the next entry.

        The operands of these names are fetched AHEAD entries before they are needed.
        """
        b = self.builder
        full = b.sdiv(rows, word(self.lanes))
        rest = b.sub(rows, b.mul(full, word(self.lanes)))
        with self.loop(first, stop, word(1)) as r:
            with self.loop(word(0), full, word(1)) as v:
                self.soon(names, r, v)
                body(r, v, None)
            with self.when(b.icmp_signed("!=", rest, word(0))):
                body(r, full, self.mask(rest, self.lanes))

    def soon(self, names: list[str], r: Any, v: Any) -> None:
        """Fetch what is needed AHEAD entries later."""
        for name in names:
            place = self.entry_at(name, self.builder.add(r, word(AHEAD)), v)
            self.prefetch(place, write=name in self.outs)

    def maxima(self, count: Any, vectors: Any, rows: Any) -> None:
        """The largest key of every row, into the array "key".

        The maxima so far are read from one of two places and written to the other: a select
        between two places becomes a maximum, but one that keeps what is there becomes a masked
        store, from which the next load cannot be forwarded.
        """
        b, kind = self.builder, self.entries.type

        def place(r: Any, v: Any) -> Any:
            offset = b.mul(b.and_(r, word(1)), word(self.pitch))
            return self.at(self.largest, b.add(offset, b.mul(v, word(VECTOR_BYTES))))

        with self.loop(word(0), vectors, word(1)) as v:
            b.store(self.entries.constant(-INF), place(word(0), v))

        def raise_to(r: Any, v: Any, mask: Any) -> None:
            value = self.read(self.need.key, self.entry_at(self.need.key, r, v), mask)
            b.store(
                self.larger_of(value, b.load(place(r, v), typ=kind)), place(b.add(r, word(1)), v)
            )

        self.sweep([self.need.key], word(0), count, rows, raise_to)
        with self.loop(word(0), vectors, word(1)) as v:
            found = b.load(place(count, v), typ=kind)
            b.store(found, self.vector_place("key", v, self.size), align=self.size)

    def terms(self, r: Any, v: Any, mask: Any, constants: dict[str, Any]) -> list[Any]:
        """The terms of entry r of vector v; its exponential is kept if it is needed again."""
        names = {n: self.read(n, self.entry_at(n, r, v), mask) for n in self.need.in_sums}
        if "e" in self.need.terms:
            names["e"] = self.weight(names[self.need.key], constants)
            if self.need.keep:
                with self.when(self.kept):
                    self.store(self.computing, names["e"], self.entry_at("e", r, v), mask)
        return self.entries.bind(self.op.terms, names | constants)

    def sums(self, count: Any, vectors: Any, rows: Any) -> None:
        """The sums of every row, into the arrays s0, s1, ..."""
        b, need, none = self.builder, self.need, self.group.constant(0.0)
        few = b.icmp_signed("<", count, word(GROUP))  # `fold_chains` leaves lanes out
        cleared = b.select(few, b.mul(vectors, word(GROUP)), word(0))
        with self.loop(word(0), cleared, word(1)) as j:
            for s, k in product(range(need.sums), range(self.pieces)):
                high, low = self.lane_places(s, word(0), j, k)
                b.store(none, high)
                if self.computing == "float64":
                    b.store(none, low)
        zero, kind = self.entries.constant(0.0), self.entries.type
        full = b.sdiv(rows, word(self.lanes))
        rest = b.sub(rows, b.mul(full, word(self.lanes)))

        def add(r0: Any, stop: Any, v: Any, mask: Any) -> None:
            """The chain that entry r0 begins: in registers, for all entries of a chunk.

            Entry after entry, each with a chain to be loaded and stored, log_softmax of 128
            columns of 128 entries takes 0.57 ns an entry; so it takes 0.53.
            """
            constants = self.constants_at(v, need.terms)
            sums = [self.variable(zero) for _ in range(need.sums)]
            with self.loop(r0, stop, word(LANES)) as r:
                self.soon(need.in_sums, r, v)
                for place, x in zip(sums, self.terms(r, v, mask, constants), strict=True):
                    b.store(b.fadd(self.get(place, kind), x), place)
            for s, place in enumerate(sums):
                chain = self.chain(s, b.and_(r0, word(LANES - 1)), v)
                b.store(self.get(place, kind), chain, align=self.size)

        with self.loop(word(0), count, word(self.chunk)) as first:
            stop = self.smaller(count, b.add(first, word(self.chunk)))
            entries = b.sub(stop, first)
            used = b.and_(b.add(entries, word(GROUP - 1)), word(-GROUP))
            # As many chains as are folded below.
            chains = b.select(b.icmp_signed(">", used, word(2 * GROUP)), word(LANES), used)
            with (
                self.loop(entries, chains, word(1)) as j,
                self.loop(word(0), vectors, word(1)) as v,
            ):
                for s in range(need.sums):
                    b.store(zero, self.chain(s, j, v), align=self.size)
            begun = self.smaller(stop, b.add(first, word(LANES)))
            with self.loop(first, begun, word(1)) as r0:
                with self.loop(word(0), full, word(1)) as v:
                    add(r0, stop, v, None)
                with self.when(b.icmp_signed("!=", rest, word(0))):
                    add(r0, stop, full, self.mask(rest, self.lanes))
            many = b.icmp_signed(">", used, word(2 * GROUP))
            lanes = self.smaller(word(GROUP), entries)
            with b.if_else(many) as (then, otherwise):
                with then:
                    self.fold_chains(first, lanes, vectors, LANES // GROUP)
                with otherwise, b.if_else(b.icmp_signed(">", used, word(GROUP))) as (two, one):
                    with two:
                        self.fold_chains(first, lanes, vectors, 2)
                    with one:
                        self.fold_chains(first, lanes, vectors, 1)
        with self.loop(word(0), vectors, word(1)) as v:
            for s, k in product(range(need.sums), range(self.pieces)):
                places = [self.lane_places(s, v, word(j), k) for j in range(GROUP)]
                total = self.combined([self.stored_total(p) for p in places])
                index = b.add(b.mul(v, word(self.lanes)), word(k * GROUP))
                target = self.item(self.array(f"s{s}"), index, DOUBLE_BYTES)
                b.store(self.single_of(total), target, align=8)

    def chain(self, s: int, j: Any, v: Any) -> Any:
        """Where chain j of sum s of vector v's rows is."""
        b = self.builder
        offset = b.add(b.mul(j, word(self.pitch)), b.mul(v, word(VECTOR_BYTES)))
        return self.at(self.chains[s], offset)

    def fold_chains(self, first: Any, lanes: Any, vectors: Any, count: int) -> None:
        """Add chains j, j + GROUP, ... to lane j of the totals; chains beyond `count` are 0.

        Before the first entry of a row there is nothing in the totals.
        """
        b = self.builder
        fresh = b.icmp_signed("==", first, word(0))
        with self.loop(word(0), vectors, word(1)) as v, self.loop(word(0), lanes, word(1)) as j:
            for s in range(self.need.sums):
                places = [self.chain(s, b.add(j, word(c * GROUP)), v) for c in range(count)]
                found = [
                    self.halves(b.load(p, typ=self.entries.type, align=self.size)) for p in places
                ]
                for k, pieces in enumerate(zip(*found, strict=True)):
                    self.add_to_total(self.lane_places(s, v, j, k), list(pieces), fresh)

    def lane_places(self, s: int, v: Any, j: Any, piece: int) -> tuple[Any, Any]:
        """Lane j of sum s of vector v's rows: where the total and its error are."""
        b = self.builder
        index = b.add(b.mul(b.add(b.mul(v, word(GROUP)), j), word(self.lanes)), word(piece * GROUP))
        high, low = (self.item(total, index, DOUBLE_BYTES) for total in self.totals[s])
        return high, low

    def apply(self, count: Any, vectors: Any, rows: Any) -> None:
        """The outputs along the rows."""
        b, need = self.builder, self.need

        def entries(names: list[str], kept: bool, r: Any, v: Any, mask: Any) -> None:
            constants = self.constants_at(v, need.apply)
            values = {n: self.read(n, self.entry_at(n, r, v), mask) for n in names}
            if kept:
                place = self.entry_at("e", r, v)
                values["e"] = self.load(self.computing, place, self.lanes, mask)
            elif "e" in need.apply:
                values["e"] = self.weight(values[need.key], constants)
            results = self.entries.bind(self.op.apply, values | constants)
            for name, value in zip(self.outs, results, strict=True):
                self.store(self.stored, value, self.entry_at(name, r, v), mask)

        def write(names: list[str], kept: bool) -> None:
            self.sweep([*names, *self.outs], word(0), count, rows, partial(entries, names, kept))

        if need.keep:
            with b.if_else(self.kept) as (then, otherwise):
                with then:
                    write(need.in_apply_kept, True)
                with otherwise:
                    write(need.in_apply, False)
        else:
            write(need.in_apply, False)

    # A vector of rows of a length that is known when the code is made

    @property
    def fits_registers(self) -> bool:
        """Whether the op is one that `in_registers` can do."""
        return not (self.need.per_row or self.need.rounds or self.op.value)

    def in_registers(
        self,
        first: Any,
        entries: dict[str, list[Any]],
        write: Callable[[str, list[Any]], None],
    ) -> None:
        """Everything for the `lanes` rows from `first` on, whose entries are at hand.

        The steps are those of `tile`, but nothing waits for what has just been stored. Softmax of
        16 Ki float32 in rows of 16, in cache: 0.58 ns an entry, 1.05 by `tile`.
        """
        b, need = self.builder, self.need
        groups = [word(k * GROUP) for k in range(self.pieces)]
        odd = self.bit(False)
        if need.top:
            largest = self.largest_of(entries[need.key])
            b.store(largest, self.vector_place("key", word(0), self.size), align=self.size)
            infinite = b.fcmp_ordered("==", largest, self.entries.constant(INF))
            flags = b.bitcast(infinite, ir.IntType(self.lanes))
            odd = b.icmp_unsigned("!=", flags, ir.Constant(flags.type, 0))
        with b.if_else(odd, likely=False) as (then, otherwise):
            with then:
                end = b.add(first, word(self.lanes))
                self.call(self.slot(self.job, R_ROWS), [self.arguments[0], first, end])
            with otherwise:
                if need.weight or need.top:
                    for group in groups:
                        self.start_rows(group)
                constants = {}
                if need.top:
                    none = b.fcmp_ordered("==", largest, self.entries.constant(-INF))
                    constants["m"] = b.select(none, self.entries.constant(0.0), largest)
                elif need.weight:
                    constants["m"] = self.entries.constant(0.0)
                by_name = zip(*entries.values(), strict=True)
                by_entry = [dict(zip(entries, v, strict=True)) for v in by_name]
                if "e" in need.terms:
                    for names in by_entry:
                        names["e"] = self.weight(names[need.key], constants)
                if need.sums:
                    terms = [self.entries.bind(self.op.terms, n | constants) for n in by_entry]
                    for s, values in enumerate(zip(*terms, strict=True)):
                        self.put_sum(s, list(values))
                # Not from the arrays: what has been stored in halves cannot be loaded at once yet.
                found = zip(*(self.finish_rows(group) for group in groups), strict=True)
                constants |= {f"c{j}": self.joined(list(c)) for j, c in enumerate(found)}
                if "e" in need.apply and not need.keep:
                    for names in by_entry:
                        names["e"] = self.weight(names[need.key], constants)
                results = [self.entries.bind(self.op.apply, n | constants) for n in by_entry]
                for name, values in zip(self.outs, zip(*results, strict=True), strict=True):
                    write(name, list(values))

    def largest_of(self, values: list[Any]) -> Any:
        """The largest of entries, none of which shows if it is nan."""
        none = self.entries.constant(-INF)
        chains = [self.larger_of(v, none) for v in values[:MAXIMA]]
        for k, value in enumerate(values[MAXIMA:]):
            chains[k % MAXIMA] = self.larger_of(value, chains[k % MAXIMA])
        while len(chains) > 1:
            half = (len(chains) + 1) // 2
            pairs = zip(chains[:half], chains[half:], strict=False)
            chains = [self.larger_of(a, c) for a, c in pairs] + chains[len(chains) // 2 : half]
        return chains[0]

    def put_sum(self, s: int, values: list[Any]) -> None:
        """Sum s of the terms of all entries, into its array: in the order of `sums`."""
        b, zero = self.builder, self.group.constant(0.0)
        pieces = [self.halves(v) for v in values]
        for k in range(self.pieces):
            lanes: list[Any] = []
            for j in range(min(GROUP, len(values))):
                high, low = self.combined([(p[k], None) for p in pieces[j::GROUP]])
                lanes.append([b.fadd(zero, high), low])
            while len(lanes) > 1:
                half = GROUP // 2
                while half >= len(lanes):
                    half //= 2
                pairs = zip(lanes[:half], lanes[half:], strict=False)
                alone = lanes[len(lanes) - half : half]
                lanes = [self.added(a, c) for a, c in pairs] + alone
            target = self.item(self.array(f"s{s}"), word(k * GROUP), DOUBLE_BYTES)
            b.store(self.single_of(lanes[0]), target, align=8)

    # A whole tile

    def tile(self, first: Any, rows: Any, count: Any, vectors: Any) -> None:
        """Everything for the rows first to first + rows, whose entries have been located."""
        b, need = self.builder, self.need
        if need.per_row:
            with self.loop(word(0), rows, word(1)) as i:
                for operand in need.per_row:
                    value = self.row_value(operand, b.add(first, i))
                    self.put(operand.name, i, value)
                    if operand in need.splat:
                        self.put(f"close {operand.name}", i, self.close(value))
                if need.label:
                    self.take_labelled(i, b.add(first, i))
        if need.top:
            self.maxima(count, vectors, rows)
        special = self.variable(ir.Constant(ir.VectorType(WORD, GROUP), None))
        padded = b.mul(vectors, word(self.lanes))
        if need.weight or need.top:
            with self.loop(word(0), padded, word(GROUP)) as i:
                self.start_rows(i)
                kind = ir.VectorType(WORD, GROUP)
                found = b.load(self.item(self.array("special"), i, 8), typ=kind, align=8)
                b.store(b.or_(self.get(special, kind), found), special)
        flags = self.get(special, ir.VectorType(WORD, GROUP))
        odd = b.icmp_unsigned("!=", self.fold(flags, b.or_), word(0))
        with b.if_else(odd) as (then, otherwise):
            with then:  # a maximum that is infinite: one row at a time
                job = self.arguments[0]
                self.call(self.slot(self.job, R_ROWS), [job, first, b.add(first, rows)])
            with otherwise:
                if need.rounds:
                    self.begin_rounds(rows)
                    with self.repeat() as again:
                        self.sums(count, vectors, rows)
                        with self.loop(word(0), padded, word(GROUP)) as i:
                            self.finish_rows(i)
                        again.append(self.any_moving(rows))
                else:
                    if need.sums:
                        self.sums(count, vectors, rows)
                    with self.loop(word(0), padded, word(GROUP)) as i:
                        self.finish_rows(i)
                self.results(first, rows, count, vectors)

    def results(self, first: Any, rows: Any, count: Any, vectors: Any) -> None:
        b, op = self.builder, self.op
        if op.apply:
            self.apply(count, vectors, rows)
            self.deliver(first, rows, count)
        if op.value or op.label_value:
            with self.loop(word(0), rows, word(1)) as i:
                row = b.add(first, i)
                if op.value:
                    self.write_values(i, row)
                if op.label_value:
                    self.write_labelled(i, row, word(0), count)
                    self.clear_ignored(i, row, count)

    def clear_ignored(self, i: Any, row: Any, count: Any) -> None:
        """Zeros in a row that has no label."""
        ignored = self.builder.icmp_signed("<", self.take("label", i, WORD), word(0))
        zero = ir.Constant(STORED[self.dtype][0], 0)
        with self.when(ignored), self.loop(word(0), count, word(1)) as r:
            self.builder.store(zero, self.address(self.outs[0], row, r))

    def deliver(self, first: Any, rows: Any, count: Any) -> None:
        """Bring results to where they belong, if they are not there yet."""


class ColumnsCode(TileCode):
    """Rows that are neighbours in memory."""

    def few_entries(self, stop: Any) -> Any:
        """Do the rows of some lengths in registers, and say with which row to go on."""
        b = self.builder
        following = self.variable(self.start)
        if self.fits_registers:
            whole = b.sub(stop, b.srem(b.sub(stop, self.start), word(self.lanes)))
            for n in UNROLLED:
                with self.when(b.icmp_signed("==", self.length, word(n))):
                    with self.loop(self.start, whole, word(self.lanes)) as first:
                        entries = {
                            name: [self.read(name, p, None) for p in self.across(name, first, n)]
                            for name in self.need.rows
                        }
                        self.in_registers(first, entries, partial(self.write_across, first))
                    b.store(whole, following)
        return self.get(following, WORD)

    def across(self, name: str, first: Any, n: int) -> list[Any]:
        return [self.address(name, first, word(r)) for r in range(n)]

    def write_across(self, first: Any, name: str, values: list[Any]) -> None:
        places = self.across(name, first, len(values))
        for value, place in zip(values, places, strict=True):
            self.store(self.stored, value, place)


def columns_task(form: Form, module: Any, symbol: str) -> None:
    """Rows start to stop, neighbours of which are neighbours in memory."""
    code = ColumnsCode(form, module, symbol, SIDE_BY_SIDE)
    b, need, count = code.builder, code.need, code.length
    bytes_down = b.mul(count, word(VECTOR_BYTES))
    fitting = b.sdiv(word(TILE_BYTES), code.larger(bytes_down, word(1)))
    most = word(SIDE_BY_SIDE)
    vectors = b.select(b.icmp_signed(">", fitting, word(0)), code.smaller(fitting, most), most)
    step = b.mul(vectors, word(code.lanes))
    operands = [*need.rows, *code.outs]
    code.pitches = {n: code.inner[need.position(n)] for n in operands}
    code.kept = code.bit(False)
    if need.keep and form.dtype == code.computing and need.key not in need.in_apply_kept:
        out = code.base[need.position(code.outs[0])]
        others = [code.base[need.position(n)] for n in need.in_apply_kept]
        apart = [b.icmp_signed("!=", out, other) for other in others]
        # What has left the cache is sooner computed again than read again.
        code.kept = code.all([b.icmp_signed(">", fitting, word(0)), *apart])
    stop = code.precise_if_narrow()
    start = code.few_entries(stop)
    with code.loop(start, stop, step) as first:
        rows = code.smaller(step, b.sub(stop, first))
        code.bases = {n: code.address(n, first) for n in operands}
        if code.outs:
            code.bases["e"], code.pitches["e"] = (
                code.bases[code.outs[0]],
                code.pitches[code.outs[0]],
            )
        used = b.sdiv(b.add(rows, word(code.lanes - 1)), word(code.lanes))
        code.tile(first, rows, count, used)
    code.finish()


class NarrowCode(TileCode):
    """Rows of at most NARROW entries, gathered into areas of the computing dtype."""

    def __init__(self, form: Form, module: Any, symbol: str) -> None:
        super().__init__(form, module, symbol, 1)
        self.stored = self.computing
        self.entry_size = self.size
        operands = [*self.need.rows, *self.outs, *(["e"] if self.need.keep else [])]
        self.bases = {n: self.area(NARROW * VECTOR_BYTES) for n in operands}
        self.pitches = dict.fromkeys(operands, word(VECTOR_BYTES))
        self.kept = self.bit(True)

    def places(self, name: str, first: Any, r: Any) -> Any:
        """The addresses of entry r of the rows from `first` on, as a vector."""
        b = self.builder
        kind = ir.VectorType(HALF_WORD, self.lanes)
        outer = b.trunc(self.outer[self.need.position(name)], HALF_WORD)
        one = b.insert_element(ir.Constant(kind, ir.Undefined), outer, ir.Constant(HALF_WORD, 0))
        every = b.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(kind, None))
        offsets = b.mul(every, ir.Constant(kind, list(range(self.lanes))))
        wide = b.sext(offsets, ir.VectorType(WORD, self.lanes))
        place = b.gep(self.address(name, first, r), [wide], source_etype=ir.IntType(8))
        place.type = ir.VectorType(POINTER, self.lanes)
        return place

    def transposable(self, name: str, rows: Any, count: Any, n: int) -> Any:
        """Whether the tile is whole, its rows have n entries, and follow each other."""
        code, k = self.builder, self.need.position(name)
        return self.all(
            [
                code.icmp_signed("==", count, word(n)),
                code.icmp_signed("==", rows, word(self.lanes)),
                code.icmp_signed("==", self.inner[k], word(self.item_size)),
                code.icmp_signed("==", self.outer[k], word(n * self.item_size)),
            ]
        )

    def picked(self, pair: tuple[Any, Any], lanes: list[int]) -> Any:
        kind = ir.VectorType(HALF_WORD, self.lanes)
        return self.builder.shuffle_vector(*pair, ir.Constant(kind, lanes))

    def deinterleaved(self, vectors: list[Any]) -> list[Any]:
        """Entry r of all rows in vector r, from vectors that hold row after row."""
        if len(vectors) == 1:
            return vectors
        pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
        found = [
            self.deinterleaved([self.picked(p, list(range(o, 2 * self.lanes, 2))) for p in pairs])
            for o in (0, 1)
        ]
        return [v for pair in zip(*found, strict=True) for v in pair]

    def interleaved(self, vectors: list[Any]) -> list[Any]:
        """The reverse of `deinterleaved`."""
        if len(vectors) == 1:
            return vectors
        evens, odds = self.interleaved(vectors[::2]), self.interleaved(vectors[1::2])
        order = [k + o * self.lanes for k in range(self.lanes) for o in (0, 1)]
        halves = (order[: self.lanes], order[self.lanes :])
        return [self.picked(p, half) for p in zip(evens, odds, strict=True) for half in halves]

    def row_vectors(self, name: str, first: Any, n: int) -> list[Any]:
        """The addresses of the vectors that hold the tile's rows one after the other."""
        place = self.address(name, first)
        return [self.at(place, k * self.lanes * self.item_size) for k in range(n)]

    def entry_vectors(self, name: str, n: int) -> list[Any]:
        return [self.at(self.bases[name], r * VECTOR_BYTES) for r in range(n)]

    def whole_tiles(self) -> Any:
        """Do the rows that can be transposed in registers, and say with which row to go on."""
        b = self.builder
        following = self.variable(self.start)
        if self.fits_registers:
            rest = b.srem(b.sub(self.stop, self.start), word(self.lanes))
            whole = b.sub(self.stop, rest)
            operands = [*self.need.rows, *self.outs]
            for n in UNROLLED:
                possible = [
                    self.transposable(name, word(self.lanes), self.length, n) for name in operands
                ]
                with self.when(self.all(possible)):
                    with self.loop(self.start, whole, word(self.lanes)) as first:
                        entries = {name: self.transposed(name, first, n) for name in self.need.rows}
                        self.in_registers(first, entries, partial(self.write_rows, first))
                    b.store(whole, following)
        return self.get(following, WORD)

    def transposed(self, name: str, first: Any, n: int) -> list[Any]:
        """Entry by entry of all rows of a whole tile."""
        stored = [self.load(self.dtype, p, self.lanes) for p in self.row_vectors(name, first, n)]
        entries = self.deinterleaved([self.computed(v) for v in stored])
        negated = name == self.need.key and self.op.negate
        return [self.builder.fneg(v) for v in entries] if negated else entries

    def write_rows(self, first: Any, name: str, values: list[Any]) -> None:
        places = self.row_vectors(name, first, len(values))
        for value, place in zip(self.interleaved(values), places, strict=True):
            self.store(self.dtype, value, place)

    def transpose_in(self, name: str, first: Any, n: int) -> None:
        stored = [self.load(self.dtype, p, self.lanes) for p in self.row_vectors(name, first, n)]
        entries = self.deinterleaved([self.computed(v) for v in stored])
        for value, place in zip(entries, self.entry_vectors(name, n), strict=True):
            self.builder.store(value, place)

    def transpose_out(self, name: str, first: Any, n: int) -> None:
        kind = self.entries.type
        entries = [self.builder.load(p, typ=kind) for p in self.entry_vectors(name, n)]
        places = self.row_vectors(name, first, n)
        for value, place in zip(self.interleaved(entries), places, strict=True):
            self.store(self.dtype, value, place)

    def move(
        self,
        name: str,
        first: Any,
        rows: Any,
        count: Any,
        transpose: Callable[[str, Any, int], None],
        one_by_one: Callable[[str, Any, Any, Any], None],
        lengths: tuple[int, ...] = TRANSPOSED,
    ) -> None:
        """Move the entries of an operand: transposed where that is possible."""
        if not lengths:
            one_by_one(name, first, rows, count)
            return
        n, *others = lengths
        possible = self.transposable(name, rows, count, n)
        with self.builder.if_else(possible) as (then, otherwise):
            with then:
                transpose(name, first, n)
            with otherwise:
                self.move(name, first, rows, count, transpose, one_by_one, tuple(others))

    def gather(self, first: Any, rows: Any, count: Any) -> None:
        """The entries of the rows from `first` on, entry by entry of all rows."""
        for name in self.need.rows:
            self.move(name, first, rows, count, self.transpose_in, self.gather_one)

    def deliver(self, first: Any, rows: Any, count: Any) -> None:
        for name in self.outs:
            self.move(name, first, rows, count, self.transpose_out, self.scatter_one)

    def gather_one(self, name: str, first: Any, rows: Any, count: Any) -> None:
        code, area = self.builder, self.bases[name]
        if self.item_size < 4:  # no processor gathers halves
            with (
                self.loop(word(0), rows, word(1)) as i,
                self.loop(word(0), count, word(1)) as r,
            ):
                place = self.item(self.item(area, r, VECTOR_BYTES), i, self.size)
                value = self.load(self.dtype, self.address(name, code.add(first, i), r), 1)
                self.store(self.computing, self.computed(value), place)
            return
        memory, mangled, _, _ = STORED[self.dtype]
        kind = ir.VectorType(memory, self.lanes)
        mask, none = self.mask(rows, self.lanes), ir.Constant(kind, None)
        full = f"llvm.masked.gather.v{self.lanes}{mangled}.v{self.lanes}p0"
        with self.loop(word(0), count, word(1)) as r:
            places = self.places(name, first, r)
            args = [places, ir.Constant(HALF_WORD, self.item_size), mask, none]
            value = self.computed(intrinsic(code, full, kind, args))
            code.store(value, self.item(area, r, VECTOR_BYTES))

    def scatter_one(self, name: str, first: Any, rows: Any, count: Any) -> None:
        code, area = self.builder, self.bases[name]
        if self.dtype != self.computing:
            with (
                self.loop(word(0), rows, word(1)) as i,
                self.loop(word(0), count, word(1)) as r,
            ):
                place = self.item(self.item(area, r, VECTOR_BYTES), i, self.size)
                value = self.load(self.computing, place, 1)
                self.store(self.dtype, value, self.address(name, code.add(first, i), r))
            return
        mask, mangled = self.mask(rows, self.lanes), STORED[self.dtype][1]
        full = f"llvm.masked.scatter.v{self.lanes}{mangled}.v{self.lanes}p0"
        with self.loop(word(0), count, word(1)) as r:
            value = code.load(self.item(area, r, VECTOR_BYTES), typ=self.entries.type)
            places = self.places(name, first, r)
            args = [value, places, ir.Constant(HALF_WORD, self.item_size), mask]
            intrinsic(code, full, ir.VoidType(), args)


def narrow_task(form: Form, module: Any, symbol: str) -> None:
    """Rows start to stop, of at most NARROW entries."""
    # A row this short is computed in float64 from the start if it may have to be.
    code = NarrowCode(replace(form, precise=form.has_precise), module, symbol)
    with code.loop(code.whole_tiles(), code.stop, word(code.lanes)) as first:
        rows = code.smaller(word(code.lanes), code.builder.sub(code.stop, first))
        code.gather(first, rows, code.length)
        code.tile(first, rows, code.length, word(1))
    code.finish()
