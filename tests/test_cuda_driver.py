"""What reaches the driver: every call in the types of NVIDIA's header, every constant its own."""

import re

import numpy as np
import ops
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

import native_driver
from executing import Executing, Real, place
from gpu_calls import CALLS, compare, expected, made, normal
from stand_ins import install

import fastact as fa
from fastact.gpu import driver, kernels, pipeline

if native_driver.missing():
    pytest.skip(native_driver.missing(), allow_module_level=True)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A driver library made of NVIDIA's header."""
    return native_driver.compiled(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def door(monkeypatch, library):
    """A GPU behind the compiled library; nothing may have failed in it."""
    behind = Executing()
    opened = native_driver.Door(behind)
    opened.open(library)
    monkeypatch.setattr(driver, "LIBRARY", str(library))
    install(monkeypatch, driver.open_library())
    monkeypatch.setattr(kernels, "cubin", behind.remember)
    monkeypatch.setattr(Real, "library", behind, raising=False)
    yield opened
    driver.driver.cache_clear()
    assert not opened.errors, opened.errors
    assert not behind.temporaries and not behind.stack


def test_every_function_has_nvidias_prototype(library):
    """The library has each function whose name the driver's room writes."""
    with open(driver.__file__) as file:
        named = set(re.findall(r"[\".](cu[A-Z]\w+)", file.read()))
    assert len(named) > 20
    exported = driver.ctypes.CDLL(str(library))
    assert [n for n in sorted(named) if not hasattr(exported, n)] == []


# A kernel alone; with workspace; with temporaries; several axes, copied first.
@pytest.mark.parametrize("name", ["in a dtype", "class ids, mean", "rounds of 17000 along -1"])
def test_calls(door, name):
    call = CALLS[name]
    for got, right in zip(made(call, place), expected(call), strict=True):
        compare(call, got.numpy(), right)
    assert {"cuLaunchKernel", "cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2"} <= door.called


def test_host_arrays(door, monkeypatch):
    """There and back in pieces: copies, streams, memory of both kinds."""
    monkeypatch.setattr(pipeline, "CHUNK", 1 << 12)
    x, dy = normal((40, 50)), normal((40, 50), seed=1)
    with fa.use_target("cuda"):
        y = fa.relu(x)
        gradient, _ = fa.prelu_backward(dy, x, x[0])
        fa.softmax(normal((2, 3000)))  # memory is taken anew for a long row
    ops.assert_same_bits(y, fa.relu(x))
    ops.assert_same_bits(gradient, fa.prelu_backward(dy, x, x[0])[0])
    assert {"cuMemcpyHtoDAsync_v2", "cuMemFreeHost", "cuStreamSynchronize"} <= door.called


def test_streams_of_64_bits(door):
    """Handles are addresses: all 64 bits of them arrive."""
    first, second = 0x7FFF_1234_5678_9ABC, 0x7FFF_FEDC_BA98_7654
    x = np.linspace(-3, 3, 40, dtype=np.float32)
    a, b = place(x, stream=first), place(x, stream=second)
    ops.assert_same_bits(fa.reglu(a, b).numpy(), fa.reglu(x, x))
    assert door.library.launches[-1].stream == first
    assert ("record", second) in door.library.log and ("wait", first) in door.library.log


def test_errors_are_told_by_the_driver(door):
    x = place(np.ones(8, np.float32))
    door.library.fails["cuLaunchKernel"] = 719
    with pytest.raises(driver.CudaError, match=r"cuLaunchKernel: a made-up failure .*719"):
        fa.relu(x)


def test_facts_of_a_device(door):
    gpu = driver.driver()
    assert (gpu.version, gpu.count, gpu.name(0)) == (13000, 1, "Made-up GPU")
    assert gpu.capability(0) == (9, 0)
