"""Everything that a caller of np.exp may rely on holds for every op."""

import itertools

import children
import numpy as np
import ops
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastact as fa
from fastact.activations.directions import DIRECTIONS

CASES = ops.some_directed()
cases = st.sampled_from(CASES)
dtypes = st.sampled_from(ops.DTYPES)


def reference(call, arrays, parameters):
    """The same values from contiguous copies of the broadcast operands."""
    plain = [np.array(a, order="C") for a in np.broadcast_arrays(*arrays)]
    return tuple(
        r.reshape(plain[0].shape)
        for r in ops.results(call(*(a.ravel() for a in plain), *parameters))
    )


def filled(data, shape, dtype):
    """An array of this shape at some strides: reordered axes, steps, reversals, a gap."""
    axes = data.draw(st.permutations(range(len(shape))))
    steps = data.draw(
        st.lists(st.sampled_from([-2, -1, 1, 2, 3]), min_size=len(shape), max_size=len(shape))
    )
    base = ops.mixed(
        dtype, int(np.prod([n * abs(s) for n, s in zip(shape, steps, strict=True)])), len(shape)
    )
    permuted = base.reshape([shape[a] * abs(steps[a]) for a in axes])
    back = permuted.transpose(np.argsort(axes)) if shape else permuted
    index = (slice(None, None, s) for s in steps)
    return back[(*index, ...)]  # the ellipsis: an array also where there is no dimension


@given(data=st.data())
def test_shapes_strides_and_broadcasting(data):
    case, direction = data.draw(cases)
    dtype = data.draw(dtypes)
    count = len(DIRECTIONS[direction].arrays)
    shapes = data.draw(
        hnp.mutually_broadcastable_shapes(num_shapes=count, max_dims=4, min_side=0, max_side=9)
    )
    arrays = [filled(data, shape, dtype) for shape in shapes.input_shapes]
    call = ops.function(case.op, direction)
    got = call(*arrays, *case.parameters)
    ops.assert_same_bits(got, reference(call, arrays, case.parameters))
    assert all(r.shape == shapes.result_shape for r in ops.results(got))


@given(data=st.data())
def test_where_and_out(data):
    """where= computes there and leaves the rest of out as it was; casts into out as NumPy does."""
    case, direction = data.draw(cases)
    dtype = data.draw(dtypes)
    count = len(DIRECTIONS[direction].arrays)
    shapes = data.draw(
        hnp.mutually_broadcastable_shapes(num_shapes=count + 1, max_dims=3, min_side=0, max_side=9)
    )
    *array_shapes, mask_shape = shapes.input_shapes
    arrays = [filled(data, shape, dtype) for shape in array_shapes]
    mask = data.draw(hnp.arrays(bool, mask_shape))
    call = ops.function(case.op, direction)
    out = tuple(filled(data, shapes.result_shape, dtype) for _ in DIRECTIONS[direction].outputs)
    expected = tuple(o.copy() for o in out)
    values = call(*(np.broadcast_to(a, shapes.result_shape) for a in arrays), *case.parameters)
    for e, v in zip(expected, ops.results(values), strict=True):
        np.copyto(e, v, where=mask)
    got = call(*arrays, *case.parameters, out=out if len(out) > 1 else out[0], where=mask)
    ops.assert_same_bits(got, expected)
    ops.assert_same_bits(out, expected)


@given(data=st.data())
def test_overlapping_out(data):
    """out may overlap the input in any way: the result is that of a copied input."""
    case, direction = data.draw(cases)
    dtype = data.draw(st.sampled_from(ops.NATIVE))
    n = data.draw(st.sampled_from([1, 5, 63, 64, 65, 128, 700]))
    base = ops.mixed(dtype, 4 * n + 8)
    views = [
        base[start : start + abs(step) * n : abs(step)][:: 1 if step > 0 else -1]
        for start, step in data.draw(
            st.lists(
                st.tuples(st.integers(0, n + 7), st.sampled_from([-3, -2, -1, 1, 2, 3])),
                min_size=2,
                max_size=2,
            )
        )
    ]
    check_overlap(case, direction, base, *views)


def check_overlap(case, direction, base, source, target):
    call = ops.function(case.op, direction)
    before = base.copy()
    arrays = ops.operands(direction, source.copy())
    expected = ops.results(call(*arrays, *case.parameters))
    others = tuple(np.empty_like(e) for e in expected[1:])
    out = (target, *others) if others else target
    got = call(*arrays[:-1], source, *case.parameters, out=out)
    ops.assert_same_bits(got, expected)
    np.copyto(before[target_slice(base, target)], expected[0])
    ops.assert_same_bits(base, before, "memory outside out was written")


def target_slice(base, view):
    """The slice of base that view is."""
    start = (
        view.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    ) // base.itemsize
    step = view.strides[0] // base.itemsize
    stop = start + step * view.size
    return slice(start, stop if stop >= 0 else None, step)


@pytest.mark.parametrize("shift", [-1000, -65, -64, -1, 1, 64, 65, 1000])
@pytest.mark.parametrize("target", ["serial", "parallel"])
@pytest.mark.parametrize(("case", "direction"), ops.directed(ops.default_cases()), ids=str)
def test_shifted_overlap(case, direction, target, shift):
    """NumPy runs some shifted overlaps without a copy: no thread may be ahead of another."""
    n = 400_000  # long enough that threads which ignored the overlap would show it
    base = np.random.default_rng(1).normal(0, 3, n + abs(shift)).astype(np.float32)
    low, high = base[:n], base[abs(shift) :]
    with fa.use_target(target):
        pair = (low, high) if shift > 0 else (high, low)
        check_overlap(case, direction, base, *pair)


@pytest.mark.parametrize("target", ["serial", "parallel"])
@pytest.mark.parametrize("n", [1, 5, 64, 700, 20_000])
@pytest.mark.parametrize(("case", "direction"), ops.directed(ops.default_cases()), ids=str)
def test_one_element_of_out_as_an_operand(case, direction, n, target):
    """An operand or a parameter that is broadcast from inside out is read before it is written."""
    call = ops.function(case.op, direction)
    names = [*DIRECTIONS[direction].arrays, *(p.name for p in case.record.parameters)]
    bounds = {"min": 0.25, "max": 3.0}  # which must not cross, whatever is between them
    for i, at in itertools.product(range(len(names)), {0, n // 2, n - 1}):
        base = np.random.default_rng(n).uniform(0.5, 2, n).astype(np.float32)
        others = [np.full(n, bounds.get(name, 1.25), np.float32) for name in names]
        copied = [*others[:i], base[at : at + 1].copy(), *others[i + 1 :]]
        expected = ops.results(call(*copied))
        rest = tuple(np.empty(n, np.float32) for _ in expected[1:])
        inside = [*others[:i], base[at : at + 1], *others[i + 1 :]]
        with fa.use_target(target):
            got = call(*inside, out=(base, *rest) if rest else base)
        ops.assert_same_bits(got, tuple(np.broadcast_to(e, n) for e in expected), f"operand {i}")


def like_exp(function, *args, **kwargs):
    """What a call gives: the dtype of its result, or the type of its error."""
    try:
        outcome = function(*args, **kwargs)
    except Exception as error:
        return next(t for t in (TypeError, ValueError) if isinstance(error, t))
    return np.asarray(outcome).dtype


INTEGERS = [np.dtype(c) for c in "?bBhHiIlLqQ"]
FLOATS = [*map(np.dtype, "efd"), *ops.BFLOAT16]
ASKED = [*map(np.dtype, "?bhil"), *FLOATS]
CASTINGS = ["no", "equiv", "safe", "same_kind", "unsafe"]
one_input = pytest.mark.parametrize("case", ops.default_cases(), ids=str)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@one_input
def test_integers_promote_as_in_exp(case, dtype):
    x = np.array([0, 1]).astype(dtype)
    forward, grad = (ops.function(case.op, d) for d in ("forward", "grad"))
    expected = np.exp(x).dtype
    assert forward(x).dtype == grad(x).dtype == expected
    ops.assert_same_bits(forward(x), forward(x.astype(expected)))
    ops.assert_same_bits(
        forward(x, *case.parameters), forward(x.astype(expected), *case.parameters)
    )


@one_input
def test_parameters_are_not_truncated_to_integers(case):
    x = np.arange(-3, 4)
    for parameters in (
        case.parameters,
        *(c.parameters for c in ops.all_cases() if c.op == case.op),
    ):
        f = ops.function(case.op, "forward")
        ops.assert_same_bits(f(x, *parameters), f(x.astype(float), *parameters))


@pytest.mark.parametrize("casting", CASTINGS)
@one_input
def test_dtype_and_casting_as_in_exp(case, casting):
    f = ops.function(case.op, "forward")
    for have, asked in itertools.product([*INTEGERS, *FLOATS], ASKED):
        x = np.array([0, 1]).astype(have)
        expected = like_exp(np.exp, x, dtype=asked, casting=casting)
        assert like_exp(f, x, dtype=asked, casting=casting) == expected, (have, asked)
        if isinstance(expected, np.dtype):
            ops.assert_same_bits(f(x, dtype=asked, casting=casting), f(x.astype(expected)))


@pytest.mark.parametrize("casting", CASTINGS)
@one_input
def test_casting_into_out_as_in_exp(case, casting):
    f = ops.function(case.op, "forward")
    for have, into in itertools.product([*map(np.dtype, "bhl"), *FLOATS], ASKED):
        x = np.array([0, 1]).astype(have)
        with np.errstate(invalid="ignore"):  # 1 is outside some domains
            outcomes = [like_exp(g, x, out=np.zeros(2, into), casting=casting) for g in (np.exp, f)]
        assert outcomes[0] == outcomes[1], (have, into)


def test_mixed_dtypes_as_in_multiply():
    """dy and x of different dtypes: the dtype that their product would have."""
    for a, b in itertools.product([*INTEGERS[:4], *FLOATS], FLOATS):
        dy, x = np.ones(2, a), np.ones(2, b)
        assert fa.tanh_backward(dy, x).dtype == np.multiply(dy, x).dtype, (a, b)


@pytest.mark.skipif(not ops.BFLOAT16, reason="needs ml_dtypes")
def test_bfloat16_that_comes_later():
    """Functions made and used before ml_dtypes was imported take its arrays too."""
    children.run("""
        import sys
        import numpy as np
        import fastact as fa
        functions = [fa.sigmoid, fa.elu, fa.softmax]
        for f in functions:
            f(np.ones(3, np.float32))
        fa.elu(np.ones(3), 2.0), fa.elu_value_and_grad(np.ones(3))
        assert "ml_dtypes" not in sys.modules
        from ml_dtypes import bfloat16
        x = np.ones(3, bfloat16)
        for f in functions:
            out = np.zeros(3, bfloat16)
            assert f(x).dtype == bfloat16 and f(x, out=out) is out and (f(x) == out).all()
        assert fa.elu(-x, 2.0).dtype == bfloat16 and (fa.elu(-x, 2.0) == 2 * fa.elu(-x)).all()
        assert [r.dtype for r in fa.elu_value_and_grad(x)] == [bfloat16] * 2
        assert fa.sigmoid(np.ones(3, np.float32), out=out) is out
    """)


SCALARS = [1, 1.5, True, np.float16(1), np.float32(1), np.float64(1), np.int8(1), np.int64(1)]


@pytest.mark.parametrize("value", [*SCALARS, [1.0, 2.0], (1, 2), [[1.0], [2.0]], []], ids=repr)
@one_input
def test_scalars_and_sequences_as_in_exp(case, value):
    expected = np.exp(value)
    for parameters in ((), case.parameters):
        got = ops.function(case.op, "forward")(value, *parameters)
        assert type(got) is type(expected)
        assert got.dtype == expected.dtype and got.shape == expected.shape


@one_input
def test_out_as_a_tuple_as_in_exp(case):
    f, x, out = ops.function(case.op, "forward"), np.ones(3), np.zeros(3)
    for parameters in ((), case.parameters):
        assert f(x, *parameters, out=(out,)) is out
        assert (out == f(x)).all()
        assert (f(x, *parameters, out=(None,)) == f(x)).all()
    for wrong in ((out, out), ()):
        with pytest.raises(ValueError):
            f(x, out=wrong)


@one_input
def test_zero_dimensions_and_empty(case):
    f = ops.function(case.op, "forward")
    assert type(f(np.array(0.5, np.float32))) is type(np.exp(np.array(0.5, np.float32)))
    out = np.empty((), np.float32)
    assert f(np.array(0.5, np.float32), out=out) is out and out == f(np.float32(0.5))
    for shape in [(0,), (3, 0), (0, 3), (2, 0, 4)]:
        for dtype in ops.DTYPES:
            assert f(np.empty(shape, dtype)).shape == shape
            assert f(np.empty(shape, dtype)).dtype == dtype


@pytest.mark.parametrize("order", ["C", "F", "transposed", "strided"])
@one_input
def test_memory_order_as_in_exp(case, order):
    base = np.ones((4, 6, 8), np.float32)
    x = {
        "C": base,
        "F": np.asfortranarray(base),
        "transposed": base.transpose(1, 2, 0),
        "strided": base[:, ::2, ::-1],
    }[order]
    assert ops.function(case.op, "forward")(x).strides == np.exp(x).strides


class Overriding:
    """An object with its own idea of ufuncs."""

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return ("overridden", ufunc.__name__, method)


class Refusing:
    __array_ufunc__ = None


class Subclass(np.ndarray):
    pass


@pytest.mark.parametrize(("case", "direction"), ops.directed(ops.default_cases()), ids=str)
def test_array_ufunc_override(case, direction):
    call = ops.function(case.op, direction)
    count = len(DIRECTIONS[direction].arrays)
    marker, name, method = call(*[np.ones(2)] * (count - 1), Overriding())
    assert (marker, method) == ("overridden", "__call__") and case.op in name
    rest = [None] * (len(DIRECTIONS[direction].outputs) - 1)
    for out in ((Overriding(), *rest), *(() if rest else (Overriding(),))):
        assert call(*[np.ones(2)] * count, out=out)[0] == "overridden"
    if case.parameters:
        values = (*[np.ones(2)] * count, *case.parameters[1:], Overriding())
        assert call(*values)[0] == "overridden"
    with pytest.raises(TypeError):
        call(*[np.ones(2)] * (count - 1), Refusing())
    outcome = call(*[np.ones(2).view(Subclass)] * count)
    assert all(type(r) is Subclass for r in (outcome if isinstance(outcome, tuple) else (outcome,)))


@one_input
def test_masked_arrays_and_matrices(case):
    f = ops.function(case.op, "forward")
    masked = np.ma.masked_array([1.5, 0.5], [True, False])
    got = f(masked)
    assert isinstance(got, np.ma.MaskedArray) and got.mask.tolist() == [True, False]
    assert got[1] == f(0.5)


@one_input
def test_inputs_are_never_written(case):
    """Also where a read-only array would make writing raise."""
    for direction in case.directions:
        arrays = ops.operands(direction, ops.mixed(np.dtype(np.float32), 70_000))
        copies = [a.copy() for a in arrays]
        for a in arrays:
            a.setflags(write=False)
        ops.function(case.op, direction)(*arrays, *case.parameters)
        for a, copy in zip(arrays, copies, strict=True):
            ops.assert_same_bits(a, copy)
