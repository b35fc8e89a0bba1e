"""Host arrays under the target "cuda": copied in chunks through page-locked memory, and back.

The GPU is a stand-in whose memory is the host's and whose kernels are NumPy expressions.
"""

import ctypes

import numpy as np
import pytest
from stand_ins import Library, install

import fastact as fa
from fastact.activations.directions import DIRECTIONS
from fastact.cuda import kinds, row_kinds
from fastact.gpu import driver, host
from fastact.registry import RECORDS, ROW_OPS

ROWS = {op.name: op for op in ROW_OPS}


class Computing(Library):
    """Memory that can be read, copies that copy, launches that compute at the end of a stream."""

    def __init__(self):
        super().__init__()
        self.kept, self.queues, self.streams = [], {}, 0

    def area(self, result, size):
        self.kept.append(ctypes.create_string_buffer(size + 256))
        return self.write(result, -(-ctypes.addressof(self.kept[-1]) // 256) * 256)

    def cuMemHostAlloc(self, result, size, flags):  # noqa: N802
        return self.area(result, size.value)

    def cuMemAlloc_v2(self, result, size):  # noqa: N802
        return self.area(result, size.value)

    def cuStreamCreate(self, result, flags):  # noqa: N802
        assert flags == driver.NON_BLOCKING
        self.streams += 1
        self.queues[self.streams] = []
        return self.write(result, self.streams)

    def cuMemcpyHtoDAsync_v2(self, to, source, size, stream):  # noqa: N802
        return self.copy(to, source, size, stream)

    def cuMemcpyDtoHAsync_v2(self, to, source, size, stream):  # noqa: N802
        return self.copy(to, source, size, stream)

    def copy(self, to, source, size, stream):
        pair = (to.value, source.value, size.value)
        self.queues[stream.value].append(lambda: ctypes.memmove(*pair))
        return 0

    def cuLaunchKernel(self, function, *rest):  # noqa: N802
        super().cuLaunchKernel(function, *rest)
        launch = self.launches[-1]
        self.queues[launch.stream].append(lambda: self.compute(launch))
        return 0

    def cuStreamSynchronize(self, stream):  # noqa: N802
        for action in self.queues[stream.value]:
            action()
        self.queues[stream.value].clear()
        return 0

    def compute(self, launch):
        """relu, swish and softmax; the kernels themselves are tested elsewhere."""

        def array(address, shape, dtype):
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            return np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(shape)

        for dtype in ("float32", "float64"):
            for name, op in (("relu", fa.relu), ("swish", fa.swish)):
                kernel = kinds.elementwise(RECORDS[name], DIRECTIONS["forward"], dtype)
                if launch.name == kernel.name:
                    given = launch.arguments(kernel)
                    x = array(given["x"], given["size"], dtype)
                    out = array(given["out_y"], given["size"], dtype)
                    with fa.use_target("serial"):
                        op(x, *(given[p.name] for p in kernel.record.parameters), out=out)
                    return
        (kernel,) = row_kinds.chosen(ROWS["softmax"], "float32", 8)
        assert launch.name == kernel.name, launch.name
        given = launch.arguments(kernel)
        shape = given["rows"], given["length"]
        with fa.use_target("serial"):
            fa.softmax(array(given["x"], shape, "f4"), out=array(given["out0"], shape, "f4"))


@pytest.fixture
def gpu(monkeypatch):
    library = install(monkeypatch, Computing())
    monkeypatch.setattr(host, "CHUNK", 4096)
    host.pipeline.cache_clear()
    with fa.use_target("cuda"):
        yield library
    driver.driver.cache_clear()
    host.pipeline.cache_clear()


def on_cpu(function, *args, **options):
    with fa.use_target("serial"):
        return function(*args, **options)


def test_chunks(gpu):
    x = np.random.default_rng(0).normal(0, 3, 5000).astype(np.float32)
    y = fa.relu(x)
    assert fa.get_target() == "cuda"
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    assert y.dtype == x.dtype
    assert len(gpu.launches) > 8  # 4096 bytes at a time, in and out
    assert {launch.stream for launch in gpu.launches} == {1, 2}


def test_two_chunks_are_under_way_at_once(gpu):
    order = []
    synchronize = gpu.cuStreamSynchronize
    gpu.cuStreamSynchronize = lambda s: order.append(s.value) or synchronize(s)
    fa.relu(np.ones(1000, np.float32))
    fa.relu(np.ones(5000, np.float32))
    assert order[:2] == [1, 2] or order[:3] == [1, 1, 2]
    assert not any(gpu.queues.values())


@pytest.mark.parametrize(
    "x",
    [
        np.arange(-6.0, 6.0).reshape(3, 4).T,
        np.arange(-6.0, 6.0)[::-2],
        np.float64(-1.5),
        np.array(2.5, np.float32),
        np.arange(-3, 3),
        np.zeros((0, 3)),
        [-1.0, 2.0],
    ],
    ids=str,
)
def test_layouts_and_kinds(gpu, x):
    y = fa.relu(x)
    expected = on_cpu(fa.relu, x)
    np.testing.assert_array_equal(y, expected)
    assert np.asarray(y).dtype == np.asarray(expected).dtype and np.shape(y) == np.shape(x)
    assert isinstance(y, np.ndarray) == isinstance(expected, np.ndarray)


def test_parameters_and_out(gpu):
    x = np.linspace(-4, 4, 100).reshape(10, 10)
    out = np.zeros((10, 20))[:, ::2]
    assert fa.swish(x, 1.5, out=out) is out
    np.testing.assert_array_equal(out, on_cpu(fa.swish, x, 1.5))
    assert fa.swish(x, out=x) is x


def test_rows(gpu):
    x = np.random.default_rng(1).normal(0, 3, (8, 700)).astype(np.float32)
    np.testing.assert_array_equal(fa.softmax(x, axis=0), on_cpu(fa.softmax, x, axis=0))
    assert len(gpu.launches) > 2


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: fa.relu(x, out=np.ones(3)), ValueError, "out has shape"),
        (lambda x: fa.relu(x, out=np.ones(8, np.int32)), TypeError, "int32"),
        (lambda x: fa.relu(np.ones(3, complex)), TypeError, "complex128"),
        (lambda x: fa.relu_backward(np.ones(3), x), ValueError, "do not broadcast"),
        (lambda x: fa.swish(x, np.inf), ValueError, "beta must be finite"),
        (lambda x: fa.softmax(x, axis=2), ValueError, "axis 2"),
    ],
)
def test_refused(gpu, call, error, words):
    with pytest.raises(error, match=words):
        call(np.ones(8))
    assert not gpu.launches


def test_what_has_no_kernel_is_computed_on_the_cpu(gpu):
    x = np.random.default_rng(2).normal(0, 2, (4, 6))
    labels = np.array([0, 1, 2, 5])
    calls = [
        lambda: fa.maxout(x, 2),
        lambda: fa.causal_softmax(x),
        lambda: fa.softmax_cross_entropy(x, labels),
    ]
    for call in calls:
        np.testing.assert_array_equal(call(), on_cpu(call))
    assert not gpu.launches


def test_after_the_block_the_cpu_computes(gpu):
    with fa.use_target("auto"):
        fa.relu(np.ones(8))
    assert not gpu.launches
