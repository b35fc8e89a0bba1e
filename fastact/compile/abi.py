"""The binary interface between compiled code and the runtime that feeds it.

Both sides speak through arrays of 64-bit slots. This file names the slots; it imports
nothing, so that the runtime can fill them without importing Numba.

A kernel is `void kernel(intp blocks, char **operands)`: it computes `blocks * BLOCK`
contiguous elements. Operands come in the order arrays, parameters, outputs.
"""

BLOCK = 64  # elements: kernels have no remainder loop, the driver pads the last block
MAX_OPERANDS = 8

# One loop block per (ufunc, dtype): what the driver must know to run it.
LOOP_KERNEL = 0  # kernel whose parameters are scalars, loaded once; 0 until resolved
LOOP_KERNEL_BROADCAST = 1  # kernel whose parameters are arrays; 0 until resolved
LOOP_ARRAYS = 2  # number of array operands
LOOP_PARAMETERS = 3  # number of parameter operands
LOOP_OUTPUTS = 4  # number of outputs
LOOP_ITEMSIZE = 5  # bytes per element of arrays and outputs
LOOP_PARAMETER_ITEMSIZE = 6  # bytes per element of parameters
LOOP_DEFAULTS = 7  # address of the default parameters, or 0: they are operands
LOOP_THRESHOLD = 8  # elements from which "auto" runs in parallel
LOOP_INDEX = 9  # which loop this is, for the resolve callback
LOOP_STATE = 10  # address of the engine's state
LOOP_SLOTS = 16

# The engine's state, one per process.
STATE_TARGET = 0  # TARGET_AUTO, TARGET_SERIAL or TARGET_PARALLEL
STATE_THREADS = 1  # threads a parallel call may use, the caller's included
STATE_RESOLVE = 2  # void resolve(intp loop_index, intp broadcast): fills the kernel slot
STATE_PID = 3  # the process that owns the pool
STATE_STARTED = 4  # workers that exist
STATE_OWNED = 5  # 1 while a call owns the pool
STATE_JOB = 6  # address of the current job, 0 when closed
STATE_GENERATION = 7  # counts jobs
STATE_ACTIVE = 8  # workers inside the current job
STATE_JOINED = 9  # workers that joined the current job
STATE_SIG_BLOCK = 10  # the platform's SIG_BLOCK
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
    "feclearexcept",
)
STATE_ENTRIES = 32  # addresses of the engine's own functions, in the order of ENTRIES
ENTRIES = ("ufunc_loop", "elementwise_task", "worker")
STATE_MUTEX = 64  # 128 bytes each: larger than any platform's pthread objects
STATE_WORK = 80
STATE_DONE = 96
STATE_SIGNALS = 112
STATE_SLOTS = 128

TARGET_AUTO = 0
TARGET_SERIAL = 1
TARGET_PARALLEL = 2

# A job for the pool: `task(job, start, stop)` is called until `total` is used up.
JOB_TASK = 0
JOB_TOTAL = 1
JOB_GRAIN = 2
JOB_NEXT = 3
JOB_CONTEXT = 4  # the task's own slots begin here
JOB_SLOTS = 48
