"""Gates, biases and the trained slope: values and both partials, for every declared op."""

import inspect

import numpy as np
import ops
import paired
import pytest
import ulp
from mpmath import mp

import fastact as fa

COUNT = 400
every = pytest.mark.parametrize("op", paired.PAIRED, ids=lambda j: j.name)
gates = pytest.mark.parametrize("op", paired.GATES, ids=lambda j: j.name)
biases = pytest.mark.parametrize("op", paired.BIASES, ids=lambda j: j.name)
native = pytest.mark.parametrize("dtype", ops.NATIVE, ids=str)
halves = pytest.mark.parametrize("dtype", ops.HALVES, ids=str)


def gate_of(op):
    """The function of two arrays and its backward pass; glu's takes them as one."""
    if op.name != "glu":
        return getattr(fa, op.name), getattr(fa, f"{op.name}_backward")

    def both(dy, a, b):
        dx = fa.glu_backward(dy, np.concatenate([a, b]), axis=0)
        return dx[: len(a)], dx[len(a) :]

    return lambda a, b: fa.glu(np.concatenate([a, b]), axis=0), both


def worst(got, exact):
    return float(ulp.ulp_errors(np.ravel(got), exact).max())


@native
@gates
def test_gates(op, dtype):
    dy, a, b = (paired.values(dtype, COUNT, seed) for seed in (1, 2, 3))
    f, defaults, stated = paired.formula(op), op.defaults, op.accuracy[dtype.name]
    forward, backward = gate_of(op)
    y, (da, db) = forward(a, b), backward(dy, a, b)
    assert y.dtype == da.dtype == db.dtype == dtype
    exact = paired.each(lambda a, b: a * f.forward(b, *defaults), a, b)
    assert worst(y, exact) <= stated.forward
    exact = paired.each(lambda dy, b: dy * f.forward(b, *defaults), dy, b)
    assert worst(da, exact) <= stated.forward
    exact = paired.each(lambda dy, a, b: dy * a * f.grad(b, *defaults), dy, a, b)
    assert worst(db, exact) <= stated.grad


@native
@biases
def test_biases(op, dtype):
    """The sum rounds once, as in NumPy; then the activation's own bits."""
    dy, x, b = (paired.values(dtype, s, k) for k, s in enumerate(((40, 50), (40, 50), (50,))))
    inner = fa.get(op.activation.name)
    y = getattr(fa, op.name)(x, b)
    dx, db = getattr(fa, f"{op.name}_backward")(dy, x, b)
    ops.assert_same_bits(y, inner(x + b))
    ops.assert_same_bits(dx, inner.backward(dy, x + b))
    assert db.shape == b.shape and db.dtype == dtype
    for column in range(50):
        terms = [mp.mpf(v) for v in dx[:, column].tolist()]
        size = mp.fsum(map(abs, terms))
        assert abs(mp.mpf(float(db[column])) - mp.fsum(terms)) <= 4 * np.finfo(dtype).eps * size


@native
def test_prelu(dtype):
    dy, x = (paired.values(dtype, (30, 6, 4), seed) for seed in (4, 5))
    for weight in (0.25, dtype.type(-0.5), paired.values(dtype, (4,), 6)):
        y, slope = fa.prelu(x, weight), np.broadcast_to(np.asarray(weight, dtype), x.shape)
        ops.assert_same_bits(y, np.where(x > 0, x, slope * x))
        dx, dweight = fa.prelu_backward(dy, x, weight)
        ops.assert_same_bits(dx, dy * np.where(x > 0, 1, slope).astype(dtype))
        terms = np.where(x > 0, 0, x.astype(np.longdouble) * dy)
        expected = terms.sum((0, 1) if np.ndim(weight) else None)
        assert np.shape(dweight) == np.shape(weight) and dweight.dtype == dtype
        eps = np.finfo(dtype).eps
        assert np.all(abs(dweight - expected) <= 4 * eps * abs(terms).sum())


@native
def test_prelu_per_channel(dtype):
    """Channels first, as in images: the weight has shape (channels, 1, 1)."""
    dy, x = (paired.values(dtype, (5, 3, 8, 9), seed) for seed in (7, 8))
    weight = paired.values(dtype, (3, 1, 1), 9)
    _, dweight = fa.prelu_backward(dy, x, weight)
    expected = np.where(x > 0, 0, x.astype(np.longdouble) * dy).sum((0, 2, 3))[:, None, None]
    assert dweight.shape == weight.shape
    np.testing.assert_allclose(dweight, expected, rtol=40 * float(np.finfo(dtype).eps))


@every
def test_numpy_and_torch_forms(op):
    """The expressions of the record; PyTorch's derivatives by autograd."""
    torch, scipy = pytest.importorskip("torch"), pytest.importorskip("scipy")
    pytest.importorskip("scipy.special")
    first, second = op.form.arrays
    arrays = {first: paired.values(float, (6, 8), 1), second: paired.values(float, (8,), 2)}
    dy = paired.values(float, (6, 8), 3)
    scope = {p.name: p.default for p in op.parameters}
    if op.name == "glu":
        arrays[second] = np.broadcast_to(arrays[second], (6, 8))
        both = np.concatenate(list(arrays.values()), -1)
        y = fa.glu(both)
        partials = np.split(fa.glu_backward(dy, both), 2, -1)
    else:
        y = getattr(fa, op.name)(*arrays.values())
        partials = getattr(fa, f"{op.name}_backward")(dy, *arrays.values())
    naive = eval(op.numpy, {"np": np, "scipy": scipy, **scope, **arrays})
    np.testing.assert_allclose(naive, y, rtol=1e-9, atol=1e-12)
    tensors = {n: torch.tensor(a.copy(), requires_grad=True) for n, a in arrays.items()}
    form = eval(op.torch, {"torch": torch, "F": torch.nn.functional, **scope, **tensors})
    # gelu cancels in PyTorch's lower tail
    np.testing.assert_allclose(form.detach().numpy(), y, rtol=1e-11, atol=1e-14)
    form.backward(torch.from_numpy(dy))
    for (name, tensor), got in zip(tensors.items(), partials, strict=True):
        if name == "b" and op in paired.GATES and op.name != "glu":
            got = got.sum(0)
        np.testing.assert_allclose(got, tensor.grad.numpy(), rtol=1e-9, atol=1e-13)


@halves
@every
def test_halves_are_rounded_singles(op, dtype):
    """Computed in float32: sums of half types too."""
    dy, a, b = (paired.values(dtype, s, k) for k, s in enumerate(((64, 9), (64, 9), (9,))))
    if op.name == "glu":
        calls = [(fa.glu, (a[:, :8],)), (fa.glu_backward, (dy[:, :4], a[:, :8]))]
    else:
        forward, backward = getattr(fa, op.name), getattr(fa, f"{op.name}_backward")
        calls = [(forward, (a, b)), (backward, (dy, a, b))]
    for call, arrays in calls:
        single = call(*(v.astype(np.float32) for v in arrays))
        got = ops.results(call(*arrays))
        expected = tuple(r.astype(dtype) for r in ops.results(single))
        for g, e in zip(got, expected, strict=True):
            ops.assert_same_bits(g, e, op.name)


def test_half_sums_do_not_stick():
    """A sum of ones in bfloat16 would stay at 256, in float16 at 2048."""
    for dtype in ops.HALVES:
        one = np.ones((30_000, 2), dtype)
        _, db = fa.bias_relu_backward(one, one, np.zeros(2, dtype))
        assert np.all(db == np.asarray(30_000, dtype))


def test_errors_do_not_grow_with_the_sum():
    dy = paired.values(np.float32, (100_000, 3), 1) + np.float32(100)
    x = np.ones((100_000, 3), np.float32)
    _, db = fa.bias_relu_backward(dy, x, np.zeros(3, np.float32))
    np.testing.assert_allclose(db, dy.sum(0, dtype=np.float64), rtol=1.2e-7)
    _, dweight = fa.prelu_backward(dy, -x, np.float32(0.5))
    np.testing.assert_allclose(dweight, -dy.sum(dtype=np.float64), rtol=1.2e-7)


@pytest.mark.parametrize("op", (*paired.BIASES, *paired.SLOPES), ids=lambda j: j.name)
def test_sums_are_the_same_bits_everywhere(op):
    backward = getattr(fa, f"{op.name}_backward")
    dy, x, b = (
        paired.values(np.float32, s, k) for k, s in enumerate(((900, 700), (900, 700), (700,)))
    )
    with fa.use_target("serial"):
        expected = backward(dy, x, b)
    with fa.use_target("parallel"):
        ops.assert_same_bits(backward(dy, x, b), expected)
    strided = [np.repeat(v, 2, -1)[..., ::2] for v in (dy, x, b)]
    ops.assert_same_bits(backward(*strided), expected)
    ops.assert_same_bits(backward(dy.copy("F"), x.copy("F"), b), expected)


@pytest.mark.parametrize("op", (*paired.BIASES, *paired.SLOPES), ids=lambda j: j.name)
def test_every_argument_may_be_broadcast(op):
    backward = getattr(fa, f"{op.name}_backward")
    shapes = [((), (), ()), ((4, 3), (3,), (4, 1)), ((), (5, 2), ()), ((2, 3), (2, 3), (2, 3))]
    shapes += [((0, 3), (0, 3), (3,)), ((3, 0), (3, 0), (1,)), ((7,), (1,), ())]
    for dy, x, second in shapes:
        arrays = [paired.values(float, s, k) for k, s in enumerate((dy, x, second))]
        first, other = backward(*arrays)
        assert np.shape(first) == x and np.shape(other) == second
        common = np.broadcast_shapes(dy, x, second)
        whole = backward(*(np.broadcast_to(a, common).copy() for a in arrays))
        for got, shape, full in zip((first, other), (x, second), whole, strict=True):
            padded = (1,) * (len(common) - len(shape)) + shape
            axes = tuple(k for k, n in enumerate(padded) if n == 1)
            expected = np.sum(full, axes, keepdims=True).reshape(shape)
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("op", (*paired.BIASES, *paired.SLOPES), ids=lambda j: j.name)
def test_out_of_summed_partials(op):
    name = f"{op.name}_backward"
    backward = getattr(fa, name)
    dy, x, b = np.ones((4, 3)), np.full((4, 3), 2.0), np.ones(3)
    expected = backward(dy, x, b)
    out = (np.empty((4, 3)), np.empty(3))
    got = backward(dy, x, b, out=out)
    assert got[0] is out[0] and got[1] is out[1]
    ops.assert_same_bits(got, expected)
    sevens = (np.full((4, 3), 7.0), np.full(3, 7.0))
    for wrong, words in (
        ((sevens[0], np.empty(4)), rf"{name}: out .*\(4,\).*\(3,\)"),
        ((np.empty((3, 4)), sevens[1]), rf"{name}: out .*\(3, 4\).*\(4, 3\)"),
        (sevens[0], rf"{name}: out must be one array for each of dx, d"),
    ):
        with pytest.raises(ValueError, match=words):
            backward(dy, x, b, out=wrong)
    with pytest.raises(TypeError, match=rf"{name}: .*int64.*float64"):
        backward(dy, x, b, out=(sevens[0], np.empty(3, int)))
    with pytest.raises(ValueError, match=rf"{name}: shapes do not broadcast: .*\(2,\)"):
        backward(dy, x, np.ones(2), out=sevens)
    with pytest.raises(TypeError, match=rf"{name}: x has dtype complex128"):
        backward(dy, x * 1j, b, out=sevens)
    assert all((s == 7).all() for s in sevens)


def test_glu_halves_any_axis():
    x = paired.values(float, (4, 6, 8), 1)
    for axis in (0, 1, 2, -1, -2, -3):
        a, b = np.split(x, 2, axis)
        ops.assert_same_bits(fa.glu(x, axis), a * fa.sigmoid(b))
        dy = paired.values(float, a.shape, 2)
        da, db = np.split(fa.glu_backward(dy, x, axis=axis), 2, axis)
        ops.assert_same_bits(da, dy * fa.sigmoid(b))
        ops.assert_same_bits(db, (dy * a) * fa.sigmoid_grad(b))
    out = np.empty_like(x)
    assert fa.glu_backward(np.ones((4, 6, 4)), x, out=out) is out
    assert fa.glu(np.zeros((3, 0))).shape == (3, 0)
    assert fa.glu([1, 2]).dtype == float


def test_glu_errors():
    with pytest.raises(ValueError, match=r"glu: x must have an even length along axis -1.*\(3,\)"):
        fa.glu(np.ones(3))
    with pytest.raises(ValueError, match=r"glu: axis 1 is out of bounds for x of shape \(4,\)"):
        fa.glu(np.ones(4), 1)
    with pytest.raises(ValueError, match="out of bounds"):
        fa.glu(1.0)
    with pytest.raises(TypeError, match=r"glu: axis must be an integer, got 1\.0"):
        fa.glu(np.ones(4), 1.0)
    with pytest.raises(TypeError, match="glu: x has dtype complex128"):
        fa.glu(np.ones(4, complex))
    with pytest.raises(ValueError, match=r"glu_backward: dy has shape \(4,\).*\(2,\)"):
        fa.glu_backward(np.ones(4), np.ones(4))
    with pytest.raises(ValueError, match=r"glu_backward: out has shape \(2,\).*\(4,\)"):
        fa.glu_backward(np.ones(2), np.ones(4), out=np.ones(2))


@every
def test_specials(op):
    """nan shows in what depends on it; the limits of the activation hold."""
    if op.name == "glu":
        assert np.isnan(fa.glu([1.0, np.nan])) and np.isnan(fa.glu([np.nan, 1.0]))
        assert fa.glu([2.0, np.inf]) == 2 and fa.glu([2.0, -np.inf]) == 0
        return
    f = getattr(fa, op.name)
    assert np.isnan(f(np.nan, 1.0))
    if op in paired.GATES:
        assert np.isnan(f(1.0, np.nan)) and f(2.0, -np.inf) == 0
    elif op in paired.BIASES:
        assert np.isnan(f(1.0, np.nan)) and f(-np.inf, 3.0) == 0
    with np.errstate(all="raise", under="ignore"):
        f(ops.mixed(np.float32, 4096), np.float32(1.5))


@every
def test_public_face(op):
    made = fa.get(op.name)
    assert op.name in fa.names() and made.record is op
    assert made.forward is getattr(fa, op.name)
    assert made.backward is getattr(fa, f"{op.name}_backward")
    for alias in op.aliases:
        assert fa.get(alias).record is op and getattr(fa, alias) is made.forward
    assert op.summary.endswith(".") and op.use.endswith(".") and op.sources
    for function in (made.forward, made.backward):
        text = " ".join(function.__doc__.split())
        assert function.__doc__.splitlines()[0].endswith(".")
        assert op.formula in text and all(p in text for p in op.derivative.split(", "))
        assert all(" ".join(s.split()) in text for s in op.sources)
        assert "bfloat16" in text and "ulp" in text and ">>>" in text
        assert max(map(len, function.__doc__.splitlines())) <= 100
        assert "out" in inspect.signature(function).parameters
