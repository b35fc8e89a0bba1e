"""fastact inside Numba's compiled code: the library's bits, in the user's own loops."""

import re
from functools import cache

import children
import numpy as np
import ops
import pytest
from numba import guvectorize, njit, prange, stencil, vectorize
from numba.core.errors import TypingError

import fastact as fa
from fastact import swish
from fastact.activations.directions import DIRECTIONS
from fastact.compile.kernels import INTERLEAVE
from fastact.registry import ROW_OPS

X = np.random.default_rng(0).normal(0, 4, (6, 40)).astype(np.float32)
CUBE = np.random.default_rng(1).normal(0, 4, (5, 6, 7)).astype(np.float32)
NATIVE = pytest.mark.parametrize("dtype", ops.NATIVE, ids=str)


# --------------------------------------------------------------------------- numbers


def calls(op, dy, x):
    """Every direction of an op as (name, arguments, results), dy and x as they are written."""
    for direction in ops.Case(op, ()).directions:
        d = DIRECTIONS[direction]
        arguments = ", ".join(dy if a == "dy" else x for a in d.arrays)
        yield direction, arguments, len(d.outputs)


@cache
def loop_over(op):
    """One compiled loop over numbers with every direction of an op; how many rows it fills."""
    lines, rows = [], 0
    for direction, arguments, results in calls(op, "dy[i]", "x[i]"):
        targets = ", ".join(f"out[{rows + k}, i]" for k in range(results))
        lines.append(f"        {targets} = {direction}({arguments}, *p)")
        rows += results
    scope = {d: ops.function(op, d) for d in ops.Case(op, ()).directions}
    head = "def loop(dy, x, p, out):\n    for i in range(x.size):\n"
    exec(head + "\n".join(lines), scope)
    return njit(scope["loop"]), rows


def all_results(op, dy, x, p):
    """What the library gives, a row per result."""
    found = []
    for direction in ops.Case(op, ()).directions:
        arrays = [dy, x][-len(DIRECTIONS[direction].arrays) :]
        found += ops.results(ops.function(op, direction)(*arrays, *p))
    return np.stack(found)


@NATIVE
@pytest.mark.parametrize("op", ops.ELEMENTWISE)
def test_numbers_give_the_bits_of_the_library(op, dtype):
    loop, rows = loop_over(op)
    for case in (c for c in ops.all_cases() if c.op == op):
        x = ops.mixed(dtype, 300)
        dy = np.linspace(-2, 2, x.size).astype(dtype)
        p = tuple(dtype.type(v) for v in case.parameters)
        out = np.empty((rows, x.size), dtype)
        loop(dy, x, p, out)
        ops.assert_same_bits(out, all_results(op, dy, x, p), str(case))


def body_of(compiled, name="loop"):
    """The assembly of the basic block with most vector arithmetic, of one function or its like."""
    assembly = compiled.inspect_asm(compiled.signatures[0])
    if not re.search(r"x86|%rsp", assembly):
        pytest.skip("the patterns below are x86's")
    functions = re.split(r"^\s*\.globl\s", assembly, flags=re.M)
    blocks = [
        block
        for f in functions
        if name in f.split("\n", 1)[0]
        for block in re.split(r"^\.LBB\S+:", f, flags=re.M)
    ]
    return max(blocks, key=lambda b: b.count("\tvf"))


@NATIVE
@pytest.mark.parametrize("op", ["gelu_quick", "gelu", "mish", "tanh_grad"])
def test_a_loop_over_numbers_is_simd_code_without_calls(op, dtype):
    function = getattr(fa, op)

    @njit
    def loop(x, y):
        for i in range(x.size):
            y[i] = function(x[i])

    x = np.linspace(-9, 9, 1000).astype(dtype)
    y = np.empty_like(x)
    loop(x, y)
    ops.assert_same_bits(y, function(x))
    body = body_of(loop)
    suffix = "ps" if dtype == np.float32 else "pd"
    packed = re.findall(rf"vfn?madd\w*{suffix}\s.*%([yz])mm", body)
    assert len(packed) >= 8, "no packed fused multiply-adds"
    assert "call" not in body
    if re.search(r"%zmm|%k[1-7]", body):  # AVX-512 at its full width
        assert "y" not in packed
        stores = re.findall(rf"vmovu{suffix}\s+%zmm\d+, \S*\(%r[^s]", body)
        if op == "gelu_quick":  # the others may branch between the vectors of a round
            assert len(stores) == INTERLEAVE[np.dtype(dtype).name]


@njit
def helper(x):
    return fa.gelu(fa.tanh(x))


def test_a_loop_over_a_function_of_ones_own_is_as_wide():
    @njit
    def loop(x, y):
        for i in range(x.size):
            y[i] = helper(x[i])

    @vectorize
    def plain(x):
        return helper(x)

    x = np.linspace(-9, 9, 1000, dtype=np.float32)
    y = np.empty_like(x)
    loop(x, y)
    ops.assert_same_bits(y, fa.gelu(fa.tanh(x)))
    ops.assert_same_bits(plain(x), y)
    body = body_of(loop)
    assert "call" not in body
    if re.search(r"%zmm|%k[1-7]", body):
        assert not re.search(r"vfn?madd\w*ps\s.*%ymm", body)


def test_loops_of_any_shape_are_hinted():
    """Innermost loops alone, however they go on, and however many calls they hold."""

    @njit
    def several(x, w, y):
        total = 0.0
        for i in range(x.shape[0]):
            if w[i] < 0:
                continue
            total += fa.tanh(w[i])
            for j in range(x.shape[1]):
                if j == i:
                    continue
                y[i, j] = fa.gelu(x[i, j]) + fa.swish(x[i, j])
            k = x.shape[1]
            while k > 0:
                k -= 1
                if y[i, k] > 3.0:
                    break
                y[i, k] += fa.elu(x[i, k])
        return total + fa.sigmoid(total)

    def expected(x, w, y):
        for i in range(x.shape[0]):
            if w[i] < 0:
                continue
            rest = np.arange(x.shape[1]) != i
            y[i, rest] = fa.gelu(x[i, rest]) + fa.swish(x[i, rest])
            over = np.flatnonzero(y[i] > 3.0)
            first = over[-1] + 1 if over.size else 0
            y[i, first:] += fa.elu(x[i, first:])
        total = 0.0
        for v in w[w >= 0]:
            total += float(fa.tanh(v))
        return total + fa.sigmoid(total)

    for dtype in (np.float32, np.float64):
        x = np.random.default_rng(2).normal(0, 3, (7, 45)).astype(dtype)
        w = np.array([1, -1, 0.5, 2, -3, 0.25, 0.1], dtype)
        y, z = np.zeros((2, *x.shape), dtype)
        assert several(x, w, y) == expected(x, w, z)
        ops.assert_same_bits(y, z)


def test_numbers_promote_and_defaults_hold():
    @njit
    def several(x):
        y, g = fa.elu_value_and_grad(x)
        return y, g, swish(x), fa.elu(x, alpha=2), fa.elu_backward(2.0, x), fa.silu(x, beta=0.5)

    def outside(x):
        y, g = fa.elu_value_and_grad(x)
        return y, g, swish(x), fa.elu(x, alpha=2), fa.elu_backward(2.0, x), fa.silu(x, beta=0.5)

    for x in (0.5, -3, np.int64(-2), np.float64(-0.1)):
        assert several(x) == tuple(map(float, outside(x)))
    assert several(True)[0] == float(fa.elu(np.float32(1)))
    single = several(np.float32(-1.5))
    assert single[2] == float(fa.swish(np.float32(-1.5)))
    assert several(np.int16(-3))[2] == float(fa.swish(np.float32(-3)))


def test_default_arguments_of_the_user_pass_through():
    @njit
    def user(x, beta=1.5):
        return fa.swish(x, beta)

    assert user(2.0) == fa.swish(2.0, 1.5)
    assert user(2.0, 0.5) == fa.swish(2.0, 0.5)


# ---------------------------------------------------------------------------- arrays


@cache
def compiled(f, operands):
    """A compiled function that calls f with so many arguments."""
    if operands == 1:
        return njit(lambda x: f(x))
    if operands == 2:
        return njit(lambda a, b: f(a, b))
    return njit(lambda a, b, c: f(a, b, c)) if operands == 3 else njit(lambda *a: f(*a))


@pytest.mark.parametrize("op", ops.ELEMENTWISE)
def test_arrays_in_every_direction(op):
    scope = {d: ops.function(op, d) for d in ops.Case(op, ()).directions}
    listed = ", ".join(f"{d}({arguments})" for d, arguments, _ in calls(op, "dy", "x"))
    exec(f"def every(dy, x): return {listed}", scope)
    found = njit(scope["every"])(X[:, ::-1], X)
    for direction, got in zip(ops.Case(op, ()).directions, found, strict=True):
        arrays = [X[:, ::-1], X][-len(DIRECTIONS[direction].arrays) :]
        ops.assert_same_bits(got, scope[direction](*arrays), direction)


@pytest.mark.parametrize(
    "x",
    [
        X,
        X.T,
        X[::2, ::-3],
        X[3],
        X[0, 0:1].reshape(()),
        X[:0],
        X[:, :1],
        X.astype(np.float64),
        (X * 3).astype(np.int32),
        (X * 3).astype(np.uint16),
        CUBE.transpose(1, 0, 2),
        CUBE[:, ::2, ::-1],
        np.asfortranarray(CUBE),
        np.lib.stride_tricks.as_strided(X, (6, 40), (0, 4)),
    ],
    ids=lambda x: f"{x.dtype}-{x.shape}-{x.strides}",
)
def test_arrays_of_any_layout(x):
    found, exact = compiled(fa.swish, 1)(x), fa.swish(x)
    ops.assert_same_bits(np.asarray(found, exact.dtype), exact)
    if x.ndim:
        assert found.strides == exact.strides or 0 in x.strides or x.size < 2 or x.ndim == 3


def test_results_in_arrays_that_are_given():
    """By name or by place; in place; into a view."""

    @njit
    def into(x, b, out, rows):
        fa.gelu(x, out=out)
        fa.swiglu(x, b, 1.5, rows[::2])
        return fa.elu_backward(x, x, alpha=0.5, out=x)

    x, b = X.copy(), X[0].copy()
    out, rows = np.empty_like(X), np.zeros((2 * len(X), X.shape[1]), X.dtype)
    assert into(x, b, out, rows) is not out
    ops.assert_same_bits(out, fa.gelu(X))
    ops.assert_same_bits(rows[::2], fa.swiglu(X, b, 1.5))
    assert not rows[1::2].any()
    ops.assert_same_bits(x, fa.elu_backward(X, X, 0.5))
    with pytest.raises(ValueError, match="gelu: out must have the shape of the result"):
        into(X, b, out[1:], rows)


def test_fields_of_records():
    """They lie where no number of their size may; converted ones too."""
    records = np.zeros(5, [("a", "i1"), ("b", "f8"), ("c", "f4")])
    records["b"], records["c"] = np.linspace(-2, 2, 5), np.linspace(2, -2, 5)

    @njit
    def both(records):
        return fa.gelu(records.b), fa.swish(records.c), fa.softmax(records.b), fa.relu(records.a)

    for got, expected in zip(
        both(records),
        (fa.gelu(records["b"]), fa.swish(records["c"]), fa.softmax(records["b"]), np.zeros(5)),
        strict=True,
    ):
        np.testing.assert_array_equal(got, expected)


def test_small_integers_become_float32():
    # np.exp of them is a float16, which Numba has not
    for dtype in (np.int8, np.uint8, np.bool_):
        x = np.arange(-3, 5).astype(dtype)
        ops.assert_same_bits(compiled(fa.swish, 1)(x), fa.swish(x.astype(np.float32)))


@pytest.mark.parametrize(
    "operands",
    [
        (X[0], X, 0.5),
        (2.0, X, 0.5),
        (X[:, :1], X[:1], 0.5),
        (X, X.T.copy().T, np.abs(X[0])),
        (X, X.astype(np.float64), 1),
        (X, 0.5, np.abs(X)),
    ],
    ids=range(6),
)
def test_operands_broadcast(operands):
    found = compiled(fa.elu_backward, 3)(*operands)
    ops.assert_same_bits(found, fa.elu_backward(*operands))


def test_two_results():
    @njit
    def both(x):
        y, g = fa.swish_value_and_grad(x, beta=0.5)
        return y, g

    ops.assert_same_bits(both(X), fa.swish_value_and_grad(X, 0.5))
    y, g = both(X[0, :1].reshape(()))
    assert (y, g) == tuple(map(float, fa.swish_value_and_grad(X[0, 0], np.float32(0.5))))


def test_large_arrays_are_shared_among_threads():
    x = np.random.default_rng(0).normal(size=1 << 18).astype(np.float32)
    ops.assert_same_bits(compiled(fa.swish, 1)(x), fa.swish(x))


def test_temporaries_are_freed():
    children.run(
        """
        import numba, numpy as np, fastact as fa
        from numba.core.runtime import rtsys
        elementwise = numba.njit(lambda x: fa.swish(x))
        whole = numba.njit(lambda x: fa.logsumexp(x, None))
        summed = numba.njit(lambda x, b: fa.bias_relu_backward(x, x, b))
        x = np.arange(12).reshape(3, 4)
        elementwise(x), whole(x), summed(x, x[0])
        before = rtsys.get_allocation_stats()
        for _ in range(50):
            elementwise(x), whole(x), summed(x, x[0])
        after = rtsys.get_allocation_stats()
        assert after.alloc - before.alloc >= 100
        assert after.alloc - before.alloc == after.free - before.free
        """,
        env={"NUMBA_NRT_STATS": "1"},
    )


def test_ops_of_two_arrays():
    @njit
    def numbers(dy, a, b):
        return (
            fa.swiglu(a, b, beta=1.5),
            fa.geglu_backward(dy, a, b),
            fa.prelu_backward(dy, a, b),
            fa.bias_relu_backward(dy, a, b),
        )

    swiglu, geglu, prelu, bias = numbers(0.5, -1.5, 2.0)
    assert swiglu == fa.swiglu(-1.5, 2.0, 1.5)
    assert geglu == tuple(map(float, fa.geglu_backward(0.5, -1.5, 2.0)))
    assert prelu == tuple(map(float, fa.prelu_backward(0.5, -1.5, 2.0)))
    assert bias == tuple(map(float, fa.bias_relu_backward(0.5, -1.5, 2.0)))
    ops.assert_same_bits(compiled(fa.swiglu, 2)(X, X[0]), fa.swiglu(X, X[0]))
    ops.assert_same_bits(compiled(fa.prelu, 2)(X, X[0]), fa.prelu(X, X[0]))
    found = compiled(fa.swiglu_backward, 3)(X, X[:, ::-1], X)
    ops.assert_same_bits(found, fa.swiglu_backward(X, X[:, ::-1], X))


@pytest.mark.parametrize(
    ("x", "other"),
    [
        (X, X[0]),
        (X, X[:, :1]),
        (X, X),
        (X[0], X),
        (X, 0.25),
        (1.5, X),
        (X, np.array(0.25)),
        (np.asfortranarray(X), np.asfortranarray(X)),
        (np.stack([X, -X, X]), X[:, :1]),
        (X[:0], X[0]),
        (X.astype(np.float32), X[0].astype(np.float32)),
        (0.5, np.array(2.0)),
    ],
)
def test_partials_are_summed_to_the_shape_of_their_argument(x, other):
    dy = np.cos(np.arange(np.broadcast(x, other).size)).reshape(np.broadcast(x, other).shape)
    dy = dy.astype(np.result_type(x, other))
    for f in (fa.prelu_backward, fa.bias_swish_backward):
        found = compiled(f, 3)(dy, x, other)
        for got, expected in zip(found, f(dy, x, other), strict=True):
            assert np.shape(got) == np.shape(expected)
            assert not np.ndim(got) or got.dtype == expected.dtype
            tolerance = 4 * np.finfo(np.asarray(expected).dtype).eps
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=8 * tolerance)


# ------------------------------------------------------------------------------ rows


def row_operands(op, x, axis, groups):
    """Operands of a row op, x the last."""
    few = np.take(x, np.arange(groups), axis) if op.groups else np.take(x, 0, axis)
    return [few if a in op.per_row else np.flip(x, 0) for a in op.inputs[:-1]] + [x]


def row_calls(op, x):
    """The arguments of calls of a row op: along several axes, or with what it has instead."""
    if op.causal:
        return [(*row_operands(op, x, -1, 1), offset) for offset in (0, -2, 3, 100)]
    if op.groups:
        cuts = [
            (axis, n) for axis in (-1, 0, 1) for n in (1, 2, x.shape[axis]) if not x.shape[axis] % n
        ]
        return [(*row_operands(op, x, axis, n), n, axis) for axis, n in cuts]
    return [(*row_operands(op, x, axis, 1), axis) for axis in (-1, 0, 1, -2)]


@pytest.mark.parametrize("op", ROW_OPS, ids=lambda op: op.name)
def test_row_ops_along_any_axis(op):
    f = getattr(fa, op.name)
    for x in (CUBE[:, ::2, ::-1], CUBE.astype(np.float64)):
        for arguments in row_calls(op, x):
            found = compiled(f, len(arguments))(*arguments)
            ops.assert_same_bits(found, f(*arguments), str(arguments[-1]))


def test_row_ops_on_arrays_in_fortran_order():
    found = compiled(fa.softmax, 2)(CUBE.T, 1)
    ops.assert_same_bits(found, fa.softmax(CUBE.T, 1))
    assert found.flags.f_contiguous


def test_options_of_row_ops():
    @njit
    def several(x, mask, axis):
        return (
            fa.softmax(x, axis, where=mask, empty="zero"),
            fa.logsumexp(x, axis=0),
            fa.logsumexp(x, axis, keepdims=True),
            fa.log_softmax(x),
            fa.softmax(x, temperature=2, scale=0.5),
            fa.softmax(x, where=mask[0, :, :1]),
        )

    mask = CUBE > 0
    mask[0, :, 2] = False
    found = several(CUBE, mask, 1)
    exact = (
        fa.softmax(CUBE, 1, where=mask, empty="zero"),
        fa.logsumexp(CUBE, axis=0),
        fa.logsumexp(CUBE, 1, keepdims=True),
        fa.log_softmax(CUBE),
        fa.softmax(CUBE, temperature=2, scale=0.5),
        fa.softmax(CUBE, where=mask[0, :, :1]),
    )
    for got, wanted in zip(found, exact, strict=True):
        ops.assert_same_bits(got, wanted)


def test_reductions_to_a_number():
    @njit
    def several(x, dy):
        return (
            fa.logsumexp(x[0, 0]),
            fa.logsumexp(x, None),
            fa.logsumexp_backward(1.5, x[0, 0]),
            fa.logsumexp_backward(dy, x, 1, keepdims=True),
        )

    dy = CUBE[:, :1]
    one, whole, row, kept = several(CUBE, dy)
    assert one == float(fa.logsumexp(CUBE[0, 0]))
    assert whole == float(fa.logsumexp(CUBE, None))
    ops.assert_same_bits(row, fa.logsumexp_backward(np.float32(1.5), CUBE[0, 0]))
    ops.assert_same_bits(kept, fa.logsumexp_backward(dy, CUBE, 1, keepdims=True))


def test_empty_rows_and_integers():
    rows = compiled(fa.softmax, 2)
    ops.assert_same_bits(rows(CUBE[:, :0], 1), fa.softmax(CUBE[:, :0], 1))
    ops.assert_same_bits(rows(CUBE[:0], 1), fa.softmax(CUBE[:0], 1))
    total = compiled(fa.logsumexp, 2)
    ops.assert_same_bits(total(CUBE[:, :0], 1), fa.logsumexp(CUBE[:, :0], 1))
    ops.assert_same_bits(
        rows(np.arange(12).reshape(3, 4), 0), fa.softmax(np.arange(12).reshape(3, 4), 0)
    )


# ------------------------------------------------------------------ Numba's decorators


def test_vectorize():
    @vectorize
    def f(x, alpha):
        return fa.elu(x, alpha)

    @vectorize(["float32(float32)"], target="parallel")
    def g(x):
        return fa.swish_grad(x)

    ops.assert_same_bits(f(X, np.float32(0.5)), fa.elu(X, 0.5))
    ops.assert_same_bits(g(X), fa.swish_grad(X))


def test_guvectorize():
    @guvectorize("(n)->(n)")
    def rows(x, y):
        y[:] = fa.softmax(x)

    y = np.empty_like(X)
    rows(X, y)
    ops.assert_same_bits(y, fa.softmax(X))


def test_stencil():
    @stencil
    def neighbours(a):
        return fa.swish(a[0, 0] + a[0, 1])

    @njit
    def f(a):
        return neighbours(a)

    ops.assert_same_bits(f(X)[:, :-1], fa.swish(X[:, :-1] + X[:, 1:]))


def test_prange_with_numbers_and_arrays():
    @njit(parallel=True)
    def f(x):
        y = np.empty_like(x)
        z = np.empty_like(x)
        for i in prange(x.shape[0]):
            y[i] = fa.softmax(x[i])
            for j in range(x.shape[1]):
                z[i, j] = fa.tanh(x[i, j])
        return y, z

    y, z = f(X)
    ops.assert_same_bits(y, fa.softmax(X))
    ops.assert_same_bits(z, fa.tanh(X))


# ---------------------------------------------------------------------------- errors


def errors():
    @njit
    def complex_number():
        return fa.swish(1j)

    @njit
    def text():
        return fa.swish_backward(1.0, "a")

    @njit
    def unknown():
        return fa.swish(1.0, alpha=2.0)

    @njit
    def masked():
        return fa.swish(np.zeros(3), where=np.zeros(3) > 0)

    @njit
    def axis():
        return fa.softmax(np.zeros((3, 3)), 0.5)

    @njit
    def target():
        return fa.gelu(np.zeros(3), out=np.zeros(3, np.float32))

    @njit
    def targets():
        return fa.gelu_value_and_grad(np.zeros(3), out=np.zeros(3))

    @njit
    def partials():
        return fa.swish_backward(1.0, 1.0, wrt="beta")

    @njit
    def number():
        return fa.softmax(1.0)

    @njit
    def policy():
        return fa.softmax(np.zeros(3), empty="one")

    @njit
    def array_of_complex():
        return fa.softmax(np.zeros(3, np.complex64))

    yield complex_number, r"swish: x has type complex128; .* called as swish\(complex128\)"
    yield (
        text,
        r"swish_backward: x has type unicode_type; .*swish_backward\(float64, unicode_type\)",
    )
    yield unknown, r"swish: got an unexpected keyword argument 'alpha'; called as swish\(float64"
    yield masked, r"swish: where= is not available inside compiled code; called as swish\(array"
    yield target, r"gelu: out must be a writeable array of float64 with 1 dimensions, got array"
    yield targets, r"gelu_value_and_grad: out= is not available inside compiled code for several"
    yield partials, r"swish_backward: wrt= is not available inside compiled code"
    yield axis, r"softmax: axis must be an integer, got float64; called as softmax\(array"
    yield number, r"softmax: x must be an array with 1 dimensions, got float64"
    yield policy, r"softmax: empty must be 'nan' or 'zero', written out in the call"
    yield array_of_complex, r"softmax: x has type array\(complex64.*called as softmax"


@pytest.mark.parametrize(
    ("function", "message"), list(errors()), ids=lambda v: getattr(v, "__name__", "")
)
def test_a_compile_error_names_the_function_and_the_types(function, message):
    with pytest.raises(TypingError, match=message):
        function()


def test_errors_while_running():
    with pytest.raises(ValueError, match="softmax: axis is out of bounds"):
        compiled(fa.softmax, 2)(X, 2)
    with pytest.raises(ValueError, match="swish_backward: shapes do not broadcast"):
        compiled(fa.swish_backward, 2)(X, X[:3])
    with pytest.raises(ValueError, match="groups must divide the entries of the axis"):
        compiled(fa.maxout, 2)(X, 7)
    with pytest.raises(ValueError, match="groups must divide the entries of the axis"):
        compiled(fa.maxout, 2)(X, 0)
    with pytest.raises(ValueError, match="the shapes of dy and x do not match"):
        compiled(fa.softmax_backward, 2)(X, X[:3])
    scaled = njit(lambda x, t: fa.softmax(x, temperature=t))
    for bad in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="must be finite and positive"):
            scaled(X, bad)


# ------------------------------------------------------------------------- processes

USER = """
import numba, numpy as np, sys
import fastact as fa

@numba.njit(cache=True)
def user(x):
    return fa.swish(x), fa.swish(x[0, 0]), fa.softmax(x, 0)
"""


def test_functions_cached_by_numba_hold_no_address(tmp_path):
    (tmp_path / "user.py").write_text(USER)
    code = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        import numpy as np, user, fastact as fa
        x = np.linspace(-3, 3, 12).reshape(3, 4)
        y, one, p = user.user(x)
        assert (y == fa.swish(x)).all() and one == y[0, 0] and (p == fa.softmax(x, 0)).all()
        print(sum(user.user.stats.cache_hits.values()))
    """
    assert [children.run(code).strip() for _ in range(2)] == ["0", "1"]


def test_the_entry_point_teaches_numba_functions_made_before_it_came(tmp_path):
    info = tmp_path / "fastact-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fastact\nVersion: 0\n")
    project = (children.ROOT / "pyproject.toml").read_text()
    line = re.search(r"entry-points.numba_extensions\]\n(init = )\"(.*)\"", project)
    (info / "entry_points.txt").write_text(f"[numba_extensions]\n{line[1]}{line[2]}\n")
    children.run(
        f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from fastact import softmax, swish
        assert "numba" not in sys.modules
        import numba, numpy as np
        f = numba.njit(lambda x: swish(x) + softmax(np.array([x]))[0])
        assert f(1.0) == swish(1.0) + 1
        """
    )


def test_without_the_entry_point_functions_met_after_numba_are_taught():
    children.run(
        """
        import numba, fastact as fa
        assert numba.njit(lambda x: fa.swish(x))(1.0) == fa.swish(1.0)
        """
    )


def test_numba_alone_pays_little():
    children.run(
        """
        import sys, numba
        from fastact.interop.numba_extension import init
        init()
        numba.njit(lambda x: x)(1)
        heavy = {m for m in sys.modules if m.startswith(("fastact.interop", "fastact.compile.",
                                                         "fastact.activations"))}
        assert heavy <= {"fastact.interop", "fastact.interop.numba_extension",
                         "fastact.compile.abi"}, heavy
        """
    )


def test_without_the_interpreters_lock_from_many_threads():
    children.run(
        """
        import threading, numba, numpy as np, fastact as fa
        f = numba.njit(nogil=True)(lambda x: fa.softmax(fa.swish(x), 0))
        x = np.random.default_rng(0).normal(size=(40, 300))
        exact = fa.softmax(fa.swish(x), 0)
        f.compile((numba.typeof(x),))
        wrong = []
        def work():
            for _ in range(100):
                if not (f(x) == exact).all():
                    wrong.append(1)
        threads = [threading.Thread(target=work) for _ in range(6)]
        for t in threads: t.start()
        for t in threads: t.join()
        assert not wrong
        """
    )
