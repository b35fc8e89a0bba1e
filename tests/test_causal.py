"""causal_softmax: the limit of each row against a mask that says the same."""

import numpy as np
import ops
import oracle
import pytest
import ulp

import fastact as fa

every_dtype = pytest.mark.parametrize("dtype", ops.DTYPES, ids=str)
FORMS = ("", "_backward", "_backward_from_output")
SHAPES = [(1, 1), (5, 5), (7, 40), (40, 7), (2, 3, 33, 33), (3, 2500), (0, 4), (4, 0)]


def arrays(dtype, shape, form):
    x = np.random.default_rng(0).normal(0, 3, shape).astype(dtype)
    dy = np.random.default_rng(1).normal(0, 1, shape).astype(dtype)
    if form == "":
        return (x,)
    return (dy, x) if form == "_backward" else (dy, fa.softmax(x))


def offsets(shape):
    rows, columns = shape[-2:]
    return {0, 1, -1, columns - rows, -rows, columns, 10**30, -(10**30)}


@every_dtype
@pytest.mark.parametrize("form", FORMS, ids=lambda f: f or "forward")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_as_with_a_mask(shape, form, dtype):
    """The same bits as softmax with the triangle as `where`."""
    operands = arrays(dtype, shape, form)
    causal, masked = getattr(fa, f"causal_softmax{form}"), getattr(fa, f"softmax{form}")
    for offset in offsets(shape):
        far = int(np.clip(offset, -10_000, 10_000))
        mask = np.tri(*shape[-2:], far, dtype=bool)
        policies = [{}] if form == "_backward_from_output" else [{"empty": "zero"}, {}]
        for options in ({"temperature": 0.7}, *policies):
            got = causal(*operands, offset, **options)
            ops.assert_same_bits(got, masked(*operands, where=mask, **options), f"{offset}")


@pytest.mark.parametrize("dtype", ops.NATIVE, ids=str)
def test_against_the_oracle(dtype):
    (x,) = arrays(dtype, (9, 12), "")
    for offset in (0, 3):
        y = fa.causal_softmax(x, offset)
        for i, row in enumerate(x):
            seen = i + offset + 1
            exact = oracle.softmax(row[:seen].tolist())
            assert ulp.ulp_errors(y[i, :seen], exact).max() <= 4
            assert (y[i, seen:] == 0).all()


@every_dtype
def test_what_lies_beyond_is_not_read(dtype):
    (x,) = arrays(dtype, (6, 6), "")
    expected = fa.causal_softmax(x)
    x[np.triu_indices(6, 1)] = np.nan
    ops.assert_same_bits(fa.causal_softmax(x), expected)
    x[2, 1] = np.nan
    y = fa.causal_softmax(x)
    assert np.isnan(y[2]).any()
    ops.assert_same_bits(np.delete(y, 2, 0), np.delete(expected, 2, 0))


@every_dtype
@pytest.mark.parametrize("form", FORMS, ids=lambda f: f or "forward")
def test_layouts_threads_and_out(form, dtype):
    operands = arrays(dtype, (4, 60, 70), form)
    function = getattr(fa, f"causal_softmax{form}")
    expected = function(*operands, 10)
    for order in ("Fortran", "gaps"):
        other = [np.asfortranarray(a) if order == "Fortran" else np.repeat(a, 2, -1)[..., ::2]
                 for a in operands]  # fmt: skip
        ops.assert_same_bits(function(*other, 10), expected, order)
    for target in ("serial", "parallel"):
        with fa.use_target(target):
            out = np.empty_like(operands[-1])
            assert function(*operands, 10, out=out) is out
            ops.assert_same_bits(out, expected, target)
    place = operands[-1].copy()
    function(*operands[:-1], place, 10, out=place)
    ops.assert_same_bits(place, expected, "in place")


def test_a_mask_besides():
    """`where` and the limit both hold."""
    (x,) = arrays(np.dtype(np.float64), (5, 5), "")
    mask = np.random.default_rng(2).uniform(size=(5, 5)) < 0.6
    got = fa.causal_softmax(x, where=mask, empty="zero")
    ops.assert_same_bits(got, fa.softmax(x, where=mask & np.tri(5, dtype=bool), empty="zero"))


@pytest.mark.parametrize("name", ["softmax", "softmin", "log_softmax"])
def test_a_mask_of_whole_rows(name):
    """A mask that is the same along a row, by a stride of 0, is one like any other."""
    function = getattr(fa, name)
    (x,) = arrays(np.dtype(np.float32), (4, 50), "")
    rows = np.array([[True], [False], [True], [False]])
    for empty in ("nan", "zero"):
        expected = function(x, where=np.repeat(rows, 50, 1), empty=empty)
        ops.assert_same_bits(function(x, where=rows, empty=empty), expected)
        nothing = function(x, where=np.zeros(x.shape, bool), empty=empty)
        ops.assert_same_bits(function(x, where=False, empty=empty), nothing)


def test_wrong_arguments():
    for offset in (1.0, None, "0", True):
        with pytest.raises(TypeError, match="causal_softmax: offset must be an integer"):
            fa.causal_softmax(np.ones((2, 2)), offset)
    with pytest.raises(ValueError, match="causal_softmax: x of shape \\(3,\\) is no matrix"):
        fa.causal_softmax(np.ones(3))
    with pytest.raises(ValueError, match="causal_softmax_backward"):
        fa.causal_softmax_backward(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(TypeError, match="complex"):
        fa.causal_softmax(np.ones((2, 2), complex))


def test_against_torch():
    torch = pytest.importorskip("torch")
    (x,) = arrays(np.dtype(np.float64), (3, 20, 25), "")
    dy = np.random.default_rng(4).normal(size=x.shape)
    tensor = torch.tensor(x, requires_grad=True)
    hidden = torch.ones(20, 25, dtype=torch.bool).triu(6)
    y = torch.softmax(tensor.masked_fill(hidden, -torch.inf), -1)
    y.backward(torch.tensor(dy))
    np.testing.assert_allclose(fa.causal_softmax(x, 5), y.detach().numpy(), rtol=1e-13)
    got = fa.causal_softmax_backward(dy, x, 5)
    np.testing.assert_allclose(got, tensor.grad.numpy(), rtol=1e-10, atol=1e-16)
