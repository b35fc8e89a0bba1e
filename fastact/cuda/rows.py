"""Row kernels, as Python text: one source for the compiler and for the simulator.

A thread loads its entries of all row operands into registers, and what follows is: the maximum
of the key, the weights, the sums of what the op's `terms` returns (each compensated, so that a
float32 kernel needs no float64), the op's `finish`, and the entries of the outputs. After the
maximum and after the sums the threads of a row exchange what they have. An op that is reduced in
rounds takes its sums again until its threshold stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from fastact.compile.vectors import parameters
from fastact.cuda.row_kinds import TOTAL, WARP, Rows
from fastact.rowwise.record import LIMIT, MASK

GROUP = 4  # entries that are added up before they enter a compensated total


class RowText:
    """A kernel's text while it is written."""

    def __init__(self, kernel: Rows) -> None:
        self.kernel, self.op, self.need = kernel, kernel.op, kernel.need
        self.lines: list[str] = []
        self.depth = 0
        self.entries = [(v, j) for v in range(kernel.vectors) for j in range(kernel.width)]
        self.in_rows = self.need.rows
        self.out_rows = [o.name for o in kernel.outputs if o.is_row]
        self.per_row = [o for o in kernel.inputs if not o.is_row and o is not LIMIT]
        self.numbers = [o for o in self.op.operands(False) if not o.is_row]
        self.sums = range(self.need.sums)

    def put(self, *lines: str) -> None:
        self.lines += ["    " * self.depth + line for line in lines]

    @contextmanager
    def under(self, head: str) -> Iterator[None]:
        self.put(head)
        self.depth += 1
        yield
        self.depth -= 1

    def call(self, function: str, source: object, names: dict[str, str], tail: str = "") -> str:
        """A call of a scalar of the op, its arguments found by name."""
        found = [names.get(n, n + tail) for n in parameters(source)]
        return f"{function}({', '.join(found)})"

    # Threads and places

    def text(self) -> str:
        kernel = self.kernel
        self.put(f"def {kernel.name}({', '.join(a.name for a in kernel.arguments)}):")
        self.depth = 1
        if kernel.way != "warp":
            self.shared()
        self.threads()
        with self.under("while base < rows:"):
            self.row()
            if kernel.way != "warp" and not self.need.top:
                self.put("cuda.syncthreads()")  # before the next row writes where this one reads
            self.put("base = add(base, step)")
        return "\n".join(self.lines)

    def shared(self) -> None:
        """Areas through which warps exchange values: a line each, as the simulator wants."""
        size = WARP if self.kernel.way == "block" else WARP * self.kernel.lanes
        for name in ["top", *(f"{part}_{j}" for j in self.sums for part in ("high", "low"))]:
            self.put(f"shared_{name} = cuda.shared.array({size}, computing)")
        if self.precise:
            for j in self.sums:
                self.put(f"shared_wide_{j} = cuda.shared.array({size}, finishing)")

    def threads(self) -> None:
        """`base`: the first row of the block, `lane`: which part of a row is this thread's."""
        way, lanes = self.kernel.way, self.kernel.lanes
        blocks = "index(cuda.blockIdx.x)", "index(cuda.gridDim.x)"
        self.put("thread = index(cuda.threadIdx.x)")
        if way == "block":
            self.put("lane = thread", f"base = {blocks[0]}", f"step = {blocks[1]}")
            return
        if way == "columns":
            self.put("lane = index(cuda.threadIdx.y)", "seat = thread")
        else:
            self.put(f"lane = both(thread, number({lanes - 1}))")
            self.put(f"seat = shift_right(thread, number({lanes.bit_length() - 1}))")
        count = self.kernel.rows_per_block
        self.put(f"base = multiply({blocks[0]}, number({count}))")
        self.put(f"step = multiply({blocks[1]}, number({count}))")

    def row(self) -> None:
        # Threads without a row of their own do the last one once more, so that all stay together,
        # but write nothing: an output may be an input that others still read.
        own = "base" if self.kernel.way == "block" else "add(base, seat)"
        self.put(f"row = least({own}, subtract(rows, number(1)))", f"mine = row == {own}")
        if self.kernel.cut:
            self.chunk()
        self.put("stop = length if mine else number(0)")
        self.places()
        if self.need.rounds:
            self.rounds()
            return
        if self.kernel.stage == "apply":
            self.combine()
            self.finish()
            if self.op.apply:
                self.first_entry("chunk")
                self.load()
                self.prepare()
                self.weights()
                self.apply()
            return
        self.first_entry("chunk" if self.kernel.stage == "partial" else "")
        self.load()
        self.maximum()
        self.prepare()
        self.weights()
        self.reduce()
        if self.kernel.stage == "partial":
            self.leave()
            return
        self.finish()
        if self.op.apply:
            self.apply()

    def chunk(self) -> None:
        """Which chunk of the row; where there are more blocks than chunks, the last once more."""
        self.put(
            "turn = add(multiply(index(cuda.blockIdx.z), index(cuda.gridDim.y)), "
            "index(cuda.blockIdx.y))",
            "chunk = least(turn, subtract(chunks, number(1)))",
            "mine = mine and chunk == turn",
        )

    def places(self) -> None:
        """Where the operands' rows begin, and the operands with one value per row."""
        kernel = self.kernel
        self.put("rest_0 = row")
        for k, d in enumerate(reversed(range(1, kernel.dimensions))):
            self.put(
                f"rest_{k + 1} = divide(rest_{k}, length_{d})",
                f"i_{d} = subtract(rest_{k}, multiply(rest_{k + 1}, length_{d}))",
            )
        self.put(f"i_0 = rest_{kernel.dimensions - 1}")
        for operand in (*kernel.inputs, *kernel.outputs):
            name = operand.name
            place = f"multiply(i_0, {name}_stride_0)"
            for d in range(1, kernel.dimensions):
                place = f"add({place}, multiply(i_{d}, {name}_stride_{d}))"
            if operand is LIMIT:
                self.put(f"count = limited(add({name}, {place}), length)")
            else:
                self.put(f"row_{name} = at_{kernel.kind(operand)}({name}, {place})")
        self.row_numbers()
        if not kernel.limited:
            self.put("count = length")
        if self.need.label:
            self.put("count = length if label_value >= 0 else number(0)")
            self.put("absent = select(label_value == IGNORED, ZERO, NAN)")
            if kernel.stage != "apply":
                self.labelled_entries()

    def row_numbers(self) -> None:
        """The operands with one value per row, and those with one for all."""
        for operand in self.per_row:
            name, kind = operand.name, self.kernel.kind(operand)
            self.put(f"{name}_value = load_{kind}(row_{name}, number(0))")
        for operand in self.numbers:
            if operand.uniform:
                self.put(f"{operand.name}_value = {operand.name}")
            if self.kernel.averaged and operand.dtype != "int64":
                self.put(f"{operand.name}_value = over({operand.name}_value, {TOTAL.name}_value)")

    def labelled_entries(self) -> None:
        """The entries that the label names."""
        for name in self.need.at_label:
            if name in self.kernel.ones:
                self.put(f"{name}_label = ONE")
                continue
            with self.under("if label_value >= 0:"):
                inner = "" if self.kernel.aligned else f"{name}_inner"
                at = f"multiply(index(label_value), {inner})" if inner else "index(label_value)"
                self.put(f"{name}_label = {self.load_entry(name, at)}")
            with self.under("else:"):
                self.put(f"{name}_label = ZERO")

    def load_entry(self, name: str, at: str) -> str:
        return f"load_{self.kernel.dtype}(row_{name}, {at})"

    # Loading

    def first_entry(self, chunk: str) -> None:
        """`vector_v`: the index of the v-th vector of this thread in the row."""
        lanes = self.kernel.lanes
        first = "lane"
        if chunk:
            first = f"add(lane, multiply({chunk}, number({lanes * self.kernel.vectors})))"
        self.put(f"vector_0 = {first}")
        for v in range(1, self.kernel.vectors):
            self.put(f"vector_{v} = add(vector_0, number({v * lanes}))")
        for v, j in self.entries:
            self.put(f"at_{v}_{j} = add(multiply(vector_{v}, number({self.kernel.width})), "
                     f"number({j}))")  # fmt: skip

    def fill(self, name: str) -> str:
        """What stands for a missing entry: -inf in the key, elsewhere 0."""
        if name != self.need.key or not self.need.top:
            return "ZERO"
        return "INF" if self.op.negate else "MINUS_INF"

    def load(self) -> None:
        for name in self.in_rows:
            for v in range(self.kernel.vectors):
                self.load_vector(name, v)
        for v, j in self.entries:
            self.put(f"take_{v}_{j} = at_{v}_{j} < count")
            if self.kernel.masked:
                at = f"multiply(at_{v}_{j}, {MASK.name}_inner)"
                with self.under(f"if take_{v}_{j}:"):
                    self.put(f"take_{v}_{j} = load_bool(row_{MASK.name}, {at}) != 0")
        if self.kernel.masked or self.kernel.limited or self.need.label:
            for name in self.in_rows:
                for v, j in self.entries:
                    entry = f"{name}_{v}_{j}"
                    self.put(f"{entry} = select(take_{v}_{j}, {entry}, {self.fill(name)})")
        if self.op.negate:
            for v, j in self.entries:
                entry = f"{self.need.key}_{v}_{j}"
                self.put(f"{entry} = opposite({entry})")

    def load_vector(self, name: str, v: int) -> None:
        width, fill = self.kernel.width, self.fill(name)
        entries = [f"{name}_{v}_{j}" for j in range(width)]
        if name in self.kernel.ones:
            self.put(*(f"{entry} = ONE" for entry in entries))
            return
        if self.kernel.aligned:
            with self.under(f"if at_{v}_0 < length:"):
                self.put(f"{', '.join(entries)} = load_vector(row_{name}, vector_{v})")
            with self.under("else:"):
                self.put(*(f"{entry} = {fill}" for entry in entries))
            return
        for j, entry in enumerate(entries):
            with self.under(f"if at_{v}_{j} < length:"):
                at = f"multiply(at_{v}_{j}, {name}_inner)"
                self.put(f"{entry} = {self.load_entry(name, at)}")
            with self.under("else:"):
                self.put(f"{entry} = {fill}")

    # Maximum and weights

    def maximum(self) -> None:
        if not self.need.top:
            return
        self.put("m = MINUS_INF")
        self.largest()
        self.exchange_maximum()

    def largest(self) -> None:
        for v, j in self.entries:
            self.put(f"m = larger(m, {self.need.key}_{v}_{j})")

    def prepare(self) -> None:
        """What is subtracted from the key; a key with an infinite maximum is moved to it."""
        if not self.need.top:
            self.put("entry_m = ZERO")
            return
        self.put("entry_m = entry_maximum(m)")
        with self.under("if m == INF:"):
            for v, j in self.entries:
                self.put(f"{self.need.key}_{v}_{j} = recentred({self.need.key}_{v}_{j})")

    def weights(self) -> None:
        in_sums = "e" in self.need.terms and self.kernel.stage != "apply"
        in_outputs = "e" in self.need.apply and self.kernel.stage != "partial"
        if not (in_sums or in_outputs):
            return
        more = ", scale, scale_tail" if self.kernel.scaled else ""
        for v, j in self.entries:
            self.put(f"e_{v}_{j} = weight({self.need.key}_{v}_{j}, entry_m{more})")

    # Sums

    def names(self, tail: str) -> dict[str, str]:
        """What the names of an op's scalars are for one entry."""
        names = {o.name: f"{o.name}_value" for o in self.numbers}
        return names | {"m": "entry_m", "e": f"e{tail}", **{n: n + tail for n in self.in_rows}}

    def reduce(self) -> None:
        self.start_sums()
        if self.op.terms:
            self.add_entries()
            self.exchange_sums()

    def start_sums(self) -> None:
        for j in self.sums:
            self.put(f"high_{j} = ZERO", f"low_{j} = ZERO")

    def add_entries(self) -> None:
        for v in range(self.kernel.vectors):
            for start in range(0, self.kernel.width, GROUP):
                self.add_group(v, range(start, min(start + GROUP, self.kernel.width)))

    def add_group(self, v: int, group: range) -> None:
        for j in group:
            results = ", ".join(f"term_{s}_{j}" for s in self.sums)
            self.put(f"{results} = {self.call('terms', self.op.terms, self.names(f'_{v}_{j}'))}")
        for s in self.sums:
            total = [f"select(take_{v}_{j}, term_{s}_{j}, ZERO)" for j in group]
            while len(total) > 1:
                pairs = zip(total[::2], total[1::2], strict=True)
                total = [f"plus({a}, {b})" for a, b in pairs]
            self.put(f"high_{s}, low_{s} = added(high_{s}, low_{s}, {total[0]})")

    def leave(self) -> None:
        """A chunk's maximum and sums, for the next kernel."""
        kernel = self.kernel
        place = "multiply(add(multiply(row, chunks), chunk), PARTIALS)"
        with self.under("if lane == number(0) and mine:"):
            self.put(f"there = at_{kernel.computing}(partials, {place})")
            numbers = ["m" if self.need.top else "ZERO"]
            numbers += [f"single(high_{j}, low_{j})" for j in self.sums]
            # another block may overwrite them before this row is finished
            numbers += [f"{name}_label" for name in self.need.at_label]
            for k, value in enumerate(numbers):
                self.put(f"store_{kernel.computing}(there, number({k}), {value})")
        assert kernel.partials == len(numbers)

    def combine(self) -> None:
        """The row's maximum and sums from those of its chunks, a chunk per thread at a time."""
        lanes, load = self.kernel.lanes, f"load_{self.kernel.computing}"
        if not (self.need.top or self.sums):
            return
        place = "multiply(multiply(row, chunks), PARTIALS)"
        self.put(f"there = at_{self.kernel.computing}(partials, {place})", "m = MINUS_INF")
        for k, name in enumerate(self.need.at_label):
            self.put(f"{name}_label = {load}(there, number({1 + len(self.sums) + k}))")
        if self.need.top:
            self.put("k = lane")
            with self.under("while k < chunks:"):
                self.put(f"m = larger(m, {load}(there, multiply(k, PARTIALS)))")
                self.put(f"k = add(k, number({lanes}))")
            self.exchange_maximum()
        self.start_sums()
        self.put("k = lane")
        with self.under("while k < chunks:"):
            self.put("piece = multiply(k, PARTIALS)")
            for j in self.sums:
                self.put(f"s{j} = {load}(there, add(piece, number({j + 1})))")
            if self.need.top:
                scale = ", scale" if self.kernel.scaled else ""
                function = "scaled_chunk_scale" if self.kernel.scaled else "chunk_scale"
                self.put(f"chunk_m = {load}(there, piece)")
                self.put(f"chunk_factor, is_largest, gap = {function}(chunk_m, m{scale})")
            else:
                self.put("chunk_factor = ONE", "is_largest = ONE", "gap = ZERO")
            results = ", ".join(f"merged_{j}" for j in self.sums)
            if results:
                names = {"unit": "UNIT", "factor": "chunk_factor"}
                self.put(f"{results} = {self.call('merge', self.op.merge, names)}")
            for j in self.sums:
                self.put(f"high_{j}, low_{j} = added(high_{j}, low_{j}, merged_{j})")
            self.put(f"k = add(k, number({lanes}))")
        if self.sums:
            self.exchange_sums()

    # Exchange between the threads of a row

    def steps(self) -> list[int]:
        """The distances over which lanes exchange values."""
        lanes = min(self.kernel.lanes, WARP)
        return [lanes >> k for k in range(1, lanes.bit_length())]

    def exchange(self, values: list[str], area: str, neutral: str, joined: str) -> None:
        """Fold values over the lanes of a row; `joined` is the fold, over o_<value> too."""
        way = self.kernel.way
        if way == "columns":
            self.across_block(values, area, joined)
            return
        self.across_warp(values, joined)
        if way != "block" or self.kernel.lanes == WARP:
            return
        with self.under("if both(thread, number(31)) == number(0):"):
            for value in values:
                self.put(f"{area.format(value)}[shift_right(thread, number(5))] = {value}")
        self.put("cuda.syncthreads()")
        for value in values:
            self.put(f"{value} = {neutral}")
        with self.under(f"if both(thread, number(31)) < number({self.kernel.lanes // WARP}):"):
            for value in values:
                self.put(f"{value} = {area.format(value)}[both(thread, number(31))]")
        self.across_warp(values, joined)

    def across_warp(self, values: list[str], joined: str) -> None:
        for step in self.steps():
            for value in values:
                self.put(f"o_{value} = shuffle({value}, {step})")
            self.put(joined)

    def across_block(self, values: list[str], area: str, joined: str) -> None:
        """Columns: lanes of a row are in different warps."""
        for step in self.steps():
            self.put(f"other = add(multiply(either(lane, number({step})), number(32)), seat)")
            for value in values:
                self.put(f"{area.format(value)}[add(multiply(lane, number(32)), seat)] = {value}")
            self.put("cuda.syncthreads()")
            for value in values:
                self.put(f"o_{value} = {area.format(value)}[other]")
            self.put(joined, "cuda.syncthreads()")

    def exchange_maximum(self) -> None:
        self.exchange(["m"], "shared_top", "MINUS_INF", "m = larger(m, o_m)")

    def exchange_sums(self) -> None:
        for j in self.sums:
            pair = [f"high_{j}", f"low_{j}"]
            joined = "{0}, {1} = joined({0}, {1}, o_{0}, o_{1})".format(*pair)
            self.exchange(pair, "shared_{0}", "ZERO", joined)

    # Finishing

    @property
    def precise(self) -> bool:
        """Whether a small value of a row is computed once more in float64."""
        return (
            self.op.precise and self.kernel.computing != "float64" and self.kernel.stage == "whole"
        )

    def finish_names(self) -> dict[str, str]:
        names = {f"{n}_label": f"wide({n}_label)" for n in self.need.at_label}
        names |= {o.name: f"wide({o.name}_value)" for o in self.numbers if o.dtype != "int64"}
        names |= {f"s{j}": f"sum_{j}" for j in self.sums}
        drop = f"wide_below(true_m, wide({self.need.key}_label))"
        return names | {
            "m": "true_m",
            "c": "wide(c)",
            "drop": drop,
            "unit": "FINISH_UNIT",
            "empty": "wide(empty)",
            "scale": "wide(scale)" if self.kernel.scaled else "FINISH_ONE",
        }

    def finish(self) -> None:
        self.totals()
        self.constants()
        if self.precise:
            with self.under("if anywhere(abs(result) < FINISH_ONE):"):
                self.again()
        if self.op.value:
            self.write_value()

    def totals(self) -> None:
        """The sums and the maximum, as the op's `finish` takes them."""
        for j in self.sums:
            self.put(f"sum_{j} = wide_single(wide(high_{j}), wide(low_{j}))")
        if self.need.top:
            m = "times(m, scale)" if self.kernel.scaled else "m"
            self.put(f"true_m = wide({m})")
        else:
            self.put("true_m = FINISH_ZERO")

    def finished(self) -> None:
        results = ", ".join(f"constant_{j}" for j in range(self.need.constants))
        self.put(f"{results} = {self.call('finish', self.op.finish, self.finish_names())}")

    def constants(self) -> None:
        count = range(self.need.constants)
        self.finished()
        names = self.finish_names() | {f"c{j}": f"constant_{j}" for j in count}
        for j in count:
            self.put(f"c{j} = close(constant_{j})")
        if self.op.value:
            self.put(f"result = {self.call('value_of', self.op.value, names)}")
        if self.op.label_value:
            self.put(f"labelled = close({self.call('label_value_of', self.op.label_value, names)})")

    def again(self) -> None:
        """The value of a row once more, with weights and sums in float64."""
        for s in self.sums:
            self.put(f"sum_{s} = FINISH_ZERO")
        for v, j in self.entries:
            key = f"wide({self.need.key}_{v}_{j})"
            names = {"e": f"wide_weight({key}, wide(entry_m))", "m": "wide(entry_m)"}
            names |= {n: f"wide({n}_{v}_{j})" for n in self.in_rows}
            results = ", ".join(f"wide_{s}" for s in self.sums)
            self.put(f"{results} = {self.call('wide_terms', self.op.terms, names)}")
            for s in self.sums:
                taken = f"wide_select(take_{v}_{j}, wide_{s}, FINISH_ZERO)"
                self.put(f"sum_{s} = wide_plus(sum_{s}, {taken})")
        for s in self.sums:
            fold = f"sum_{s} = wide_plus(sum_{s}, o_sum_{s})"
            self.exchange([f"sum_{s}"], f"shared_wide_{s}", "FINISH_ZERO", fold)
        names = self.finish_names() | {"unit": "WIDE_UNIT"}
        self.put(f"precise = {self.call('value_of', self.op.value, names)}")
        self.put("result = precise if abs(result) < FINISH_ONE else result")

    def write_value(self) -> None:
        (result,) = [o for o in self.kernel.outputs if not o.is_row]
        kind = self.kernel.kind(result)
        if self.need.label:
            weight = f"wide({self.op.extra[0].name}_value)"  # 0; nan in a mean over nothing
            missing = f"({weight} if label_value == IGNORED else FINISH_NAN)"
            self.put(f"result = result if label_value >= 0 else {missing}")
        first = "lane == number(0) and mine"
        if self.kernel.stage == "apply":
            first += " and chunk == number(0)"
        with self.under(f"if {first}:"):
            self.put(f"store_{kind}(row_{result.name}, number(0), close(result))")

    def apply(self) -> None:
        """The entries of the outputs along the row."""
        for v, j in self.entries:
            tail = f"_{v}_{j}"
            names = self.names(tail) | {f"c{k}": f"c{k}" for k in range(self.need.constants)}
            results = ", ".join(f"{name}{tail}" for name in self.out_rows)
            self.put(f"{results} = {self.call('apply', self.op.apply, names)}")
            if self.op.label_value:
                entry = f"{self.out_rows[0]}{tail}"
                self.put(f"{entry} = labelled if at{tail} == label_value else {entry}")
            if self.need.label:
                for name in self.out_rows:
                    self.put(f"{name}{tail} = select(at{tail} < count, {name}{tail}, absent)")
        for name in self.out_rows:
            for v in range(self.kernel.vectors):
                entries = [f"{name}_{v}_{j}" for j in range(self.kernel.width)]
                if self.kernel.aligned:
                    with self.under(f"if at_{v}_0 < stop:"):
                        self.put(f"store_vector(row_{name}, vector_{v}, ({', '.join(entries)}))")
                    continue
                for j, entry in enumerate(entries):
                    with self.under(f"if at_{v}_{j} < stop:"):
                        at = f"multiply(at_{v}_{j}, {name}_inner)"
                        self.put(f"store_{self.kernel.dtype}(row_{name}, {at}, {entry})")

    # Rounds

    def rounds(self) -> None:
        """Sums and constants again and again, until no row's c0 is larger than its c."""
        looped = self.kernel.stage == "looped"
        self.put("m = MINUS_INF")
        with self.each_chunk(looped):
            self.largest()
        self.exchange_maximum()
        if not looped:
            self.prepare()
        self.put("c = START", "going = True")
        count = range(self.need.constants)
        self.put(*(f"c{j} = ZERO" for j in count))
        # all warps of a block hold the same rows, so they leave together
        with self.under("while anywhere(going):"):
            self.start_sums()
            if looped:
                with self.each_chunk(True):
                    self.prepare()
                    self.add_entries()
            else:
                self.add_entries()
            self.exchange_sums()
            self.totals()
            self.finished()
            self.put(*(f"c{j} = select(going, close(constant_{j}), c{j})" for j in count))
            self.put("going = going & (c0 > c)", "c = c0")
            if self.kernel.way == "block":
                self.put("cuda.syncthreads()")  # before the next round writes where this one reads
        if not looped:
            self.apply()
            return
        with self.each_chunk(True):
            self.prepare()
            self.apply()

    @contextmanager
    def each_chunk(self, looped: bool) -> Iterator[None]:
        """With the entries of the row, or of one chunk of it after the other."""
        if not looped:
            self.first_entry("")
            self.load()
            yield
            return
        self.put("chunk = number(0)")
        with self.under("while chunk < chunks:"):
            self.first_entry("chunk")
            self.load()
            yield
            self.put("chunk = add(chunk, number(1))")


def source(kernel: Rows) -> str:
    """The text of a kernel's function; N<k> in it is the index k."""
    return re.sub(r"number\((\d+)\)", r"N\1", RowText(kernel).text())


def numbers(text: str) -> set[int]:
    """The indices that a text names."""
    return {int(k) for k in re.findall(r"\bN(\d+)\b", text)}
