"""The compiled code that stands between NumPy and the kernels.

`ufunc_loop` has NumPy's inner-loop signature and serves every elementwise op and dtype: the
data pointer names the kernel. It stages what is not contiguous, and the last partial block,
through a small scratch area, so that each element passes through the same vector code
whatever its position, stride or thread; and it shares large ranges with the worker pool.

The pool is our own, a few hundred lines of pthreads less: the threading layers that come with
Numba abort when two Python threads run at once (workqueue) or kill a forked child (GNU
OpenMP). A call that finds the pool busy, or itself in a forked child, computes alone.
"""

from __future__ import annotations

from numba import njit

from fastact.compile.abi import (
    BLOCK,
    CONSTANT_SLOTS,
    CPU_WORDS,
    ENTRIES,
    FUNCTIONS,
    JOB_CONTEXT,
    JOB_GRAIN,
    JOB_NEXT,
    JOB_SLICES,
    JOB_SLOTS,
    JOB_TASK,
    JOB_TOTAL,
    LINE,
    LONG,
    LOOP_ALWAYS_NARROW,
    LOOP_ARRAYS,
    LOOP_AXES,
    LOOP_DEFAULTS,
    LOOP_EMPTY,
    LOOP_ERROR,
    LOOP_INDEX,
    LOOP_ITEMSIZE,
    LOOP_KERNEL,
    LOOP_LARGE,
    LOOP_MASK,
    LOOP_OPERANDS,
    LOOP_OUTPUTS,
    LOOP_PARAMETER_ITEMSIZE,
    LOOP_PARAMETERS,
    LOOP_POOL,
    LOOP_ROW_ENTRIES,
    LOOP_ROW_STREAMING,
    LOOP_STATE,
    LOOP_THREAD,
    LOOP_THRESHOLD,
    MAX_BLOCKS,
    MAX_OPERANDS,
    MAX_SLICES,
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
    SHARING,
    SLEEPER_CPUS,
    SLEEPER_THREAD,
    SLEEPERS,
    STATE_ACTIVE,
    STATE_ALONE,
    STATE_ASLEEP,
    STATE_CLOCK,
    STATE_DONE,
    STATE_ENTRIES,
    STATE_FUNCTIONS,
    STATE_GENERATION,
    STATE_JOB,
    STATE_JOINED,
    STATE_LATEST,
    STATE_MUTEX,
    STATE_NUMBERED,
    STATE_OWNED,
    STATE_PID,
    STATE_RESOLVE,
    STATE_SIG_BLOCK,
    STATE_SIGNALS,
    STATE_SLEEPERS,
    STATE_STARTED,
    STATE_TARGET,
    STATE_THREADS,
    STATE_WAKING,
    STATE_WORK,
    STREAMING,
    TARGET_PARALLEL,
    TARGET_SERIAL,
    TILE,
    WORTHWHILE,
)
from fastact.compile.machine import (
    atomic_add,
    atomic_load,
    atomic_store,
    call0,
    call1,
    call2,
    call3,
    call4,
    clear_bytes,
    clear_float_flags,
    compare_and_swap,
    copy_bytes,
    load,
    move1,
    move2,
    move4,
    move8,
    pause,
    stack,
    store,
)

# Elements staged at once. Eight operands of eight bytes fill 32 KiB: they stay in the
# first-level cache beside the strided lines that they come from.
CHUNK = 512
SCRATCH = CHUNK * 8
SCRATCH_BYTES = SCRATCH * MAX_OPERANDS
OPERAND_BYTES = MAX_OPERANDS * 8
TAIL = BLOCK * 8
TAIL_BYTES = TAIL * MAX_OPERANDS

# A worker that has finished looks for the next job this often before it sleeps: about 0.1 ms.
# Waking a sleeping thread costs 5 to 90 us (a virtual machine's core has to be called back from
# its host), so at 30 us, less than the range that the caller may still be busy with, calls on 1 Mi
# elements found their worker asleep every time: relu 0.19 ns an element and 0.13 so.
SPINS = 2000
# Ranges per thread: they even out a core that is busy elsewhere, and a thread that has run out
# waits for one only.
RANGES = 16
# Calls follow closely that begin within so many nanoseconds: what workers stay awake for.
SOON = 100_000
# A call on a quarter of the bytes that count as large waits for memory: it takes 0.1 ms and more
# alone, whatever its kernel needs in the caches.
MEMORY_BOUND = 4
LONGEST_WAKING = 50_000  # nanoseconds; more is another process that came between
OTHER_POOL = 4  # times the threshold: another pool costs as much more
LEAST = 2048  # entries in a range, unless a row is longer

PTHREAD_CREATE = STATE_FUNCTIONS + FUNCTIONS.index("pthread_create")
PTHREAD_DETACH = STATE_FUNCTIONS + FUNCTIONS.index("pthread_detach")
PTHREAD_SIGMASK = STATE_FUNCTIONS + FUNCTIONS.index("pthread_sigmask")
SIGFILLSET = STATE_FUNCTIONS + FUNCTIONS.index("sigfillset")
MUTEX_LOCK = STATE_FUNCTIONS + FUNCTIONS.index("pthread_mutex_lock")
MUTEX_UNLOCK = STATE_FUNCTIONS + FUNCTIONS.index("pthread_mutex_unlock")
COND_WAIT = STATE_FUNCTIONS + FUNCTIONS.index("pthread_cond_wait")
COND_SIGNAL = STATE_FUNCTIONS + FUNCTIONS.index("pthread_cond_signal")
COND_BROADCAST = STATE_FUNCTIONS + FUNCTIONS.index("pthread_cond_broadcast")
GIL_ENSURE = STATE_FUNCTIONS + FUNCTIONS.index("PyGILState_Ensure")
GIL_RELEASE = STATE_FUNCTIONS + FUNCTIONS.index("PyGILState_Release")
SET_EXCEPTION = STATE_FUNCTIONS + FUNCTIONS.index("PyThreadState_SetAsyncExc")
GETPID = STATE_FUNCTIONS + FUNCTIONS.index("getpid")
CLOCK_GETTIME = STATE_FUNCTIONS + FUNCTIONS.index("clock_gettime")
GETCPU = STATE_FUNCTIONS + FUNCTIONS.index("sched_getcpu")
GETAFFINITY = STATE_FUNCTIONS + FUNCTIONS.index("sched_getaffinity")
SETAFFINITY = STATE_FUNCTIONS + FUNCTIONS.index("sched_setaffinity")
GETTID = STATE_FUNCTIONS + FUNCTIONS.index("gettid")
ELEMENTWISE_TASK = STATE_ENTRIES + ENTRIES.index("elementwise_task")
WORKER = STATE_ENTRIES + ENTRIES.index("worker")
STAGE_ENTRIES = STATE_ENTRIES + ENTRIES.index("stage_entries")
UNSTAGE_ENTRIES = STATE_ENTRIES + ENTRIES.index("unstage_entries")

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
JOB_BYTES = 8 * JOB_SLOTS
COUNTER_BYTES = LINE * MAX_SLICES
PARTIAL_BYTES = 8 * PARTIAL_SLOTS * (MAX_BLOCKS + 1)
CPU_BYTES = 8 * CPU_WORDS
SLEEPER_BYTES = 8 * SLEEPER_CPUS + CPU_BYTES
CONSTANT_BYTES = 8 * CONSTANT_SLOTS
REACH = 1 << 24  # bytes: how far apart entries that one vector gathers may lie
LOOP_ROWS, LOOP_COLUMNS, LOOP_NARROW, LOOP_PARTIAL = range(LOOP_ROW_ENTRIES, LOOP_ROW_ENTRIES + 4)

compiled = njit(error_model="numpy", forceinline=True)


@compiled
def slot(base, index):
    return load(base + 8 * index)


@compiled
def set_slot(base, index, value):
    store(base + 8 * index, value)


@compiled
def raise_in_caller(state, loop):
    """Leave the error of a failed compilation with the thread that called the ufunc."""
    held = call0(slot(state, GIL_ENSURE))
    call2(slot(state, SET_EXCEPTION), slot(loop, LOOP_THREAD), slot(loop, LOOP_ERROR))
    call1(slot(state, GIL_RELEASE), held)


# --------------------------------------------------------------------------- pool


@compiled
def lock(state):
    call1(slot(state, MUTEX_LOCK), state + 8 * STATE_MUTEX)


@compiled
def unlock(state):
    call1(slot(state, MUTEX_UNLOCK), state + 8 * STATE_MUTEX)


@compiled
def wait(state, condition):
    call2(slot(state, COND_WAIT), state + 8 * condition, state + 8 * STATE_MUTEX)


@compiled
def knows_processors(state):
    """Whether the system says which processor a thread is on, and lets it choose."""
    return (
        slot(state, GETCPU) != 0
        and slot(state, GETAFFINITY) != 0
        and slot(state, SETAFFINITY) != 0
        and slot(state, GETTID) != 0
    )


@compiled
def sleep(state, number, seen):
    """Wait, holding the lock, for another job than the one that was seen."""
    sleeper = stack(SLEEPER_BYTES)
    cpus = sleeper + 8 * SLEEPER_CPUS
    known = number < SLEEPERS and knows_processors(state)
    if known:
        set_slot(sleeper, SLEEPER_THREAD, call0(slot(state, GETTID)) & 0xFFFFFFFF)
        known = call3(slot(state, GETAFFINITY), 0, CPU_BYTES, cpus) & 0xFFFFFFFF == 0
    if known:
        set_slot(state, STATE_SLEEPERS + number, sleeper)
    set_slot(state, STATE_ASLEEP, slot(state, STATE_ASLEEP) + 1)
    while atomic_load(state + 8 * STATE_GENERATION) == seen:
        wait(state, STATE_WORK)
    set_slot(state, STATE_ASLEEP, slot(state, STATE_ASLEEP) - 1)
    if known:
        set_slot(state, STATE_SLEEPERS + number, 0)
        call3(slot(state, SETAFFINITY), 0, CPU_BYTES, cpus)


@compiled
def keep_apart(state):
    """Let the workers that sleep, the lock held, wake on other processors than the caller's.

    On a virtual machine the scheduler wakes them on the caller's own while others idle: it does
    not count a processor that its host has put to sleep. There they wait for the caller's turn to
    end, 3 ms, and nothing tells the scheduler to part them, since the caller ends the job without
    help: relu of 1 Mi elements, once in 6 ms, took 0.27 ns an element instead of 0.14.
    """
    if not knows_processors(state):
        return
    cpu = call0(slot(state, GETCPU)) & 0xFFFFFFFF
    if cpu >= 64 * CPU_WORDS:  # or -1: not known
        return
    others = stack(CPU_BYTES)
    for number in range(1, SLEEPERS):
        sleeper = slot(state, STATE_SLEEPERS + number)
        if sleeper != 0:
            copy_bytes(others, sleeper + 8 * SLEEPER_CPUS, CPU_BYTES)
            set_slot(others, cpu // 64, slot(others, cpu // 64) & ~(1 << cpu % 64))
            thread = slot(sleeper, SLEEPER_THREAD)
            call3(slot(state, SETAFFINITY), thread, CPU_BYTES, others)  # refused if there is none


@compiled
def range_of(state, total, least, unit):
    """The grain of a job of so many items: RANGES per thread, at least `least`, whole units."""
    grain = max(total // (RANGES * slot(state, STATE_THREADS)), least, 1)
    return (grain + unit - 1) // unit * unit


@compiled
def pieces_before(job, part):
    """How many of a job's ranges come before a slice."""
    grain = slot(job, JOB_GRAIN)
    return (slot(job, JOB_TOTAL) + grain - 1) // grain * part // slot(job, JOB_SLICES)


@compiled
def deal(state, job, counters):
    """Cut a job into slices, one per thread."""
    set_slot(job, JOB_SLICES, min(slot(state, STATE_THREADS), MAX_SLICES))
    set_slot(job, JOB_NEXT, counters)
    for part in range(slot(job, JOB_SLICES)):
        store(counters + LINE * part, pieces_before(job, part))


@compiled
def work(job, number):
    """Take ranges of a job until none is left: those of the thread's own slice, then others'.

    So a thread meets the part of an array that it met in the call before, and finds it in the
    caches of its core: relu of 256 Ki elements on two cores takes 0.06 ns an element, and 0.14
    where whoever comes takes the next range.
    """
    total, grain, slices = slot(job, JOB_TOTAL), slot(job, JOB_GRAIN), slot(job, JOB_SLICES)
    for turn in range(slices):
        part = (number + turn) % slices
        following = slot(job, JOB_NEXT) + LINE * part
        last = pieces_before(job, part + 1)
        while True:
            piece = atomic_add(following, 1)
            if piece >= last:
                break
            start = piece * grain
            call3(slot(job, JOB_TASK), job, start, min(start + grain, total))


@compiled
def worker(state):
    """The life of a worker thread: wait for a job, join it, take ranges, leave."""
    signals = state + 8 * STATE_SIGNALS
    call1(slot(state, SIGFILLSET), signals)
    call3(slot(state, PTHREAD_SIGMASK), slot(state, STATE_SIG_BLOCK), signals, 0)
    number = atomic_add(state + 8 * STATE_NUMBERED, 1) + 1  # the caller is number 0
    generation = state + 8 * STATE_GENERATION
    seen = 0
    while True:
        spins = 0
        while atomic_load(generation) == seen and spins < SPINS:
            pause()
            spins += 1
        lock(state)
        if atomic_load(generation) == seen:
            sleep(state, number, seen)
        seen = atomic_load(generation)
        job = slot(state, STATE_JOB)
        joined = slot(state, STATE_JOINED)
        if job != 0 and joined < slot(state, STATE_THREADS) - 1:
            set_slot(state, STATE_JOINED, joined + 1)
            set_slot(state, STATE_ACTIVE, slot(state, STATE_ACTIVE) + 1)
            unlock(state)
            work(job, number)
            lock(state)
            active = slot(state, STATE_ACTIVE) - 1
            atomic_store(state + 8 * STATE_ACTIVE, active)
            if active == 0:
                call1(slot(state, COND_SIGNAL), state + 8 * STATE_DONE)
        unlock(state)
    return 0


@compiled
def start_workers(state, wanted):
    """Create the workers that are missing; fewer is no error."""
    started = slot(state, STATE_STARTED)
    thread = stack(64)
    while started < wanted:
        failed = call4(slot(state, PTHREAD_CREATE), thread, 0, slot(state, WORKER), state)
        if failed & 0xFFFFFFFF != 0:
            break
        call1(slot(state, PTHREAD_DETACH), load(thread))
        started += 1
        set_slot(state, STATE_STARTED, started)
    return started


@compiled
def acquire_pool(state):
    """True if the calling thread now owns the pool and must share its job."""
    if call0(slot(state, GETPID)) & 0xFFFFFFFF != slot(state, STATE_PID):
        return False
    if not compare_and_swap(state + 8 * STATE_OWNED, 0, 1):
        return False
    if start_workers(state, slot(state, STATE_THREADS) - 1) == 0:
        atomic_store(state + 8 * STATE_OWNED, 0)
        return False
    return True


@compiled
def nanoseconds(state):
    """The time, by a clock that only goes forward."""
    moment = stack(16)
    call2(slot(state, CLOCK_GETTIME), slot(state, STATE_CLOCK), moment)
    return slot(moment, 0) * 1_000_000_000 + slot(moment, 1)


@compiled
def share(state, job):
    """Run a job on the pool that the caller owns, and release the pool."""
    deal(state, job, stack(COUNTER_BYTES))
    lock(state)
    set_slot(state, STATE_JOB, job)
    set_slot(state, STATE_JOINED, 0)
    if slot(state, STATE_ASLEEP) == 0:
        atomic_add(state + 8 * STATE_GENERATION, 1)
    else:
        began = nanoseconds(state)
        keep_apart(state)
        atomic_add(state + 8 * STATE_GENERATION, 1)
        call1(slot(state, COND_BROADCAST), state + 8 * STATE_WORK)
        taken = min(nanoseconds(state) - began, LONGEST_WAKING)
        set_slot(state, STATE_WAKING, (7 * slot(state, STATE_WAKING) + taken) // 8)
    unlock(state)
    work(job, 0)
    lock(state)
    set_slot(state, STATE_JOB, 0)  # closed: nobody joins any more
    unlock(state)
    spins = 0
    while atomic_load(state + 8 * STATE_ACTIVE) != 0 and spins < SPINS:
        pause()
        spins += 1
    lock(state)
    while slot(state, STATE_ACTIVE) != 0:
        wait(state, STATE_DONE)
    unlock(state)
    atomic_store(state + 8 * STATE_OWNED, 0)


@compiled
def worthwhile(state, loop, entries):
    """Whether "auto" shares so many entries.

    Workers that are awake cost SHARING. Those that sleep have to be woken, and where that takes
    long they come late as well: after a rest of 3 ms relu of 128 Ki elements took 20 us alone and
    100 us shared, of 256 Ki 76 and 80, of 1 Mi 343 and 216. So they are woken when that is paid
    back by the call, or would have been by calls alone that it follows closely.
    """
    threshold = slot(loop, LOOP_THRESHOLD)
    if entries < threshold:
        return False
    if slot(state, STATE_STARTED) > slot(state, STATE_ASLEEP):
        return True
    if entries >= slot(loop, LOOP_LARGE) // MEMORY_BOUND:
        return True
    alone = entries * (WORTHWHILE * SHARING) // threshold
    if nanoseconds(state) - slot(state, STATE_LATEST) < SOON:
        alone += slot(state, STATE_ALONE)
    set_slot(state, STATE_ALONE, alone)
    return alone >= WORTHWHILE * slot(state, STATE_WAKING)


@compiled
def spread(state, loop, job, entries):
    """Run a job on several threads, if they may and it is worth it; False if not.

    A loop that other libraries' calls reach may bring their pool: where two pools hold the same
    processors, each finds the other's threads waiting actively on its own.
    """
    threads, target = slot(state, STATE_THREADS), slot(state, STATE_TARGET)
    if threads < 2 or target == TARGET_SERIAL:
        return False
    always = target == TARGET_PARALLEL
    pool = slot(loop, LOOP_POOL)
    if pool != 0 and (always or entries >= OTHER_POOL * slot(loop, LOOP_THRESHOLD)):
        if call2(pool, job, threads) != 0:
            return True
    if not (always or worthwhile(state, loop, entries)) or not acquire_pool(state):
        return False
    share(state, job)
    return True


@compiled
def run(state, loop, job, entries):
    """Run a job, on several threads or alone."""
    if not spread(state, loop, job, entries):
        call3(slot(job, JOB_TASK), job, 0, slot(job, JOB_TOTAL))
        set_slot(state, STATE_LATEST, nanoseconds(state))


# -------------------------------------------------------------------- elementwise


@compiled
def gather(destination, source, step, count, itemsize):
    """Strided elements to contiguous ones."""
    if step == itemsize:
        copy_bytes(destination, source, count * itemsize)
    elif itemsize == 4:
        for i in range(count):
            move4(destination + 4 * i, source + step * i)
    elif itemsize == 8:
        for i in range(count):
            move8(destination + 8 * i, source + step * i)
    else:
        for i in range(count):
            move2(destination + 2 * i, source + step * i)


@compiled
def scatter(destination, step, source, count, itemsize):
    """Contiguous elements to strided ones."""
    if step == itemsize:
        copy_bytes(destination, source, count * itemsize)
    elif itemsize == 4:
        for i in range(count):
            move4(destination + step * i, source + 4 * i)
    elif itemsize == 8:
        for i in range(count):
            move8(destination + step * i, source + 8 * i)
    else:
        for i in range(count):
            move2(destination + step * i, source + 2 * i)


@compiled
def pad(area, count, whole, itemsize):
    """Fill up a block with copies of its elements, of which there is one at least.

    Zeros would do, but the logarithm of a zero raises a flag, and clearing that takes 0.15 us.
    """
    while count < whole:
        more = min(count, whole - count)
        copy_bytes(area + count * itemsize, area, more * itemsize)
        count += more


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


# --------------------------------------------------------------------------- rows


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
    least = 2 if slot(state, STATE_TARGET) == TARGET_PARALLEL else slot(loop, LOOP_THRESHOLD)
    shared = count * length >= least
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
            if (
                form == LOOP_COLUMNS
            ):  # a stretch of 512 bytes: half of it takes up to 1.4 times as long
                least = max(least, min(count // slot(state, STATE_THREADS), 2 * TILE))
            set_slot(job, JOB_TASK, task)
            set_slot(job, JOB_TOTAL, count)
            set_slot(job, JOB_GRAIN, range_of(state, count, least, unit))
            run(state, loop, job, count * length)
        else:
            call3(task, job, 0, count)
    clear_float_flags()
