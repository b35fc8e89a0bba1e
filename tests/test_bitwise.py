"""The same input gives the same bits, wherever it lies and whoever computes it."""

import numpy as np
import ops
import pytest

import fastact as fa
from fastact.activations.directions import DIRECTIONS
from fastact.runtime.loops import LARGE_BYTES

COUNT = 3001  # neither a whole number of blocks nor of vectors
LENGTHS = range(201)
SCALARS = 60

every = pytest.mark.parametrize(("case", "direction"), ops.some_directed(), ids=str)
every_dtype = pytest.mark.parametrize("dtype", ops.DTYPES, ids=str)


def arguments(direction, dtype, n=COUNT):
    return ops.operands(direction, ops.mixed(dtype, n))


@pytest.fixture(autouse=True)
def three_threads():
    """More threads than most ranges have blocks, whatever the machine."""
    before = fa.get_num_threads()
    fa.set_num_threads(3)
    yield
    fa.set_num_threads(before)


@every_dtype
@every
def test_parallel(case, direction, dtype):
    call, arrays = ops.function(case.op, direction), arguments(direction, dtype, 40_003)
    with fa.use_target("serial"):
        expected = call(*arrays)
    for target in ("parallel", "auto"):
        with fa.use_target(target):
            ops.assert_same_bits(call(*arrays), expected, target)
            spread = [np.repeat(a, 2)[::2] for a in arrays]
            ops.assert_same_bits(call(*spread), expected, f"{target}, strided")


def large(op, direction, dtype):
    """Operands so large that results stream past the caches, and what comes out of pieces."""
    count = LARGE_BYTES // (2 * np.dtype(dtype).itemsize) + 77
    arrays = [np.resize(a, count) for a in arguments(direction, dtype)]
    piece = COUNT * 100
    parts = [
        ops.results(ops.function(op, direction)(*(a[i : i + piece] for a in arrays)))
        for i in range(0, count, piece)
    ]
    return arrays, [np.concatenate(p) for p in zip(*parts, strict=True)]


@pytest.mark.parametrize("dtype", (ops.SINGLE, *ops.BFLOAT16), ids=str)
@pytest.mark.parametrize(
    ("case", "direction"),
    [c for c in ops.some_directed() if c[1] in ("forward", "value_and_grad")],
    ids=str,
)
def test_streaming(case, direction, dtype):
    arrays, expected = large(case.op, direction, dtype)
    got = ops.results(ops.function(case.op, direction)(*arrays))
    for g, e in zip(got, expected, strict=True):
        ops.assert_same_bits(g, e)


@every_dtype
@pytest.mark.parametrize("target", ["serial", "parallel"])
@pytest.mark.parametrize("starts", [(0, 0), (1, 1), (5, 5), (16, 48), (3, 4)], ids=str)
def test_streaming_from_anywhere(starts, target, dtype):
    """Outputs that begin within a cache line, together or not, and in place."""
    (x,), expected = large("sigmoid", "value_and_grad", dtype)
    y, g = (np.full(x.size + 64, 7, dtype) for _ in starts)
    out = tuple(a[s : s + x.size] for a, s in zip((y, g), starts, strict=True))
    with fa.use_target(target):
        fa.sigmoid_value_and_grad(x, out=out)
        in_place = offset(x, starts[0])
        fa.sigmoid(in_place, out=in_place)
    for got, e, whole, start in zip(out, expected, (y, g), starts, strict=True):
        ops.assert_same_bits(got, e)
        assert (whole[:start] == 7).all()
        assert (whole[start + x.size :] == 7).all()
    ops.assert_same_bits(in_place, expected[0])


def strided(x, step):
    """The values of x every `step` elements, with other values between them."""
    base = np.ones(x.size * step, x.dtype)
    base[::step] = x
    return base[::step]


def offset(x, elements):
    return np.concatenate([x[:elements], x])[elements:]


def in_records(x):
    """The values of x as a field of records: unaligned, at an odd stride."""
    records = np.zeros(x.size, [("tag", np.uint8), ("value", x.dtype)])
    records["value"] = x
    return records["value"]


LAYOUTS = {
    "stride 2": lambda x: strided(x, 2),
    "stride 7": lambda x: strided(x, 7),
    "stride -1": lambda x: x[::-1].copy()[::-1],
    "stride -2": lambda x: strided(x[::-1], 2)[::-1],
    "offset 1": lambda x: offset(x, 1),
    "offset 5": lambda x: offset(x, 5),
    "records": in_records,
    "swapped bytes": lambda x: x.astype(x.dtype.newbyteorder()),
}


@pytest.mark.parametrize(
    ("layout", "dtype"),
    [
        (layout, dtype)
        for layout in LAYOUTS
        for dtype in ops.DTYPES
        if layout != "swapped bytes" or dtype not in ops.BFLOAT16  # which has one byte order
    ],
    ids=str,
)
@every
def test_layout(case, direction, layout, dtype):
    call, arrays = ops.function(case.op, direction), arguments(direction, dtype)
    laid_out = [LAYOUTS[layout](a) for a in arrays]
    ops.assert_same_bits(call(*laid_out), call(*arrays))


@every_dtype
@every
def test_reversed(case, direction, dtype):
    call, arrays = ops.function(case.op, direction), arguments(direction, dtype)
    expected = [r[::-1] for r in ops.results(call(*arrays))]
    ops.assert_same_bits(call(*(a[::-1] for a in arrays)), tuple(expected))


@every_dtype
@every
def test_two_dimensions(case, direction, dtype):
    call, arrays = ops.function(case.op, direction), arguments(direction, dtype, 60 * 50)
    flat = ops.results(call(*arrays))
    for order in "CF":
        expected = tuple(r.reshape((60, 50), order=order) for r in flat)
        ops.assert_same_bits(call(*(a.reshape((60, 50), order=order) for a in arrays)), expected)
    crossed = call(*(a.reshape(60, 50).T for a in arrays))
    ops.assert_same_bits(crossed, tuple(r.reshape(60, 50).T for r in flat))


@every_dtype
@every
def test_every_length(case, direction, dtype):
    call, arrays = ops.function(case.op, direction), arguments(direction, dtype, LENGTHS[-1])
    whole = ops.results(call(*arrays))
    for n in LENGTHS:
        got = call(*(a[:n] for a in arrays))
        ops.assert_same_bits(got, tuple(r[:n] for r in whole), f"length {n}")


@every_dtype
@every
def test_scalars(case, direction, dtype):
    call, arrays = ops.function(case.op, direction), arguments(direction, dtype, SCALARS)
    whole = ops.results(call(*arrays))
    for i in range(SCALARS):
        expected = tuple(r[i] for r in whole)
        for one in ([a[i] for a in arrays], [a[i].reshape(()) for a in arrays]):
            ops.assert_same_bits(call(*one), expected, f"{one}")


@every_dtype
@every
def test_out(case, direction, dtype):
    """A given out gets the same bits, and is what is returned."""
    call, arrays = ops.function(case.op, direction), arguments(direction, dtype)
    expected = ops.results(call(*arrays))
    out = tuple(np.full(COUNT, 7, dtype) for _ in expected)
    got = call(*arrays, out=out if len(out) > 1 else out[0])
    assert all(g is o for g, o in zip(got if len(out) > 1 else (got,), out, strict=True))
    ops.assert_same_bits(got, expected)


@every_dtype
@every
def test_in_place(case, direction, dtype):
    """Each operand may be the out; the operands that are not stay as they were."""
    call, arrays = ops.function(case.op, direction), arguments(direction, dtype)
    expected = ops.results(call(*arrays))
    for i in range(len(arrays)):
        copies = [a.copy() for a in arrays]
        out = (copies[i], *(np.empty(COUNT, dtype) for _ in expected[1:]))
        call(*copies, out=out if len(out) > 1 else out[0])
        ops.assert_same_bits(out, expected)
        for j, (a, b) in enumerate(zip(arrays, copies, strict=True)):
            if i != j:
                ops.assert_same_bits(b, a, "an input was written")


with_parameters = pytest.mark.parametrize(
    ("case", "direction"),
    [(c, d) for c, d in ops.directed(ops.all_cases()) if c.parameters],
    ids=str,
)


@every_dtype
@with_parameters
def test_parameters_as_arrays(case, direction, dtype):
    """A parameter given as a number, as an array of it, or as one per row, is the same."""
    call, (*dy, x) = ops.function(case.op, direction), arguments(direction, dtype, 35 * 40)
    computing = np.float32 if dtype in ops.HALVES else dtype
    expected = call(*dy, x, *case.parameters)
    full = [np.full(x.shape, p, computing) for p in case.parameters]
    ops.assert_same_bits(call(*dy, x, *full), expected, "full")
    shaped = [a.reshape(35, 40) for a in (*dy, x)]
    expected = tuple(r.reshape(35, 40) for r in ops.results(expected))
    column = [np.full((35, 1), p, computing) for p in case.parameters]
    row = [np.full(40, p, computing) for p in case.parameters]
    ops.assert_same_bits(call(*shaped, *column), expected, "column")
    ops.assert_same_bits(call(*shaped, *row), expected, "row")


@every_dtype
@pytest.mark.parametrize(
    ("case", "direction"),
    [(c, d) for c, d in ops.directed(ops.default_cases()) if c.parameters],
    ids=str,
)
def test_defaults_are_the_defaults(case, direction, dtype):
    call, arrays = ops.function(case.op, direction), arguments(direction, dtype)
    # equal numbers, but other objects than the defaults: those have a path of their own
    values = [float(repr(p)) for p in case.parameters]
    assert all(v is not p for v, p in zip(values, case.parameters, strict=True))
    expected = call(*arrays, *values)
    ops.assert_same_bits(call(*arrays), expected)
    names = [p.name for p in case.record.parameters]
    ops.assert_same_bits(call(*arrays, **dict(zip(names, values, strict=True))), expected)


def test_directions_are_all_covered():
    covered = {d for _, d in ops.directed(ops.default_cases())}
    assert covered == set(DIRECTIONS)
