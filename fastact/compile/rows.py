"""Row ops -> compiled row tasks.

A row is read in strips of LANES entries. Each strip is an inner loop that LLVM turns into one
or a few vectors; lane j sums the entries j, j + LANES, ..., which fixes the order of the sum
whatever the vector width. Laid across memory (axis 0), the same lanes run over a tile of
columns instead, so that both layouts give the same bits.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import float64

from fastact.compile.abi import (
    FOLD,
    LANES,
    R_BLOCK,
    R_C0,
    R_C1,
    R_EMPTY,
    R_INNER,
    R_LENGTH,
    R_MAX,
    R_OUTER,
    R_PARTIAL,
    R_POINTERS,
    R_ROW,
    SEGMENT,
)
from fastact.compile.cpu import CPU, inlined
from fastact.compile.driver import compiled, set_slot, slot
from fastact.compile.kernels import NUMBA_TYPE, STORAGE
from fastact.compile.machine import stack
from fastact.compile.specialize import specialize
from fastact.compile.strips import (
    bits_float,
    float_bits,
    fold_max,
    fold_sum,
    reader,
    strip,
    two_sum,
    wide_vectors,
    writer,
)
from fastact.rowwise.record import RowOp

select = CPU.primitives["select"]
CHAIN = FOLD // LANES  # strips between two folds
UNITS = {"float32": 2.0**-64, "float64": 2.0**-512}
INF = float("inf")


@inlined
def no_weight(x, m):
    return x


def two_inputs(function: Any, inputs: int, tail: int) -> Any:
    """A scalar of (e, x, ...) as one of (e, a, x, ...): every row task has two inputs."""
    if inputs == 2:
        return function
    if tail == 1:
        return inlined(lambda e, a, x, m: function(e, x, m))
    return inlined(lambda e, a, x, m, c0, c1: function(e, x, m, c0, c1))


def memory_access(dtype: str) -> SimpleNamespace:
    """Readers and writers of one stored dtype, tagged with what they touch."""
    return SimpleNamespace(
        read=reader(dtype, "inputs"),
        write=writer(dtype, "outputs"),
        size=np.dtype(dtype).itemsize if dtype != "bfloat16" else 2,
    )


def row_passes(op: RowOp, dtype: str) -> SimpleNamespace:
    """The strips over contiguous entries of the computing dtype."""
    computing = STORAGE[dtype][1]
    real = NUMBA_TYPE[computing]
    stored, plain = memory_access(dtype), memory_access(computing)
    take, put = plain.read, plain.write
    item, size = stored.size, plain.size
    read, write = stored.read, stored.write
    read_sum, write_sum = reader(computing, "sums"), writer(computing, "sums")
    read_weight, write_weight = reader(computing, "weights"), writer(computing, "weights")
    read_staged, write_staged = reader(computing, ""), writer(computing, "")
    weight = specialize(op.weight, computing, CPU) if op.weight else no_weight
    terms = two_inputs(specialize(op.terms, computing, CPU), len(op.inputs), 1)
    finished = two_inputs(specialize(op.apply, computing, CPU), len(op.inputs), 3)
    second = op.sums == 2
    step = LANES * size

    @inlined
    def max_body(j, lanes, x):
        value = take(x, j)
        largest = read_sum(lanes, j)
        write_sum(lanes, j, select(value > largest, value, largest))

    @inlined
    def add_terms(j, lanes, e, a, x, m):
        s0, s1 = terms(e, a, x, m)
        write_sum(lanes, j, read_sum(lanes, j) + s0)
        if second:
            other = lanes + step
            write_sum(other, j, read_sum(other, j) + s1)

    @inlined
    def sum_body(j, lanes, a, x, m):
        value = take(x, j)
        add_terms(j, lanes, weight(value, m), take(a, j), value, m)

    @inlined
    def sum_keep_body(j, lanes, weights, a, x, m):
        value = take(x, j)
        e = weight(value, m)
        write_weight(weights, j, e)
        add_terms(j, lanes, e, take(a, j), value, m)

    @inlined
    def apply_body(j, out, a, x, m, c0, c1):
        value = take(x, j)
        e = weight(value, m)
        put(out, j, finished(e, take(a, j), value, m, c0, c1))

    @inlined
    def apply_kept_body(j, out, weights, a, x, m, c0, c1):
        e = read_weight(weights, j)
        value = take(x, j)
        put(out, j, finished(e, take(a, j), value, m, c0, c1))

    @inlined
    def load_body(j, target, source):
        write_staged(target, j, read(source, j))

    @inlined
    def save_body(j, target, source):
        write(target, j, read_staged(source, j))

    @inlined
    def fill_body(j, target, value):
        write_sum(target, j, value)

    fill, load, save = strip(fill_body), strip(load_body), strip(save_body)
    max_strip, sum_strip, sum_keep_strip, apply_strip, apply_kept_strip = (
        strip(body, step // 64)  # one pass over LANES entries, no loop left
        for body in (max_body, sum_body, sum_keep_body, apply_body, apply_kept_body)
    )

    zero = np.dtype(computing).type(0.0)
    sum_of = fold_sum(computing)

    @compiled
    def stage(target, source, stride, count, padding):
        """Stored entries as contiguous ones of the computing dtype, padded to whole strips."""
        if stride == item:
            load(count, (target, source))
        else:
            for i in range(count):
                write_staged(target, i, read(source + stride * i, 0))
        for i in range(count, (count + LANES - 1) // LANES * LANES):
            write_staged(target, i, real(padding))

    @compiled
    def unstage(target, stride, source, count):
        if stride == item:
            save(count, (target, source))
        else:
            for i in range(count):
                write(target + stride * i, 0, read_staged(source, i))

    @compiled
    def folded(lanes, totals):
        """Empty the lanes into the totals."""
        h0, l0, h1, l1 = totals
        h0, l0 = two_sum(h0, l0, sum_of(lanes))
        if second:
            h1, l1 = two_sum(h1, l1, sum_of(lanes + step))
        fill(LANES * (1 + second), (lanes, zero))
        return h0, l0, h1, l1

    @compiled
    def largest(lanes, x, strips):
        for k in range(strips):
            max_strip(LANES, (lanes, x + step * k))

    @compiled
    def sums(totals, lanes, a, x, m, strips):
        for k in range(0, strips, CHAIN):
            for o in range(step * k, step * min(k + CHAIN, strips), step):
                sum_strip(LANES, (lanes, a + o, x + o, m))
            totals = folded(lanes, totals)
        return totals

    @compiled
    def sums_keeping(totals, lanes, weights, a, x, m, strips):
        for k in range(0, strips, CHAIN):
            for o in range(step * k, step * min(k + CHAIN, strips), step):
                sum_keep_strip(LANES, (lanes, weights + o, a + o, x + o, m))
            totals = folded(lanes, totals)
        return totals

    @compiled
    def apply(out, a, x, m, c0, c1, strips):
        for k in range(strips):
            o = step * k
            apply_strip(LANES, (out + o, a + o, x + o, m, c0, c1))

    @compiled
    def apply_kept(out, weights, a, x, m, c0, c1, strips):
        for k in range(strips):
            o = step * k
            apply_kept_strip(LANES, (out + o, weights + o, a + o, x + o, m, c0, c1))

    return SimpleNamespace(
        stage=stage,
        unstage=unstage,
        fill=fill,
        largest=largest,
        sums=sums,
        sums_keeping=sums_keeping,
        apply=apply,
        apply_kept=apply_kept,
    )


def row_tasks(op: RowOp, dtype: str) -> dict[str, Any]:
    """The pool tasks of a row op on rows taken one by one."""
    computing = STORAGE[dtype][1]
    real = NUMBA_TYPE[computing]
    passes = row_passes(op, dtype)
    finish = specialize(op.finish, "float64", CPU)
    merge = specialize(op.merge, "float64", CPU)
    weight64 = specialize(op.weight, "float64", CPU) if op.weight else None
    size = np.dtype(computing).itemsize
    item = memory_access(dtype).size
    maximum_of = fold_max(computing)
    keyed = op.weight is not None
    native = computing == dtype
    inputs = len(op.inputs)
    unit, unit64 = UNITS[computing], UNITS["float64"]
    zero = np.dtype(computing).type(0.0)
    segment_bytes = SEGMENT * size
    lanes_bytes = 2 * LANES * size
    scratch_bytes = 4 * segment_bytes
    stage, unstage, fill = passes.stage, passes.unstage, passes.fill
    largest, sums, sums_keeping = passes.largest, passes.sums, passes.sums_keeping
    apply, apply_kept = passes.apply, passes.apply_kept

    @compiled
    def operand(job, k, row, index):
        """The address of an entry of operand k."""
        outer, inner = slot(job, R_OUTER + k), slot(job, R_INNER + k)
        return slot(job, R_POINTERS + k) + row * outer + index * inner

    @compiled
    def direct(job, k, count):
        """Whether an operand can be used where it lies."""
        return native and slot(job, R_INNER + k) == item and count % LANES == 0

    @compiled
    def view(job, k, row, index, count, area, padding):
        """The address of `count` entries of an input, in place or staged."""
        source = operand(job, k, row, index)
        if direct(job, k, count):
            return source
        stage(area, source, slot(job, R_INNER + k), count, padding)
        return area

    @compiled
    def views(job, row, index, count, scratch):
        x = view(job, inputs - 1, row, index, count, scratch, -INF if keyed else 0.0)
        if inputs == 1:
            return x, x
        return view(job, 0, row, index, count, scratch + segment_bytes, 0.0), x

    @compiled
    def reduce_range(job, row, start, stop, lanes, scratch):
        """Maximum and sums of the entries start to stop of a row."""
        m = real(0.0)
        if keyed:
            fill(LANES, (lanes, real(-INF)))
            for at in range(start, stop, SEGMENT):
                count = min(SEGMENT, stop - at)
                x = view(job, inputs - 1, row, at, count, scratch, -INF)
                largest(lanes, x, (count + LANES - 1) // LANES)
            m = maximum_of(lanes)
        fill(2 * LANES, (lanes, zero))
        totals = (0.0, 0.0, 0.0, 0.0)
        for at in range(start, stop, SEGMENT):
            count = min(SEGMENT, stop - at)
            a, x = views(job, row, at, count, scratch)
            totals = sums(totals, lanes, a, x, m, (count + LANES - 1) // LANES)
        return m, totals[0] + totals[1], totals[2] + totals[3]

    @compiled
    def apply_range(job, row, start, stop, m, c0, c1, scratch):
        for at in range(start, stop, SEGMENT):
            count = min(SEGMENT, stop - at)
            strips = (count + LANES - 1) // LANES
            a, x = views(job, row, at, count, scratch)
            target = operand(job, inputs, row, at)
            if direct(job, inputs, count):
                apply(target, a, x, m, c0, c1, strips)
            else:
                area = scratch + 2 * segment_bytes
                apply(area, a, x, m, c0, c1, strips)
                unstage(target, slot(job, R_INNER + inputs), area, count)

    @compiled
    def short_row(job, row, count, lanes, scratch):
        """A row that fits the scratch area: read once, each weight computed once."""
        strips = (count + LANES - 1) // LANES
        weights = scratch + 2 * segment_bytes
        a, x = views(job, row, 0, count, scratch)
        m = real(0.0)
        if keyed:
            fill(LANES, (lanes, real(-INF)))
            largest(lanes, x, strips)
            m = maximum_of(lanes)
        fill(2 * LANES, (lanes, zero))
        h0, l0, h1, l1 = sums_keeping((0.0, 0.0, 0.0, 0.0), lanes, weights, a, x, m, strips)
        c0, c1 = finish(float64(m), h0 + l0, h1 + l1, unit, bits_float(slot(job, R_EMPTY)))
        target = operand(job, inputs, row, 0)
        if direct(job, inputs, count):
            apply_kept(target, weights, a, x, m, real(c0), real(c1), strips)
        else:
            area = scratch + 3 * segment_bytes
            apply_kept(area, weights, a, x, m, real(c0), real(c1), strips)
            unstage(target, slot(job, R_INNER + inputs), area, count)

    @compiled
    def partial_task(job, start, stop):
        """Maxima and sums of the blocks start to stop of one long row."""
        wide_vectors()
        lanes, scratch = stack(lanes_bytes), stack(scratch_bytes)
        block = slot(job, R_BLOCK)
        for b in range(start, stop):
            low = b * block
            high = min(low + block, slot(job, R_LENGTH))
            m, s0, s1 = reduce_range(job, slot(job, R_ROW), low, high, lanes, scratch)
            at = slot(job, R_PARTIAL) + 24 * b
            set_slot(at, 0, float_bits(float64(m)))
            set_slot(at, 1, float_bits(s0))
            set_slot(at, 2, float_bits(s1))
        return 0

    @compiled
    def combine_task(job, start, stop):
        """The blocks' maxima and sums, combined in order, and the constants of the row."""
        m = -INF
        for b in range(start, stop):
            m = max(m, bits_float(slot(slot(job, R_PARTIAL) + 24 * b, 0)))
        s0, s1 = 0.0, 0.0
        for b in range(start, stop):
            at = slot(job, R_PARTIAL) + 24 * b
            factor = 1.0
            if keyed:
                factor = weight64(bits_float(slot(at, 0)), m) * unit64
            p0, p1 = merge(bits_float(slot(at, 1)), bits_float(slot(at, 2)), factor, unit)
            s0 += p0
            s1 += p1
        c0, c1 = finish(m, s0, s1, unit, bits_float(slot(job, R_EMPTY)))
        set_slot(job, R_MAX, float_bits(m))
        set_slot(job, R_C0, float_bits(c0))
        set_slot(job, R_C1, float_bits(c1))
        return 0

    @compiled
    def apply_task(job, start, stop):
        """The outputs of the blocks start to stop of one long row."""
        wide_vectors()
        scratch = stack(scratch_bytes)
        block = slot(job, R_BLOCK)
        m = real(bits_float(slot(job, R_MAX)))
        c0 = real(bits_float(slot(job, R_C0)))
        c1 = real(bits_float(slot(job, R_C1)))
        high = min(stop * block, slot(job, R_LENGTH))
        apply_range(job, slot(job, R_ROW), start * block, high, m, c0, c1, scratch)
        return 0

    @compiled
    def rows_task(job, start, stop):
        """Rows start to stop, none longer than LONG."""
        wide_vectors()
        lanes, scratch = stack(lanes_bytes), stack(scratch_bytes)
        count = slot(job, R_LENGTH)
        for row in range(start, stop):
            if count <= SEGMENT:
                short_row(job, row, count, lanes, scratch)
            else:
                m, s0, s1 = reduce_range(job, row, 0, count, lanes, scratch)
                c0, c1 = finish(float64(m), s0, s1, unit, bits_float(slot(job, R_EMPTY)))
                apply_range(job, row, 0, count, m, real(c0), real(c1), scratch)
        return 0

    return {
        "rows": rows_task,
        "partial": partial_task,
        "combine": combine_task,
        "apply": apply_task,
    }
