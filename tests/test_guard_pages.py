"""No kernel reads or writes outside its arrays.

Arrays end where an unreadable page begins, or begin where one ends: a single byte too far
ends the process. So each dtype runs in a process of its own, which names the op that it is at.
"""

import children
import ops
import pytest

CODE = """
    import ctypes, mmap, sys
    import numpy as np
    import fastact as fa
    import ops
    from fastact.activations.directions import DIRECTIONS

    PAGE = mmap.PAGESIZE
    PAGES = 12
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

    def guarded():
        '''Readable bytes between two pages that nobody may touch.'''
        area = mmap.mmap(-1, (PAGES + 2) * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(area))
        for page in (start, start + (PAGES + 1) * PAGE):
            assert libc.mprotect(page, PAGE, 0) == 0, ctypes.get_errno()
        return np.frombuffer(area, np.uint8)[PAGE : (PAGES + 1) * PAGE]

    def edges(area, n, dtype):
        '''n elements, and n at a stride, hard against the end and against the start.'''
        whole = area[: area.size // dtype.itemsize * dtype.itemsize].view(dtype)
        yield whole[whole.size - n :]
        yield whole[:n]
        for step in (2, 3):
            yield whole[whole.size - 1 - (n - 1) * step :: step]
            yield whole[: (n - 1) * step + 1 : step]
            yield whole[: (n - 1) * step + 1 : step][::-1]

    def run(call, operands, results, parameters, n, dtype):
        for views in zip(*(edges(a, n, dtype) for a in (*operands, *results)), strict=True):
            arrays, out = views[: len(operands)], views[len(operands) :]
            for a in arrays:
                a[...] = 1
            call(*arrays, *parameters, out=out if len(out) > 1 else out[0])
            call(*arrays, *parameters)
            if parameters:
                computing = np.float32 if dtype.itemsize == 2 else dtype
                full = [np.full(n, p, computing) for p in parameters]
                call(*arrays, *full, out=out if len(out) > 1 else out[0])

    # Lengths around those of vectors, strips and rows read across, for the rest of the family
    SOME = {1, 2, 3, 4, 8, 15, 16, 17, 31, 32, 33, 127, 128, 129, 192, 600} & set(@SIZES@)

    def others(x, y, dy, columns):
        for axis in (0, 1):
            fa.log_softmax(x, axis=axis, out=y)
            fa.logsumexp(x, axis=axis)
            fa.sparsemax(x, axis=axis, out=y)
            ids = np.zeros(np.delete(x.shape, axis), int)
            fa.softmax_cross_entropy_value_and_grad(x, ids, axis=axis, out=y)
            fa.softmax_cross_entropy_value_and_grad(x, dy, axis=axis, out=y)
        fa.causal_softmax(x, out=y)
        fa.maxout(x, columns, out=y)
        fa.sigmoid_cross_entropy_value_and_grad(x, dy, out=y)

    dtype = {dtype.name: dtype for dtype in ops.DTYPES}["@DTYPE@"]
    areas = [guarded() for _ in range(4)]
    for case, direction in ops.directed(ops.default_cases()):
        print(case, direction, flush=True)
        form = DIRECTIONS[direction]
        operands = areas[: len(form.arrays)]
        results = areas[len(form.arrays) : len(form.arrays) + len(form.outputs)]
        with fa.use_target("@TARGET@"):
            for n in @SIZES@:
                run(ops.function(case.op, direction), operands, results, case.parameters, n, dtype)
    print("softmax", flush=True)
    with fa.use_target("@TARGET@"):
        for columns in @SIZES@:
            for n in {columns, 2 * columns, 3 * columns}:
                for x, y, dy in zip(*(edges(a, n, dtype) for a in areas[:3]), strict=True):
                    x[...] = dy[...] = 1
                    rows = [v.reshape(-1, columns) for v in (x, y, dy)]
                    if all(np.shares_memory(v, w) for v, w in zip((x, y, dy), rows)):
                        for axis in (0, 1):
                            fa.softmax(rows[0], axis=axis, out=rows[1])
                            fa.softmax_backward(rows[2], rows[0], axis=axis, out=rows[1])
                            fa.softmax_backward_from_output(
                                rows[2], rows[0], axis=axis, out=rows[1]
                            )
                        if columns in SOME:
                            others(*rows, columns)
    print("done")
"""


def code(dtype, target, sizes):
    return CODE.replace("@DTYPE@", dtype).replace("@TARGET@", target).replace("@SIZES@", sizes)


@pytest.mark.parametrize("dtype", ops.DTYPES, ids=str)
def test_serial(dtype):
    """Every length from 1 to 200."""
    out = children.run(code(dtype.name, "serial", "range(1, 201)"), seconds=240)
    assert out.endswith("done\n")


@pytest.mark.parametrize("dtype", ops.DTYPES, ids=str)
def test_parallel(dtype):
    """Lengths around whole blocks, shared by three threads."""
    sizes = "(127, 128, 129, 191, 192, 193, 400, 511, 512, 513, 600)"
    env = {"FASTACT_NUM_THREADS": "3"}
    out = children.run(code(dtype.name, "parallel", sizes), env, seconds=240)
    assert out.endswith("done\n")


@pytest.mark.parametrize("dtype", ops.DTYPES, ids=str)
def test_streaming(dtype):
    """Row ops on arrays that count as far larger than the caches."""
    lowered = "\n    from fastact.runtime import loops\n    loops.LARGE_BYTES = 1"
    rows = code(dtype.name, "parallel", "(17, 31, 64, 65, 129, 192, 600)")
    rows = rows.replace("in ops.directed(ops.default_cases()):", "in ():")
    out = children.run(lowered + rows, seconds=240)
    assert out.endswith("done\n")


def test_the_guard_catches():
    """One element more than there is does end the process."""
    broken = code("float32", "serial", "(5,)").replace(
        "yield whole[whole.size - n :]",
        "yield np.lib.stride_tricks.as_strided(whole[whole.size - n :], (n + 1,))",
    )
    with pytest.raises(AssertionError, match="exit -11"):
        children.run(broken)
