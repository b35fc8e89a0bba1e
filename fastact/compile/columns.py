"""Row ops over rows that lie across memory: axis 0, and rows too short to fill a vector.

TILE columns are taken together, each a row of the op; the vector runs over the columns. Entry r
of a column goes into lane r % LANES, and lanes are folded every SEGMENT entries: the same order
of additions as for a contiguous row, so the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import float64

from fastact.compile.abi import (
    FOLD,
    LANES,
    NARROW,
    R_EMPTY,
    R_INNER,
    R_LENGTH,
    R_OUTER,
    R_POINTERS,
    TILE,
)
from fastact.compile.cpu import CPU, inlined
from fastact.compile.driver import compiled, slot
from fastact.compile.kernels import NUMBA_TYPE, STORAGE
from fastact.compile.machine import stack
from fastact.compile.rows import UNITS, memory_access, no_weight, two_inputs
from fastact.compile.specialize import specialize
from fastact.compile.strips import bits_float, reader, strip, two_sum, wide_vectors, writer
from fastact.rowwise.record import RowOp

select = CPU.primitives["select"]
INF = float("inf")


def tile_passes(op: RowOp, dtype: str, computing: str) -> SimpleNamespace:
    """One tile of columns, whose inputs are stored as `dtype`.

    Returns `reduce` (maxima and sums of all columns of the tile) and `apply`.
    """
    real = NUMBA_TYPE[computing]
    memory = memory_access(dtype)
    read, write, item = memory.read, memory.write, memory.size
    size = np.dtype(computing).itemsize
    lane, wide = TILE * size, TILE * 8
    read_sum, write_sum = reader(computing, "sums"), writer(computing, "sums")
    read_total, write_total = reader("float64", "sums"), writer("float64", "sums")
    read_fixed, write_fixed = reader(computing, "weights"), writer(computing, "weights")
    weight = specialize(op.weight, computing, CPU) if op.weight else no_weight
    terms = two_inputs(specialize(op.terms, computing, CPU), len(op.inputs), 1)
    finished = two_inputs(specialize(op.apply, computing, CPU), len(op.inputs), 3)
    finish = specialize(op.finish, "float64", CPU)
    second, keyed = op.sums == 2, op.weight is not None
    lanes_size = LANES * lane
    unit = UNITS[computing]

    @inlined
    def fill_body(j, target, value):
        write_sum(target, j, value)

    @inlined
    def fill_total_body(j, totals):
        write_total(totals, j, 0.0)

    @inlined
    def start_max_body(j, m):
        write_fixed(m, j, real(-INF) if keyed else real(0.0))

    @inlined
    def max_body(j, m, x):
        value, largest = read(x, j), read_fixed(m, j)
        write_fixed(m, j, select(value > largest, value, largest))

    @inlined
    def sum_body(j, lanes, m, a, x):
        value, largest = read(x, j), read_fixed(m, j)
        s0, s1 = terms(weight(value, largest), read(a, j), value, largest)
        write_sum(lanes, j, read_sum(lanes, j) + s0)
        if second:
            other = lanes + lanes_size
            write_sum(other, j, read_sum(other, j) + s1)

    @inlined
    def widen_body(j, folds, lanes, upper):
        lower = float64(read_sum(lanes, j))
        write_total(folds, j, lower + float64(read_sum(upper, j)))

    @inlined
    def fold_body(j, folds, upper):
        write_total(folds, j, read_total(folds, j) + read_total(upper, j))

    @inlined
    def total_body(j, totals, folds):
        low = totals + 8 * 2 * TILE
        high, lost = two_sum(read_total(totals, j), read_total(low, j), read_total(folds, j))
        write_total(totals, j, high)
        write_total(low, j, lost)

    @inlined
    def finish_body(j, constants, totals, m, empty):
        largest = float64(read_fixed(m, j))
        s0 = read_total(totals, j) + read_total(totals + 8 * 2 * TILE, j)
        s1 = read_total(totals + 8 * TILE, j) + read_total(totals + 8 * 3 * TILE, j)
        c0, c1 = finish(largest, s0, s1, unit, empty)
        write_fixed(constants, j, real(c0))
        write_fixed(constants + size * TILE, j, real(c1))

    @inlined
    def apply_body(j, out, constants, m, a, x):
        value, largest = read(x, j), read_fixed(m, j)
        e = weight(value, largest)
        c0 = read_fixed(constants, j)
        c1 = read_fixed(constants + size * TILE, j)
        write(out, j, finished(e, read(a, j), value, largest, c0, c1))

    fill, fill_total, start_max = strip(fill_body), strip(fill_total_body), strip(start_max_body)
    max_strip, sum_strip = strip(max_body), strip(sum_body)
    widen_strip, fold_strip = strip(widen_body), strip(fold_body)
    total_strip, finish_strip, apply_strip = (
        strip(total_body),
        strip(finish_body),
        strip(apply_body),
    )

    @compiled
    def fold(lanes, folds, totals):
        """Empty the lanes into the totals, halves upon halves, in float64."""
        width = LANES // 2
        for k in range(width):
            widen_strip(TILE, (folds + wide * k, lanes + lane * k, lanes + lane * (k + width)))
        while width > 1:
            width //= 2
            for k in range(width):
                fold_strip(TILE, (folds + wide * k, folds + wide * (k + width)))
        total_strip(TILE, (totals, folds))
        fill(LANES * TILE, (lanes, real(0.0)))

    @compiled
    def reduce(m, lanes, folds, totals, constants, a, a_inner, x, x_inner, count, columns, empty):
        """Maxima, totals and the constants of every column of the tile."""
        start_max(TILE, (m,))
        if keyed:
            for r in range(count):
                max_strip(columns, (m, x + x_inner * r))
        fill(LANES * TILE * (1 + second), (lanes, real(0.0)))
        fill_total(4 * TILE, (totals,))
        for r in range(count):
            at = lanes + lane * (r % LANES)
            sum_strip(columns, (at, m, a + a_inner * r, x + x_inner * r))
            if (r + 1) % FOLD == 0 or r + 1 == count:
                fold(lanes, folds, totals)
                if second:
                    fold(lanes + lanes_size, folds, totals + 8 * TILE)
        finish_strip(TILE, (constants, totals, m, empty))

    @compiled
    def apply(out, out_inner, constants, m, a, a_inner, x, x_inner, count, columns):
        for r in range(count):
            apply_strip(
                columns, (out + out_inner * r, constants, m, a + a_inner * r, x + x_inner * r)
            )

    return SimpleNamespace(reduce=reduce, apply=apply, lanes_bytes=lanes_size * (1 + second))


def columns_task(op: RowOp, dtype: str) -> Callable[..., Any]:
    """The pool task of a row op on rows start to stop, taken TILE at a time as columns."""
    computing = STORAGE[dtype][1]
    memory = memory_access(dtype)
    item, size = memory.size, np.dtype(computing).itemsize
    read, write = memory.read, memory.write
    read_staged, write_staged = reader(computing, ""), writer(computing, "")
    in_place = tile_passes(op, dtype, computing)
    staged = in_place if dtype == computing else tile_passes(op, computing, computing)
    inputs = len(op.inputs)
    last = inputs - 1
    lanes_bytes = in_place.lanes_bytes
    fixed_bytes = TILE * size
    constants_bytes, totals_bytes = 2 * TILE * size, 4 * TILE * 8
    folds_bytes = LANES // 2 * TILE * 8
    area_bytes = NARROW * TILE * size
    areas_bytes = 3 * area_bytes
    reduce, apply = in_place.reduce, in_place.apply
    reduce_staged, apply_staged = staged.reduce, staged.apply

    @compiled
    def stage(job, k, first, columns, area):
        """Short rows turned into columns of the computing dtype."""
        outer, inner = slot(job, R_OUTER + k), slot(job, R_INNER + k)
        base = slot(job, R_POINTERS + k) + first * outer
        for j in range(columns):
            for r in range(slot(job, R_LENGTH)):
                write_staged(area, TILE * r + j, read(base + outer * j + inner * r, 0))

    @compiled
    def unstage(job, k, first, columns, area):
        outer, inner = slot(job, R_OUTER + k), slot(job, R_INNER + k)
        base = slot(job, R_POINTERS + k) + first * outer
        for j in range(columns):
            for r in range(slot(job, R_LENGTH)):
                write(base + outer * j + inner * r, 0, read_staged(area, TILE * r + j))

    @compiled
    def across_memory(job):
        """Whether neighbouring columns are neighbours in memory, in every operand."""
        for k in range(inputs + 1):
            if slot(job, R_OUTER + k) != item:
                return False
        return True

    @compiled
    def task(job, start, stop):
        wide_vectors()
        m, constants = stack(fixed_bytes), stack(constants_bytes)
        lanes, folds, totals = stack(lanes_bytes), stack(folds_bytes), stack(totals_bytes)
        areas = stack(areas_bytes)
        count = slot(job, R_LENGTH)
        empty = bits_float(slot(job, R_EMPTY))
        direct = across_memory(job)
        row = fixed_bytes
        for first in range(start, stop, TILE):
            columns = min(TILE, stop - first)
            if direct:
                a = slot(job, R_POINTERS) + first * item
                x = slot(job, R_POINTERS + last) + first * item
                out = slot(job, R_POINTERS + inputs) + first * item
                a_inner, x_inner = slot(job, R_INNER), slot(job, R_INNER + last)
                reduce(
                    m, lanes, folds, totals, constants, a, a_inner, x, x_inner, count, columns, empty
                )
                out_inner = slot(job, R_INNER + inputs)
                apply(out, out_inner, constants, m, a, a_inner, x, x_inner, count, columns)
            else:
                stage(job, 0, first, columns, areas)
                x = areas
                if inputs == 2:
                    x = areas + area_bytes
                    stage(job, 1, first, columns, x)
                out = areas + 2 * area_bytes
                reduce_staged(
                    m, lanes, folds, totals, constants, areas, row, x, row, count, TILE, empty
                )
                apply_staged(out, row, constants, m, areas, row, x, row, count, TILE)
                unstage(job, inputs, first, columns, out)
        return 0

    return task
