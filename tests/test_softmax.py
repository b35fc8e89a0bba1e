"""Softmax and its backward passes, over any axis of any layout."""

import itertools

import numpy as np
import ops
import oracle
import pytest
import ulp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mpmath import mp

import fastact as fa

every_dtype = pytest.mark.parametrize("dtype", ops.DTYPES, ids=str)
native_dtype = pytest.mark.parametrize("dtype", ops.NATIVE, ids=str)
# Units in the last place, per entry.
BOUND = fa.get("softmax").accuracy
MORE = 2.0  # a backward pass: y as in the forward one, the difference, the product
LENGTHS = [1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 128, 129, 257, 1000]


def rows(dtype, shape, scale=4.0, seed=0):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(dtype)


def forms(x, axis=-1):
    """The three calls on one input, with fixed other operands."""
    dy = np.random.default_rng(5).normal(0, 1, x.shape).astype(x.dtype)
    return {
        "softmax": (fa.softmax, (x,)),
        "softmax_backward": (fa.softmax_backward, (dy, x)),
        "softmax_backward_from_output": (
            fa.softmax_backward_from_output,
            (dy, np.ascontiguousarray(fa.softmax(x, axis=axis))),
        ),
    }


FORMS = ("softmax", "softmax_backward", "softmax_backward_from_output")


@native_dtype
@pytest.mark.parametrize("scale", [0.1, 4.0, 30.0, 300.0])
@pytest.mark.parametrize("length", LENGTHS)
def test_forward_against_the_oracle(length, scale, dtype):
    x = rows(dtype, (3, length), scale, length)
    got = fa.softmax(x)
    for row, result in zip(x, got, strict=True):
        errors = ulp.ulp_errors(result, oracle.softmax(row.tolist()))
        i = int(errors.argmax())
        assert errors[i] <= BOUND[dtype.name], (errors[i], i, row[i], row.max(), result[i])


@native_dtype
def test_long_rows_do_not_add_up_errors(dtype):
    """A row of 20,000: the error of the sum does not grow with it."""
    x = rows(dtype, 20_000, 2.0)
    assert ulp.ulp_errors(fa.softmax(x), oracle.softmax(x.tolist())).max() <= BOUND[dtype.name]


@native_dtype
@pytest.mark.parametrize("n", [1 << 20])
def test_a_million_equal_entries(n, dtype):
    """The exact answer is a power of two; a sum that loses entries shows."""
    assert (fa.softmax(np.full(n, 0.3, dtype)) == dtype.type(1 / n)).all()


def backward_errors(got, dy, y, dtype):
    """Errors in units in the last place of y (|dy| + sum |dy| y): the difference may cancel."""
    with mp.workprec(oracle.GUARD_BITS):
        exact = oracle.softmax_backward(dy.tolist(), y)
        size = [abs(mp.mpf(d)) for d in dy.tolist()]
        total = mp.fsum(s * p for s, p in zip(size, y, strict=True))
        scale = [p * (s + total) for s, p in zip(size, y, strict=True)]
        return [
            float(abs(mp.mpf(g) - e) / ulp.ulp(s, dtype))
            for g, e, s in zip(got.tolist(), exact, scale, strict=True)
        ]


@native_dtype
@pytest.mark.parametrize("form", FORMS[1:])
@pytest.mark.parametrize("scale", [0.1, 4.0, 30.0])
@pytest.mark.parametrize("length", LENGTHS)
def test_backward_against_the_oracle(length, scale, form, dtype):
    x = rows(dtype, (2, length), scale, length)
    function, (dy, source) = forms(x)[form]
    got = function(dy, source)
    for i in range(len(x)):
        if form == "softmax_backward":
            y = oracle.softmax(x[i].tolist())
        else:
            y = [mp.mpf(v) for v in source[i].tolist()]
        worst = max(backward_errors(got[i], dy[i], y, dtype))
        assert worst <= BOUND[dtype.name] + MORE, worst


@pytest.mark.parametrize("dtype", ops.HALVES, ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", LENGTHS)
def test_half_is_the_rounded_single(length, form, dtype):
    x = rows(dtype, (5, length))
    function, arrays = forms(x)[form]
    wide = function(*(a.astype(np.float32) for a in arrays))
    ops.assert_same_bits(function(*arrays), wide.astype(dtype))


def test_half_sums_do_not_stick():
    """1e5 equal float16 values (SciPy's softmax of them is all 0) and bfloat16 ones."""
    for dtype in ops.HALVES:
        expected = np.float32(1e-5).astype(dtype)
        assert (fa.softmax(np.zeros(100_000, dtype)) == expected).all(), dtype


SHAPES = [(5,), (1, 1), (7, 1), (1, 9), (6, 33), (4, 5, 6), (3, 128, 5), (2, 3, 4, 5), (70, 65)]


@every_dtype
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_axis(shape, form, dtype):
    """Each axis gives what the last axis of a contiguous copy gives."""
    x = rows(dtype, shape)
    for axis in range(-x.ndim, x.ndim):
        function, arrays = forms(x, axis)[form]
        got = function(*arrays, axis=axis)
        moved = [np.ascontiguousarray(np.moveaxis(a, axis, -1)) for a in arrays]
        ops.assert_same_bits(got, np.moveaxis(function(*moved), -1, axis), f"axis {axis}")


def layouts(x):
    """The values of x in other memory layouts."""
    yield "Fortran order", np.asfortranarray(x)
    yield "reversed", x[::-1, ::-1].copy()[::-1, ::-1]
    yield "gaps", np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)[::2, ::3]
    yield "offset", np.concatenate([x[:1], x])[1:]
    yield "column of a cube", np.stack([x, x], axis=2)[:, :, 1]
    records = np.zeros(x.shape, [("tag", np.uint8), ("value", x.dtype)])
    records["value"] = x
    yield "unaligned", records["value"]


@every_dtype
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(5, 130), (130, 5), (64, 64), (1, 300), (300, 1)], ids=str)
def test_layouts(shape, form, axis, dtype):
    function, arrays = forms(rows(dtype, shape), axis)[form]
    expected = function(*arrays, axis=axis)
    for laid_out in zip(*(layouts(a) for a in arrays), strict=True):
        note = laid_out[0][0]
        ops.assert_same_bits(function(*(a for _, a in laid_out), axis=axis), expected, note)


@every_dtype
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((3, 40_000), 1), ((40_000, 3), 0), ((2000, 60), 1), ((60, 2000), 0)],
    ids=str,
)
def test_parallel(shape, axis, form, dtype):
    function, arrays = forms(rows(dtype, shape), axis)[form]
    threads = fa.get_num_threads()
    with fa.use_target("serial"):
        expected = function(*arrays, axis=axis)
    try:
        for n in (1, 2, 3, 5):
            fa.set_num_threads(n)
            with fa.use_target("parallel"):
                ops.assert_same_bits(function(*arrays, axis=axis), expected, f"{n} threads")
    finally:
        fa.set_num_threads(threads)


@every_dtype
@pytest.mark.parametrize("form", FORMS)
def test_a_row_does_not_depend_on_its_neighbours(form, dtype):
    """Rows computed alone, in any order, and in batches of any size: the same bits."""
    x = rows(dtype, (67, 45))
    function, arrays = forms(x)[form]
    whole = function(*arrays)
    order = np.random.default_rng(3).permutation(len(x))
    ops.assert_same_bits(function(*(a[order] for a in arrays)), whole[order])
    for n in (1, 2, 3, 8, 17):
        ops.assert_same_bits(function(*(a[:n] for a in arrays)), whole[:n], f"{n} rows")
    for i in range(0, 67, 5):
        ops.assert_same_bits(function(*(a[i] for a in arrays)), whole[i], f"row {i}")


@every_dtype
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("axis", [0, 1])
def test_out(axis, form, dtype):
    """Into a given out of any layout, and in place."""
    x = rows(dtype, (33, 40))
    function, arrays = forms(x, axis)[form]
    expected = function(*arrays, axis=axis)
    for note, out in layouts(np.zeros_like(x)):
        out = out if out.flags.writeable else out.copy()
        assert function(*arrays, axis=axis, out=out) is out
        ops.assert_same_bits(out, expected, note)
    for i in range(len(arrays)):
        copies = [a.copy() for a in arrays]
        function(*copies, axis=axis, out=copies[i])
        ops.assert_same_bits(copies[i], expected, f"in place of operand {i}")


@given(
    data=st.data(),
    shape=hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=7),
    dtype=st.sampled_from(ops.DTYPES),
    form=st.sampled_from(FORMS),
)
def test_any_shape(data, shape, dtype, form):
    x = ops.mixed(dtype, int(np.prod(shape))).reshape(shape)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    with np.errstate(all="ignore"):
        function, arrays = forms(x, axis)[form]
    steps = tuple(slice(None, None, data.draw(st.sampled_from([-2, -1, 1, 2]))) for _ in shape)
    views = [a[steps] for a in arrays]
    moved = [np.ascontiguousarray(np.moveaxis(a, axis, -1)) for a in views]
    expected = np.moveaxis(function(*moved), -1, axis)
    with np.errstate(all="raise", under="ignore"):
        ops.assert_same_bits(function(*views, axis=axis), expected)


@every_dtype
def test_rows_of_one_and_no_dimensions(dtype):
    x = rows(dtype, (9, 1))
    assert (fa.softmax(x) == 1).all()
    assert (fa.softmax_backward(x, x) == 0).all()
    y = fa.softmax(dtype.type(3))
    assert y.dtype == dtype and np.shape(y) == () and y == 1
    assert fa.softmax_backward(dtype.type(2), dtype.type(3)) == 0
    assert fa.softmax(np.array(-5, dtype)) == 1


@every_dtype
@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0), (2, 0, 3)], ids=str)
def test_empty(shape, dtype):
    x = np.empty(shape, dtype)
    for axis in range(len(shape)):
        for form in FORMS:
            function, arrays = forms(x, axis)[form]
            got = function(*arrays, axis=axis)
            assert got.shape == shape and got.dtype == dtype


@every_dtype
@pytest.mark.parametrize("length", [2, 3, 64, 65, 200])
def test_infinities_and_nan(length, dtype):
    inf = np.inf
    x = np.zeros((6, length), dtype)
    x[0] = -inf
    x[1, 1] = inf
    x[2, :2] = inf
    x[3, 0] = np.nan
    x[4, 1:] = -inf
    x[5, 0], x[5, 1] = np.nan, inf
    with np.errstate(all="raise", under="ignore"):
        y = fa.softmax(x).astype(np.float64)
    assert np.isnan(y[0]).all()  # no limit: every entry is -inf
    assert y[1, 1] == 1 and y[1].sum() == 1  # one +inf: all the weight is there
    assert np.isnan(y[2]).all()  # two +inf: which one wins is not determined
    assert np.isnan(y[3]).all() and np.isnan(y[5]).all()
    assert y[4, 0] == 1 and (y[4, 1:] == 0).all()
    for axis_0 in (fa.softmax(np.ascontiguousarray(x.T), axis=0),):
        ops.assert_same_bits(axis_0.T, fa.softmax(x))


@native_dtype
def test_backward_where_softmax_is_one_hot(dtype):
    """A saturated row has derivative 0, a nan in dy or x shows."""
    x = np.array([[1e30, 0, -1e30], [0, np.inf, 0]]).astype(dtype)
    dy = np.array([[1.0, 2.0, 3.0]] * 2).astype(dtype)
    with np.errstate(all="raise", under="ignore"):
        assert (fa.softmax_backward(dy, x) == 0).all()
    dy[0, 2] = np.nan
    assert np.isnan(fa.softmax_backward(dy, x)[0]).all()
    x[1, 0] = np.nan
    assert np.isnan(fa.softmax_backward(dy, x)[1]).all()


@native_dtype
def test_shift_invariance(dtype):
    """Where the shift is exact, the same bits."""
    x = np.random.default_rng(0).integers(-512, 512, (20, 70)).astype(dtype) / 64
    for shift in (-1024.0, -3.5, 0.25, 4096.0):
        moved = x + dtype.type(shift)
        assert ((moved - dtype.type(shift)) == x).all()
        ops.assert_same_bits(fa.softmax(moved), fa.softmax(x), f"shift {shift}")


@native_dtype
@pytest.mark.parametrize("length", [2, 9, 100, 1000])
def test_permutation_of_a_row(length, dtype):
    """The order of the entries changes the rounding of the sum at most."""
    x = rows(dtype, length)
    order = np.random.default_rng(4).permutation(length)
    a, b = fa.softmax(x)[order], fa.softmax(x[order])
    assert np.abs(a - b).max() <= 2 * np.spacing(a.max())
    np.testing.assert_allclose(a, b, rtol=4 * np.finfo(dtype).eps)


@native_dtype
def test_rows_sum_to_one(dtype):
    y = fa.softmax(rows(dtype, (50, 300))).astype(np.longdouble)
    assert np.abs(y.sum(axis=1) - 1).max() < 8 * np.finfo(dtype).eps


@native_dtype
def test_far_tails_keep_their_digits(dtype):
    """Entries far below the maximum are small, not zero, down to the subnormals."""
    far = {4: 100.0, 8: 740.0}[dtype.itemsize]
    row = np.array([0.0, -far / 2, -far]).astype(dtype)
    y = fa.softmax(row)
    assert (y > 0).all()
    assert ulp.ulp_errors(y, oracle.softmax(row.tolist())).max() <= BOUND[dtype.name]


@pytest.mark.parametrize(
    "dtype", [bool, np.int8, np.uint16, np.int32, np.int64], ids=lambda t: t.__name__
)
def test_integers_promote_as_in_exp(dtype):
    x = np.array([[0, 1, 1], [1, 0, 0]]).astype(dtype)
    expected = np.exp(x).dtype
    assert fa.softmax(x).dtype == expected
    ops.assert_same_bits(fa.softmax(x), fa.softmax(x.astype(expected)))


def test_wrong_axis():
    for axis in (2, -3, 100):
        for form in FORMS:
            function, arrays = forms(np.ones((2, 3)))[form]
            with pytest.raises(ValueError, match=rf"{form}: axis {axis} .*\(2, 3\)"):
                function(*arrays, axis=axis)
    for axis in (1.0, "0", None, (0, 1)):
        with pytest.raises(TypeError, match="axis"):
            fa.softmax(np.ones((2, 3)), axis=axis)


@pytest.mark.parametrize(
    "wrong",
    [np.ones(3, complex), np.array([1.0, None]), np.array(["a", "b"])],
    ids=lambda a: str(a.dtype),
)
def test_wrong_dtype_is_named(wrong):
    good = np.ones(wrong.shape)
    for function, position in itertools.product(
        (fa.softmax_backward, fa.softmax_backward_from_output), (0, 1)
    ):
        arrays = [good, good]
        arrays[position] = wrong
        with pytest.raises(TypeError) as caught:
            function(*arrays)
        assert function.__name__ in str(caught.value) and str(wrong.dtype) in str(caught.value)
    with pytest.raises(TypeError) as caught:
        fa.softmax(wrong)
    assert "softmax" in str(caught.value) and str(wrong.dtype) in str(caught.value)


def test_wrong_shapes():
    x = np.ones((2, 3), np.float32)
    for shape in [(3,), (3, 2), (2, 4), (2, 3, 1)]:
        out = np.full(shape, 7, np.float32)
        with pytest.raises(ValueError):
            fa.softmax(x, out=out)
        assert (out == 7).all()
    for shape in [(2, 4), (2, 2)]:
        with pytest.raises(ValueError, match="3"):
            fa.softmax_backward(np.ones(shape, np.float32), x)
    locked = np.full((2, 3), 7, np.float32)
    locked.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        fa.softmax(x, out=locked)
    with pytest.raises(TypeError, match="int"):
        fa.softmax(x, out=np.zeros((2, 3), int))


def test_against_scipy():
    special = pytest.importorskip("scipy.special")
    x = rows(np.float64, (40, 77))
    for axis in (0, 1):
        np.testing.assert_allclose(
            fa.softmax(x, axis=axis), special.softmax(x, axis=axis), rtol=1e-13
        )


def test_against_torch():
    torch = pytest.importorskip("torch")
    x, dy = rows(np.float64, (40, 77)), rows(np.float64, (40, 77), 1.0, 9)
    for axis in (0, 1):
        given = torch.tensor(x, requires_grad=True)
        y = torch.softmax(given, dim=axis)
        y.backward(torch.tensor(dy))
        np.testing.assert_allclose(fa.softmax(x, axis=axis), y.detach().numpy(), rtol=1e-13)
        for got in (
            fa.softmax_backward(dy, x, axis=axis),
            fa.softmax_backward_from_output(dy, y.detach().numpy(), axis=axis),
        ):
            np.testing.assert_allclose(got, given.grad.numpy(), rtol=1e-11, atol=1e-16)


def test_more_values_than_columns():
    """Values of more rows than x has, along the first axis as along the last."""
    random = np.random.default_rng(6)
    x, dy = random.normal(size=(4, 6)), random.normal(size=(3, 6))
    found = fa.logsumexp_backward(dy, x, axis=0)
    right = np.stack([fa.logsumexp_backward(d, x, axis=0) for d in dy], 1)
    np.testing.assert_array_equal(found, right)
