"""Rows of arrays far larger than the caches: the bits of rows that are computed alone.

What "large" is, is lowered in processes of their own, so that few rows suffice.
"""

import children
import ops
import pytest

from fastact.compile.abi import LOOP_ROW_STREAMING

CODE = """
    from fastact.runtime import loops
    loops.LARGE_BYTES = 1
    import numpy as np
    import fastact as fa
    import ops

    dtype = {dtype.name: dtype for dtype in ops.DTYPES}["@DTYPE@"]
    rng = np.random.default_rng(3)
    # Around vectors and strips; the most that a batch holds; the longest row that is held, in
    # each item size; pieces of longer rows.
    LENGTHS = (17, 31, 32, 33, 100, 128, 129, 1000, 2048, 2049, 4096, 5000)
    LONG = (16384, 16385, 32768, 32769, 65537, 100_003)
    INPUTS = {
        "softmax": 1, "softmax_backward": 2, "softmax_backward_from_output": 2, "softmin": 1,
        "log_softmax": 1, "log_softmax_backward": 2, "log_softmax_backward_from_output": 2,
        "logsumexp": 1, "sparsemax": 1, "sparsemax_backward": 2,
    }

    def same(a, b):
        a, b = np.asarray(a), np.asarray(b)
        bits = f"u{a.itemsize}"
        return bool(np.all((a.view(bits) == b.view(bits)) | ((a != a) & (b != b))))

    def place(shape, behind):
        '''An array that begins `behind` elements behind others that must stay as they are.'''
        size = int(np.prod(shape))
        whole = np.full(size + 128, 7, dtype)
        return whole, whole[behind : behind + size].reshape(shape)

    def untouched(whole, out):
        first = (out.__array_interface__["data"][0] - whole.__array_interface__["data"][0])
        first //= whole.itemsize
        assert np.all(np.delete(whole, slice(first, first + out.size)) == 7)

    for n in (*LENGTHS, *LONG):
        rows = 5 if n > 5000 else 37
        for name, count in INPUTS.items():
            if name.startswith("sparsemax") and n in LONG:
                continue
            print(name, n, flush=True)
            f = getattr(fa, name)
            arrays = [rng.standard_normal((rows, n)).astype(dtype) for _ in range(count)]
            x = arrays[-1]
            x[1, 3], x[2], x[3, n - 1] = np.inf, -np.inf, np.nan
            with np.errstate(all="ignore"):
                alone = np.stack([f(*(a[k] for a in arrays)) for k in range(rows)])
                assert same(f(*arrays), alone)
                for behind in (0, 1, 13, 64):
                    whole, out = place(alone.shape, behind)
                    f(*arrays, out=out)
                    assert same(out, alone), behind
                    untouched(whole, out)
                if count == 1 and alone.shape == x.shape:
                    f(x, out=x)
                    assert same(x, alone)

    for n in (100, 2049, 32769, 40_000, 70_000):
        print("losses", n, flush=True)
        logits = rng.standard_normal((7, n)).astype(dtype)
        ids = np.array([0, n - 1, 5, -1, n // 2, -1, 31])
        options = {"ignore_index": -1, "reduction": "none"}
        parts = [
            fa.softmax_cross_entropy_value_and_grad(logits[k : k + 1], ids[k : k + 1], **options)
            for k in range(7)
        ]
        whole, out = place(logits.shape, 5)
        loss, dlogits = fa.softmax_cross_entropy_value_and_grad(logits, ids, out=out, **options)
        assert same(loss, np.concatenate([p[0] for p in parts]))
        assert same(dlogits, np.concatenate([p[1] for p in parts]))
        untouched(whole, out)
    assert any(loop.block[@SLOT@] for loop in loops._loops if hasattr(loop, "form"))
    print("done")
"""


@pytest.mark.parametrize("threads", (1, 3))
@pytest.mark.parametrize("dtype", ops.DTYPES, ids=str)
def test_large_arrays(dtype, threads):
    code = CODE.replace("@DTYPE@", dtype.name).replace("@SLOT@", str(LOOP_ROW_STREAMING))
    env = {"FASTACT_NUM_THREADS": str(threads), "FASTACT_TARGET": "parallel"}
    assert children.run(code, env, seconds=240).endswith("done\n")
