"""The inner loop of every elementwise ufunc: the data pointer names the kernel.

It stages what is not contiguous, and the last partial block, through a small scratch area, so
that each element passes through the same vector code whatever its position, stride or thread;
and it shares large ranges with the workers.
"""

from __future__ import annotations

from fastact.compile.abi import (
    BLOCK,
    JOB_CONTEXT,
    JOB_GRAIN,
    JOB_TASK,
    JOB_TOTAL,
    LINE,
    LOOP_ARRAYS,
    LOOP_DEFAULTS,
    LOOP_INDEX,
    LOOP_ITEMSIZE,
    LOOP_KERNEL,
    LOOP_LARGE,
    LOOP_OUTPUTS,
    LOOP_PARAMETER_ITEMSIZE,
    LOOP_PARAMETERS,
    LOOP_STATE,
    LOOP_THRESHOLD,
    MAX_OPERANDS,
    STATE_RESOLVE,
    STATE_TARGET,
    STREAMING,
    TARGET_PARALLEL,
    TARGET_SERIAL,
    entry_slot,
)
from fastact.compile.machine import (
    call2,
    call3,
    clear_float_flags,
    copy_bytes,
    load,
    stack,
)
from fastact.compile.pool import JOB_BYTES, LEAST, range_of, run
from fastact.compile.slots import compiled, raise_in_caller, set_slot, slot
from fastact.compile.staging import gather, pad, scatter

# Elements staged at once. Eight operands of eight bytes fill 32 KiB: they stay in the
# first-level cache beside the strided lines that they come from.
CHUNK = 512
SCRATCH = CHUNK * 8
SCRATCH_BYTES = SCRATCH * MAX_OPERANDS
OPERAND_BYTES = MAX_OPERANDS * 8
TAIL = BLOCK * 8
TAIL_BYTES = TAIL * MAX_OPERANDS
ELEMENTWISE_TASK = entry_slot("elementwise_task")

# Slots of an elementwise job, after the common ones.
E_KERNEL = JOB_CONTEXT
E_INPUTS = JOB_CONTEXT + 1  # operands to stage on the way in
E_FIXED = JOB_CONTEXT + 2  # scalar parameters, passed as they are
E_OUTPUTS = JOB_CONTEXT + 3
E_ITEMSIZE = JOB_CONTEXT + 4
E_PARAMETER_ITEMSIZE = JOB_CONTEXT + 5
E_ARRAYS = JOB_CONTEXT + 6
E_WHOLE = JOB_CONTEXT + 7  # the kernel for whole blocks that lie contiguous
E_POINTERS = JOB_CONTEXT + 8
E_STEPS = E_POINTERS + MAX_OPERANDS


@compiled
def operand_itemsize(job, index):
    """Bytes per element: broadcast parameters have an itemsize of their own."""
    arrays = slot(job, E_ARRAYS)
    if index >= arrays and index < slot(job, E_INPUTS):
        return slot(job, E_PARAMETER_ITEMSIZE)
    return slot(job, E_ITEMSIZE)


@compiled
def elementwise_task(job, start, stop):
    """Elements start to stop of an elementwise job."""
    kernel = slot(job, E_KERNEL)
    inputs = slot(job, E_INPUTS)
    fixed = slot(job, E_FIXED)
    first_output = inputs + fixed
    operands = first_output + slot(job, E_OUTPUTS)
    current = stack(OPERAND_BYTES)
    scratch = stack(SCRATCH_BYTES)

    contiguous = True
    for k in range(operands):
        step = slot(job, E_STEPS + k)
        pointer = slot(job, E_POINTERS + k)
        if k >= inputs and k < first_output:
            set_slot(current, k, pointer)
        else:
            contiguous = contiguous and step == operand_itemsize(job, k)
            set_slot(current, k, pointer + start * step)
    if contiguous:
        blocks = (stop - start) // BLOCK
        if blocks > 0:
            call2(slot(job, E_WHOLE), blocks, current)
            start += blocks * BLOCK

    while start < stop:
        count = min(stop - start, CHUNK)
        blocks = (count + BLOCK - 1) // BLOCK
        whole = blocks * BLOCK == count
        for k in range(operands):
            if k < inputs or k >= first_output:
                itemsize = operand_itemsize(job, k)
                step = slot(job, E_STEPS + k)
                source = slot(job, E_POINTERS + k) + start * step
                if whole and step == itemsize:
                    set_slot(current, k, source)
                else:
                    area = scratch + SCRATCH * k
                    set_slot(current, k, area)
                    if k < inputs:
                        gather(area, source, step, count, itemsize)
                        pad(area, count, blocks * BLOCK, itemsize)
        call2(kernel, blocks, current)
        for k in range(first_output, operands):
            itemsize = slot(job, E_ITEMSIZE)
            step = slot(job, E_STEPS + k)
            if not (whole and step == itemsize):
                target = slot(job, E_POINTERS + k) + start * step
                scatter(target, step, scratch + SCRATCH * k, count, itemsize)
        start += count
    return 0


@compiled
def independent(job, count, operands, first_output):
    """Whether ranges of a job may run in any order.

    NumPy lets an output overlap an input without being it, as long as a loop that goes forward
    reads each element before it is overwritten. Ranges that run side by side do not.
    """
    for output in range(first_output, operands):
        target, step = slot(job, E_POINTERS + output), slot(job, E_STEPS + output)
        low = target + min(0, step * (count - 1))
        high = target + max(0, step * (count - 1))
        for k in range(first_output):
            source, stride = slot(job, E_POINTERS + k), slot(job, E_STEPS + k)
            if source != target or stride != step:
                first = source + min(0, stride * (count - 1))
                last = source + max(0, stride * (count - 1))
                if first <= high + 7 and low <= last + 7:
                    return False
    return True


@compiled
def quick(loop, args, steps, count):
    """A contiguous call without parameter operands on the calling thread; False if it is none.

    This is what small arrays meet, where every nanosecond shows: no job, no 32 KiB of scratch.
    """
    arrays = slot(loop, LOOP_ARRAYS)
    parameters = slot(loop, LOOP_PARAMETERS)
    outputs = slot(loop, LOOP_OUTPUTS)
    defaults = slot(loop, LOOP_DEFAULTS)
    itemsize = slot(loop, LOOP_ITEMSIZE)
    kernel = slot(loop, LOOP_KERNEL)
    if kernel == 0 or (parameters != 0 and defaults == 0):
        return False
    for k in range(arrays + outputs):
        if slot(steps, k) != itemsize:
            return False
    operands = stack(OPERAND_BYTES)
    scratch = stack(TAIL_BYTES)
    first_output = arrays + parameters
    for k in range(arrays):
        set_slot(operands, k, slot(args, k))
    for k in range(parameters):
        set_slot(operands, arrays + k, defaults + 8 * k)
    for k in range(outputs):
        set_slot(operands, first_output + k, slot(args, arrays + k))
    blocks = count // BLOCK
    if blocks > 0:
        call2(kernel, blocks, operands)
    rest = count - blocks * BLOCK
    if rest > 0:
        done = blocks * BLOCK * itemsize
        area = scratch
        for k in range(arrays):
            copy_bytes(area, slot(args, k) + done, rest * itemsize)
            pad(area, rest, BLOCK, itemsize)
            set_slot(operands, k, area)
            area += TAIL
        for k in range(outputs):
            set_slot(operands, first_output + k, area + TAIL * k)
        call2(kernel, 1, operands)
        for k in range(outputs):
            copy_bytes(slot(args, arrays + k) + done, area + TAIL * k, rest * itemsize)
    return True


@compiled
def kernel_of(state, loop, variant):
    """A kernel of the loop, compiled if need be; 0 if that failed and the caller was told."""
    kernel = slot(loop, LOOP_KERNEL + variant)
    if kernel == 0:
        call2(slot(state, STATE_RESOLVE), slot(loop, LOOP_INDEX), variant)
        kernel = slot(loop, LOOP_KERNEL + variant)
        if kernel == 0:
            raise_in_caller(state, loop)
    return kernel


@compiled
def before_line(job, operands, first_output):
    """How many elements come before the outputs reach a cache line together; -1: they do not.

    Only contiguous operands count: what is staged cannot stream.
    """
    itemsize = slot(job, E_ITEMSIZE)
    head = -1
    for k in range(operands):
        if k < slot(job, E_ARRAYS) or k >= first_output:
            if slot(job, E_STEPS + k) != itemsize:
                return -1
            if k >= first_output:
                rest = -slot(job, E_POINTERS + k) & (LINE - 1)
                if rest % itemsize != 0 or (head >= 0 and rest != head):
                    return -1
                head = rest
    return head // itemsize


@compiled
def ufunc_loop(args, dims, steps, loop):
    """NumPy's inner loop for every elementwise ufunc of fastact."""
    state = slot(loop, LOOP_STATE)
    count = load(dims)
    target = slot(state, STATE_TARGET)
    large = count >= slot(loop, LOOP_LARGE)
    small = not large and (
        target == TARGET_SERIAL
        or (target != TARGET_PARALLEL and count < slot(loop, LOOP_THRESHOLD))
    )
    if small and quick(loop, args, steps, count):
        clear_float_flags()
        return
    arrays = slot(loop, LOOP_ARRAYS)
    parameters = slot(loop, LOOP_PARAMETERS)
    outputs = slot(loop, LOOP_OUTPUTS)
    defaults = slot(loop, LOOP_DEFAULTS)
    job = stack(JOB_BYTES)

    source = 0
    broadcast = 0
    for k in range(arrays + parameters + outputs):
        if defaults != 0 and k >= arrays and k < arrays + parameters:
            set_slot(job, E_POINTERS + k, defaults + 8 * (k - arrays))
            set_slot(job, E_STEPS + k, 0)
        else:
            step = slot(steps, source)
            set_slot(job, E_POINTERS + k, slot(args, source))
            set_slot(job, E_STEPS + k, step)
            source += 1
            if k >= arrays and k < arrays + parameters and step != 0 and count > 1:
                broadcast = 1

    kernel = kernel_of(state, loop, broadcast)
    if kernel == 0:
        return
    set_slot(job, E_KERNEL, kernel)
    set_slot(job, E_INPUTS, arrays + parameters * broadcast)
    set_slot(job, E_FIXED, parameters * (1 - broadcast))
    set_slot(job, E_OUTPUTS, outputs)
    set_slot(job, E_ARRAYS, arrays)
    set_slot(job, E_ITEMSIZE, slot(loop, LOOP_ITEMSIZE))
    set_slot(job, E_PARAMETER_ITEMSIZE, slot(loop, LOOP_PARAMETER_ITEMSIZE))

    operands = arrays + parameters + outputs
    set_slot(job, E_WHOLE, kernel)
    if large and broadcast == 0:
        head = before_line(job, operands, arrays + parameters)
        if head >= 0:
            whole = kernel_of(state, loop, STREAMING)
            if whole == 0:
                return
            call3(slot(state, ELEMENTWISE_TASK), job, 0, head)
            for k in range(operands):
                pointer = slot(job, E_POINTERS + k) + head * slot(job, E_STEPS + k)
                set_slot(job, E_POINTERS + k, pointer)
            count -= head
            set_slot(job, E_WHOLE, whole)
    least = 2 * BLOCK if target == TARGET_PARALLEL else slot(loop, LOOP_THRESHOLD)
    wide = count >= least and independent(job, count, operands, arrays + parameters)
    if wide:
        # whole blocks keep the ranges on the contiguous path
        set_slot(job, JOB_TASK, slot(state, ELEMENTWISE_TASK))
        set_slot(job, JOB_TOTAL, count)
        set_slot(job, JOB_GRAIN, range_of(state, count, LEAST, BLOCK))
        run(state, loop, job, count)
    else:
        call3(slot(state, ELEMENTWISE_TASK), job, 0, count)
    clear_float_flags()
