"""Which arrays go to a GPU, on which stream, and what comes back; the GPU is a stand-in."""

import os
import struct
from concurrent.futures import ThreadPoolExecutor

import children
import numpy as np
import pytest
from stand_ins import GpuArray, Library, install

import fastact as fa
from fastact.activations.directions import DIRECTIONS
from fastact.cuda import kinds, row_kinds
from fastact.gpu import call as calls
from fastact.gpu import driver, losses, partials, rows
from fastact.registry import RECORDS, ROW_OPS
from fastact.runtime import elsewhere

ROWS = {op.name: op for op in ROW_OPS}


@pytest.fixture
def gpu(monkeypatch):
    library = install(monkeypatch, Library(devices=2))
    yield library
    driver.driver.cache_clear()


def kernel(op, direction="forward", dtype="float32", **layout):
    return kinds.elementwise(RECORDS[op], DIRECTIONS[direction], dtype, kinds.Layout(**layout))


def test_result_is_the_same_library_on_the_same_device(gpu):
    x = GpuArray((4, 8), device=1)
    y = fa.sigmoid(x)
    assert type(y) is GpuArray and y.device == 1 and y.shape == (4, 8) and y.dtype == x.dtype
    (launch,) = gpu.launches
    assert launch.name == kernel("sigmoid").name
    given = launch.arguments(kernel("sigmoid"))
    assert given == {"size": 32, "x": x.address, "out_y": y.address}
    assert not gpu.stack  # the context that was pushed is gone


def test_two_results_and_parameters_by_value(gpu):
    x = GpuArray((1000,), "float64")
    y, g = fa.swish_value_and_grad(x, 1.5)
    given = gpu.launches[0].arguments(kernel("swish", "value_and_grad", "float64"))
    assert given == {"size": 1000, "x": x.address, "out_y": y.address, "out_g": g.address,
                     "beta": 1.5}  # fmt: skip


def test_gated_ops(gpu):
    a, b = GpuArray((8,)), GpuArray((8,))
    assert fa.swiglu(a, b).shape == (8,)
    da, db = fa.swiglu_backward(GpuArray((8,)), a, b)
    assert type(da) is type(db) is GpuArray
    given = struct.unpack_from("@iQQQQQ", gpu.launches[1].packed)
    assert given[0] == 8 and given[-2:] == (da.address, db.address)


def test_a_kernel_is_loaded_once_per_device(gpu):
    for device in (0, 1, 0, 1):
        fa.relu(GpuArray((8,), device=device))
    assert [what for what, *_ in gpu.log].count("load") == 2
    assert len(gpu.launches) == 4


def test_out_is_returned_and_written(gpu):
    x, out = GpuArray((8,)), GpuArray((8,))
    assert fa.sigmoid(x, out=out) is out
    assert fa.sigmoid(x, out=(out,)) is out
    assert fa.sigmoid(x, out=x) is x
    for launch, right in zip(gpu.launches, (out, out, x), strict=True):
        assert launch.arguments(kernel("sigmoid"))["out_y"] == right.address


@pytest.mark.parametrize(
    ("options", "layout"),
    [
        ({}, {}),
        ({"offset": 4}, {"dimensions": 1}),
        ({"strides": (16, 2)}, {"dimensions": 1}),
        ({"strides": (32, 2)}, {"dimensions": 2}),
        ({"strides": (0, 1)}, {"dimensions": 2}),
        ({"strides": (-8, 1)}, {"dimensions": 2}),
        ({"strides": (1 << 31, 1)}, {"dimensions": 2, "index": 64}),
    ],
)
def test_layouts(gpu, options, layout):
    fa.sigmoid(GpuArray((4, 8), **options))
    assert gpu.launches[0].name == kernel("sigmoid", **layout).name


def test_fortran_order_is_contiguous_where_the_result_is_too(gpu):
    x, out = GpuArray((4, 8), strides=(1, 4)), GpuArray((4, 8), strides=(1, 4))
    fa.sigmoid(x, out=out)
    assert gpu.launches[0].name == kernel("sigmoid").name


def test_operands_broadcast(gpu):
    dy, x = GpuArray((4, 1)), GpuArray((8,))
    dx = fa.sigmoid_backward(dy, x)
    assert dx.shape == (4, 8)
    given = gpu.launches[0].arguments(kernel("sigmoid", "backward", dimensions=2))
    strides = [given[f"{n}_stride_{d}"] for n in ("dy", "x", "out_dx") for d in (0, 1)]
    assert strides == [1, 0, 0, 1, 8, 1]


def test_parameters_may_be_arrays(gpu):
    x, slope = GpuArray((4, 8), "float16"), GpuArray((8,), "float32")
    fa.leaky_relu(x, slope)
    expected = kernel("leaky_relu", dtype="float16", dimensions=2, arrays=True)
    assert gpu.launches[0].arguments(expected)["negative_slope"] == slope.address


def test_empty_arrays_launch_nothing(gpu):
    assert fa.sigmoid(GpuArray((0, 3))).shape == (0, 3)
    assert fa.softmax(GpuArray((3, 0))).shape == (3, 0)
    assert not gpu.launches


# Streams


@pytest.mark.parametrize(
    ("options", "stream"),
    [
        ({"stream": 77}, 77),
        ({"stream": 1}, 1),
        ({"stream": 2}, 2),
        ({"stream": None}, driver.LEGACY_STREAM),
        ({"version": 2}, driver.LEGACY_STREAM),
    ],
)
def test_stream_of_the_producer(gpu, options, stream):
    fa.sigmoid(GpuArray((8,), **options))
    assert gpu.launches[0].stream == stream
    assert not [entry for entry in gpu.log if entry[0] in ("record", "wait")]


def test_other_streams_are_waited_for_on_the_gpu(gpu):
    fa.sigmoid_backward(GpuArray((8,), stream=77), GpuArray((8,), stream=88))
    assert [e for e in gpu.log if e[0] != "load"] == [
        ("record", 88), ("wait", 77), ("launch", kernel("sigmoid", "backward").name),
        ("record", 77), ("wait", 88),  # its owner may overwrite or free what was read
    ]  # fmt: skip
    assert gpu.launches[0].stream == 77


def test_stream_zero_is_an_error(gpu):
    with pytest.raises(ValueError, match="stream 0 is not allowed"):
        fa.sigmoid(GpuArray((8,), stream=0))


# Refusals: each before anything is launched


def refused(call, error, *words):
    with pytest.raises(error) as caught:
        call()
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


X = np.ones(8, np.float32)
REFUSED = {
    "host dy": (lambda x: fa.sigmoid_backward(X, x), TypeError, "dy", "numpy.ndarray", "x", "GPU"),
    "host x": (lambda x: fa.sigmoid_backward(x, X), TypeError, "dy", "numpy.ndarray", "x", "host"),
    "number": (lambda x: fa.sigmoid_backward(1.0, x), TypeError, "dy", "float"),
    "host out": (lambda x: fa.sigmoid(x, out=np.ones(8)), TypeError, "out", "numpy.ndarray"),
    "gpu out": (lambda x: fa.sigmoid(X, out=x), TypeError, "out", "x", "numpy.ndarray", "host"),
    "dtype": (lambda x: fa.sigmoid(GpuArray((8,), "complex64")), TypeError, "x", "complex64",
              "bfloat16"),
    "shape": (lambda x: fa.sigmoid_backward(GpuArray((3,)), x), ValueError, "dy (3,)", "x (8,)"),
    "out shape": (lambda x: fa.sigmoid(x, out=GpuArray((9,))), ValueError, "out", "(9,)", "(8,)"),
    "out dtype": (lambda x: fa.sigmoid(x, out=GpuArray((8,), "int32")), TypeError, "out", "int32"),
    "out casting": (lambda x: fa.sigmoid(x, out=GpuArray((8,), "float16"), casting="safe"),
                    TypeError, "out", "float16", "safe", "float32"),
    "read-only": (lambda x: fa.sigmoid(x, out=GpuArray((8,), readonly=True)), ValueError,
                  "read-only"),
    "devices": (lambda x: fa.sigmoid_backward(GpuArray((8,), device=1), x), ValueError,
                "dy on device 1", "x on device 0"),
    "mask": (lambda x: fa.sigmoid(GpuArray((8,), mask=x)), TypeError, "mask"),
    "unaligned": (lambda x: fa.sigmoid(GpuArray((8,), strides=(1,), offset=2)), ValueError,
                  "aligned to 4 bytes"),
    "parameter": (lambda x: fa.elu(x, np.inf), ValueError, "alpha", "inf"),
    "where": (lambda x: fa.sigmoid(x, where=X > 0), TypeError, "where", "numpy.ndarray", "x"),
    "where dtype": (lambda x: fa.sigmoid(x, where=x), TypeError, "where", "float32", "boolean"),
    "loop dtype": (lambda x: fa.sigmoid(x, dtype="int32"), TypeError, "dtype", "int32"),
    "casting": (lambda x: fa.sigmoid(x, dtype="float16", casting="safe"), TypeError, "x",
                "float32", "safe", "float16"),
    "casting word": (lambda x: fa.sigmoid(x, casting="rough"), ValueError, "casting", "rough"),
    "halves": (lambda x: fa.glu(GpuArray((7,))), ValueError, "even length", "(7,)"),
    "halves dy": (lambda x: fa.glu_backward(x, x), ValueError, "dy", "(8,)", "(4,)"),
    "groups": (lambda x: fa.maxout(x, 3), ValueError, "groups", "8 entries", "3"),
    "groups dy": (lambda x: fa.maxout_backward(x, x, 2), ValueError, "dy", "(8,)", "(2,)"),
    "causal": (lambda x: fa.causal_softmax(x), ValueError, "x", "(8,)", "no matrix"),
    "axes": (lambda x: fa.logsumexp(x, axis=(0, 0)), ValueError, "(0, 0)", "twice"),
    "loss labels": (lambda x: fa.softmax_cross_entropy(x, 0), TypeError, "logits", "labels",
                    "GPU", "host"),
    "loss label dtype": (lambda x: fa.softmax_cross_entropy(x, GpuArray((), "bool")), TypeError,
                         "labels", "bool"),
    "loss label shape": (lambda x: fa.softmax_cross_entropy(x, GpuArray((2,), "int64")), ValueError,
                         "labels", "(2,)", "()"),
    "loss probabilities": (lambda x: fa.softmax_cross_entropy(x, GpuArray((3,))), ValueError,
                           "labels", "(3,)", "(8,)"),
    "loss weight": (lambda x: fa.softmax_cross_entropy(x, x, weight=GpuArray((3,))), ValueError,
                    "weight", "(3,)", "(8,)"),
    "loss ignored": (lambda x: fa.softmax_cross_entropy(x, x, ignore_index=1), ValueError,
                     "ignore_index", "class ids", "float32"),
    "loss out": (lambda x: fa.softmax_cross_entropy_value_and_grad(
                 x, x, out=GpuArray((8,), "float64")), TypeError, "out", "float64"),
    "loss targets": (lambda x: fa.sigmoid_cross_entropy(x, GpuArray((3,))), ValueError, "targets",
                     "(3,)", "(8,)"),
    "loss pos_weight": (lambda x: fa.sigmoid_cross_entropy(x, x, pos_weight=GpuArray((3,))),
                        ValueError, "pos_weight", "(3,)", "(8,)"),
    "loss host weight": (lambda x: fa.sigmoid_cross_entropy(x, x, weight=X), TypeError, "weight",
                         "numpy.ndarray", "host"),
    "partial out": (lambda x: fa.prelu_backward(x, x, x, out=(X, x)), TypeError, "out for dx",
                    "numpy.ndarray"),
    "partial dy": (lambda x: fa.swish_backward(X, x, wrt="beta"), TypeError, "dy", "host"),
    "axis": (lambda x: fa.softmax(x, axis=1), ValueError, "axis 1", "(8,)"),
    "host where": (lambda x: fa.softmax(x, where=X > 0), TypeError, "where", "numpy.ndarray"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(gpu, case):
    call, error, *words = REFUSED[case]
    refused(lambda: call(GpuArray((8,))), error, *words)
    assert not gpu.launches


def test_out_that_overlaps_the_input_is_written_last(gpu):
    """As in NumPy: the kernel writes memory of its own, which is copied then."""
    x, out = GpuArray((8,)), GpuArray((8,))
    fa.sigmoid(x, out=out)
    out.address = x.address + 4
    for _ in range(2):
        assert fa.sigmoid(x, out=out) is out
    names = [launch.name for launch in gpu.launches]
    assert names[1:] == [kernel("sigmoid").name, names[2]] * 2 and "copy" in names[2]
    (_, size, _), (_, address, _) = [e for e in gpu.log if e[0] in ("allocate", "free")][:2]
    assert size == 32
    assert gpu.launches[1].arguments(kernel("sigmoid"))["out_y"] == address


def test_out_that_overlaps_the_mask_is_refused(gpu):
    x, mask = GpuArray((8,)), GpuArray((8,), "bool")
    mask.address = x.address
    refused(lambda: fa.sigmoid(x, out=x, where=mask), ValueError, "out overlaps where")
    assert not gpu.launches


def test_a_given_out_says_nothing_of_results_that_are_made(gpu):
    x = GpuArray((8,))
    fa.sigmoid(x, out=GpuArray((3, 8), "float64"))
    for _ in range(2):
        y = fa.sigmoid(x)
        assert y.shape == (8,) and y.dtype == np.float32


def test_inputs_may_be_read_only(gpu):
    fa.sigmoid(GpuArray((8,), readonly=True))
    assert len(gpu.launches) == 1


def test_tensors_that_require_grad():
    torch = pytest.importorskip("torch")
    for call in (fa.sigmoid, fa.softmax):
        refused(lambda call=call: call(torch.ones(3, requires_grad=True)), TypeError,
                "requires grad", "fastact.torch")  # fmt: skip


def test_tensors_on_the_host_are_none_of_the_gpus_business():
    torch = pytest.importorskip("torch")
    assert not elsewhere.on_gpu([torch.ones(3), np.ones(3), 1.0, None])


class Copying(GpuArray):
    """Like an array of numba.cuda: NumPy would get a copy on the host without a word."""

    def __array__(self, dtype=None, copy=None):
        return np.ones(self.shape, dtype)


def test_arrays_that_numpy_would_copy_are_guarded(gpu):
    elsewhere.set_reason("numba", True)  # as when numba.cuda is imported
    try:
        for call in (fa.sigmoid, fa.softmax, fa.elu):
            assert type(call(Copying((4, 8)))) is Copying
        with pytest.raises(TypeError, match="ndarray on the host"):
            fa.sigmoid_backward(X, Copying((8,)))
        np.testing.assert_array_equal(fa.relu(X), X)
    finally:
        elsewhere.set_reason("numba", False)
    assert len(gpu.launches) == 3


def test_numba_cuda_puts_up_the_guards():
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    children.run("""
        import numpy as np
        import fastact as fa
        from fastact.runtime import elsewhere

        fa.sigmoid(np.ones(3))
        assert not elsewhere._reasons
        import numba.cuda
        assert elsewhere._reasons == {"numba"}
        fa.sigmoid(np.ones(3))
    """)


# Rows


def test_rows(gpu):
    x = GpuArray((6, 5, 100), stream=9)
    y = fa.softmax(x)
    (chosen,) = row_kinds.chosen(ROWS["softmax"], "float32", 100)
    given = gpu.launches[0].arguments(chosen)
    assert gpu.launches[0].name == chosen.name and gpu.launches[0].stream == 9
    assert (given["rows"], given["length"], given["x_stride_0"]) == (30, 100, 100)
    assert (given["x"], given["out0"]) == (x.address, y.address)
    assert np.isnan(given["empty"])


def test_rows_along_another_axis_are_columns(gpu):
    fa.softmax(GpuArray((100, 64)), axis=0)
    assert "columns" in gpu.launches[0].name


def test_long_rows_are_cut_and_share_a_workspace(gpu):
    fa.softmax(GpuArray((2, 1 << 17)))
    partial, apply = row_kinds.chosen(ROWS["softmax"], "float32", 1 << 17)
    assert [launch.name for launch in gpu.launches] == [partial.name, apply.name]
    pairs = zip(gpu.launches, (partial, apply), strict=True)
    spaces = [launch.arguments(k)["partials"] for launch, k in pairs]
    pieces = partial.chunks(1 << 17)
    assert ("allocate", 2 * pieces * partial.partials * 4, 1) in gpu.log
    assert spaces[0] == spaces[1] and gpu.log[-1] == ("free", spaces[0], 1)


def test_mask_scale_and_policy(gpu):
    x, mask = GpuArray((3, 8)), GpuArray((3, 1), "bool")
    fa.softmax(x, where=mask, temperature=2.0, empty="zero")
    (launch,) = gpu.launches
    assert "masked_scaled" in launch.name


def test_reductions_return_one_value_per_row(gpu):
    x = GpuArray((3, 8))
    assert fa.logsumexp(x).shape == (3,)
    assert fa.logsumexp(x, axis=0, keepdims=True).shape == (1, 8)
    assert fa.logsumexp_backward(GpuArray((3,)), x).shape == (3, 8)


# Failures


def test_driver_errors_say_what_failed(gpu):
    gpu.fails["cuLaunchKernel"] = 700
    with pytest.raises(driver.CudaError, match=r"cuLaunchKernel: a made-up failure .*700"):
        fa.sigmoid(GpuArray((8,)))
    assert not gpu.stack


def test_memory_is_given_back_after_a_failure(gpu):
    """The first failure is told, not that of what follows it."""
    gpu.fails["cuLaunchKernel"] = gpu.fails["cuMemFreeAsync"] = 700
    with pytest.raises(driver.CudaError, match="cuLaunchKernel"):
        fa.softmax(GpuArray((2, 1 << 17)))
    del gpu.fails["cuMemFreeAsync"]
    with pytest.raises(driver.CudaError, match="cuLaunchKernel"):
        fa.softmax(GpuArray((2, 1 << 17)))
    assert gpu.log[-1][0] == "free" and not gpu.stack


def test_a_device_without_pools(gpu, monkeypatch):
    """Memory is taken at once, and given back when the stream is done with it."""
    gpu.pools = 0
    monkeypatch.setattr(Library, "cuMemAlloc_v2", lambda self, result, size: self.write(result, 64),
                        raising=False)  # fmt: skip
    for name in ("cuStreamSynchronize", "cuMemFree_v2"):

        def note(self, place, name=name):
            self.log.append((name, place.value))
            return 0

        monkeypatch.setattr(Library, name, note, raising=False)
    fa.softmax(GpuArray((2, 1 << 17), stream=7))
    assert gpu.log[-2:] == [("cuStreamSynchronize", 7), ("cuMemFree_v2", 64)]


def test_each_device_has_a_pool(gpu):
    for device in (0, 1, 0, 1):
        fa.softmax(GpuArray((2, 1 << 17), device=device))
    assert [entry for entry in gpu.log if entry[0] == "pool"] == [("pool", 0xF0), ("pool", 0xF1)]


def test_threads_launch_at_once(gpu):
    """Each with its own arguments; a kernel is loaded once."""
    arrays = [(GpuArray((8,)), GpuArray((8,))) for _ in range(8)]

    def work(pair):
        for _ in range(50):
            fa.tanhshrink(pair[0], out=pair[1])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, arrays))
    found = [launch.arguments(kernel("tanhshrink")) for launch in gpu.launches]
    pairs = [(given["x"], given["out_y"]) for given in found]
    assert sorted(pairs) == sorted([(x.address, y.address) for x, y in arrays] * 50)
    assert [what for what, *_ in gpu.log].count("load") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_computes_on_the_cpu():
    """NVIDIA's driver does not work in a child of a process that has begun to use it."""
    children.run(
        """
        import os
        import numpy as np
        import pytest
        import fastact as fa
        from stand_ins import GpuArray, Library
        from fastact.gpu import driver

        missing = driver.missing
        x = np.linspace(-2, 2, 9)
        right = fa.tanh(x)
        driver.open_library = Library
        driver.missing = lambda: missing() if driver._forked else ""
        fa.set_target("cuda")
        child = os.fork()
        if not child:
            assert fa.get_target() == "auto"
            np.testing.assert_array_equal(fa.tanh(x), right)
            with pytest.raises(driver.CudaUnavailable, match="spawn"):
                fa.tanh(GpuArray((8,)))
            with pytest.raises(driver.CudaUnavailable, match="forked"):
                fa.set_target("cuda")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert fa.get_target() == "cuda"
        """
    )


@pytest.mark.parametrize(
    ("library", "words"),
    [
        (lambda: Library(devices=0), "no GPU"),
        (lambda: Library(version=11040), "too old: it supports CUDA 11.4"),
    ],
)
def test_what_is_missing_is_said(monkeypatch, library, words):
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    found = driver.Driver(library())
    monkeypatch.setattr(driver, "open_driver", lambda: found)
    driver.driver.cache_clear()
    for call in (lambda: fa.sigmoid(GpuArray((8,))), lambda: fa.set_target("cuda")):
        with pytest.raises(driver.CudaUnavailable, match=words):
            call()
    assert fa.get_target() == "auto"


def test_no_driver_and_no_numba_cuda(monkeypatch):
    def no_library():
        raise OSError("not found")

    monkeypatch.setattr(driver, "open_library", no_library)
    driver.open_driver.cache_clear()
    driver.driver.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert "install a driver" in driver.missing()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "fastact[cuda]" in driver.missing()


def test_the_cpu_never_imports_the_gpu():
    children.run("""
        import sys
        import numpy as np
        import fastact as fa

        fa.sigmoid(np.ones(3))
        fa.softmax(np.ones(3), axis=0)
        try:
            fa.sigmoid("no number")
        except TypeError:
            pass
        loaded = [m for m in sys.modules if m.startswith(("fastact.gpu", "fastact.cuda"))]
        assert not loaded and "numba.cuda" not in sys.modules, loaded
    """)


def test_target_from_the_environment_does_not_fail_the_import():
    children.run(
        """
        import fastact as fa
        assert fa.get_target() == "cuda"
        """,
        {"FASTACT_TARGET": "cuda"},
    )


# Calls like an earlier one


def test_repeated_calls_take_their_own_operands(gpu):
    """What is kept of a call is neither its addresses, nor its streams, nor its numbers."""
    for stream, beta in ((3, 1.5), (4, 2.5), (4, 0.5)):
        x, out = GpuArray((4, 8), stream=stream), GpuArray((4, 8), stream=stream)
        assert fa.swish(x, beta, out=out) is out
        launch = gpu.launches[-1]
        given = launch.arguments(kernel("swish"))
        assert (given["x"], given["out_y"], given["beta"]) == (x.address, out.address, beta)
        assert launch.stream == stream
    assert len(gpu.launches) == 3


def test_repeated_calls_are_checked(gpu):
    """An earlier call says nothing of what may differ: overlaps, devices, parameters, axes."""
    x, out = GpuArray((8,)), GpuArray((8,))
    fa.swish(x, 1.5, out=out)
    fa.softmax(GpuArray((3, 8)), axis=1)
    before = len(gpu.launches)
    refused(lambda: fa.swish(x, 1.5, out=GpuArray((8,), device=1)), ValueError, "device 1")
    refused(lambda: fa.swish(x, np.nan, out=out), ValueError, "beta", "nan")
    refused(lambda: fa.swish(x, 1.5, out=GpuArray((8,), readonly=True)), ValueError, "read-only")
    refused(lambda: fa.softmax(GpuArray((3, 8)), axis=True), TypeError, "axis")
    assert len(gpu.launches) == before


@pytest.mark.parametrize(
    "call",
    [
        lambda x, out: fa.elu(x, 1.5, where=GpuArray((8,), "bool"), out=out),
        lambda x, out: fa.leaky_relu(x, GpuArray((8,), "float64"), out=out),
        lambda x, out: fa.relu(x, dtype="float64", out=out),
        lambda x, out: fa.softmax(x, where=GpuArray((1, 8), "bool"), temperature=2.0, out=out),
        lambda x, out: fa.causal_softmax(x, 1, out=out),
        lambda x, out: fa.prelu_backward(GpuArray((3, 8)), x, GpuArray((8,)), out=(out, None))[0],
        lambda x, out: fa.softmax_cross_entropy_value_and_grad(x, GpuArray((3,), "uint8"),
                                                              ignore_index=2, out=out)[1],
        lambda x, out: fa.sigmoid_cross_entropy_value_and_grad(x, x, out=out)[1],
        lambda x, out: fa.glu_backward(GpuArray((3, 4)), x, out=out),
    ],
)  # fmt: skip
def test_every_kind_of_call_is_planned_once(gpu, monkeypatch, call):
    """The second call asks nothing, and launches the same on its own memory."""
    found = []
    for _ in range(2):
        before = len(gpu.launches)
        x, out = GpuArray((3, 8)), GpuArray((3, 8))
        assert call(x, out) is out
        found.append((x, out, gpu.launches[before:]))
        for room in (calls, losses, partials, rows):
            monkeypatch.setattr(room, "perform", None)
    (*_, first), (x, out, second) = found
    assert [launch.name for launch in first] == [launch.name for launch in second]
    packed = b"".join(launch.packed for launch in second)
    assert all(struct.pack("Q", a.address) in packed for a in (x, out))
    assert [e[0] for e in gpu.log].count("allocate") == [e[0] for e in gpu.log].count("free")


def test_repeated_calls_wait_for_other_streams(gpu):
    for other in (88, 99):
        fa.sigmoid_backward(GpuArray((8,), stream=77), GpuArray((8,), stream=other))
    waits = [e for e in gpu.log if e[0] in ("record", "wait")]
    assert waits == [
        (what, stream)
        for other in (88, 99)
        for what, stream in (("record", other), ("wait", 77), ("record", 77), ("wait", other))
    ]
