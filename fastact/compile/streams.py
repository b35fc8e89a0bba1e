"""Row ops -> the task on contiguous rows of arrays that are far larger than the caches.

Such a call is bound by memory: what counts is how many bytes move, and that the processor never
waits for them. An ordinary store reads the line that it overwrites. Here results are made in an
area that stays in the cache and go from there to their place in whole lines past the caches; and
both that and fetching the next rows are spread over the step that computes most, a line for a
line, because a core has few lines under way at a time. The instructions on the entries, and so
the bits, are those of `rows_task`.

Softmax of 16 Mi float32 on two cores, ns an entry, in rows of 128, 1024 and 32768, arrays that are
used again and again (in the third-level cache):

    as `rows_task` does it                          0.34  0.34  0.41  (copied: 0.34; PyTorch: 0.38,
    results sent at once when a batch is done       0.38  0.41        0.37, 0.48)
    sent beside the sums of the next batch          0.29  0.31  0.35
    and made where the exponentials were kept       0.24  0.23  0.28
    the same without fetching                       0.31  0.28  0.28
    the same with ordinary stores                   0.48  0.46  0.53

Arrays in turn, so that they come from memory:

    as `rows_task` does it                          0.41  0.36  0.45  (copied: 0.35; PyTorch: 0.41,
    the last of these, fetched two batches ahead    0.35  0.33  0.32        0.39, 0.49)
    no line of which is written in two parts        0.29  0.25  0.29

A store to a part of a line waits for the line, and all stores after it wait too.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from fastact.compile.abi import LINE, R_ROWS, SEGMENT
from fastact.compile.rows import NOWHERE, RowPasses, rows_task
from fastact.compile.strips import HALF_WORD, POINTER, WORD, word
from fastact.compile.vectors import intrinsic
from fastact.rowwise.record import Form

# Bytes that one row takes in the computing dtype up to which its results are held as a whole; a
# longer row's go in pieces. Beside two rows of results lie two rows of each input.
MOST_HELD = 1 << 18
LINE_KIND = ir.VectorType(WORD, LINE // 8)


class StreamingPasses(RowPasses):
    """The passes over one row, where every operand is contiguous."""

    def __init__(self, form: Form, module: Any, symbol: str) -> None:
        super().__init__(form, module, symbol)
        self.in_results = form.dtype == self.computing
        # The step beside which memory is read and written: the one that takes longer.
        self.step = "sums" if "e" in self.need.terms or not self.outs else "apply"
        # Two areas for each output: while one is filled the other is sent, line after line.
        # The results of a batch mostly end within a line; they wait for the next batch at the
        # front of its area, where entries that belong to others may stand before them.
        self.line = LINE // self.item_size  # entries
        self.near = {n: self.area(2 * self.room(SEGMENT) * self.item_size) for n in self.outs}
        self.filled = self.variable(word(0))  # the offset of the area that is filled
        self.sent, self.until, self.apart, self.waiting, self.foreign = (
            {n: self.variable(word(0)) for n in self.outs} for _ in range(5)
        )
        for name in self.outs:
            there = self.builder.ptrtoint(self.address(name, self.start), WORD)
            front = self.builder.and_(there, word(LINE - 1))
            entries = self.builder.sdiv(front, word(self.item_size))
            for place in (self.sent[name], self.until[name]):
                self.builder.store(self.builder.sub(there, front), place)
            self.builder.store(entries, self.waiting[name])
            self.builder.store(entries, self.foreign[name])

    def room(self, entries: Any) -> Any:
        """What an area for so many results takes, with what waits and what is read beyond."""
        if isinstance(entries, int):
            return entries + 2 * self.line
        return self.builder.add(entries, word(2 * self.line))

    def direct(self, name: str) -> Any:
        return self.bit(True)

    def set_length(self, short: Any, padded: Any) -> None:
        b = self.builder
        super().set_length(short, padded)
        self.held = self.keeps = b.icmp_signed("<=", self.length, word(MOST_HELD // self.size))
        self.span = b.select(self.held, word(1 << 62), word(SEGMENT))
        far = b.and_(self.held, b.not_(short))
        self.half = self.room(b.select(far, self.length, word(SEGMENT)))
        self.take_areas()

    def take_areas(self) -> None:
        """Room for the results: on the stack if they are few, from the system if they are many."""
        b = self.builder
        take = self.system_function("malloc", POINTER, [WORD])
        sizes = dict.fromkeys(self.outs, 2 * self.item_size)
        if self.need.keep and not self.in_results:
            sizes["e"] = self.size
        self.taken = {name: self.variable(NOWHERE) for name in sizes}
        with self.when(b.and_(self.held, b.not_(self.short))):
            for name, size in sizes.items():
                found = b.call(take, [b.mul(self.half, word(size))])
                b.store(found, self.taken[name])
                with self.when(b.icmp_unsigned("==", found, NOWHERE)):
                    self.call(self.slot(self.job, R_ROWS), list(self.arguments))
                    self.leave()
                    b.ret(word(0))
        for name in self.outs:
            found = self.get(self.taken[name], POINTER)
            missing = b.icmp_unsigned("==", found, NOWHERE)
            self.areas[name] = b.select(missing, self.near[name], found)

    def leave(self) -> None:
        give = self.system_function("free", ir.VoidType(), [POINTER])
        for place in self.taken.values():
            self.builder.call(give, [self.get(place, POINTER)])

    def system_function(self, name: str, result: Any, arguments: list[Any]) -> Any:
        kind = ir.FunctionType(result, arguments)
        found = self.function.module.globals.get(name)
        return found or ir.Function(self.function.module, kind, name)

    def set_batch(self, rows: Any) -> None:
        # Two batches, where arrays that had left the third-level cache gain 3 to 10 % over one;
        # two inputs lose as much: they fill the caches.
        b, batches = self.builder, word(2 if len(self.need.rows) == 1 else 1)
        distance = b.mul(rows, batches)
        self.ahead = {n: b.mul(distance, self.outer[self.need.position(n)]) for n in self.need.rows}

    def soon(self, step: str, bases: dict[str, Any], row: Any, index: Any) -> list[Any]:
        """The same piece of the rows of a batch to come."""
        if step != self.step:
            return []
        return [self.at(self.address(n, row, index), self.ahead[n]) for n in self.need.rows]

    def beside(self, step: str, soon: list[Any], index: Any, part: int, mask: Any) -> None:
        if mask is None and part * self.lanes * self.item_size % LINE == 0:
            for place in soon:
                self.prefetch(self.item(place, index, self.item_size), write=False)
            if step == self.step:
                self.send_line()

    def finish(self, result: Any = None) -> None:
        """Make what has gone past the caches visible before anything that is written later."""
        self.drain()
        for name in self.outs:
            line = self.pointer(self.get(self.until[name], WORD))
            ends = (self.get(place[name], WORD) for place in (self.foreign, self.waiting))
            self.send_some(self.area_of(name), line, *ends)
        self.leave()
        if self.function.module.triple.startswith(("x86", "i686")):
            intrinsic(self.builder, "llvm.x86.sse.sfence", ir.VoidType(), [])
        super().finish(result)

    # Results

    def target(self, name: str, b: Any, row: Any, index: Any) -> Any:
        """Where the results of a row from `index` on are made: rows follow each other."""
        code = self.builder
        packed = code.add(code.mul(b, self.length), index)
        offset = code.select(self.held, packed, word(0))
        offset = code.add(offset, self.get(self.waiting[name], WORD))
        return self.item(self.area_of(name), offset, self.item_size)

    def area_of(self, name: str) -> Any:
        """The area that is filled."""
        return self.item(self.areas[name], self.get(self.filled, WORD), self.item_size)

    def kept_place(self, b: Any, row: Any, index: Any, at: Any) -> Any:
        """Exponentials are kept where they turn into results, if those are as long."""
        if self.in_results:
            return self.target(self.outs[0], b, row, index)
        code = self.builder
        far = self.item(self.get(self.taken["e"], POINTER), index, self.size)
        near = super().kept_place(b, row, index, at)
        return code.select(code.and_(self.held, code.not_(self.short)), far, near)

    def labelled_place(self, b: Any, row: Any, label: Any) -> Any:
        """Where results still are: in the area, or, if they go in pieces, sent or waiting."""
        code, name = self.builder, self.outs[0]
        with self.when(code.not_(self.held)):
            self.drain()
        there = self.address(name, row, label)
        behind = code.sub(code.ptrtoint(there, WORD), self.get(self.until[name], WORD))
        waits = code.icmp_signed(">=", behind, word(0))
        there = code.select(waits, self.at(self.area_of(name), behind), there)
        return code.select(self.held, self.target(name, b, row, label), there)

    def deliver(self, name: str, row: Any, index: Any, count: Any) -> None:
        with self.when(self.builder.not_(self.held)):
            self.drain()
            self.send(name, row, index, count)
            self.switch()

    def deliver_batch(self, first: Any, rows: Any) -> None:
        if not self.outs:
            return
        with self.when(self.held):
            self.drain()
            for name in self.outs:
                self.send(name, first, word(0), self.builder.mul(rows, self.length))
            self.switch()

    def switch(self) -> None:
        other = self.builder.sub(self.half, self.get(self.filled, WORD))
        self.builder.store(other, self.filled)

    def send_line(self) -> None:
        """Send a line of what is to be sent, if there is one."""
        b = self.builder
        streamed = self.function.module.add_metadata([ir.Constant(HALF_WORD, 1)])
        for name in self.outs:
            place = self.get(self.sent[name], WORD)
            with self.when(b.icmp_unsigned("<", place, self.get(self.until[name], WORD))):
                source = self.pointer(b.add(place, self.get(self.apart[name], WORD)))
                value = b.load(source, typ=LINE_KIND, align=self.item_size)
                store = b.store(value, self.pointer(place), align=LINE)
                store.set_metadata("nontemporal", streamed)
                b.store(b.add(place, word(LINE)), self.sent[name])

    def drain(self) -> None:
        """Send all that is left to be sent."""
        for name in self.outs:
            place, stop = self.get(self.sent[name], WORD), self.get(self.until[name], WORD)
            with self.loop(place, stop, word(LINE)):
                self.send_line()

    def send(self, name: str, row: Any, index: Any, count: Any) -> None:
        """Note whole lines of results for their way, and let the rest wait in the other area."""
        b, size, line = self.builder, self.item_size, word(self.line)
        waiting, area = self.get(self.waiting[name], WORD), self.area_of(name)
        first = self.get(self.until[name], WORD)
        entries = b.add(waiting, count)
        lines = b.sdiv(entries, line)
        b.store(first, self.sent[name])
        b.store(b.sub(b.ptrtoint(area, WORD), first), self.apart[name])
        foreign = self.get(self.foreign[name], WORD)
        mixed = b.icmp_signed(">", foreign, word(0))
        with self.when(b.and_(mixed, b.icmp_signed(">", lines, word(0)))):
            self.send_some(area, self.pointer(first), foreign, line)
            b.store(b.add(first, word(LINE)), self.sent[name])
            b.store(word(0), self.foreign[name])
        done = b.mul(lines, line)
        b.store(b.add(first, b.mul(lines, word(LINE))), self.until[name])
        b.store(b.sub(entries, done), self.waiting[name])
        rest = b.load(self.item(area, done, size), typ=LINE_KIND, align=size)
        other = b.sub(self.half, self.get(self.filled, WORD))
        b.store(rest, self.item(self.areas[name], other, size), align=size)

    def send_some(self, area: Any, target: Any, first: Any, stop: Any) -> None:
        """Bring entries to their place that share their line with others'."""
        b, size = self.builder, self.item_size
        lanes = LINE // size
        memory, mangled = ir.IntType(8 * size), f"i{8 * size}"
        kind = ir.VectorType(memory, lanes)
        with self.when(b.icmp_signed("<", first, stop)):
            mask = self.mask(b.sub(stop, first), lanes)
            source, place = (self.item(p, first, size) for p in (area, target))
            value = self.masked_load(source, kind, mangled, size, mask)
            name = f"llvm.masked.store.v{lanes}{mangled}.p0"
            args = [value, place, ir.Constant(HALF_WORD, size), mask]
            intrinsic(b, name, ir.VoidType(), args)


def streaming_task(form: Form, module: Any, symbol: str) -> None:
    """Rows start to stop of contiguous operands, results past the caches."""
    rows_task(form, module, symbol, StreamingPasses)
