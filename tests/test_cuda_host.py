"""Host arrays under the target "cuda": copied in pieces through page-locked memory, and back.

The kernels are executed by the PTX interpreter; the CPU's results are what they must be.
"""

import gpu
import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

import ops
from executing import executing, place  # noqa: F401
from gpu_calls import CALLS, compare, expected, labels, made, normal, uniform
from test_gpu_calls import MORE

import fastact as fa
from fastact.gpu import driver, pipeline

CHUNK = 2048  # of the pieces here: bytes of all operands


@pytest.fixture
def there(executing, monkeypatch):  # noqa: F811
    """The GPU, to which host arrays go."""
    monkeypatch.setattr(pipeline, "CHUNK", CHUNK)
    pipeline.pipeline.cache_clear()
    with fa.use_target("cuda"):
        yield executing
    assert not any(executing.queues.values()), "something is still under way"


def on_cpu(function, *args, **options):
    with fa.use_target("serial"):
        return function(*args, **options)


def several(found):
    return found if isinstance(found, tuple) else (found,)


def same(function, *args, **options):
    """The call gives what the CPU gives, bit by bit and of the same type."""
    for got, right in zip(
        several(function(*args, **options)),
        several(on_cpu(function, *args, **options)),
        strict=True,
    ):
        assert type(got) is type(right)
        ops.assert_same_bits(np.asarray(got), np.asarray(right))


@pytest.mark.parametrize("name", [n for n in CALLS if gpu.FULL or n not in MORE])
def test_call(there, name):
    call = CALLS[name]
    found = made(call)
    computed = len(there.launches)
    right = on_cpu(expected, call)
    assert computed or not all(map(np.size, call.arrays)), "it was computed on the CPU"
    for got, exact in zip(found, right, strict=True):
        compare(call, np.asarray(got), exact)


def test_pieces(there):
    x = normal(5000)
    same(fa.relu, x)
    assert len(there.launches) == -(-x.nbytes // ((CHUNK - 2 * pipeline.ALIGNED) // 2))
    assert len({launch.stream for launch in there.launches}) == 2
    assert there.copied == 2 * x.nbytes


def test_two_pieces_are_under_way_at_once(there):
    fa.relu(np.ones(1000, np.float32))
    events = [e for e in there.log if e[0] in ("launch", "synchronize")]
    kinds = [kind for kind, _ in events]
    assert kinds[:4] == ["launch", "launch", "synchronize", "launch"]
    waited = [stream for kind, stream in events if kind == "synchronize"]
    assert waited[:-2] == [waited[k % 2] for k in range(len(waited) - 2)]


@pytest.mark.parametrize(
    "x",
    [
        np.arange(-6.0, 6.0).reshape(3, 4).T,
        np.arange(-6.0, 6.0)[::-2],
        np.arange(-600.0, 600.0).reshape(2, 3, 200)[:, ::-1],
        np.float64(-1.5),
        np.array(2.5, np.float32),
        np.arange(-3, 3),
        np.arange(-3.0, 3.0).astype(">f4"),
        np.broadcast_to(np.float32(2.0), (3, 400)),
        np.zeros((0, 3)),
        [-1.0, 2.0],
        -2,
    ],
    ids=lambda x: str(np.shape(x)),
)
def test_layouts_and_kinds(there, x):
    same(fa.relu, x)
    same(fa.relu_backward, 2.0, x)


def test_operands_that_are_broadcast(there):
    dy, x, slope = normal((30, 1, 40)), normal((7, 40)), normal((7, 1), seed=1)
    same(fa.relu_backward, dy, x)
    same(fa.leaky_relu, x, slope)
    same(fa.reglu_backward, dy, x, x[:1])
    assert len(there.launches) > 3


def test_out(there):
    x = np.linspace(-4, 4, 400).reshape(20, 20)
    for out in (np.zeros((20, 40))[:, ::2], np.zeros((20, 20), np.float32, order="F")):
        assert fa.leaky_relu(x, 0.3, out=out) is out
        np.testing.assert_array_equal(out, on_cpu(fa.leaky_relu, x, 0.3).astype(out.dtype))
    whole = np.zeros((20, 20), np.int32)
    fa.leaky_relu(x, 0.3, out=whole, casting="unsafe")
    np.testing.assert_array_equal(whole, on_cpu(fa.leaky_relu, x, 0.3).astype(np.int32))
    right = on_cpu(fa.relu, x[::-1])
    assert fa.relu(x[::-1], out=x) is x  # as if the input had been copied first
    np.testing.assert_array_equal(x, right)


@pytest.mark.parametrize("dtype", ops.DTYPES, ids=str)
def test_in_place(there, dtype):
    x, dy = (normal((30, 20), dtype, seed) for seed in (0, 1))
    calls = (
        lambda x, dy: fa.relu(x, out=x),
        lambda x, dy: fa.relu_backward(dy, x, out=dy),
        lambda x, dy: fa.relu(x[1:], out=x[:-1]),
        lambda x, dy: fa.sparsemax(x, axis=0, out=x),
        lambda x, dy: fa.maxout_backward(dy[:, :4], x, 4, out=x),
    )
    for call in calls:
        mine, right = (x.copy(), dy.copy()), (x.copy(), dy.copy())
        call(*mine)
        on_cpu(call, *right)
        for got, exact in zip(mine, right, strict=True):
            np.testing.assert_allclose(got.astype(float), exact.astype(float), rtol=2e-2)
    assert there.launches


def test_where(there):
    x, right = normal((30, 30)), np.full((30, 30), 7.0, np.float32)
    out = right.copy()
    fa.relu(x, where=x[:1] > 0, out=out)
    on_cpu(fa.relu, x, where=x[:1] > 0, out=right)
    np.testing.assert_array_equal(out, right)


# Row ops


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_rows_along_each_axis(there, axis):
    x, dy = normal((6, 9, 30)), normal((6, 9, 30), seed=1)
    out = np.zeros((6, 9, 60), np.float32)[..., ::2]
    assert fa.softmax(x, axis=axis, out=out) is out
    np.testing.assert_allclose(out, on_cpu(fa.softmax, x, axis=axis), rtol=1e-6)
    gradient = fa.softmax_backward(dy, x, axis=axis)
    np.testing.assert_allclose(gradient, on_cpu(fa.softmax_backward, dy, x, axis=axis), atol=1e-6)
    kept = fa.logsumexp(x, axis=axis, keepdims=True, where=x < 4)
    np.testing.assert_allclose(
        kept, on_cpu(fa.logsumexp, x, axis=axis, keepdims=True, where=x < 4), rtol=1e-6
    )
    assert len(there.launches) > 20


def test_rows_that_are_broadcast(there):
    dy, x = normal((30, 1, 9), seed=1), normal((7, 9))
    for own in ((dy, x), (x[0], dy)):
        y = fa.softmax_backward(*own)
        np.testing.assert_allclose(y, on_cpu(fa.softmax_backward, *own), rtol=1e-5, atol=1e-6)
        assert y.shape == np.broadcast_shapes(*(a.shape for a in own))
    y = fa.logsumexp_backward(dy[:, 0, 0], x[:, None, :4], axis=2)
    np.testing.assert_allclose(
        y, on_cpu(fa.logsumexp_backward, dy[:, 0, 0], x[:, None, :4], axis=2), rtol=1e-5
    )
    assert len(there.launches) > 3


@pytest.mark.parametrize("shape", [(3, 2, 5, 6), (40, 30)])
@pytest.mark.parametrize("offset", [0, -3, 4])
def test_limits_of_rows(there, shape, offset):
    """Several matrices in a piece, and a piece of a matrix."""
    x = normal(shape)
    y = fa.causal_softmax(x, offset=offset, empty="zero")
    right = on_cpu(fa.causal_softmax, x, offset=offset, empty="zero")
    np.testing.assert_allclose(y, right, rtol=1e-6)
    assert there.launches


def test_a_row_larger_than_a_piece(there):
    """There is memory for it, which is not kept for smaller ones."""
    x = normal((3, 2000))
    np.testing.assert_allclose(fa.softmax(x), on_cpu(fa.softmax, x), rtol=1e-6)
    large = sum(map(len, (getattr(a, "raw", b"") for a in there.kept.values())))
    fa.softmax(x[:, :10])
    small = sum(map(len, (getattr(a, "raw", b"") for a in there.kept.values())))
    assert large > 2 * 16000 and small == 2 * CHUNK


# Losses


@pytest.mark.parametrize("out", ["logits", "every second", "overlapping", "big-endian"])
def test_where_the_gradient_of_a_loss_goes(there, out):
    whole = normal((80, 10))
    x, t = whole[:40], labels(40, 10)
    value, right = on_cpu(fa.softmax_cross_entropy_value_and_grad, x.copy(), t)
    target = {
        "logits": x,
        "every second": np.zeros((40, 20), np.float32)[:, ::2],
        "overlapping": whole[3:43],
        "big-endian": np.zeros((40, 10), ">f4"),
    }[out]
    found, gradient = fa.softmax_cross_entropy_value_and_grad(x, t, out=target)
    assert gradient is target and len(there.launches) > 3
    np.testing.assert_allclose(target, right, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(found, value, rtol=1e-6)
    assert type(found) is type(value)


def test_a_loss_along_another_axis_in_pieces(there):
    x, t = normal((7, 12, 9)), labels(63, 12).reshape(7, 9)
    w = uniform(12)
    for options in ({"weight": w}, {"weight": w, "label_smoothing": 0.1, "ignore_index": 3}):
        for reduction in ("mean", "none"):
            call = {"axis": 1, "reduction": reduction, **options}
            got = fa.softmax_cross_entropy_value_and_grad(x, t, **call)
            right = on_cpu(fa.softmax_cross_entropy_value_and_grad, x, t, **call)
            for a, b in zip(got, right, strict=True):
                np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-8)
    assert len(there.launches) > 8


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x, t, out: (x, np.where(t == 1, 10, t)), "label 10 at"),
        (lambda x, t, out: (x, t[:-1]), "do not fit"),
        (lambda x, t, out: (x, t.astype("U")), "may be integers"),
    ],
)
def test_wrong_labels_are_refused_before_anything_is_written(there, call, words):
    x, t, out = normal((6, 10)), np.array([0, 1, 2, 3, 4, 5]), np.full((6, 10), 7, np.float32)
    with pytest.raises((ValueError, TypeError), match=words):
        fa.softmax_cross_entropy_value_and_grad(*call(x, t, out), out=out)
    with pytest.raises(ValueError, match="weight must be finite"):
        fa.sigmoid_cross_entropy_value_and_grad(x, x > 0, weight=np.nan, out=out)
    assert (out == 7).all() and not there.launches


def test_labels_of_the_other_kind_are_refused(there):
    x, t = normal((6, 10)), labels(6, 10)
    for logits, ids in ((place(x), t), (x, place(t))):
        with pytest.raises(TypeError, match="fastact does not copy between the two"):
            fa.softmax_cross_entropy(logits, ids)
    assert not there.launches


# Gradients of parameters


@pytest.mark.parametrize("shape", [(5,), (4, 1), (30, 1, 1), (1, 4, 1), ()])
def test_sums_of_pieces(there, shape):
    dy, x = normal((30, 4, 5)), normal((30, 4, 5), seed=1)
    weight = normal(shape, seed=2)
    dx, dweight = fa.prelu_backward(dy, x, weight)
    right = on_cpu(fa.prelu_backward, dy, x, weight)
    ops.assert_same_bits(dx, right[0])
    np.testing.assert_allclose(dweight, right[1], rtol=1e-5, atol=1e-4)
    assert dweight.dtype == right[1].dtype and np.shape(dweight) == shape
    assert len(there.launches) > 2


def test_where_sums_go(there):
    dy, x = normal((30, 20)), normal((30, 20), seed=1)
    outs = np.zeros((30, 20)), np.zeros(())
    found = fa.swish_backward(dy, x, 1.5, wrt=("x", "beta"), out=outs)
    right = on_cpu(fa.swish_backward, dy, x, 1.5, wrt=("x", "beta"))
    assert found[0] is outs[0] and found[1] is outs[1]
    for got, exact in zip(outs, right, strict=True):
        np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-5)
    assert there.launches


# Arrays of other libraries, and subclasses of NumPy's


class Own(np.ndarray):
    """A subclass of NumPy's array."""


@pytest.mark.parametrize("function", [fa.relu, fa.leaky_relu, fa.softmax])
def test_subclasses(there, function):
    for x in (X.view(Own), np.ma.masked_less(X, 0.0)):
        got, right = function(x), on_cpu(function, x)
        assert type(got) is type(right) and there.launches
        np.testing.assert_allclose(np.asarray(got), np.asarray(right), rtol=1e-6)
        if function is not fa.softmax:
            np.testing.assert_array_equal(np.ma.getmaskarray(got), np.ma.getmaskarray(right))


def test_series(there):
    """pandas lays its arrays side by side by their labels before it calls the ufunc."""
    pandas = pytest.importorskip("pandas")
    x = pandas.Series([1.0, -2.0, 3.0], index=list("abc"))
    dy = pandas.Series([10.0, 20.0, 30.0], index=list("cab"))
    for call in (
        lambda: fa.relu_backward(dy, x),
        lambda: fa.leaky_relu(x, 0.5),
        lambda: fa.softmax(x),
    ):
        before = len(there.launches)
        got, right = call(), on_cpu(call)
        assert len(there.launches) > before
        pandas.testing.assert_series_equal(got, right)


def test_arrays_of_dask(there):
    dask = pytest.importorskip("dask.array")
    x = dask.from_array(X, chunks=(2, 4))
    for call in (lambda: fa.leaky_relu(x, 0.5), lambda: fa.softmax(x)):
        lazy, before = call(), len(there.launches)
        assert isinstance(lazy, dask.Array)
        got = lazy.compute(scheduler="synchronous")
        assert len(there.launches) > before
        np.testing.assert_allclose(got, on_cpu(call().compute, scheduler="synchronous"), rtol=1e-6)


# What is refused, and what fails


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: fa.relu(x, out=np.ones(3)), ValueError, "out has shape"),
        (lambda x: fa.relu(x, out=np.ones(8, np.int32)), TypeError, "int32"),
        (lambda x: fa.relu(np.ones(3, complex)), TypeError, "complex128"),
        (lambda x: fa.relu(x, dtype=int), TypeError, "No loop"),
        (lambda x: fa.relu(x, dtype="float32", casting="no"), TypeError, "casting rule 'no'"),
        (lambda x: fa.relu_backward(np.ones(3), x), ValueError, "do not broadcast"),
        (lambda x: fa.swish(x, np.inf), ValueError, "beta must be finite"),
        (lambda x: fa.softmax(x, axis=2), ValueError, "axis 2"),
        (lambda x: fa.maxout(x, 3), ValueError, "groups must divide"),
        (lambda x: fa.causal_softmax(x), ValueError, "no matrix"),
        (lambda x: fa.glu(x[:7]), ValueError, "even length"),
        (lambda x: fa.prelu_backward(x, x[:5], 1.0), ValueError, "do not broadcast"),
    ],
)
def test_refused(there, call, error, words):
    with pytest.raises(error, match=words):
        call(np.ones(8))
    assert not there.launches


def test_a_failure_leaves_nothing_behind(there):
    """The pieces under way are given up, and the next call finds all in order."""
    x = normal(3000)
    launch, count = there.cuLaunchKernel, []

    def third_fails(*given):
        count.append(0)
        return 719 if len(count) == 3 else launch(*given)

    there.cuLaunchKernel = third_fails
    with pytest.raises(driver.CudaError, match="719"):
        fa.relu(x)
    assert not any(there.queues.values())
    same(fa.relu, x)


def test_after_the_block_the_cpu_computes(there):
    with fa.use_target("auto"):
        fa.relu(np.ones(8))
    assert not there.launches


# NumPy's rules: dtypes, shapes and kinds of results, errors

X = normal((3, 4))
AS_ON_THE_CPU = {
    "a number": lambda: fa.sigmoid(2.0),
    "an integer": lambda: fa.sigmoid(2),
    "a bool": lambda: fa.sigmoid(True),
    "numbers beside an array": lambda: fa.relu_backward(1.0, X),
    "numbers beside integers": lambda: fa.relu_backward(1.0, np.arange(3, dtype="i1")),
    "a scalar of NumPy": lambda: fa.relu_backward(np.float64(1), X),
    "a parameter of float64": lambda: fa.leaky_relu(X, np.float64(0.25)),
    "parameters of integers": lambda: fa.leaky_relu(X, np.arange(4)),
    "parameters in a list": lambda: fa.elu(X, [0.5, 1, 2, 3]),
    "float16 and parameters": lambda: fa.leaky_relu(X.astype("f2"), np.full(4, 0.25, "f4")),
    "two results": lambda: fa.relu_value_and_grad(X),
    "a tuple of one": lambda: fa.relu(X, out=(np.empty_like(X),)),
    "one of two given": lambda: fa.reglu_backward(X, X, X, out=(None, np.empty_like(X))),
    "an out that is larger": lambda: fa.relu(X[0], out=np.zeros((3, 4), "f4")),
    "a mask that is larger": lambda: fa.relu(
        X[0], where=np.tri(3, 4, dtype=bool), out=np.zeros((3, 4), "f4")
    ),
    "out of no dimensions": lambda: fa.relu(np.float32(2), out=np.zeros((), "f4")),
    "a row of nothing": lambda: fa.softmax(np.zeros((4, 0), "f4")),
    "sums over nothing": lambda: fa.logsumexp(np.zeros((4, 0), "f4")),
    "nothing to sum": lambda: fa.prelu_backward(X[:0], X[:0], np.full(4, 0.5)),
    "sum of one": lambda: fa.logsumexp(np.float32(2), keepdims=True),
    "a dy for every row": lambda: fa.maxout_backward(X[:, :2], X, 2),
    "a dy that is a number": lambda: fa.softmax_backward(1.0, X),
    "a dy of too many rows": lambda: fa.softmax_backward(X[:2], X),
    "maxout into views": lambda: fa.maxout_backward(
        X[:1], X, 1, axis=0, out=np.zeros((3, 8), "f4")[:, ::2]
    ),
    "limits out of range": lambda: fa.causal_softmax(np.zeros((2, 3)), offset=-(10**30)),
    "two results given as one": lambda: fa.swiglu_backward(X, X, X, out=np.empty_like(X)),
    "one for two results": lambda: fa.swiglu_backward(X, X, X, out=(np.empty_like(X),)),
    "two for one result": lambda: fa.relu(X, out=(X, X)),
    "a wrong constraint": lambda: fa.hard_tanh(X, 1, -1),
    "a mask of integers": lambda: fa.softmax(X, where=[1, 0, 1, 0]),
    "no dtype": lambda: fa.relu(X, dtype="nope"),
    "no axis": lambda: fa.softmax(X, axis=1.0),
    "a label too large": lambda: fa.softmax_cross_entropy(X, [0, 1, 4]),
    "a gradient for integers": lambda: fa.prelu_backward(
        X, X, 0.5, out=(np.zeros((3, 4), int), None)
    ),
}


def outcome(call):
    """What a call returns, and how: or what it raises."""
    try:
        return [(type(r), np.asarray(r)) for r in several(call())]
    except (TypeError, ValueError) as error:
        return type(error)


@pytest.mark.parametrize("name", AS_ON_THE_CPU)
def test_as_on_the_cpu(there, name):
    got, right = outcome(AS_ON_THE_CPU[name]), on_cpu(outcome, AS_ON_THE_CPU[name])
    if isinstance(right, type):
        assert got is right
        return
    for (kind, array), (expected_kind, exact) in zip(got, right, strict=True):
        assert kind is expected_kind
        ops.assert_same_bits(array, exact)
