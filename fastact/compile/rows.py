"""Row ops -> compiled tasks on rows taken one by one.

A row is read in strips of LANES entries; lane j sums the entries j, j + LANES, ..., which fixes
the order of the sum whatever the vector width. Short rows are reduced in batches, so that
the constants of several rows, which need a division or a logarithm in float64, are one vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from llvmlite import ir

from fastact.compile.abi import (
    BATCH,
    CONSTANT_SLOTS,
    GROUP,
    LANES,
    PARTIAL_SLOTS,
    R_BLOCK,
    R_CONSTANTS,
    R_PARTIAL,
    R_ROW,
    R_STAGE,
    R_UNSTAGE,
    SEGMENT,
)
from fastact.compile.rowcode import (
    DOUBLE,
    INF,
    RowCode,
    block_scale,
    by_dtype,
    two_sum,
)
from fastact.compile.strips import BYTE, CACHE_LINE, HALF_WORD, POINTER, WORD, word
from fastact.rowwise.exponential import UNIT
from fastact.rowwise.record import LIMIT, MASK, Form

MAXIMA = 8  # vectors whose maxima are taken side by side: the latency of one would show
NOWHERE = ir.Constant(POINTER, None)
# Of the constants of a long row: its maximum, then c0, c1, ..., and at the end, for an op that
# goes in rounds, c and whether the maximum is known
ROUND_SLOT, FOUND_SLOT = CONSTANT_SLOTS - 2, CONSTANT_SLOTS - 1


class RowPasses(RowCode):
    """The passes over one row, which is row `b` of a batch: reduce, finish, apply."""

    def __init__(self, form: Form, module: Any, symbol: str) -> None:
        super().__init__(form, module, symbol)
        need, b = self.need, self.builder
        self.readable = [*need.rows, *([MASK.name] if self.general else [])]
        self.areas = {
            name: self.area(SEGMENT * self.size_of(name)) for name in (*self.readable, *self.outs)
        }
        self.kept = self.area(SEGMENT * self.size) if need.keep else None
        self.largest = [self.variable(self.entries.constant(-INF)) for _ in range(MAXIMA)]
        zero, none = self.entries.constant(0.0), self.group.constant(0.0)
        self.lane_sums = [
            [self.variable(zero) for _ in range(self.parts)] for _ in range(need.sums)
        ]
        self.totals = [(self.variable(none), self.variable(none)) for _ in range(need.sums)]
        self.stage_function = self.slot(self.job, R_STAGE)
        self.unstage_function = self.slot(self.job, R_UNSTAGE)
        self.in_place = self.all([self.direct(n) for n in (*self.readable, *self.outs)])
        if self.general:
            self.ones = self.area(SEGMENT)
            self.fill_bytes(self.ones, word(SEGMENT), 1)
            inner = self.inner[need.position(MASK.name)]
            self.uniform = b.icmp_signed("==", inner, word(0))
        # Exponentials of a row that is too long for the stack are kept in the output, unless it
        # is also one of the inputs that are still to be read.
        self.keeps = self.bit(False)
        if need.keep and self.dtype == self.computing and need.key not in need.in_apply_kept:
            out = self.base[need.position(self.outs[0])]
            others = [
                b.icmp_signed("!=", out, self.base[need.position(n)]) for n in need.in_apply_kept
            ]
            self.keeps = self.all([self.in_place, *others])

    def set_length(self, short: Any, padded: Any) -> None:
        """Whether rows fit the areas, and how far apart they lie there."""
        b = self.builder
        self.short, self.padded = short, padded
        whole = self.in_place
        if self.need.keep:
            whole = b.and_(whole, self.keeps)
        self.span = b.select(whole, word(1 << 62), word(SEGMENT))

    def set_batch(self, rows: Any) -> None:
        """How many rows a batch has."""

    def for_blocks(self) -> None:
        """The row is long: what is kept would be out of the cache when it is needed again."""
        self.keeps = self.bit(False)
        self.set_length(self.bit(False), word(0))

    # Where the entries are

    def place(self, b: Any, row: Any, first: Any, count: Any) -> None:
        """Find the row's entries from `first` on: in place, staged, or to be staged in spans."""
        for name in self.readable:
            where = self.variable(NOWHERE)
            usable, there = self.direct(name), self.address(name, row, first)
            if name == MASK.name:
                usable = self.builder.or_(usable, self.uniform)
            with self.builder.if_else(usable) as (then, otherwise):
                with then:
                    self.builder.store(there, where)
                with otherwise, self.when(self.short):
                    area = self.short_area(name, b)
                    self.stage(name, row, first, count, area)
                    self.builder.store(area, where)
            self.put(f"at {name}", b, self.get(where, POINTER))

    def short_area(self, name: str, b: Any) -> Any:
        return self.item(self.areas[name], self.builder.mul(b, self.padded), self.size_of(name))

    def stage(self, name: str, row: Any, index: Any, count: Any, area: Any) -> None:
        """Let the driver copy entries of a row to an area."""
        k, target = word(self.need.position(name)), self.builder.ptrtoint(area, WORD)
        size, job = word(self.size_of(name)), self.arguments[0]
        self.call(self.stage_function, [job, k, row, index, count, target, size])

    def view(self, name: str, b: Any, row: Any, index: Any, at: Any, count: Any) -> Any:
        """The address of `count` entries of a placed row from `at` on; `index` is in the row."""
        place = self.variable(NOWHERE)
        where = self.take(f"at {name}", b, POINTER)
        found = self.builder.icmp_unsigned("!=", where, NOWHERE)
        with self.builder.if_else(found) as (then, otherwise):
            with then:
                self.builder.store(self.item(where, at, self.size_of(name)), place)
            with otherwise:
                area = self.areas[name]
                self.stage(name, row, index, count, area)
                if name == self.need.key and self.need.top:
                    with self.when(self.special(b)):
                        self.recentre(area, count, self.take("key", b, self.real))
                self.builder.store(area, place)
        found = self.get(place, POINTER)
        if name == MASK.name:  # of the same value for a whole row that takes part
            found = self.builder.select(self.uniform, self.ones, found)
        return found

    def special(self, b: Any) -> Any:
        """Whether a row's key is used relative to its maximum."""
        return self.builder.icmp_signed("!=", self.take("special", b, WORD), word(0))

    def recentre(self, area: Any, count: Any, m: Any) -> None:
        """Make the staged key relative to its infinite maximum."""
        m = self.entries.splat(m)
        with self.loop(word(0), count, word(self.lanes)) as index:
            b, place = self.builder, self.item(area, index, self.item_size)
            value = self.read(self.need.key, place, None)
            if self.dtype == self.computing:
                lower = b.fsub(value, m)
            else:
                isnan = b.fcmp_unordered("uno", value, value)
                lower = b.select(isnan, value, self.entries.constant(-INF))
            value = b.select(b.fcmp_ordered("==", value, m), self.entries.constant(0.0), lower)
            self.store(self.dtype, b.fneg(value) if self.op.negate else value, place)

    @contextmanager
    def spans(self, b: Any, count: Any) -> Iterator[tuple[Any, Any]]:
        """The body that follows, for pieces of a row: (first entry, entries)."""
        span = self.builder.select(self.special(b), word(SEGMENT), self.span)
        with self.loop(word(0), count, self.smaller(span, self.larger(count, word(1)))) as at:
            yield at, self.smaller(span, self.builder.sub(count, at))

    def strips(self, count: Any, body: Callable[[Any, list[Any]], None]) -> None:
        """body(index, masks) for each strip; the masks are None but in a last, partial strip."""
        full = self.builder.and_(count, word(-LANES))
        with self.loop(word(0), full, word(LANES)) as index:
            body(index, [None] * self.parts)
        with self.when(self.builder.icmp_signed("!=", full, count)):
            body(full, self.tail(count, full))

    def tail(self, count: Any, full: Any) -> list[Any]:
        rest = self.builder.sub(count, full)
        return [self.mask(rest, self.lanes, p * self.lanes) for p in range(self.parts)]

    def index_of(self, index: Any, part: int) -> Any:
        return self.builder.add(index, word(part * self.lanes))

    # Reduce

    def maximum(self, bases: dict[str, Any], count: Any) -> None:
        """Raise the running maxima to the entries of a piece of the key."""
        b, step = self.builder, MAXIMA * self.lanes

        def raise_to(place: Any, index: Any, mask: Any) -> None:
            names, _ = self.read_all(bases, index, mask)
            value = names[self.need.key]
            b.store(self.larger_of(value, self.get(place, self.entries.type)), place)

        full = b.and_(count, word(-step))
        with self.loop(word(0), full, word(step)) as index:
            for part, place in enumerate(self.largest):
                raise_to(place, self.index_of(index, part), None)
        with self.loop(full, count, word(self.lanes)) as index:
            raise_to(self.largest[0], index, self.mask(b.sub(count, index), self.lanes))

    def begin_maximum(self) -> None:
        for place in self.largest:
            self.builder.store(self.entries.constant(-INF), place)

    def end_maximum(self) -> Any:
        value, *others = [self.get(place, self.entries.type) for place in self.largest]
        for other in others:
            value = self.larger_of(value, other)
        return self.fold(value, self.larger_of)

    def constants_of(self, b: Any, names: tuple[str, ...]) -> dict[str, Any]:
        """A row's own values in every lane, by name."""
        kinds = {"m": "entry", "high": "high", "tail": "tail", "c": "c"}
        found = {}
        for name, array in kinds.items():
            if array in self.arrays:
                found[name] = self.entries.splat(self.take(array, b, self.real))
        for operand in self.need.splat:
            found[operand.name] = self.entries.splat(self.close(self.take(operand.name, b)))
        for j in range(self.need.constants):
            if f"c{j}" in names:
                found[f"c{j}"] = self.entries.splat(self.take(f"c{j}", b, self.real))
        return found

    def views(self, names: list[str], b: Any, row: Any, index: Any, at: Any, count: Any) -> Any:
        """The addresses of pieces of the row operands of these names, and of the mask."""
        masks = [MASK.name] if self.general else []
        return {n: self.view(n, b, row, index, at, count) for n in (*names, *masks)}

    def read_all(self, bases: dict[str, Any], index: Any, mask: Any) -> tuple[Any, Any]:
        """Vectors of all operands by name, and which lanes take part (None: all)."""
        code = self.builder
        if MASK.name in bases:
            kind = ir.VectorType(BYTE, self.lanes)
            if mask is None:
                flags = code.load(self.at(bases[MASK.name], index), typ=kind, align=1)
            else:
                # The mask is as long as the row: beyond its end nothing may be read.
                flags = self.masked_bytes(self.at(bases[MASK.name], index), mask)
            mask = code.icmp_unsigned("!=", flags, ir.Constant(kind, None))
        names = {
            n: self.read(n, self.item(base, index, self.item_size), mask)
            for n, base in bases.items()
            if n != MASK.name
        }
        return names, mask

    def soon(self, step: str, bases: dict[str, Any], row: Any, index: Any) -> list[Any]:
        """What is fetched, line by line, in the step "sums" or "apply" on a piece of a row.

        It is where a short row's results will go: softmax of rows of 1024 in the second-level
        cache takes 0.34 ns an entry with it, 0.40 without.
        """
        if not self.outs or step != "sums":
            return []
        there = self.address(self.outs[0], row, index)
        return [self.builder.select(self.short, there, bases[self.need.in_sums[0]])]

    def beside(self, step: str, soon: list[Any], index: Any, part: int, mask: Any) -> None:
        """What is done beside the work on a vector."""
        if mask is None and part * self.lanes * self.item_size % CACHE_LINE == 0:
            for place in soon:
                self.prefetch(self.item(place, index, self.item_size), write=True)

    def sums(
        self, bases: dict[str, Any], count: Any, kept: Any, row: dict[str, Any], soon: list[Any]
    ) -> None:
        """Add the terms of a piece of a row to the totals, and fetch what is needed soon."""
        code = self.builder

        def add(index: Any, masks: list[Any]) -> None:
            for part, mask in enumerate(masks):
                at = self.index_of(index, part)
                self.beside("sums", soon, at, part, mask)
                names, taking = self.read_all(bases, at, mask)
                if "e" in self.need.terms:
                    names["e"] = self.weight(names[self.need.key], row)
                    if kept is not None:
                        place = self.item(kept, at, self.size)
                        self.store(self.computing, names["e"], place, mask)
                for j, value in enumerate(self.entries.bind(self.op.terms, names | row)):
                    if (mask := taking) is not None:
                        value = code.select(mask, value, self.entries.constant(0.0))
                    place = self.lane_sums[j][part]
                    code.store(code.fadd(self.get(place, value.type), value), place)

        full = code.and_(count, word(-LANES))
        with self.loop(word(0), count, word(self.chunk)) as base:
            for place in (p for places in self.lane_sums for p in places):
                code.store(self.entries.constant(0.0), place)
            stop = self.smaller(code.add(base, word(self.chunk)), full)
            with self.loop(base, stop, word(LANES)) as index:
                add(index, [None] * self.parts)
            last = code.icmp_signed("<", code.sub(count, base), word(self.chunk))
            with self.when(code.and_(last, code.icmp_signed("!=", full, count))):
                add(full, self.tail(count, full))
            for places, total in zip(self.lane_sums, self.totals, strict=True):
                values = [self.get(p, self.entries.type) for p in places]
                pieces = [piece for value in values for piece in self.halves(value)]
                self.add_to_total(total, pieces)

    def measure(self, b: Any, row: Any, first: Any, count: Any) -> None:
        """Place the entries first to first + count of a row, and find their maximum."""
        need = self.need
        self.put("special", b, word(0))
        for operand in need.per_row:
            self.put(operand.name, b, self.row_value(operand, row))
        count = self.counted(b, row, first, count)
        self.put("count", b, count)
        self.place(b, row, first, count)
        if need.label:
            self.take_labelled(b, row)
        if need.top:
            for place in self.largest:
                self.builder.store(self.entries.constant(-INF), place)
            with self.spans(b, count) as (at, some):
                index = self.builder.add(first, at)
                self.maximum(self.views([need.key], b, row, index, at, some), some)
            value, *others = [self.get(place, self.entries.type) for place in self.largest]
            for other in others:
                value = self.larger_of(value, other)
            self.put("key", b, self.fold(value, self.larger_of))

    def reduce(self, b: Any, row: Any, first: Any) -> None:
        """The sums of a row that has been measured, and whose scale is known."""
        code, need = self.builder, self.need
        if not need.sums:
            return
        count = self.take("count", b, WORD)
        if need.top:
            with self.when(self.special(b)):
                self.place_special(b, row, first, count)
        for place in (p for pair in self.totals for p in pair):
            code.store(self.group.constant(0.0), place)
        constants = self.constants_of(b, need.terms)
        with self.spans(b, count) as (at, some):
            index = code.add(first, at)
            bases = self.views(need.in_sums, b, row, index, at, some)
            kept = self.kept_place(b, row, index, at) if need.keep else None
            self.sums(bases, some, kept, constants, self.soon("sums", bases, row, index))
        for j, places in enumerate(self.totals):
            total, lanes = self.stored_total(places), GROUP
            while lanes > 1:
                lanes //= 2
                total = self.added(*(self.lanes_of(total, at, lanes) for at in (0, lanes)))
            value = self.single_of(total)
            self.put(f"s{j}", b, code.extract_element(value, ir.Constant(HALF_WORD, 0)))

    def lanes_of(self, total: list[Any], first: int, count: int) -> list[Any]:
        """Some lanes of a total."""
        return [x if x is None else self.part(x, first, count) for x in total]

    def counted(self, b: Any, row: Any, first: Any, count: Any) -> Any:
        """The entries that take part: those before the limit, none of a row to be ignored."""
        code = self.builder
        if self.general:
            limit = code.sub(self.take(LIMIT.name, b, WORD), first)
            count = self.larger(word(0), self.smaller(limit, count))
            flag = code.load(self.address(MASK.name, row), typ=BYTE)
            nothing = code.icmp_unsigned("==", flag, ir.Constant(BYTE, 0))
            count = code.select(code.and_(self.uniform, nothing), word(0), count)
        if self.need.label:
            ignored = code.icmp_signed("<", self.take("label", b, WORD), word(0))
            count = code.select(ignored, word(0), count)
        return count

    def place_special(self, b: Any, row: Any, first: Any, count: Any) -> None:
        """Stage a key whose maximum is infinite, now or span by span."""
        name = self.need.key
        where = self.variable(NOWHERE)
        with self.when(self.short):
            area = self.short_area(name, b)
            self.stage(name, row, first, count, area)
            self.recentre(area, count, self.take("key", b, self.real))
            self.builder.store(area, where)
        self.put(f"at {name}", b, self.get(where, POINTER))

    def kept_place(self, b: Any, row: Any, index: Any, at: Any) -> Any:
        """Where the exponentials of a piece are kept."""
        code = self.builder
        lasting = self.address(self.outs[0], row, index)
        offset = code.select(self.short, code.mul(b, self.padded), word(0))
        passing = self.item(self.kept, offset, self.size)
        return code.select(code.and_(self.keeps, code.not_(self.short)), lasting, passing)

    # Apply

    def apply(self, b: Any, row: Any, first: Any, whole: Any) -> None:
        """The outputs along a row, whose entries from `first` on have been placed."""
        code, need = self.builder, self.need
        count = self.take("count", b, WORD)
        constants = self.constants_of(b, need.apply)
        with self.spans(b, count) as (at, some):
            index = code.add(first, at)
            targets = {name: self.target(name, b, row, index) for name in self.outs}

            def write(names: list[str], kept: Any) -> None:
                bases = self.views(names, b, row, index, at, some)
                soon = self.soon("apply", bases, row, index)
                self.strips(some, lambda i, masks: entries(bases, soon, kept, i, masks))

            def entries(
                bases: dict[str, Any], soon: list[Any], kept: Any, i: Any, masks: list[Any]
            ) -> None:
                for part, mask in enumerate(masks):
                    here = self.index_of(i, part)
                    self.beside("apply", soon, here, part, mask)
                    names, _ = self.read_all(bases, here, mask)
                    if kept is not None:
                        place = self.item(kept, here, self.size)
                        names["e"] = self.load(self.computing, place, self.lanes, mask)
                    elif "e" in need.apply:
                        names["e"] = self.weight(names[need.key], constants)
                    values = self.entries.bind(self.op.apply, names | constants)
                    for name, value in zip(self.outs, values, strict=True):
                        place = self.item(targets[name], here, self.item_size)
                        self.store(self.dtype, value, place, mask)

            if need.keep:
                with code.if_else(code.or_(self.short, self.keeps)) as (then, otherwise):
                    with then:
                        write(need.in_apply_kept, self.kept_place(b, row, index, at))
                    with otherwise:
                        write(need.in_apply, None)
            else:
                write(need.in_apply, None)
            for name in self.outs:
                self.deliver(name, row, index, some)
        if self.general or need.label:
            blanks = self.blanks(constants)
            self.clear(blanks, b, row, code.add(first, count), code.sub(whole, count))

    def target(self, name: str, b: Any, row: Any, index: Any) -> Any:
        """Where results are written, for `deliver` to bring them to their place."""
        there = self.address(name, row, index)
        return self.builder.select(self.direct(name), there, self.areas[name])

    def deliver(self, name: str, row: Any, index: Any, count: Any) -> None:
        with self.when(self.builder.not_(self.direct(name))):
            self.unstage(name, row, index, count)

    def deliver_batch(self, first: Any, rows: Any) -> None:
        """What is left to be done for the results of a batch."""

    def unstage(self, name: str, row: Any, index: Any, count: Any) -> None:
        """Let the driver bring an area's entries to their place."""
        k, source = word(self.need.position(name)), self.builder.ptrtoint(self.areas[name], WORD)
        job = self.arguments[0]
        self.call(self.unstage_function, [job, k, row, index, count, source])

    def blanks(self, constants: dict[str, Any]) -> list[Any]:
        """The outputs of entries that take no part: as where a mask fails, or of a row that has
        no label.
        """
        zero = self.entries.constant(0.0)
        if self.need.label:
            return [zero] * len(self.outs)
        names = dict.fromkeys([*self.need.rows, "e"], zero)
        if self.need.top:
            names[self.need.key] = self.entries.constant(-INF)
        return self.entries.bind(self.op.apply, names | constants)

    def clear(self, blanks: list[Any], b: Any, row: Any, first: Any, count: Any) -> None:
        """Fill the outputs of the entries that took no part."""
        for name, blank in zip(self.outs, blanks, strict=True):
            with self.loop(word(0), count, word(SEGMENT)) as at:
                some = self.smaller(self.builder.sub(count, at), word(SEGMENT))
                index = self.builder.add(first, at)
                target = self.target(name, b, row, index)
                self.strips(some, partial(self.write_blank, blank, target))
                self.deliver(name, row, index, some)

    def write_blank(self, blank: Any, target: Any, index: Any, masks: list[Any]) -> None:
        for part, mask in enumerate(masks):
            place = self.item(target, self.index_of(index, part), self.item_size)
            self.store(self.dtype, blank, place, mask)


def rows_task(form: Form, module: Any, symbol: str, passes: type[RowPasses] = RowPasses) -> None:
    """Rows start to stop, none longer than LONG."""
    code = passes(form, module, symbol)
    b, op, count, zero, one = code.builder, form.op, code.length, word(0), word(1)
    padded = b.and_(b.add(code.larger(count, one), word(LANES - 1)), word(-LANES))
    short = b.icmp_signed("<=", count, word(SEGMENT))
    code.set_length(short, padded)
    fitting = code.smaller(b.sdiv(word(SEGMENT), padded), word(BATCH))
    batch = b.select(short, fitting, one)
    code.set_batch(batch)
    stop = code.precise_if_narrow()
    with code.loop(code.start, stop, batch) as first:
        here = code.smaller(batch, b.sub(stop, first))
        # Each step is done for the whole batch: rows are independent, so while one waits for
        # its maximum or its sum the processor works on the next.
        with code.loop(zero, here, one) as i:
            code.measure(i, b.add(first, i), zero, count)
        if code.need.weight or code.need.top:
            with code.loop(zero, here, word(GROUP)) as i:
                code.start_rows(i)
        if code.need.rounds:
            code.begin_rounds(here)
            with code.repeat() as again:
                with code.loop(zero, here, one) as i:
                    moving = b.icmp_unsigned("!=", code.take("moving", i, WORD), zero)
                    with code.when(moving):
                        code.reduce(i, b.add(first, i), zero)
                with code.loop(zero, here, word(GROUP)) as i:
                    code.finish_rows(i)
                again.append(code.any_moving(here))
        else:
            with code.loop(zero, here, one) as i:
                code.reduce(i, b.add(first, i), zero)
            with code.loop(zero, here, word(GROUP)) as i:
                code.finish_rows(i)
        with code.loop(zero, here, one) as i:
            row = b.add(first, i)
            if op.apply:
                code.apply(i, row, zero, count)
            if op.value:
                code.write_values(i, row)
            if op.label_value:
                code.write_labelled(i, row, zero, count)
        code.deliver_batch(first, here)
    code.finish()


def block_of(code: RowPasses, block: Any) -> tuple[Any, Any]:
    """The first entry of a block of a long row, and how many there are."""
    b, size = code.builder, code.slot(code.job, R_BLOCK)
    first = b.mul(block, size)
    return first, code.smaller(size, b.sub(code.length, first))


def partial_task(form: Form, module: Any, symbol: str) -> None:
    """The maxima and sums of the blocks start to stop of one long row."""
    code = RowPasses(form, module, symbol)
    b, row = code.builder, code.slot(code.job, R_ROW)
    code.for_blocks()
    constants = code.pointer(code.slot(code.job, R_CONSTANTS))
    c = b.load(code.at(constants, 8 * ROUND_SLOT), typ=DOUBLE)
    with code.loop(code.start, code.stop, word(1)) as block:
        first, count = block_of(code, block)
        code.measure(word(0), row, first, count)
        if code.need.rounds:
            # The first round finds the maximum, to which c and the terms of the others refer.
            code.put("c", word(0), code.close(c))
            known = code.slot(constants, FOUND_SLOT)
            with code.when(b.icmp_unsigned("!=", known, word(0))):
                code.put("key", word(0), code.close(b.load(constants, typ=DOUBLE)))
        if code.need.weight or code.need.top:
            code.start_rows(word(0))
        code.reduce(word(0), row, first)
        results = code.pointer(code.slot(code.job, R_PARTIAL))
        place = code.item(results, block, 8 * PARTIAL_SLOTS)
        if code.need.top:
            b.store(code.wide(code.take("key", word(0), code.real)), place)
        for j in range(code.need.sums):
            b.store(code.take(f"s{j}", word(0)), code.at(place, 8 * (j + 1)))
    code.finish()


def combine_task(form: Form, module: Any, symbol: str) -> None:
    """The blocks' maxima and sums, combined in order, and the constants of the row."""
    code = RowPasses(form, module, symbol)
    b, op, need, row = code.builder, form.op, code.need, code.slot(code.job, R_ROW)
    results = code.pointer(code.slot(code.job, R_PARTIAL))
    zero, whole, block = word(0), word(0), word(1)
    constants = code.pointer(code.slot(code.job, R_CONSTANTS))
    for operand in need.per_row:
        for index in (whole, block):
            code.put(operand.name, index, code.row_value(operand, row))
    if need.label:
        code.take_labelled(zero, row)

    def of_block(index: Any, slot: int) -> Any:
        place = code.item(results, index, 8 * PARTIAL_SLOTS)
        return b.load(code.at(place, 8 * slot), typ=DOUBLE)

    if need.top:
        largest = code.variable(ir.Constant(DOUBLE, -INF))
        with code.loop(code.start, code.stop, word(1)) as index:
            b.store(code.larger_of(of_block(index, 0), code.get(largest, DOUBLE)), largest)
        code.put("key", whole, code.close(code.get(largest, DOUBLE)))
    if need.weight or need.top:
        code.start_rows(whole)
    none = ir.Constant(DOUBLE, 0.0)
    totals = [(code.variable(none), code.variable(none)) for _ in range(need.sums)]
    with code.loop(code.start, code.stop, word(1)) as index:
        names = {f"s{j}": of_block(index, j + 1) for j in range(need.sums)}
        names["unit"] = ir.Constant(DOUBLE, by_dtype(UNIT, code.computing))
        if need.top:
            code.put("key", block, code.close(of_block(index, 0)))
            code.start_rows(zero)
            tops = [code.take("m", i) for i in (block, whole)]
            found = code.scalar(code.double, block_scale, *tops)
            names |= dict(zip(("factor", "is_largest", "gap"), found, strict=True))
        else:
            names["factor"] = ir.Constant(DOUBLE, 1.0)
        splats = {name: code.double.splat(value) for name, value in names.items()}
        for (total, low), value in zip(totals, merged(code, splats), strict=True):
            high, lost = code.scalar(code.double, two_sum, code.get(total, DOUBLE), value)
            b.store(high, total)
            b.store(b.fadd(code.get(low, DOUBLE), lost), low)
    for j, (total, low) in enumerate(totals):
        code.put(f"s{j}", whole, b.fadd(code.get(total, DOUBLE), code.get(low, DOUBLE)))
    again = word(0)
    if need.rounds:
        found = code.slot(constants, FOUND_SLOT)
        known = b.icmp_unsigned("!=", found, word(0))
        start = ir.Constant(DOUBLE, op.start)
        c = b.select(known, b.load(code.at(constants, 8 * ROUND_SLOT), typ=DOUBLE), start)
        code.put("c", whole, code.close(c))
        code.finish_rows(whole)
        moved = b.select(known, code.wide(code.take("c", whole, code.real)), start)
        b.store(moved, code.at(constants, 8 * ROUND_SLOT))
        b.store(word(1), code.at(constants, 8 * FOUND_SLOT))
        again = b.select(known, code.take("moving", whole, WORD), word(1))
    else:
        code.finish_rows(whole)
    if op.value:
        code.write_values(whole, row)
    if need.top:
        b.store(code.wide(code.take("key", whole, code.real)), constants)
    for j in range(need.constants):
        b.store(code.wide(code.take(f"c{j}", whole, code.real)), code.at(constants, 8 * (j + 1)))
    if op.label_value:
        b.store(code.take("label value", whole), code.at(constants, 8 * (need.constants + 1)))
    code.finish(again)


def merged(code: RowPasses, names: dict[str, Any]) -> list[Any]:
    """A block's sums on the row's scale."""
    if not code.need.sums:
        return []
    zero = ir.Constant(ir.IntType(32), 0)
    return [code.builder.extract_element(v, zero) for v in code.double.bind(code.op.merge, names)]


def apply_task(form: Form, module: Any, symbol: str) -> None:
    """The outputs of the blocks start to stop of one long row."""
    code = RowPasses(form, module, symbol)
    b, op, need, row = code.builder, form.op, code.need, code.slot(code.job, R_ROW)
    zero = word(0)
    code.for_blocks()
    constants = code.pointer(code.slot(code.job, R_CONSTANTS))

    def constant(slot: int) -> Any:
        return b.load(code.at(constants, 8 * slot), typ=DOUBLE)

    for operand in need.per_row:
        code.put(operand.name, zero, code.row_value(operand, row))
    if need.weight or need.top:
        if need.top:
            code.put("key", zero, code.close(constant(0)))
        code.start_rows(zero)
    else:
        code.put("special", zero, zero)
    if need.rounds:
        code.put("c", zero, code.close(constant(ROUND_SLOT)))
    for j in range(need.constants):
        code.put(f"c{j}", zero, code.close(constant(j + 1)))
    if op.label_value:
        code.put("label value", zero, constant(need.constants + 1))
    with code.loop(code.start, code.stop, word(1)) as block:
        first, whole = block_of(code, block)
        count = code.counted(zero, row, first, whole)
        code.put("count", zero, count)
        code.place(zero, row, first, count)
        if need.top:
            with code.when(code.special(zero)):
                code.place_special(zero, row, first, count)
        code.apply(zero, row, first, whole)
        if op.label_value:
            code.write_labelled(zero, row, first, whole)
    code.finish()
