"""Threads and processes of every kind: never an abort, a deadlock or a wrong value.

Each test is a process of its own with a time limit.
"""

import os
import sys

import children
import pytest

LIMIT = 120
THREADS = {"FASTACT_NUM_THREADS": "4"}

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")

# From Python 3.12 on, forking a process with threads warns; that is what is tested here.
QUIET_FORK = """
    import warnings
    warnings.filterwarnings("ignore", ".*multi-threaded.*", DeprecationWarning)
"""
FORKED = (
    QUIET_FORK
    + """
    import os, threading, time
    import numpy as np
    import fastact as fa
    import workload

    def in_child(work):
        '''Run work in a forked child; its exit code.'''
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work()
                code = 0
            except BaseException:
                import traceback
                traceback.print_exc()
            finally:
                os._exit(code)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        return "hung"

    def check():
        assert workload.compute() == expected

    fa.set_target("parallel")
    expected = workload.compute()
"""
)


def run(code, env=THREADS, seconds=LIMIT):
    return children.run(code, env, seconds)


@pytest.mark.parametrize("target", ["auto", "parallel", "serial"])
def test_threads_at_once(target):
    run(f"""
        import fastact as fa, workload
        fa.set_target("serial")
        expected = workload.compute()
        fa.set_target("{target}")
        workload.in_threads(expected, threads=8, repeats=20)
    """)


def test_first_calls_at_once(tmp_path):
    """Nothing compiled, nothing stored, and eight threads ask for the same."""
    code = """
        import sys, threading
        import numpy as np, fastact as fa
        x = np.linspace(-5, 5, 1000, dtype=np.float32)
        results, barrier = [], threading.Barrier(8)

        def body():
            barrier.wait()
            results.append([f(x).tobytes() for f in (fa.sigmoid, fa.tanh, fa.elu_grad)])

        crew = [threading.Thread(target=body) for _ in range(8)]
        [t.start() for t in crew]
        [t.join() for t in crew]
        assert len(results) == 8
        assert all(r == results[0] for r in results)
    """
    (tmp_path / "store").mkdir(mode=0o700)
    run(code, {**THREADS, "FASTACT_CACHE_DIR": str(tmp_path / "store")})


def test_thread_pool_executor():
    run("""
        from concurrent.futures import ThreadPoolExecutor
        import numpy as np, fastact as fa
        x = np.random.default_rng(0).normal(0, 3, (64, 40_000)).astype(np.float32)
        fa.set_target("serial")
        expected = fa.swish(x)
        fa.set_target("parallel")
        out = np.zeros_like(x)
        with ThreadPoolExecutor(8) as pool:
            for _ in range(5):
                out[...] = 0
                list(pool.map(lambda i: fa.swish(x[i], out=out[i]), range(64)))
                assert (out == expected).all()
                rows = list(pool.map(fa.swish, x))
                assert (np.array(rows) == expected).all()
    """)


@linux
def test_threads_are_bounded():
    """Many callers share one pool: it has at most one thread less than set."""
    run("""
        import os, time
        import fastact as fa, workload

        def threads_at_most(n):
            until = time.monotonic() + 10  # a joined thread takes a moment to disappear
            while len(os.listdir("/proc/self/task")) > n and time.monotonic() < until:
                time.sleep(0.01)
            return len(os.listdir("/proc/self/task")) <= n

        base = len(os.listdir("/proc/self/task"))
        fa.set_target("parallel")
        expected = workload.compute()
        assert threads_at_most(base + 3)
        workload.in_threads(expected, threads=8, repeats=3)
        assert threads_at_most(base + 3)
        fa.set_num_threads(2)
        workload.in_threads(expected, threads=4, repeats=3)
        assert threads_at_most(base + 3)
        fa.set_num_threads(6)
        workload.in_threads(expected, threads=4, repeats=3)
        assert threads_at_most(base + 5)
    """)


@linux
def test_serial_starts_no_thread():
    run("""
        import os
        import fastact as fa, workload
        base = len(os.listdir("/proc/self/task"))
        fa.set_target("serial")
        workload.compute()
        assert len(os.listdir("/proc/self/task")) == base
    """)


def test_changing_threads_and_targets_while_others_compute():
    run("""
        import threading
        import fastact as fa, workload
        expected = workload.compute()
        stop = threading.Event()

        def change():
            k = 0
            while not stop.is_set():
                k += 1
                fa.set_num_threads(1 + k % 6)
                with fa.use_target(("serial", "parallel", "auto")[k % 3]):
                    pass

        changer = threading.Thread(target=change)
        changer.start()
        workload.in_threads(expected, threads=6, repeats=15)
        stop.set()
        changer.join()
    """)


@pytest.mark.parametrize(
    ("env", "threads"),
    [
        ({"FASTACT_NUM_THREADS": "3", "NUMBA_NUM_THREADS": "2", "OMP_NUM_THREADS": "1"}, 3),
        ({"FASTACT_NUM_THREADS": None, "NUMBA_NUM_THREADS": "2", "OMP_NUM_THREADS": "1"}, 2),
        ({"FASTACT_NUM_THREADS": None, "NUMBA_NUM_THREADS": None, "OMP_NUM_THREADS": "5"}, 5),
        ({"FASTACT_NUM_THREADS": None, "NUMBA_NUM_THREADS": None, "OMP_NUM_THREADS": "4,2"}, 4),
        ({"FASTACT_NUM_THREADS": "0", "NUMBA_NUM_THREADS": "", "OMP_NUM_THREADS": "6"}, 6),
        ({"FASTACT_NUM_THREADS": "many", "NUMBA_NUM_THREADS": "-1", "OMP_NUM_THREADS": "6"}, 6),
    ],
    ids=str,
)
def test_environment_sets_the_threads(env, threads):
    out = run("import fastact as fa; print(fa.get_num_threads())", env)
    assert int(out) == threads


@linux
def test_affinity_sets_the_threads():
    unset = dict.fromkeys(("FASTACT_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS"))
    out = run(
        """
        import os
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        import fastact as fa
        print(fa.get_num_threads())
        """,
        unset,
    )
    assert int(out) == 1


def test_small_stacks():
    """The scratch area fits the stack of a thread with 256 KiB."""
    run("""
        import threading
        threading.stack_size(256 * 1024)
        import workload
        expected = workload.compute()
        workload.in_threads(expected, threads=4, repeats=2)
    """)


ASLEEP = """
    import os, time
    import numpy as np
    import fastact as fa
    from fastact.compile import abi
    from fastact.runtime.state import STATE

    def jobs(n):
        # How many jobs the workers are given for a call.
        x = np.linspace(-1, 1, n, dtype=np.float32)
        before = STATE[abi.STATE_GENERATION]
        assert np.array_equal(fa.relu(x), np.maximum(x, 0))
        return STATE[abi.STATE_GENERATION] - before

    fa.set_num_threads(4)
    STATE[abi.STATE_ASLEEP] = 1000  # whatever they do, they count as asleep
    with fa.use_target("parallel"):
        fa.relu(np.zeros(1 << 16, np.float32))
    assert STATE[abi.STATE_STARTED] == 3
"""


@posix
def test_workers_are_woken_for_what_pays_it_back():
    run(
        ASLEEP
        + """
    STATE[abi.STATE_WAKING] = 10**9
    assert jobs(1 << 8) == jobs(1 << 18) == 0
    assert jobs(1 << 20) == 1  # more than the caches hold
    assert 0 < STATE[abi.STATE_WAKING] < 10**9  # measured
    STATE[abi.STATE_WAKING] = 0
    assert jobs(1 << 8) == 0 and jobs(1 << 18) == 1
    STATE[abi.STATE_WAKING] = 10**9
    with fa.use_target("parallel"):
        assert jobs(1 << 18) == 1
    """
    )


@posix
def test_calls_alone_add_up_until_the_workers_are_woken():
    run(
        ASLEEP
        + """
    x = np.zeros(1 << 18, np.float32)
    STATE[abi.STATE_WAKING] = 10**9
    fa.relu(x)
    one = STATE[abi.STATE_ALONE]
    assert one > 0
    STATE[abi.STATE_LATEST] += 10**12  # as if the next call began at once
    fa.relu(x)
    assert STATE[abi.STATE_ALONE] == 2 * one
    STATE[abi.STATE_LATEST] = 0  # as if it began long after
    fa.relu(x)
    assert STATE[abi.STATE_ALONE] == one
    """
    )


@linux
def test_workers_may_run_where_they_could():
    """They are woken on other processors than the caller's; that holds for the waking alone."""
    run(
        ASLEEP
        + """
    allowed = os.sched_getaffinity(0)
    x = np.linspace(-1, 1, 1 << 20, dtype=np.float32)
    workers = {int(t) for t in os.listdir("/proc/self/task")} - {os.getpid()}
    for cpu in sorted(allowed) * 5:
        os.sched_setaffinity(0, {cpu})
        time.sleep(0.01)
        fa.relu(x)
        for _ in range(5000):  # until the last one has been awake
            if all(os.sched_getaffinity(thread) == allowed for thread in workers):
                break
            time.sleep(0.001)
        else:
            raise AssertionError([os.sched_getaffinity(thread) for thread in workers])
    """
    )


@posix
def test_workers_compute_in_the_mode_of_the_caller():
    """A thread begins in the mode of the one that made it, which may flush subnormal numbers."""
    run("""
        import numpy as np
        import fastact as fa
        from numba import njit
        from fastact.compile.machine import X86, float_mode, set_float_mode

        read = njit(lambda: float_mode())
        write = njit(lambda mode: set_float_mode(mode))
        usual = read()
        flush = usual | 0x8040 if X86 else usual | 1 << 24
        x = np.full(1 << 20, -1e-37, np.float32)
        fa.set_num_threads(4)

        def in_mode(mode, target):
            write(mode)
            with fa.use_target(target):
                y = fa.leaky_relu(x)
            write(usual)
            assert (y == y[0]).all()
            return y[0]

        for mode in (flush, usual, flush):  # the workers are made in the first
            assert in_mode(mode, "parallel") == in_mode(mode, "serial")
            assert (in_mode(mode, "serial") == 0) == (mode == flush)
    """)


@posix
def test_fork_after_the_pool_has_worked():
    run(
        FORKED
        + """
    for _ in range(10):
        assert in_child(check) == 0
        check()
    """
    )


@posix
def test_grandchildren():
    run(
        FORKED
        + """
    def child():
        check()
        assert in_child(check) == 0
        check()

    for _ in range(3):
        assert in_child(child) == 0
    """
    )


@posix
def test_threads_in_a_child():
    run(
        FORKED
        + """
    assert in_child(lambda: workload.in_threads(expected, 6, 3)) == 0
    """
    )


@posix
def test_fork_while_threads_compute():
    """The pool's locks may be held at the instant of the fork."""
    run(
        FORKED
        + """
    stop = threading.Event()

    def body():
        x = np.ones(20_000, np.float32)
        while not stop.is_set():
            fa.sigmoid(x)

    crew = [threading.Thread(target=body) for _ in range(3)]
    [t.start() for t in crew]
    codes = [in_child(check) for _ in range(30)]
    stop.set()
    [t.join() for t in crew]
    assert codes == [0] * 30, codes
    check()
    """
    )


@posix
def test_fork_while_a_thread_loads_kernels():
    """The loader's lock may be held at the instant of the fork."""
    code = (
        FORKED
        + """
    import itertools
    import ops
    dtype = np.float64
    todo = [f for f in (ops.function(c.op, d) for c, d in ops.directed(ops.default_cases()))]

    def first_calls():
        for function in todo[:-3]:
            for d in (np.float16, np.float32, np.float64):
                if len(codes) == 60:
                    return
                one = np.ones(3, d)
                try:
                    function(one)
                except TypeError:
                    function(one, one)

    codes = []
    loader = threading.Thread(target=first_calls)
    loader.start()

    def child():
        one = np.ones(3)
        for function in todo[-3:]:
            try:
                function(one)
            except TypeError:
                function(one, one)

    while loader.is_alive() and len(codes) < 60:
        codes.append(in_child(child))
    loader.join()
    assert codes == [0] * len(codes), codes
    """
    )
    run(code)


@posix
def test_fork_before_the_first_call():
    run(
        FORKED.replace("expected = workload.compute()", "")
        + """
    def child():
        assert fa.sigmoid(0.0) == 0.5
        workload.in_threads(workload.compute(), 4, 2)

    assert in_child(child) == 0
    assert fa.sigmoid(0.0) == 0.5
    """
    )


METHODS = [m for m in ("fork", "spawn", "forkserver") if m == "spawn" or hasattr(os, "fork")]


@pytest.mark.parametrize("method", METHODS)
def test_multiprocessing(method):
    run(
        QUIET_FORK
        + f"""
    import multiprocessing
    import fastact as fa, workload

    if __name__ == "__main__":
        fa.set_target("parallel")
        expected = workload.compute()
        context = multiprocessing.get_context("{method}")
        with context.Pool(3) as pool:
            assert all(pool.map(workload.is_right, [expected] * 9, chunksize=1))
        assert workload.is_right(expected)
    """
    )


LAYERS = ["workqueue", "omp", "tbb"]


def layer(name):
    """The environment in which numba uses a threading layer; skips where it cannot."""
    pytest.importorskip("numba")
    env = {**THREADS, "NUMBA_THREADING_LAYER": name, "NUMBA_NUM_THREADS": "3"}
    probe = """
        import numba
        @numba.njit(parallel=True)
        def f():
            total = 0
            for i in numba.prange(10):
                total += i
            return total
        try:
            assert f() == 45
            print(numba.threading_layer())
        except ValueError as error:
            print(error)
    """
    loaded = children.run(probe, env, LIMIT).strip()
    if loaded != name:
        pytest.skip(f"numba cannot load {name}: {loaded.splitlines()[0]}")
    return env


@pytest.fixture(scope="module", params=LAYERS)
def numba_layer(request):
    return layer(request.param)


def test_beside_numba_parallel(numba_layer):
    """Numba's own threads at work in between, and in the same process."""
    run(
        """
        import threading
        import numba, numpy as np
        import fastact as fa, workload

        @numba.njit(parallel=True, nogil=True)
        def total(x):
            s = 0.0
            for i in numba.prange(x.size):
                s += x[i] * x[i]
            return s

        x = np.ones(200_000)
        assert total(x) == x.size
        fa.set_target("parallel")
        expected = workload.compute()
        done = threading.Event()
        failures = []

        def numba_body():
            # one thread only: workqueue aborts when two Python threads enter it
            while not done.is_set():
                if total(x) != x.size:
                    failures.append("numba")

        crew = threading.Thread(target=numba_body)
        crew.start()
        workload.in_threads(expected, threads=4, repeats=10)
        done.set()
        crew.join()
        assert not failures
        assert total(x) == x.size
        """,
        numba_layer,
    )


def test_inside_prange(numba_layer):
    """Called by the threads of a user's own parallel loop."""
    run(
        """
        import numba, numpy as np
        import fastact as fa

        def row(x, y):
            fa.tanh(x, out=y)

        @numba.njit(parallel=True)
        def rows(x, y):
            for i in numba.prange(x.shape[0]):
                source, target = x[i], y[i]
                with numba.objmode():
                    row(source, target)

        x = np.random.default_rng(0).normal(0, 2, (30, 50_000)).astype(np.float32)
        fa.set_target("serial")
        expected = fa.tanh(x)
        for target in ("serial", "parallel", "auto"):
            fa.set_target(target)
            for _ in range(5):
                y = np.zeros_like(x)
                rows(x, y)
                assert (y == expected).all(), target
        """,
        numba_layer,
    )


@posix
def test_fork_beside_numba_parallel(numba_layer):
    """In a child of a process that has used numba's threads, fastact computes."""
    run(
        FORKED
        + """
    import numba

    @numba.njit(parallel=True)
    def total(x):
        s = 0.0
        for i in numba.prange(x.size):
            s += x[i]
        return s

    assert total(np.ones(10_000)) == 10_000
    for _ in range(5):
        assert in_child(check) == 0
    check()
    assert total(np.ones(10_000)) == 10_000
    """,
        numba_layer,
    )


@pytest.mark.parametrize("when", ["at once", "later"])
def test_daemon_threads_at_exit(when):
    """The interpreter ends while daemon threads are inside a call."""
    pause = {"at once": 0, "later": 0.3}[when]
    for _ in range(5):
        run(f"""
            import threading, time
            import numpy as np, fastact as fa
            fa.set_target("parallel")
            x = np.ones(300_000, np.float32)
            fa.sigmoid(x)

            def forever():
                while True:
                    fa.sigmoid(x)

            for _ in range(4):
                threading.Thread(target=forever, daemon=True).start()
            time.sleep({pause})
        """)


def test_calls_at_exit():
    run("""
        import atexit
        import numpy as np, fastact as fa
        fa.set_target("parallel")
        x = np.zeros(300_000, np.float32)
        atexit.register(lambda: print((fa.sigmoid(x) == 0.5).all() and (fa.tanh(x) == 0).all()))
    """)


@posix
def test_signals_reach_the_main_thread():
    """Python handlers run, and calls that are interrupted end with the right values."""
    run("""
        import os, signal
        import numpy as np, fastact as fa
        seen = []
        signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
        fa.set_target("parallel")
        x = np.random.default_rng(0).normal(0, 3, 2_000_000).astype(np.float32)
        expected = fa.tanh(x)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        for _ in range(100):
            assert (fa.tanh(x) == expected).all()
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert len(seen) > 10
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            os.kill(os.getpid(), signal.SIGALRM)
            fa.tanh(x)
            raise SystemExit("no KeyboardInterrupt")
        except KeyboardInterrupt:
            pass
        assert (fa.tanh(x) == expected).all()
    """)


ANOTHER_POOL = """
    import ctypes
    import numpy as np
    import fastact as fa
    from fastact import registry
    from fastact.activations.directions import DIRECTIONS
    from fastact.compile import abi
    from fastact.runtime.loops import Loop, driver_entry

    WORD, POINTER = ctypes.c_ssize_t, ctypes.c_void_p
    runs = []

    @ctypes.CFUNCTYPE(WORD, POINTER, WORD)
    def pool(address, threads):
        job = (WORD * abi.JOB_SLOTS).from_address(address)
        total, grain = job[abi.JOB_TOTAL], job[abi.JOB_GRAIN]
        runs.append((total, threads))
        if len(runs) == 2:
            return 0
        task = ctypes.CFUNCTYPE(None, POINTER, WORD, WORD)(job[abi.JOB_TASK])
        for start in reversed(range(0, total, grain)):
            task(address, start, min(start + grain, total))
        return 1

    loop = Loop(registry.RECORDS["tanh"], DIRECTIONS["forward"], "float32", True)
    loop.block[abi.LOOP_POOL] = ctypes.cast(pool, POINTER).value
    x = np.linspace(-5, 5, 1 << 20, dtype=np.float32)
    expected = fa.tanh(x)
    entry = ctypes.CFUNCTYPE(None, *[POINTER] * 4)(driver_entry("ufunc_loop"))

    def call():
        y = np.zeros_like(x)
        args, steps = (POINTER * 2)(x.ctypes.data, y.ctypes.data), (WORD * 2)(4, 4)
        entry(args, (WORD * 1)(x.size), steps, loop.address)
        return np.array_equal(y, expected)

    assert call() and runs == [(x.size, 4)]
    assert call() and len(runs) == 2  # refused: our own pool, or the caller alone
    for target in ("serial", "parallel"):
        with fa.use_target(target):
            assert call()
    assert len(runs) == 3
    fa.set_num_threads(1)
    assert call() and len(runs) == 3
"""


def test_a_loop_may_bring_another_pool():
    """It gets what is worth sharing, if the target and the number of threads allow."""
    children.run(ANOTHER_POOL, THREADS, LIMIT)
