"""Calls on GPU arrays, whole, their kernels executed by the PTX interpreter: the CPU's results."""

import numpy as np
import ops
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

import gpu
from executing import executing, place  # noqa: F401
from gpu_calls import CALLS, compare, expected, labels, made, normal

import fastact as fa
from fastact.gpu import partials

pytestmark = pytest.mark.usefixtures("executing")
# Each of these has kernels of its own to compile, of kinds that others have too.
MORE = (
    "class ids, sum",
    "probabilities, weighted",
    "sigmoid, sum",
    "slope (5,)",
    "into uint8",
    "into int16",
    "into uint32",
    "bfloat16 and uint16",
    "of bool",
    "of uint16",
    "of uint64",
    "in a dtype",
    "halves along 0",
    "halves along 0, backward",
    "over (0, 1)",
    "over (0, 1), backward",
    "over (1,)",
    "over (1,), backward",
    "over ()",
    "groups along 0",
    "groups along 0, backward",
    "rounds of 1100 along -1",
    "rounds of 600 along 0",
)


@pytest.mark.parametrize("name", [n for n in CALLS if gpu.FULL or n not in MORE])
def test_call(name):
    call = CALLS[name]
    for got, right in zip(made(call, place), expected(call), strict=True):
        compare(call, got.numpy(), right)


def test_gradient_in_place():
    x, t = normal((6, 10)), labels(6, 10)
    there = place(x)
    _, gradient = fa.softmax_cross_entropy_value_and_grad(there, place(t), out=there)
    _, right = fa.softmax_cross_entropy_value_and_grad(x, t)
    assert gradient is there
    np.testing.assert_allclose(there.numpy(), right, rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("wrong", [10, -1, 1 << 40])
def test_labels_out_of_range_are_nan(wrong):
    """The CPU raises; here nothing waits for the GPU, so their rows say it."""
    x, t = normal((6, 10)), labels(6, 10)
    t[2] = wrong
    options = {"reduction": "none"}
    losses, gradient = fa.softmax_cross_entropy_value_and_grad(place(x), place(t), **options)
    right = fa.softmax_cross_entropy_value_and_grad(x, np.where(t == wrong, 0, t), **options)
    for got, exact in zip((losses.numpy(), gradient.numpy()), right, strict=True):
        assert np.isnan(got[2]).all()
        np.testing.assert_allclose(np.delete(got, 2, 0), np.delete(exact, 2, 0), rtol=2e-6)
    assert np.isnan(fa.softmax_cross_entropy(place(x), place(t)).numpy())


@pytest.mark.parametrize("slab", [8, 50, 200])
@pytest.mark.parametrize("shape", [(5,), (4, 1), (30, 1, 1), (30, 4, 5), ()])
def test_sums_of_slabs(executing, monkeypatch, shape, slab):  # noqa: F811
    """Cut along one axis or another; the memory that is taken is that of a slab."""
    monkeypatch.setattr(partials, "SLAB", slab)
    dy, x = (normal((30, 4, 5), "float16", seed) for seed in (0, 1))
    weight = normal(shape, "float16", 2)
    found = fa.prelu_backward(place(dy), place(x), place(weight))
    exact = fa.prelu_backward(*(a.astype("float64") for a in (dy, x, weight)))
    ops.assert_same_bits(found[0].numpy(), exact[0].astype("float16"))
    right = np.asarray(exact[1])
    np.testing.assert_allclose(found[1].numpy(), right, rtol=1e-3, atol=1e-5)
    assert found[1].shape == shape
    # two operands in float32, two partials, a sum on its way; what each slab leaves
    assert executing.most <= 4 * (5 * max(slab, 20) + 150)


def test_where_and_out_of_another_dtype():
    x = normal((4, 6))
    out, right = (np.full((4, 6), 7.0) for _ in range(2))
    there = place(out)
    assert fa.elu(place(x), where=place(x > 0), out=there) is there
    fa.elu(x, where=x > 0, out=right)
    ops.assert_same_bits(there.numpy(), right)


def test_an_out_that_is_larger(executing):  # noqa: F811
    x, out = normal(6), place(np.zeros((4, 6), np.float32))
    for _ in range(2):
        assert fa.relu(place(x), out=out) is out
        np.testing.assert_array_equal(out.numpy(), np.broadcast_to(fa.relu(x), (4, 6)))
    with pytest.raises(ValueError, match="it must have shape"):
        fa.relu(place(normal((2, 6))), out=out)


def test_rows_into_another_dtype():
    x, out = normal((3, 4)), place(np.zeros((3, 4), np.float16))
    fa.softmax(place(x), out=out)
    np.testing.assert_array_equal(out.numpy(), fa.softmax(x).astype(np.float16))
