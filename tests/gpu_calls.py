"""Calls that need more of the GPU than one kernel on arrays of one dtype, as data.

Executed by the PTX interpreter in test_gpu_calls, and on the card by ci/gpu.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ops

import fastact as fa

BFLOAT16 = ops.BFLOAT16[0] if ops.BFLOAT16 else np.dtype(np.float16)


@dataclass(frozen=True)
class Call:
    """A public function, its NumPy operands, and how its results compare with the CPU's."""

    function: str
    arrays: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)
    terms: float = 1.0  # the size of what is added up; 0: the same bits
    ulp: float = 4.0


def normal(shape: Any, dtype: Any = "float32", seed: int = 0, spread: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, shape).astype(dtype)


def labels(rows: int, classes: int, dtype: str = "int64") -> np.ndarray:
    return np.random.default_rng(1).integers(0, classes, rows).astype(dtype)


def uniform(shape: Any, dtype: str = "float32", low: float = 0.1, high: float = 2.0) -> np.ndarray:
    return np.random.default_rng(2).uniform(low, high, shape).astype(dtype)


def with_ignored(ids: np.ndarray, ignored: int) -> np.ndarray:
    ids[1::3] = ignored
    return ids


CLASSES = "softmax_cross_entropy_value_and_grad"
SIGMOID = "sigmoid_cross_entropy_value_and_grad"
X, DY = normal((4, 6)), normal((4, 6), seed=1)
CUBE, DY_CUBE = normal((2, 3, 4, 5)), normal((2, 3, 4, 5), seed=1)
BOX = normal((3, 4, 5))


def losses() -> dict[str, Call]:
    """Entries of a gradient are small beside the row's share of the mean: so are the terms."""
    x = normal((6, 10))
    wide = {"weight": uniform(10, "float64"), "label_smoothing": 0.2, "ignore_index": -7}
    each = {"reduction": "none", "ignore_index": 3, "weight": uniform(10)}
    q = fa.softmax(normal((6, 10), "float64", 3), axis=0).astype("float32")
    long = fa.softmax(normal((2, 9000), "float64", 3)).astype(BFLOAT16)
    half = {"reduction": "none", "pos_weight": uniform((3,), "float16")}
    summed = {"reduction": "sum", "weight": uniform((4, 1), "float64")}
    t = uniform((7, 3), "float16", 0, 1)
    return {
        "class ids, mean": Call(CLASSES, (x, labels(6, 10)), {}, 1 / 6),
        "class ids, sum": Call("softmax_cross_entropy", (x, labels(6, 10)), {"reduction": "sum"}),
        "class ids, each": Call(CLASSES, (x, labels(6, 10)), each),
        "class ids, some ignored": Call(
            CLASSES, (x, with_ignored(labels(6, 10), 12)), {"ignore_index": 12}, 1 / 4
        ),
        "class ids, weighted mean": Call(
            CLASSES,
            (normal((6, 10), "float64"), with_ignored(labels(6, 10, "int32"), -7)),
            wide,
            1 / 6,
        ),
        "class ids, half": Call(
            CLASSES,
            (normal((9, 4), "float16"), labels(4, 9, "uint8")),
            {"reduction": "sum", "axis": 0, "label_smoothing": 0.1},
        ),
        "class ids, long rows": Call(CLASSES, (normal((2, 17000)), labels(2, 17000)), {}, 0.5),
        "class ids, mean over nothing": Call(
            CLASSES, (normal((3, 4)), np.array([2, 2, 2])), {"ignore_index": 2}
        ),
        "probabilities, mean": Call(CLASSES, (x, q), {"label_smoothing": 0.1, "axis": 0}, 0.1),
        "probabilities, weighted": Call(
            CLASSES,
            (normal((5, 12), "float64"), fa.softmax(normal((5, 12), "float64", 3))),
            {"reduction": "sum", "weight": uniform(12, "float64")},
        ),
        "probabilities, long rows": Call(
            CLASSES, (normal((2, 9000), BFLOAT16), long), {"reduction": "none"}, 0.1
        ),
        "sigmoid, mean": Call(SIGMOID, (normal(5000), uniform(5000, low=0, high=1)), {}, 2e-4),
        "sigmoid, each": Call(SIGMOID, (normal((7, 3), "float16"), t), half, 0.1),
        "sigmoid, sum": Call(
            SIGMOID, (normal((4, 6), "float64"), uniform((4, 6), "float64", 0, 1)), summed
        ),
        "sigmoid, one": Call(SIGMOID, (normal(()), uniform((), low=0, high=1))),
        "sigmoid, none": Call(SIGMOID, (normal((0, 3)), uniform((0, 3)))),
        # rows as they lie where the entries do not run on
        "sigmoid, views": Call(
            "sigmoid_cross_entropy",
            (normal((6, 40))[::2, ::2], uniform((6, 40), low=0, high=1)[1::2, 1::2]),
        ),
    }


def partials() -> dict[str, Call]:
    """Summed over the axes along which an argument was broadcast: before, after, around it."""
    slopes = {
        f"slope {shape}": Call("prelu_backward", (DY_CUBE, CUBE, normal(shape, seed=2)), {}, 30.0)
        for shape in ((5,), (3, 1, 1), ())
    }
    half = (DY.astype("float16"), X.astype("float16"), normal(6, "float16", 2))
    wrt = {"beta": 1.5, "wrt": ("x", "beta")}
    return slopes | {
        "trained parameter": Call("swish_backward", (DY, X), wrt, 9.0),
        "bias of halves": Call("bias_relu_backward", half),
    }


def elementwise() -> dict[str, Call]:
    """Conversions before and after a kernel: the CPU's bits."""
    integers = {
        f"of {dtype}": Call("relu", (np.arange(-5, 6).astype(dtype),), {}, 0)
        for dtype in ("bool", "int8", "uint16", "int32", "uint64")
    }
    found = integers | {
        "of mixed dtypes": Call("relu_backward", (X, DY.astype("float16")), {}, 0),
        "in a dtype": Call("relu", (X.astype("float16"),), {"dtype": "float64"}, 0),
        "a parameter too large": Call("leaky_relu", (X,), {"negative_slope": 1e300}, 0),
    }
    for dtype in ("bool", "int8", "uint8", "int16", "int32", "uint32", "int64", "uint64"):
        # within the dtype's range: beyond it, what NumPy does depends on the processor
        x = np.array([0.0, 0.4, 1.5, 2.9, 90.2, 127.9] + [-1.5, -100.9] * dtype.startswith("i"))
        into = {"out": np.zeros(x.shape, dtype), "casting": "unsafe"}
        source = x.astype(("float32", "float64", "float16")[len(dtype) % 3])
        found[f"into {dtype}"] = Call("identity", (source,), into, 0)
    if ops.BFLOAT16:
        half = X.astype(BFLOAT16)
        for dtype in ("int8", "uint16", "int64"):
            beside = (half, np.arange(24).reshape(4, 6).astype(dtype))
            found[f"bfloat16 and {dtype}"] = Call("relu_backward", beside, {}, 0)
    for axis in (0, -1):
        x, dy = X.astype("float64"), DY[:2] if axis == 0 else DY[:, :3]
        found |= {
            f"halves along {axis}": Call("glu", (x,), {"axis": axis}, 0),
            f"halves along {axis}, backward": Call("glu_backward", (dy, x), {"axis": axis}, 0),
        }
    return found


def rows() -> dict[str, Call]:
    """Several axes, groups, limits, rounds."""
    found = {}
    for axis in (None, (0, 1), (0, 2), (1,), ()):
        kept = {"axis": axis, "keepdims": True}
        dy = np.asarray(fa.logsumexp(BOX, axis=axis))
        found[f"over {axis}"] = Call("logsumexp", (BOX,), kept)
        found[f"over {axis}, backward"] = Call("logsumexp_backward", (dy, BOX), {"axis": axis})
    odd = normal((2, 4, 5))
    odd[1, 2, 1] = np.nan
    # rows in another order in memory
    turned = np.ascontiguousarray(CUBE.transpose(1, 0, 2, 3)).transpose(1, 0, 2, 3)
    for offset in (0, -2, 1, 10):
        below = {"offset": offset, "empty": "zero"}
        found[f"below {offset}"] = Call("causal_softmax", (odd,), below)
        found[f"below {offset}, backward"] = Call(
            "causal_softmax_backward", (turned, turned), {"offset": offset}, 9.0
        )
    groups = normal((6, 3, 6))
    groups[0, 0, 0] = np.nan
    for axis in (-1, 0):
        dy = normal((2, 3, 6) if axis == 0 else (6, 3, 2), seed=1)
        by = {"groups": 2, "axis": axis}
        found[f"groups along {axis}"] = Call("maxout", (groups,), by)
        found[f"groups along {axis}, backward"] = Call("maxout_backward", (dy, groups), by)
    # a warp, a block, chunks; columns, and chunks of them
    for length, axis in ((3, -1), (1100, -1), (17000, -1), (40, 0), (600, 0)):
        x = normal((4, length), spread=0.5)
        x[1] = -np.inf
        x[2, 0] = np.nan
        laid = x if axis else np.ascontiguousarray(x.T)
        found[f"rounds of {length} along {axis}"] = Call("sparsemax", (laid,), {"axis": axis})
    x, dy = normal((9, 40), spread=0.3), normal((9, 40), seed=1)
    found |= {
        "rounds, backward": Call("sparsemax_backward", (dy, x), {}, 2.0),
        "support": Call("sparsemax_backward_from_output", (dy, fa.sparsemax(x)), {}, 2.0),
        "rows of integers": Call("softmax", (np.arange(12).reshape(3, 4),), {"axis": 0}),
        "a number": Call("softmax", (np.float32(3.0),), {"axis": 0}),
        "rows into integers": Call(
            "softmax",
            (np.array([[0, 50.0], [9, -30]], "float32"),),
            {"out": np.zeros((2, 2), "int16"), "casting": "unsafe"},
            0,
        ),
    }
    return found


def broadcast() -> dict[str, Call]:
    """Operands of rows of other shapes, and results larger than what the operands come to."""
    x, dy, row = normal((4, 6)), normal((4, 6), seed=1), normal(6, seed=2)
    stack, some = normal((2, 4, 6), seed=3), np.arange(6) % 3 != 0
    column, value = normal((4, 1), seed=4), normal(4, seed=5)
    back, sums, causal = "softmax_backward", "logsumexp_backward", "causal_softmax_backward"
    kept = {"keepdims": True}
    turned = {"axis": 0}
    return {
        "one dy for all rows": Call(back, (row, x), {}, 9.0),
        "one row for all dy": Call(back, (dy, row), {}, 9.0),
        "more dy than rows": Call(back, (stack, x), {}, 9.0),
        "more dy along 0": Call(back, (normal((4, 2, 6), seed=1), x), turned, 9.0),
        "more dy along -2": Call(back, (stack, x), {"axis": -2}, 9.0),
        "a length 1 of the stack": Call(back, (stack, x[None]), {}, 9.0),
        "a number as dy": Call(sums, (np.float32(2), x)),
        "one value as dy": Call(sums, (value[:1], x), turned),
        "more values than rows": Call(sums, (normal((3, 4), seed=1), x)),
        "more values along 0": Call(sums, (normal((3, 6), seed=1), x), turned),
        "kept, of fewer dimensions": Call(sums, (value[:1], x), kept),
        "one kept": Call(sums, (column[:1], x), kept),
        "several axes, a number": Call(sums, (np.float32(2), BOX), {"axis": (0, 1)}),
        "several axes kept": Call(sums, (BOX[:1, :1], BOX), {"axis": (0, 1), **kept}),
        "a larger result": Call("softmax", (row,), {"out": np.zeros((4, 6), "float32")}),
        "a larger result, twice": Call(back, (row, row), {"out": np.zeros((4, 6), "float32")}, 9.0),
        "larger values": Call("logsumexp", (x,), {"out": np.zeros((3, 4), "float32")}),
        "larger values, kept": Call("logsumexp", (x,), kept | {"out": np.zeros((3, 4, 1), "f4")}),
        "larger values of all": Call("logsumexp", (x,), {"axis": None, "out": np.zeros(2, "f4")}),
        "causal, more dy": Call(causal, (stack, x), {}, 9.0),
        "causal, one dy": Call(causal, (row, x), {"offset": 1}, 9.0),
        "causal, one row": Call(causal, (dy, x[:1]), {"offset": 2}, 9.0),
        "causal, larger": Call("causal_softmax", (x,), {"out": np.zeros((2, 4, 6), "float32")}),
        "a mask of rows": Call("softmax", (x,), {"where": column > 0}),
        "a mask of one row": Call("softmax", (stack,), {"where": some}),
        "a mask of all": Call("softmax", (x,), {"where": np.array(True)}),
        "a mask along 0": Call("log_softmax", (x,), {"where": some, **turned}),
        "a mask of several axes": Call("logsumexp", (BOX,), {"where": BOX[:1] > 0, "axis": (0, 2)}),
        "a mask, more dy": Call(back, (stack, x), {"where": some}, 9.0),
        "a mask, a larger result": Call(
            "softmax", (row,), {"where": some, "out": np.zeros((4, 6), "float32")}
        ),
        "an array of one and a number": Call(back, (row[:1], np.float32(2)), turned),
        "other dtypes": Call(back, (row.astype("float16"), x.astype("float64")), {}, 9.0),
        "integers as dy": Call(sums, (np.arange(4, dtype="int16"), x)),
        "views": Call(back, (stack[::-1, ::2, ::-1], x[::2]), {}, 9.0),
        "order of columns": Call(back, (np.asfortranarray(dy), np.asfortranarray(x)), turned, 9.0),
        "nothing": Call(back, (dy[:0], row), {}, 9.0),
        "rows of nothing": Call(sums, (value, x[:, :0])),
    }


def layouts() -> dict[str, Call]:
    """How operands may lie: one op's few kernels for many layouts, the CPU's bits."""
    x, dy = normal((4, 6)), normal((4, 6), seed=1)
    found = {
        "backwards": Call("relu", (x[::-1, ::-1],), {}, 0),
        "every second": Call("relu", (normal((8, 18))[::2, ::3],), {}, 0),
        "columns first": Call("relu", (np.asfortranarray(x),), {}, 0),
        "columns first, both": Call("relu_backward", (np.asfortranarray(dy), x), {}, 0),
        "not at sixteen bytes": Call("relu", (normal(25)[1:],), {}, 0),
        "one number": Call("relu", (np.array(-2.0, "float32"),), {}, 0),
        "a number and an array": Call("relu_backward", (np.array(2.0, "float32"), x), {}, 0),
        "a row and a column": Call("relu_backward", (dy[:1], x[:, :1]), {}, 0),
        "an axis more": Call("relu_backward", (dy, x[None]), {}, 0),
        "no elements": Call("relu", (x[:, :0],), {}, 0),
        "no elements and a row": Call("relu_backward", (dy[:0], x[0]), {}, 0),
        "repeated": Call("relu", (np.broadcast_to(x[0], (4, 6)),), {}, 0),
        "an axis of one": Call("relu", (normal((4, 1, 6))[::-1],), {}, 0),
        "into columns": Call("relu", (x,), {"out": np.zeros((4, 6), "f4", "F")}, 0),
        "a larger result of elements": Call("relu", (x[0],), {"out": np.zeros((4, 6), "f4")}, 0),
        "where a row": Call("relu", (x,), {"where": x[0] > 0, "out": np.ones((4, 6), "f4")}, 0),
        "where larger": Call("relu", (x[0],), {"where": x > 0, "out": np.ones((4, 6), "f4")}, 0),
        "where a number": Call(
            "relu", (x,), {"where": np.array(False), "out": np.ones((4, 6), "f4")}, 0
        ),
        "into less": Call("relu", (x,), {"out": np.zeros((4, 6), "float16")}, 0),
        "into more, where": Call(
            "relu", (x,), {"where": x > 0, "out": np.ones((4, 6), "float64")}, 0
        ),
        "slopes of a row": Call("leaky_relu", (x, uniform(6)), {}, 0),
        "slopes of a column": Call("leaky_relu", (x[0], uniform((4, 1))), {}, 0),
        "gates of a row": Call("reglu", (dy, x[0]), {}, 0),
        "gates, backward": Call("reglu_backward", (dy[:, :1], x[0], x[:, 1:2]), {}, 0),
        "two results of columns": Call("relu_value_and_grad", (np.asfortranarray(x),), {}, 0),
        "slope of a larger dy": Call("prelu_backward", (dy, x[0], uniform(1)), {}, 30.0),
        "slope of a column": Call("prelu_backward", (dy[:, :1], x[0], uniform((4, 1))), {}, 30.0),
        "bias of a larger dy": Call("bias_relu_backward", (dy, x[:1], uniform(6)), {}, 30.0),
        "losses of columns": Call(
            CLASSES, (np.asfortranarray(x), labels(4, 6)), {"reduction": "none"}
        ),
        "losses along 0": Call(CLASSES, (x, labels(6, 4)), {"axis": 0}, 1 / 6),
        "losses of views": Call(
            SIGMOID,
            (normal((8, 6))[::2, ::-1], uniform((4, 12), low=0, high=1)[:, ::2]),
            {},
            1 / 24,
        ),
        "weights of a column": Call(
            SIGMOID, (x, uniform((4, 6), low=0, high=1)), {"weight": uniform((4, 1))}, 1 / 24
        ),
        "weights of the other order": Call(
            SIGMOID, (x, uniform((6, 4), low=0, high=1).T), {"pos_weight": uniform(6)}, 1 / 24
        ),
    }
    for axis in (0, 1, -1, -2, 2):
        cube = normal((3, 4, 5), seed=6)
        for name, laid in (
            ("", cube),
            (" of columns", np.asfortranarray(cube)),
            (" backwards", cube[::-1, ::-1, ::-1]),
        ):
            along = {"axis": axis}
            found[f"rows along {axis}{name}"] = Call("softmax", (laid,), along)
            found[f"values along {axis}{name}"] = Call("logsumexp", (laid,), along)
    return found


CALLS: dict[str, Call] = losses() | partials() | elementwise() | rows() | broadcast() | layouts()


def made(call: Call, place: Callable[[np.ndarray], Any] = lambda array: array) -> tuple[Any, ...]:
    """What a call returns, of arrays placed somewhere; an `out` is its own each time."""

    def placed(name: str, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        return place(value.copy() if name == "out" else value)

    options = {n: placed(n, v) for n, v in call.options.items()}
    found = getattr(fa, call.function)(*map(place, call.arrays), **options)
    return found if isinstance(found, tuple) else (found,)


def compare(call: Call, got: np.ndarray, right: np.ndarray) -> None:
    """Raise an AssertionError where a result is not the CPU's."""
    assert got.dtype == right.dtype and got.shape == right.shape
    if not call.terms:
        ops.assert_same_bits(got, right)
        return
    eps = float(ops.ulp.info(right.dtype).eps)
    g, r = got.astype(np.float64), right.astype(np.float64)
    np.testing.assert_array_equal(np.isnan(g), np.isnan(r))
    near = np.abs(g - r) <= call.ulp * eps * np.maximum(np.abs(r), call.terms)
    assert np.all(np.isnan(r) | (g == r) | near), (g, r)


def expected(call: Call) -> list[np.ndarray]:
    """The CPU's results."""
    with np.errstate(all="ignore"):
        return [np.asarray(r) for r in made(call)]
