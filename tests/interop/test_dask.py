"""fastact on chunked arrays against fastact on whole ones; on a cluster of processes too."""

import os
import signal

import children
import numpy as np
import ops
import pytest
import samples

import fastact as fa
from fastact.activations.directions import DIRECTIONS

dask = pytest.importorskip("dask", reason="Dask is not installed")
pytest.importorskip("dask.array", reason="dask.array is not installed")

import dask.array as da  # noqa: E402

import fastact.dask as fd  # noqa: E402
from fastact.interop.dask_functions import SPLIT  # noqa: E402

elementwise = pytest.mark.parametrize("op", samples.ELEMENTWISE, ids=samples.name_of)
rowwise = pytest.mark.parametrize("op", samples.ROWWISE, ids=samples.name_of)
SPLITTABLE = [*SPLIT, "logsumexp"]
splittable = pytest.mark.parametrize("name", SPLITTABLE)


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="sync"):
        yield


def random(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).normal(0, 4, shape).astype(dtype)


def close(got, expected, units):
    """Within some units of the last place of the expected values."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.dtype == expected.dtype and got.shape == expected.shape
    unit = float(np.finfo(expected.dtype).eps)
    np.testing.assert_allclose(got, expected, rtol=units * unit, atol=0)


@elementwise
def test_elementwise_through_numpys_protocol(op):
    """fa.f of a Dask array is a Dask array: nothing is computed before it is asked for."""
    x = random(7, 5)
    chunked = da.from_array(x, chunks=(3, 2))
    for parameters in (op.record.defaults, samples.other_parameters(op)):
        for direction in ("forward", "grad", "backward"):
            f = getattr(fa, op.name + DIRECTIONS[direction].suffix)
            lazy = f(*ops.operands(direction, chunked), *parameters)
            assert isinstance(lazy, da.Array)
            expected = f(*ops.operands(direction, x), *parameters)
            if direction == "backward":
                lazy = f(da.from_array(ops.operands(direction, x)[0]), chunked, *parameters)
            ops.assert_same_bits(lazy.compute(), expected)


@elementwise
def test_elementwise(op):
    x = random(7, 5)
    f = getattr(fd, op.name)
    for parameters in (op.record.defaults, samples.other_parameters(op)):
        lazy = f(da.from_array(x, chunks=(3, 2)), *parameters)
        assert lazy.dtype == x.dtype and lazy.chunks == ((3, 3, 1), (2, 2, 1))
        ops.assert_same_bits(lazy.compute(), op.forward(x, *parameters))


@rowwise
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_rows_that_are_not_split(op, axis):
    x = random(6, 9)
    whole = da.from_array(x, chunks=(2, -1) if axis else (-1, 2))
    expected = op.forward(x, axis=axis)
    ops.assert_same_bits(getattr(fd, op.name)(whole, axis).compute(), expected)
    # and through NumPy's protocol
    ops.assert_same_bits(op.forward(whole, axis=axis).compute(), expected)


@splittable
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_rows_that_are_split(name, axis, dtype):
    if dtype == "bfloat16":
        ml_dtypes = pytest.importorskip("ml_dtypes")
        dtype = ml_dtypes.bfloat16
    x = random(8, 30, 5).astype(dtype)
    lazy = da.from_array(x, chunks=(3, 7, 2))
    got = getattr(fd, name)(lazy, axis)
    if name != "logsumexp":
        again = getattr(fd, name)(lazy, axis, recompute=True)
        ops.assert_same_bits(again.compute(), got.compute())
    assert got.dtype == x.dtype and got.shape == getattr(fa, name)(x, axis=axis).shape
    wide = getattr(fa, name)(x.astype(np.float64), axis=axis)
    unit = {2: 2**-8 if x.dtype.name == "bfloat16" else 2**-11, 4: 2**-23, 8: 2**-52}
    error = np.abs(got.compute().astype(np.float64) - wide)
    least = 2.0**-24 if x.dtype == np.float16 else 0  # the smallest float16
    # m + log(s) may cancel: its error is one of m
    scale = np.maximum(np.abs(wide), 8) if name == "logsumexp" else np.abs(wide)
    assert (error <= 6 * unit[x.dtype.itemsize] * scale + least).all()


@splittable
@pytest.mark.parametrize("empty", ["nan", "zero"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_odd_rows(name, empty, dtype):
    """Infinities, nans and rows with nothing in them mean what they mean in an unsplit row."""
    inf, nan = np.inf, np.nan
    rows = [
        [-inf] * 6, [inf, 1, 2, 3, 4, 5], [inf, 1, 2, inf, 4, 5], [inf, inf, 0, 0, 0, 0],
        [nan, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, nan], [nan, inf, 0, 0, -inf, 0],
        [-inf, -inf, -inf, 0, 1, 2], [1e38, 1e38, -1e38, 0, 0, 0], [-inf, 0, -inf, 0, -inf, 0],
        [5, 5, 5, 5, 5, 5], [0.0, -0.0, 0, 0, 0, 0], [-700, 0, 700, 0, 0, 0],
    ]  # fmt: skip
    x = np.array(rows, dtype)
    expected = getattr(fa, name)(x if name != "softmin" else -x, axis=1, empty=empty)
    lazy = da.from_array(x if name != "softmin" else -x, chunks=(4, 2))
    got = getattr(fd, name)(lazy, 1, empty=empty).compute()
    np.testing.assert_allclose(
        got, expected, rtol=8 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).tiny
    )


def test_keepdims_and_integers():
    x = np.arange(12).reshape(3, 4)
    lazy = da.from_array(x, chunks=2)
    close(fd.logsumexp(lazy, 1, keepdims=True), fa.logsumexp(x, axis=1, keepdims=True), 4)
    close(
        fd.logsumexp(lazy.rechunk((3, 4)), 0, keepdims=True), fa.logsumexp(x, 0, keepdims=True), 4
    )
    close(fd.softmax(lazy, 0), fa.softmax(x, 0), 4)


def test_shifting_a_row_changes_nothing():
    x = random(4, 100, dtype=np.float64).round(3)
    lazy = da.from_array(x, chunks=(4, 9))
    shifted = da.from_array(x + 2.0**20, chunks=(4, 9))
    np.testing.assert_allclose(fd.softmax(shifted).compute(), fd.softmax(lazy).compute(), rtol=1e-9)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("recompute", [False, True])
def test_cross_entropy(reduction, axis, weighted, recompute):
    x = random(40, 24)
    classes = x.shape[axis]
    rng = np.random.default_rng(2)
    labels = rng.integers(0, classes, x.shape[0 if axis else 1])
    labels[3] = -100
    options = {"ignore_index": -100, "reduction": reduction}
    if weighted:
        options["weight"] = rng.uniform(0.5, 2, classes)
    expected, gradient = fa.softmax_cross_entropy_value_and_grad(x, labels, axis, **options)
    lazy = da.from_array(x, chunks=(7, 5))
    close(fd.softmax_cross_entropy(lazy, labels, axis, **options).compute(), expected, 8)
    loss, dx = fd.softmax_cross_entropy_value_and_grad(
        lazy, da.from_array(labels, chunks=4), axis, recompute=recompute, **options
    )
    assert dx.chunks == lazy.chunks
    close(loss.compute(), expected, 8)
    np.testing.assert_allclose(
        dx.compute(), gradient, rtol=1e-5, atol=1e-7 * np.abs(gradient).max()
    )


@pytest.mark.parametrize(("loss", "x", "target", "options"), samples.LOSSES, ids=samples.case_id)
def test_losses(loss, x, target, options):
    """Rows and classes in several chunks, with every kind of target."""
    lazy = da.from_array(x, chunks=(3, 4))
    expected, gradient = loss.value_and_grad(x, target, **options)
    value, dx = getattr(fd, f"{loss.name}_value_and_grad")(lazy, target, **options)
    close(getattr(fd, loss.name)(lazy, target, **options).compute(), expected, 8)
    close(value.compute(), expected, 8)
    np.testing.assert_allclose(dx.compute(), gradient, rtol=1e-13, atol=1e-16)


def test_a_loss_of_infinite_logits():
    x = np.array([[1e3, -1e3, 0, 5], [-np.inf, 0, 1, 2], [np.inf, 0, 0, 0], [-np.inf, 1, 2, 3]])
    lazy = da.from_array(x, chunks=(2, 2))
    found = fd.softmax_cross_entropy(lazy, [0, 0, 1, 2], reduction="none").compute()
    expected = fa.softmax_cross_entropy(x, [0, 0, 1, 2], reduction="none")
    np.testing.assert_allclose(found, expected, rtol=1e-15)


@pytest.mark.parametrize(("op", "arrays", "numbers"), samples.FUSED, ids=samples.case_id)
def test_fused(op, arrays, numbers):
    whole = [da.from_array(a, chunks=a.shape) for a in arrays]
    same = getattr(fd, op.name)(*whole, *numbers).compute()
    np.testing.assert_array_equal(same, op.forward(*arrays, *numbers))
    split = [w.rechunk(2) for w in whole]
    if len(arrays) > 1:
        same = getattr(fd, op.name)(split[0], arrays[1], *numbers).compute()
        np.testing.assert_array_equal(same, op.forward(*arrays, *numbers))
    else:
        with pytest.raises(ValueError, match="is split into"):
            getattr(fd, op.name)(*split, *numbers)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: fd.softmax(np.ones(3)), TypeError, "softmax: x must be a dask array, got nd"),
        (lambda x: fd.softmax(x, 2), ValueError, "axis 2 is out of bounds for x of shape"),
        (lambda x: fd.softmax(x, 0.5), TypeError, "axis must be an integer"),
        (lambda x: fd.softmax(x, empty="no"), ValueError, "empty must be 'nan' or 'zero'"),
        (lambda x: fd.softmax(x.astype(complex)), TypeError, "complex128"),
        (lambda x: fd.elu(x, alpha=np.nan), ValueError, "alpha must be finite"),
        (lambda x: fd.softmax_cross_entropy(x, [0.5] * 4), ValueError, "labels have shape"),
        (lambda x: fd.softmax_cross_entropy(x, x, ignore_index=1), ValueError, "needs class ids"),
        (lambda x: fd.softmax_cross_entropy(x, x, label_smoothing=2), ValueError, "label_smooth"),
        (lambda x: fd.sigmoid_cross_entropy(x, x[:2]), ValueError, "do not match logits"),
        (lambda x: fd.softmax_cross_entropy(x, [0]), ValueError, "labels have shape"),
        (lambda x: fd.softmax_cross_entropy(x, [0] * 4, reduction="no"), ValueError, "reduction"),
        (lambda x: fd.softmax_cross_entropy(x, [0] * 4, weight=[1]), ValueError, "weight has sh"),
        (
            lambda x: fd.softmax_cross_entropy(x, [0, 9, 0, 0]).compute(),
            ValueError,
            "labels must be at least 0 and below 6, got 9",
        ),
        (lambda x: fd.no_such_op, AttributeError, "no_such_op"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call(da.ones((4, 6), chunks=(2, 3)))


def test_threads_of_a_scheduler_are_the_only_ones():
    """Dask's two threads compute; fastact's own pool of eight is not even started."""
    code = """
        import os
        import dask.array as da, fastact as fa, fastact.dask as fd

        def threads():
            return len(os.listdir("/proc/self/task"))

        import numpy as np
        fa.set_num_threads(8)
        x = da.ones((64, 400_000), chunks=(1, 100_000), dtype=np.float32)
        alone = threads()
        most = []
        def watched(block):
            most.append(threads())
            return block
        y = fd.swish(fd.softmax(x, 1)).map_blocks(watched)
        y.sum().compute(scheduler="threads", num_workers=2)
        print(max(most) - alone, fa.get_target())
    """
    assert children.run(code).split() == ["2", "auto"]


# ------------------------------------------------------------------------------- on a cluster

MIB = 1 << 20


def ramp(block, block_info=None):
    """log(1 + i) for the i-th entry: softmax of it is (1 + i) / (n (n + 1) / 2)."""
    first = block_info[0]["array-location"][0][0]
    return np.log(np.arange(first + 1, first + 1 + block.size, dtype=np.float64))


def dies_once(block, flag):
    """Kills the process that computes it, the first time."""
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return block
    os.kill(os.getpid(), signal.SIGKILL)


def report(dask_worker):
    return len(os.listdir("/proc/self/task")), fa.get_num_threads()


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    for dtype in (np.float32, np.float64):  # compiled here: a worker has no memory for Numba
        x = da.ones(4, chunks=2, dtype=dtype)
        dask.compute(fd.softmax(x), fd.logsumexp(x), fa.swish(x), scheduler="sync")
    with (
        dask.config.set(
            {f"distributed.worker.memory.{k}": False for k in ("target", "spill", "pause")}
        ),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit=f"{350 * MIB}B",
            dashboard_address=None,
            silence_logs=50,
        ) as made,
        distributed.Client(made) as client,
    ):
        yield client


def long_row(n, chunk):
    return da.map_blocks(
        ramp, da.zeros(n, chunks=chunk, dtype=np.int8), dtype=np.float64, meta=np.zeros(0)
    )


@pytest.mark.timeout(120)
def test_a_row_longer_than_a_workers_memory(cluster):
    """400 MiB, over workers that may have 350: the row is never in one place, nor in both."""
    n = 50 * MIB
    with dask.config.set(scheduler=cluster):
        x = long_row(n, MIB)
        assert x.nbytes > 350 * MIB
        total = fd.logsumexp(x).compute()
        assert total == pytest.approx(np.log(n) + np.log(n + 1) - np.log(2), rel=1e-14)
        y = fd.softmax(x, recompute=True)
        assert y.sum().compute() == pytest.approx(1, rel=1e-12)
        some = y[:: n // 10].compute()
        exact = (np.arange(n)[:: n // 10] + 1) / (n * (n + 1) / 2)
        np.testing.assert_allclose(some, exact, rtol=1e-13)


@pytest.mark.timeout(120)
def test_workers_have_no_threads_of_fastact(cluster):
    before = cluster.run(report)
    with dask.config.set(scheduler=cluster):
        x = da.ones((8, 50_000), chunks=(1, 50_000), dtype=np.float32)
        assert fa.swish(x).max().compute() == fa.swish(np.float32(1))  # NumPy's protocol
        assert fd.softmax(x, axis=0).sum().compute() == pytest.approx(50_000)
    after = cluster.run(report)
    for worker, (threads, limit) in before.items():
        assert limit == 1
        assert after[worker][0] <= threads + 1  # Dask's own


@pytest.mark.timeout(120)
def test_a_worker_that_dies_is_made_up_for(cluster, tmp_path):
    n, chunk = 100_000, 10_000
    with dask.config.set(scheduler=cluster):
        x = long_row(n, chunk)
        flag = str(tmp_path / "died")
        ill = x[:chunk].map_blocks(dies_once, flag, dtype=x.dtype, meta=np.zeros(0))
        y = fd.softmax(da.concatenate([ill, x[chunk:]])).compute()
    assert os.path.exists(flag)
    np.testing.assert_allclose(y, (np.arange(n) + 1) / (n * (n + 1) / 2), rtol=1e-13)


def test_public_names():
    assert {"swish", "silu", "softmax", "softmax_cross_entropy"} <= set(fd.__all__) <= set(dir(fd))
    assert "fastact.softmax" in fd.softmax.__doc__ and "never gathered" in " ".join(
        fd.softmax.__doc__.split()
    )
