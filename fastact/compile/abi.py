"""The binary interface between compiled code and the runtime that feeds it.

Both sides speak through arrays of 64-bit slots. This file names the slots; it imports
nothing, so that the runtime can fill them without importing Numba.

A kernel is `void kernel(intp blocks, char **operands)`: it computes `blocks * BLOCK`
contiguous elements. Operands come in the order arrays, parameters, outputs.
"""

BLOCK = 64  # elements: kernels have no remainder loop, the driver pads the last block
MAX_OPERANDS = 8
LINE = 64  # bytes of a cache line, and of the widest vector

# The kernels of a loop: parameters are scalars, loaded once; parameters are arrays; results go
# past the caches (for arrays that are far larger, parameters are scalars). The last one, with the
# default parameters as constants, is the first kernel of a loop that has no parameter operands.
VARIANTS = ("fixed", "broadcast", "streaming", "default")
FIXED, BROADCAST, STREAMING, DEFAULT = range(len(VARIANTS))

# One loop block per (ufunc, dtype): what the driver must know to run it.
LOOP_KERNEL = 0  # the kernels, in the order of VARIANTS; each 0 until resolved
LOOP_ARRAYS = 3  # number of array operands
LOOP_PARAMETERS = 4  # number of parameter operands
LOOP_OUTPUTS = 5  # number of outputs
LOOP_ITEMSIZE = 6  # bytes per element of arrays and outputs
LOOP_PARAMETER_ITEMSIZE = 7  # bytes per element of parameters
LOOP_DEFAULTS = 8  # address of the default parameters, or 0: they are operands
LOOP_THRESHOLD = 9  # elements from which "auto" runs in parallel if workers are awake
LOOP_INDEX = 10  # which loop this is, for the resolve callback
LOOP_STATE = 11  # address of the engine's state
LOOP_EMPTY = 12  # bits of the float64 that stands for an empty row
LOOP_ERROR = 13  # the exception class to raise if the kernel could not be had
LOOP_THREAD = 14  # and in which thread
LOOP_LARGE = 15  # elements from which results stream past the caches
LOOP_POOL = 16  # address of another pool's `intp run(job, threads)`, or 0; 0 back: it has not run
LOOP_SLOTS = 17

# The engine's state, one per process.
STATE_TARGET = 0  # TARGET_AUTO, TARGET_SERIAL or TARGET_PARALLEL
STATE_THREADS = 1  # threads a parallel call may use, the caller's included
STATE_RESOLVE = 2  # void resolve(intp loop_index, intp variant): fills the slots of a variant
STATE_PID = 3  # the process that owns the pool
STATE_STARTED = 4  # workers that exist
STATE_OWNED = 5  # 1 while a call owns the pool
STATE_JOB = 6  # address of the current job, 0 when closed
STATE_GENERATION = 7  # counts jobs
STATE_ACTIVE = 8  # workers inside the current job
STATE_JOINED = 9  # workers that joined the current job
STATE_SIG_BLOCK = 10  # the platform's SIG_BLOCK
STATE_NUMBERED = 11  # workers that have taken a number
STATE_ASLEEP = 12  # workers that sleep
STATE_WAKING = 13  # nanoseconds that waking them takes the caller
STATE_LATEST = 14  # when a call ended that workers could have shared, had they been awake
STATE_CLOCK = 15  # the platform's CLOCK_MONOTONIC
STATE_FUNCTIONS = 16  # addresses of the C functions below, in this order
FUNCTIONS = (
    "pthread_create",
    "pthread_detach",
    "pthread_sigmask",
    "sigfillset",
    "pthread_mutex_init",
    "pthread_mutex_lock",
    "pthread_mutex_unlock",
    "pthread_cond_init",
    "pthread_cond_wait",
    "pthread_cond_signal",
    "pthread_cond_broadcast",
    "getpid",
    "clock_gettime",
    "PyGILState_Ensure",
    "PyGILState_Release",
    "PyThreadState_SetAsyncExc",
    "sched_getcpu",
    "sched_getaffinity",
    "sched_setaffinity",
    "gettid",
)
OPTIONAL = FUNCTIONS[-4:]  # of Linux; 0 elsewhere
STATE_ENTRIES = 36  # addresses of the engine's own functions, in the order of ENTRIES
ENTRIES = (
    "ufunc_loop",
    "elementwise_task",
    "worker",
    "row_loop",
    "stage_entries",
    "unstage_entries",
)
STATE_ALONE = 42  # how long the calls before STATE_LATEST have taken together, one after the other
STATE_FLOAT_MODE = 43  # the caller's, which its workers take over
STATE_MUTEX = 64  # 128 bytes each: larger than any platform's pthread objects
STATE_WORK = 80
STATE_DONE = 96
STATE_SIGNALS = 112
STATE_SLEEPERS = 128  # addresses of the records below, of workers that sleep; by their numbers
SLEEPERS = 64
STATE_SLOTS = STATE_SLEEPERS + SLEEPERS

# A worker that sleeps: its thread, and the processors that it may run on, a bit each.
SLEEPER_THREAD = 0
SLEEPER_CPUS = 1
CPU_WORDS = 16

TARGET_AUTO = 0
TARGET_SERIAL = 1
TARGET_PARALLEL = 2
TARGET_CUDA = 3  # where a loop runs on the CPU after all, it runs as under TARGET_AUTO


def function_slot(name: str) -> int:
    """Where the state has the address of a C function."""
    return STATE_FUNCTIONS + FUNCTIONS.index(name)


def entry_slot(name: str) -> int:
    """Where the state has the address of one of the engine's own functions."""
    return STATE_ENTRIES + ENTRIES.index(name)


# What sharing a call with workers that are awake costs, in nanoseconds (bench/dispatch.py), and how
# many times as long a call must take alone to be shared.
SHARING = 1_200
WORTHWHILE = 4

# A job for the pool: `task(job, start, stop)` is called for ranges of GRAIN until TOTAL is used up.
# The ranges are dealt out in slices, one per thread.
JOB_TASK = 0
JOB_TOTAL = 1
JOB_GRAIN = 2
JOB_SLICES = 3
JOB_NEXT = 4  # address of each slice's next range, a cache line apart
JOB_CONTEXT = 5  # the task's own slots begin here
MAX_SLICES = 64


# Rows. Sums run in LANES interleaved chains of FOLD / LANES additions in the computing dtype; the
# chains are then folded in float64, halves upon halves, into GROUP lanes of totals. A row longer
# than LONG is cut into at most MAX_BLOCKS blocks whose maxima and sums are combined in order.
# All of it depends on the row's length alone, so the bits of a result do not depend on layout,
# position or threads. Chains of 64 additions instead of 4 cost 9 ulp in a row that one entry
# dominates, and gain 5 % of time.
LANES = 32
FOLD = {"float32": 128, "float64": 64}
GROUP = 8
SEGMENT = 2048  # entries of a row that are staged, or whose exponentials are kept, at once
LONG = 1 << 17
MAX_BLOCKS = 1024
TILE = 64  # columns that are given to a thread together at least
BATCH = 16  # short rows that are reduced before their constants are computed together
NARROW = 16  # rows up to this length are read across, one vector per entry

# Slots of a row job, after the common ones: row length, operands, then per operand.
R_LENGTH = JOB_CONTEXT
R_EMPTY = JOB_CONTEXT + 1  # bits of the float64 that stands for a row with nothing in it
R_ROW = JOB_CONTEXT + 2  # the row that block tasks work on
R_BLOCK = JOB_CONTEXT + 3  # entries per block
R_CONSTANTS = JOB_CONTEXT + 4  # address of the results of a long row's reduction
R_PARTIAL = JOB_CONTEXT + 5  # address of PARTIAL_SLOTS float64 per block
R_STAGE = JOB_CONTEXT + 6  # address of the driver's function that makes an operand contiguous
R_UNSTAGE = JOB_CONTEXT + 7  # and of the one that brings a result to its place
R_ITEMSIZE = JOB_CONTEXT + 9  # bytes per element of the row operands
R_ROWS = JOB_CONTEXT + 10  # address of the task for rows taken one by one
R_POINTERS = JOB_CONTEXT + 12
R_OUTER = R_POINTERS + MAX_OPERANDS
R_INNER = R_OUTER + MAX_OPERANDS
JOB_SLOTS = R_INNER + MAX_OPERANDS

PARTIAL_SLOTS = 8  # a block's maximum, then its sums
CONSTANT_SLOTS = 8

# A row loop's block in place of the kernels: its entry points.
ROW_ENTRIES = ("rows", "columns", "narrow", "partial", "combine", "apply")
LOOP_ROW_ENTRIES = 17  # the slots of these, in order
LOOP_OPERANDS = 24  # operands, outputs included
LOOP_MASK = 25  # the operand that is a mask, or -1
LOOP_ALWAYS_NARROW = 27  # 1 if rows of up to NARROW entries go to `narrow` in every layout
LOOP_ROW_STREAMING = 28  # the task for LOOP_LARGE entries or more; 0 until resolved
LOOP_AXES = 26  # a bit per operand that runs along the row
ROW_LOOP_SLOTS = 32

# A plan: how a loop runs over arrays of any shape (`fastact.compile.iterate`).
PLAN_AXES = 0  # axes that are looped over
PLAN_OPERANDS = 1
PLAN_ALONG = 2  # a bit per operand with an axis of its own, the row
PLAN_LENGTH = 3  # of the rows
PLAN_MAX_AXES = 32
PLAN_SHAPE = 4
PLAN_POINTERS = PLAN_SHAPE + PLAN_MAX_AXES  # the first element of each operand
PLAN_INNER = PLAN_POINTERS + MAX_OPERANDS  # the step of each operand along the row, in bytes
PLAN_STEPS = PLAN_INNER + MAX_OPERANDS  # and along the axes, PLAN_MAX_AXES for each operand
PLAN_SLOTS = PLAN_STEPS + MAX_OPERANDS * PLAN_MAX_AXES
