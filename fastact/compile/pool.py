"""The worker threads: who wakes when, and which part of a job each takes.

The pool is our own, a few hundred lines of pthreads less: the threading layers that come with
Numba abort when two Python threads run at once (workqueue) or kill a forked child (GNU
OpenMP). A call that finds the pool busy, or itself in a forked child, computes alone.
"""

from __future__ import annotations

from fastact.compile.abi import (
    CPU_WORDS,
    JOB_GRAIN,
    JOB_NEXT,
    JOB_SLICES,
    JOB_SLOTS,
    JOB_TASK,
    JOB_TOTAL,
    LINE,
    LOOP_LARGE,
    LOOP_POOL,
    LOOP_THRESHOLD,
    MAX_SLICES,
    SHARING,
    SLEEPER_CPUS,
    SLEEPER_THREAD,
    SLEEPERS,
    STATE_ACTIVE,
    STATE_ALONE,
    STATE_ASLEEP,
    STATE_CLOCK,
    STATE_DONE,
    STATE_FLOAT_MODE,
    STATE_GENERATION,
    STATE_JOB,
    STATE_JOINED,
    STATE_LATEST,
    STATE_MUTEX,
    STATE_NUMBERED,
    STATE_OWNED,
    STATE_PID,
    STATE_SIG_BLOCK,
    STATE_SIGNALS,
    STATE_SLEEPERS,
    STATE_STARTED,
    STATE_TARGET,
    STATE_THREADS,
    STATE_WAKING,
    STATE_WORK,
    TARGET_PARALLEL,
    TARGET_SERIAL,
    WORTHWHILE,
    entry_slot,
    function_slot,
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
    compare_and_swap,
    copy_bytes,
    float_mode,
    load,
    pause,
    set_float_mode,
    stack,
    store,
)
from fastact.compile.slots import compiled, set_slot, slot

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

PTHREAD_CREATE = function_slot("pthread_create")
PTHREAD_DETACH = function_slot("pthread_detach")
PTHREAD_SIGMASK = function_slot("pthread_sigmask")
SIGFILLSET = function_slot("sigfillset")
MUTEX_LOCK = function_slot("pthread_mutex_lock")
MUTEX_UNLOCK = function_slot("pthread_mutex_unlock")
COND_WAIT = function_slot("pthread_cond_wait")
COND_SIGNAL = function_slot("pthread_cond_signal")
COND_BROADCAST = function_slot("pthread_cond_broadcast")
GETPID = function_slot("getpid")
CLOCK_GETTIME = function_slot("clock_gettime")
GETCPU = function_slot("sched_getcpu")
GETAFFINITY = function_slot("sched_getaffinity")
SETAFFINITY = function_slot("sched_setaffinity")
GETTID = function_slot("gettid")
WORKER = entry_slot("worker")

JOB_BYTES = 8 * JOB_SLOTS
COUNTER_BYTES = LINE * MAX_SLICES
CPU_BYTES = 8 * CPU_WORDS
SLEEPER_BYTES = 8 * SLEEPER_CPUS + CPU_BYTES


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
    """The life of a worker thread: wait for a job, join it, take ranges, leave.

    It computes in the floating-point mode of the caller, not in that of the thread that made it,
    which may take subnormal numbers for 0 (XLA's do).
    """
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
            set_float_mode(slot(state, STATE_FLOAT_MODE))
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
    set_slot(state, STATE_FLOAT_MODE, float_mode())
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
    """Whether "auto" shares so many entries, which are a loop's threshold at least.

    Workers that are awake cost SHARING. Those that sleep have to be woken, and where that takes
    long they come late as well: after a rest of 3 ms relu of 128 Ki elements took 20 us alone and
    100 us shared, of 256 Ki 76 and 80, of 1 Mi 343 and 216. So they are woken when that is paid
    back by the call, or would have been by calls alone that it follows closely.
    """
    if slot(state, STATE_STARTED) > slot(state, STATE_ASLEEP):
        return True
    if entries >= slot(loop, LOOP_LARGE) // MEMORY_BOUND:
        return True
    alone = entries * (WORTHWHILE * SHARING) // slot(loop, LOOP_THRESHOLD)
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
