"""fastact.jax against fastact on arrays and JAX's own numerical check."""

import numpy as np
import ops
import pytest
import samples

from fastact.interop.second import SECOND

jax = pytest.importorskip("jax", reason="JAX is not installed")

import jax.numpy as jnp  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

import fastact.jax as fj  # noqa: E402
from fastact.interop import xla  # noqa: E402
from fastact.interop.jax_functions import JVP  # noqa: E402
from fastact.interop.jax_fused import COMPOSED  # noqa: E402

elementwise = pytest.mark.parametrize("op", samples.ELEMENTWISE, ids=samples.name_of)
rowwise = pytest.mark.parametrize("op", samples.ROWWISE, ids=samples.name_of)
dtypes = pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def random(*shape, dtype="float32", seed=0):
    x = np.random.default_rng(seed).normal(0, 3, shape)
    return jnp.asarray(x.astype(jnp.dtype(dtype)))


def same(got, expected):
    assert isinstance(got, jax.Array)
    ops.assert_same_bits(np.asarray(got), np.asarray(expected))


@elementwise
@dtypes
def test_values(op, dtype):
    f = getattr(fj, op.name)
    x = random(3, 5, dtype=dtype)
    for parameters in (op.record.defaults, samples.other_parameters(op)):
        expected = op.forward(np.asarray(x), *parameters)
        same(f(x, *parameters), expected)
        same(jax.jit(lambda t: f(t, *parameters))(x), expected)  # noqa: B023
        same(jax.vmap(lambda t: f(t, *parameters), 1, 1)(x), expected)  # noqa: B023


@elementwise
def test_gradients(op, double):
    f = getattr(fj, op.name)
    order = 2 if op.name in SECOND else 1
    for parameters in (op.record.defaults, samples.other_parameters(op)):
        x = jnp.asarray(samples.smooth_points(op, 9, parameters))
        same(f(x, *parameters), op.forward(np.asarray(x), *parameters))
        check_grads(lambda t: f(t, *parameters), (x,), order, ("fwd", "rev"))  # noqa: B023
        g = jax.vmap(jax.grad(lambda t: f(t, *parameters)))(x)  # noqa: B023
        same(g, op.grad(np.asarray(x), *parameters))


@rowwise
@dtypes
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_rows(op, dtype, axis):
    f = getattr(fj, op.name)
    x = random(4, 3, dtype=dtype)
    expected = op.forward(np.asarray(x), axis=axis)
    same(f(x, axis), expected)
    same(jax.jit(f, static_argnums=1)(x, axis), expected)
    rows = random(2, 4, 3, dtype=dtype)
    per_item = jax.vmap(lambda t: f(t, axis))(rows)
    same(per_item, op.forward(np.asarray(rows), axis=axis if axis < 0 else axis + 1))


@rowwise
def test_gradients_of_rows(op, double):
    f = getattr(fj, op.name)
    x = random(3, 4, dtype="float64")
    for axis in (0, -1):
        modes = ("fwd", "rev") if op.name in JVP else ("rev",)
        order = 2 if op.name in JVP else 1
        check_grads(lambda t: f(t, axis), (x,), order, modes)  # noqa: B023


@pytest.mark.parametrize(("op", "arrays", "numbers"), samples.FUSED, ids=samples.case_id)
def test_fused(op, arrays, numbers, double):
    def f(*a):
        return getattr(fj, op.name)(*a, *numbers)

    expected = op.forward(*arrays, *numbers)
    same(f(*arrays), expected)
    same(jax.jit(f)(*arrays), expected)
    if numbers != (2, 0) and numbers != (0,):  # in each of a batch
        stacked = [np.stack([a, a[..., ::-1]]) for a in arrays]
        each = [op.forward(*(s[k] for s in stacked), *numbers) for k in (0, 1)]
        same(jax.vmap(f)(*stacked), np.stack(each))
    check_grads(f, arrays, 2, ("fwd", "rev"))


@pytest.mark.parametrize(("op", "arrays", "numbers"), samples.FUSED, ids=samples.case_id)
def test_the_gradient_of_a_fused_op_is_its_own_pass(op, arrays, numbers, double):
    """Bit by bit, in a program and in each of a batch; a batch of which one array has no part."""

    def f(*a):
        return getattr(fj, op.name)(*a, *numbers)

    def compare(got, array, right):
        if array.shape == right.shape and op.name not in COMPOSED:
            return same(got, right)
        summed = right if array.shape == right.shape else right.sum(0)  # by XLA, as it likes
        np.testing.assert_allclose(got, summed, rtol=1e-12)

    dy = np.linspace(-1, 1, f(*arrays).size).reshape(f(*arrays).shape)
    expected = op.backward(dy, *arrays, *numbers)
    for pulled in (lambda *a: jax.vjp(f, *a)[1](dy), jax.jit(lambda *a: jax.vjp(f, *a)[1](dy))):
        for got, array, right in zip(pulled(*arrays), arrays, expected, strict=True):
            compare(got, array, right)
    if numbers and numbers[-1] == 0 and op.name != "causal_softmax":
        return  # the first axis, counted from the front, is the batch's
    stacked = np.stack([arrays[0], arrays[0][..., ::-1]])
    others = arrays[1:]
    each = jax.vmap(lambda a: jax.vjp(f, a, *others)[1](dy))(stacked)
    tangents = jax.vmap(lambda a: jax.jvp(f, (a, *others), (a, *others))[1])(stacked)
    for k, a in enumerate(stacked):
        partials = op.backward(dy, a, *others, *numbers)
        for got, array, right in zip(each, arrays, partials, strict=True):
            compare(got[k], array, right)
        np.testing.assert_allclose(
            tangents[k], jax.jvp(f, (a, *others), (a, *others))[1], rtol=1e-12, atol=1e-14
        )


@pytest.mark.parametrize(("loss", "x", "target", "options"), samples.LOSSES, ids=samples.case_id)
def test_losses(loss, x, target, options, double):
    def f(t, q=target):
        return getattr(fj, loss.name)(t, q, **options)

    expected, gradient = loss.value_and_grad(x, target, **options)
    same(f(x), expected)
    same(jax.jit(f)(x), expected)
    same(jax.grad(lambda t: jnp.sum(f(t)))(x), gradient)
    check_grads(f, (x,), 2, ("fwd", "rev"))
    if target.dtype.kind == "f":
        check_grads(f, (x, target), 1, ("fwd", "rev"))
    stacked = np.stack([x, -x])
    each = [loss.forward(s, target, **options) for s in stacked]
    same(jax.vmap(f)(stacked), np.stack(each))


def test_gradient_is_the_exact_one():
    """Of the input, exact where the output has saturated."""
    x = jnp.asarray([-40.0, 40.0, 80.0])
    g = jax.vmap(jax.grad(fj.sigmoid))(x)
    same(g, samples.elementwise()["sigmoid"].grad(np.asarray(x)))
    assert (g > 0).all()


def test_float64_needs_x64():
    assert fj.swish(np.ones(3)).dtype == jnp.float32
    with jax.enable_x64(True):
        assert fj.swish(np.ones(3)).dtype == jnp.float64
        assert fj.swish(np.arange(3)).dtype == jnp.float64


def test_integers_become_the_default_dtype():
    for x in ([1, 2], [True, False], np.arange(3, dtype=np.uint8)):
        expected = jax.nn.sigmoid(jnp.asarray(x, jnp.float32))
        np.testing.assert_allclose(fj.sigmoid(x), expected, rtol=1e-6)


def test_shapes():
    assert fj.swish(1.5).shape == ()
    assert fj.swish(jnp.zeros((0, 3))).shape == (0, 3)
    assert fj.softmax(jnp.zeros((2, 0))).shape == (2, 0)
    assert jax.jit(fj.logsumexp)(jnp.zeros((2, 0))).tolist() == [-np.inf] * 2


def test_inside_a_training_step():
    @jax.jit
    def loss(w, x):
        return -fj.log_softmax(fj.swish(x @ w) @ w.T)[:, 0].mean()

    def reference(w, x):
        return -jax.nn.log_softmax(jax.nn.swish(x @ w) @ w.T)[:, 0].mean()

    w, x = random(3, 5), random(7, 3, seed=1)
    np.testing.assert_allclose(loss(w, x), reference(w, x), rtol=1e-5)
    np.testing.assert_allclose(
        jax.grad(loss)(w, x), jax.grad(reference)(w, x), rtol=1e-4, atol=1e-5
    )


def test_many_at_once():
    """XLA may call from several threads of its own."""
    x = random(64, 1000)

    @jax.jit
    def several(x):
        return [fj.elu(x, alpha=k / 4) for k in range(1, 9)]

    op = samples.elementwise()["elu"]
    for _ in range(10):
        for k, y in enumerate(several(x), 1):
            same(y, op.forward(np.asarray(x), k / 4))


def test_an_error_inside_a_program_is_raised():
    def fail(x, out):
        raise ValueError("no such thing")

    call = jax.ffi.ffi_call(xla.target("test_fails", fail), jax.ShapeDtypeStruct((), "float32"))
    with pytest.raises(jax.errors.JaxRuntimeError, match="fastact: ValueError: no such thing"):
        jax.jit(call)(jnp.float32(1)).block_until_ready()


def test_what_cannot_be_differentiated_twice_says_so(monkeypatch):
    monkeypatch.delitem(SECOND, "swish")
    with pytest.raises(NotImplementedError, match="swish has no second derivative"):
        jax.grad(jax.grad(fj.swish))(0.5)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fj.swish(1j), TypeError, "swish: x has dtype complex64; it may be bool"),
        (lambda: fj.swish(1.0, beta=float("nan")), ValueError, "beta must be finite"),
        (lambda: jax.jit(fj.swish)(1.0, 2.0), TypeError, "beta must be a number that is known"),
        (lambda: fj.swish(1.0, slope=2.0), TypeError, "slope"),
        (lambda: fj.softmax(jnp.zeros(3), 1), ValueError, "axis 1 is out of bounds"),
        (lambda: fj.softmax(jnp.zeros(3), 0.5), TypeError, "axis must be an integer"),
        (lambda: fj.softmax(1.0), ValueError, "axis -1 is out of bounds"),
        (lambda: fj.no_such_op, AttributeError, "no_such_op"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_public_names():
    assert {"swish", "silu", "softmax"} <= set(fj.__all__) <= set(dir(fj))
    assert "fastact.swish" in fj.swish.__doc__
