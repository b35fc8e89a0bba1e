"""The inner loop of every gufunc of fastact: rows in the form that suits their layout.

Rows go to the workers in ranges; a row longer than LONG is cut into blocks that they share.
"""

from __future__ import annotations

from fastact.compile.abi import (
    CONSTANT_SLOTS,
    JOB_GRAIN,
    JOB_TASK,
    JOB_TOTAL,
    LONG,
    LOOP_ALWAYS_NARROW,
    LOOP_AXES,
    LOOP_EMPTY,
    LOOP_INDEX,
    LOOP_ITEMSIZE,
    LOOP_LARGE,
    LOOP_MASK,
    LOOP_OPERANDS,
    LOOP_ROW_ENTRIES,
    LOOP_ROW_STREAMING,
    LOOP_STATE,
    LOOP_THRESHOLD,
    MAX_BLOCKS,
    NARROW,
    PARTIAL_SLOTS,
    R_BLOCK,
    R_CONSTANTS,
    R_EMPTY,
    R_INNER,
    R_ITEMSIZE,
    R_LENGTH,
    R_OUTER,
    R_PARTIAL,
    R_POINTERS,
    R_ROW,
    R_ROWS,
    R_STAGE,
    R_UNSTAGE,
    SEGMENT,
    STATE_RESOLVE,
    STATE_TARGET,
    STATE_THREADS,
    STREAMING,
    TARGET_PARALLEL,
    TILE,
    entry_slot,
)
from fastact.compile.machine import call2, call3, clear_bytes, clear_float_flags, load, move1, stack
from fastact.compile.pool import JOB_BYTES, LEAST, range_of, run
from fastact.compile.slots import compiled, raise_in_caller, set_slot, slot
from fastact.compile.staging import gather, scatter

STAGE_ENTRIES = entry_slot("stage_entries")
UNSTAGE_ENTRIES = entry_slot("unstage_entries")
PARTIAL_BYTES = 8 * PARTIAL_SLOTS * (MAX_BLOCKS + 1)
CONSTANT_BYTES = 8 * CONSTANT_SLOTS
REACH = 1 << 24  # bytes: how far apart entries that one vector gathers may lie
LOOP_ROWS, LOOP_COLUMNS, LOOP_NARROW, LOOP_PARTIAL = range(LOOP_ROW_ENTRIES, LOOP_ROW_ENTRIES + 4)


@compiled
def stage_entries(job, k, row, index, count, area, itemsize):
    """Entries of a row of operand k, from `index` on, made contiguous."""
    step = slot(job, R_INNER + k)
    source = slot(job, R_POINTERS + k) + row * slot(job, R_OUTER + k) + index * step
    if itemsize == 1:
        for i in range(count):
            move1(area + i, source + step * i)
    else:
        gather(area, source, step, count, itemsize)
    return 0


@compiled
def unstage_entries(job, k, row, index, count, area):
    """Contiguous results brought to their place in a row of operand k."""
    step = slot(job, R_INNER + k)
    target = slot(job, R_POINTERS + k) + row * slot(job, R_OUTER + k) + index * step
    scatter(target, step, area, count, slot(job, R_ITEMSIZE))
    return 0


@compiled
def row_form(loop, job, operands, count, length):
    """The task that suits the layout of a job: rows, columns, or rows read across."""
    axes, itemsize = slot(loop, LOOP_AXES), slot(loop, LOOP_ITEMSIZE)
    across, along, near = True, True, True
    for k in range(operands):
        if axes >> k & 1 != 0:
            outer, inner = slot(job, R_OUTER + k), slot(job, R_INNER + k)
            across = across and outer == itemsize
            along = along and inner == itemsize
            near = near and abs(outer) < REACH and abs(inner) < REACH
    if slot(loop, LOOP_MASK) >= 0 or count < 2:
        return LOOP_ROWS
    narrow = near and length <= NARROW
    if across and not along and count >= 8 and not (narrow and slot(loop, LOOP_ALWAYS_NARROW) != 0):
        return LOOP_COLUMNS
    if narrow:
        return LOOP_NARROW
    return LOOP_ROWS


@compiled
def streams(loop, job, operands, count, length):
    """Whether rows are contiguous, follow each other, and are far more than the caches hold."""
    if count < 2 or count * length < slot(loop, LOOP_LARGE):
        return False
    axes, itemsize = slot(loop, LOOP_AXES), slot(loop, LOOP_ITEMSIZE)
    for k in range(operands):
        if axes >> k & 1 != 0:
            if slot(job, R_INNER + k) != itemsize or slot(job, R_OUTER + k) != itemsize * length:
                return False
            if slot(job, R_POINTERS + k) % itemsize != 0:
                return False
    return True


@compiled
def run_blocks(state, loop, job, task, blocks, shared):
    """A task on all blocks of a long row."""
    set_slot(job, JOB_TASK, task)
    if shared:
        run(state, loop, job, slot(job, R_LENGTH))
    else:
        call3(task, job, 0, blocks)


@compiled
def long_row(state, loop, job, shared):
    """One row longer than LONG, cut into blocks that the pool may share."""
    length = slot(job, R_LENGTH)
    block = max(LONG // 2, (length // MAX_BLOCKS // SEGMENT + 1) * SEGMENT)
    blocks = (length + block - 1) // block
    partial, constants = stack(PARTIAL_BYTES), stack(CONSTANT_BYTES)
    set_slot(job, R_BLOCK, block)
    set_slot(job, R_PARTIAL, partial)
    set_slot(job, R_CONSTANTS, constants)
    set_slot(job, JOB_TOTAL, blocks)
    set_slot(job, JOB_GRAIN, 1)
    clear_bytes(constants, CONSTANT_BYTES)
    apply = slot(loop, LOOP_PARTIAL + 2)
    while True:
        run_blocks(state, loop, job, slot(loop, LOOP_PARTIAL), blocks, shared)
        if call3(slot(loop, LOOP_PARTIAL + 1), job, 0, blocks) == 0:  # combine: another round?
            break
    if apply != 0:
        run_blocks(state, loop, job, apply, blocks, shared)


@compiled
def row_loop(args, dims, steps, loop):
    """NumPy's inner loop for every gufunc of fastact."""
    state = slot(loop, LOOP_STATE)
    if slot(loop, LOOP_ROWS) == 0:
        call2(slot(state, STATE_RESOLVE), slot(loop, LOOP_INDEX), 0)
        if slot(loop, LOOP_ROWS) == 0:
            raise_in_caller(state, loop)
            return
    count, length = load(dims), slot(dims, 1)
    operands, axes = slot(loop, LOOP_OPERANDS), slot(loop, LOOP_AXES)
    job = stack(JOB_BYTES)
    inner = operands  # NumPy lists the strides along the row after the others
    for k in range(operands):
        set_slot(job, R_POINTERS + k, slot(args, k))
        set_slot(job, R_OUTER + k, slot(steps, k))
        set_slot(job, R_INNER + k, 0)
        if axes >> k & 1 != 0:
            set_slot(job, R_INNER + k, slot(steps, inner))
            inner += 1
    set_slot(job, R_LENGTH, length)
    set_slot(job, R_EMPTY, slot(loop, LOOP_EMPTY))
    set_slot(job, R_ITEMSIZE, slot(loop, LOOP_ITEMSIZE))
    set_slot(job, R_STAGE, slot(state, STAGE_ENTRIES))
    set_slot(job, R_UNSTAGE, slot(state, UNSTAGE_ENTRIES))
    set_slot(job, R_ROWS, slot(loop, LOOP_ROWS))
    enough = 2 if slot(state, STATE_TARGET) == TARGET_PARALLEL else slot(loop, LOOP_THRESHOLD)
    shared = count * length >= enough
    if length > LONG:
        for row in range(count):
            set_slot(job, R_ROW, row)
            long_row(state, loop, job, shared)
    else:
        form = row_form(loop, job, operands, count, length)
        task = slot(loop, form)
        if form == LOOP_ROWS and streams(loop, job, operands, count, length):
            if slot(loop, LOOP_ROW_STREAMING) == 0:
                call2(slot(state, STATE_RESOLVE), slot(loop, LOOP_INDEX), STREAMING)
                if slot(loop, LOOP_ROW_STREAMING) == 0:
                    raise_in_caller(state, loop)
                    return
            task = slot(loop, LOOP_ROW_STREAMING)
        shared = shared and count > 1
        if shared:
            unit = 1 if form == LOOP_ROWS else TILE
            least = LEAST // max(length, 1)
            if form == LOOP_COLUMNS:  # stretches of 512 bytes: halves take up to 1.4 times as long
                least = max(least, min(count // slot(state, STATE_THREADS), 2 * TILE))
            set_slot(job, JOB_TASK, task)
            set_slot(job, JOB_TOTAL, count)
            set_slot(job, JOB_GRAIN, range_of(state, count, least, unit))
            run(state, loop, job, count * length)
        else:
            call3(task, job, 0, count)
    clear_float_flags()
