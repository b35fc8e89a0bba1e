"""Cross-entropy losses and their gradients: values, layouts, options, errors."""

import itertools
import tracemalloc

import numpy as np
import ops
import oracle
import pytest
import ulp
from mpmath import mp

import fastact as fa

every_dtype = pytest.mark.parametrize("dtype", ops.DTYPES, ids=str)
native_dtype = pytest.mark.parametrize("dtype", ops.NATIVE, ids=str)
REDUCTIONS = ("mean", "sum", "none")


def logits(dtype, shape, spread=4.0, seed=0):
    return np.random.default_rng(seed).normal(0, spread, shape).astype(dtype)


def labels_for(x, axis=-1, seed=1):
    lead = np.delete(x.shape, axis)
    return np.random.default_rng(seed).integers(0, x.shape[axis], lead)


def probabilities_for(x, axis=-1, seed=2):
    """Rows with zeros among them, not exactly of sum one: what is asked for is sum(q log p)."""
    q = np.random.default_rng(seed).uniform(0, 1, x.shape)
    q[q < 0.3] = 0
    return (q / np.maximum(q.sum(axis, keepdims=True), 0.1)).astype(x.dtype)


def one_hot(ids, classes):
    return [[int(k == label) for k in range(classes)] for label in ids]


def units(exact, dtype):
    return ulp.ulp(exact, dtype)


# ------------------------------------------------------------------- against the oracle


@native_dtype
@pytest.mark.parametrize("spread", [0.01, 4.0, 40.0])
@pytest.mark.parametrize("classes", [1, 2, 3, 16, 17, 65, 300])
def test_class_ids_against_the_oracle(classes, spread, dtype):
    x = logits(dtype, (4, classes), spread, classes)
    ids = labels_for(x)
    got, gradient = fa.softmax_cross_entropy_value_and_grad(x, ids, reduction="none")
    ops.assert_same_bits(fa.softmax_cross_entropy(x, ids, reduction="none"), got)
    for row, q, value, slope in zip(x, one_hot(ids, classes), got, gradient, strict=True):
        loss, exact = oracle.cross_entropy(row.tolist(), q)
        assert (
            ulp.ulp_error(value, loss, dtype)
            <= fa.get("softmax_cross_entropy").accuracy[dtype.name]
        )
        # Also where it is p - 1 for a p close to 1: no digits are lost.
        assert ulp.ulp_errors(slope, exact).max() <= 4


@native_dtype
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["class ids", "probabilities"])
@pytest.mark.parametrize("classes", [2, 7, 40])
def test_options_against_the_oracle(classes, kind, weighted, smoothing, dtype):
    """Weights, smoothing and the mean, as PyTorch defines them."""
    x = logits(dtype, (5, classes), 3.0)
    weight = np.random.default_rng(4).integers(0, 9, classes) / 4 if weighted else None
    w = [mp.mpf(v) for v in (weight if weighted else np.ones(classes)).tolist()]
    share = mp.mpf(smoothing) / classes
    if kind == "class ids":
        y = labels_for(x)
        y[2] = -7
        q = one_hot(y, classes)
        divisor = mp.fsum(w[k] for k in y if k >= 0)
        more = {"ignore_index": -7}
    else:
        y = probabilities_for(x)
        q, divisor, more = [[mp.mpf(v) for v in row] for row in y.tolist()], mp.mpf(len(x)), {}
    targets = [
        [w[k] * ((1 - mp.mpf(smoothing)) * p + share) for k, p in enumerate(row)] for row in q
    ]
    pairs = [oracle.cross_entropy(row.tolist(), t) for row, t in zip(x, targets, strict=True)]
    sizes = [oracle.softmax(row.tolist()) for row in x]
    if kind == "class ids":
        pairs[2] = (mp.mpf(0), [mp.mpf(0)] * classes)
    for reduction, factor in (("mean", 1 / divisor), ("sum", 1), ("none", 1)):
        options = {"weight": weight, "label_smoothing": smoothing, "reduction": reduction, **more}
        value, gradient = fa.softmax_cross_entropy_value_and_grad(x, y, **options)
        ops.assert_same_bits(fa.softmax_cross_entropy(x, y, **options), value)
        losses = [loss * factor for loss, _ in pairs]
        expected = losses if reduction == "none" else [mp.fsum(losses)]
        assert ulp.ulp_errors(np.atleast_1d(value), expected).max() <= 4
        for i, (_, slopes) in enumerate(pairs):
            total = mp.fsum(targets[i])
            for k, slope in enumerate(slopes):
                # The difference may cancel: measured where its terms are.
                size = max(total * sizes[i][k], targets[i][k]) * factor
                error = abs(mp.mpf(float(gradient[i, k])) - slope * factor)
                assert error <= 5 * units(size, dtype), (reduction, i, k)


@native_dtype
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_are_those_of_the_oracle(weighted, dtype):
    """By central differences of the oracle's loss in 400 bits."""
    x = logits(dtype, (1, 5), 2.0)
    q = probabilities_for(x)
    step = mp.ldexp(1, -120)
    _, gradient = fa.softmax_cross_entropy_value_and_grad(x, q, reduction="sum")
    t = np.array([[0.0, 0.25, 1.0, 0.75, 0.5]], dtype)
    pos = np.array([2.0, 0.5, 1.0, 3.0, 0.25], dtype) if weighted else None
    _, binary = fa.sigmoid_cross_entropy_value_and_grad(x, t, pos_weight=pos, reduction="sum")
    with mp.workprec(400):
        row = [mp.mpf(v) for v in x[0].tolist()]
        for k in range(5):
            above, below = row.copy(), row.copy()
            above[k], below[k] = row[k] + step, row[k] - step
            ends = [oracle.cross_entropy(r, q[0].tolist())[0] for r in (above, below)]
            slope = (ends[0] - ends[1]) / (2 * step)
            assert abs(mp.mpf(float(gradient[0, k])) - slope) <= 4 * units(mp.mpf(1) / 2, dtype)
            p = 1 if pos is None else mp.mpf(float(pos[k]))
            ends = [
                oracle.binary_cross_entropy(r[k], mp.mpf(float(t[0, k])), p) for r in (above, below)
            ]
            slope = (ends[0] - ends[1]) / (2 * step)
            assert abs(mp.mpf(float(binary[0, k])) - slope) <= 4 * units(max(p, 1) / 2, dtype)


@native_dtype
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_sigmoid_is_exact_in_both_tails(target, dtype):
    x = ulp.samples(dtype.type, 400)
    far = {4: 80.0, 8: 700.0}[dtype.itemsize]
    x = x[np.abs(x) < far]
    t = np.full_like(x, target)
    value, gradient = fa.sigmoid_cross_entropy_value_and_grad(x, t, reduction="none")
    ops.assert_same_bits(fa.sigmoid_cross_entropy(x, t, reduction="none"), value)
    losses = [oracle.binary_cross_entropy(mp.mpf(v), mp.mpf(target), 1) for v in x.tolist()]
    sign = -1 if target else 1
    slopes = [sign * oracle.evaluate(oracle.sigma, sign * v) for v in x.tolist()]
    bound = fa.get("sigmoid_cross_entropy").accuracy[dtype.name]
    assert ulp.ulp_errors(value, losses).max() <= bound
    assert ulp.ulp_errors(gradient, slopes).max() <= 3


@native_dtype
def test_sigmoid_means_and_weights(dtype):
    x, t = logits(dtype, (30, 70)), np.random.default_rng(1).uniform(0, 1, (30, 70)).astype(dtype)
    weight = np.random.default_rng(2).integers(0, 9, (30, 1)).astype(dtype)
    pos = np.random.default_rng(3).integers(1, 9, 70).astype(dtype)
    each = [
        mp.mpf(float(weight[i, 0]))
        * oracle.binary_cross_entropy(
            mp.mpf(float(x[i, k])), mp.mpf(float(t[i, k])), mp.mpf(float(pos[k]))
        )
        for i in range(30)
        for k in range(70)
    ]
    total = mp.fsum(each)
    for reduction, expected in (("sum", total), ("mean", total / x.size)):
        got = fa.sigmoid_cross_entropy(x, t, weight, pos, reduction)
        assert ulp.ulp_error(got, expected, dtype) <= 2
    got = fa.sigmoid_cross_entropy(x, t, weight, pos, "none").ravel()
    assert ulp.ulp_errors(got, each).max() <= 5


# ------------------------------------------------------------------------ special values


@every_dtype
def test_infinite_logits(dtype):
    inf = np.inf
    x = np.array([[0, -inf, 1], [inf, 0, 1], [-inf, -inf, -inf], [inf, inf, 0], [0, np.nan, 1]])
    x = x.astype(dtype)
    with np.errstate(all="raise", under="ignore"):
        value, gradient = fa.softmax_cross_entropy_value_and_grad(
            x, [0, 0, 0, 0, 0], reduction="none"
        )
        away, _ = fa.softmax_cross_entropy_value_and_grad(x, [1, 1, 1, 2, 0], reduction="none")
    assert np.isfinite(value[0]) and np.isfinite(gradient[0].astype(float)).all()
    assert value[1] == 0 and (gradient[1] == 0).all()
    assert away[0] == inf and away[1] == inf
    assert np.isnan(value[2:].astype(float)).all() and np.isnan(gradient[2:].astype(float)).all()


@native_dtype
def test_targets_of_zero_ignore_what_is_infinite(dtype):
    x = np.array([[0.0, -np.inf, 1.0]], dtype)
    value, gradient = fa.softmax_cross_entropy_value_and_grad(x, np.array([[0.5, 0, 0.5]], dtype))
    assert np.isfinite(value) and gradient[0, 1] == 0
    ends = np.array([-np.inf, np.inf, np.inf, -np.inf, np.nan], dtype)
    t = np.array([0, 1, 0, 1, 0], dtype)
    with np.errstate(all="raise", under="ignore"):
        value, gradient = fa.sigmoid_cross_entropy_value_and_grad(ends, t, reduction="none")
    assert value[:2].tolist() == [0, 0] and value[2:4].tolist() == [np.inf, np.inf]
    assert gradient[:4].tolist() == [0, 0, 1, -1] and np.isnan(value[4]) and np.isnan(gradient[4])


@every_dtype
def test_nothing_counts(dtype):
    """All rows ignored, or none there: the mean is nan, the sum 0, the gradient 0."""
    x = logits(dtype, (3, 4))
    for reduction, expected in (("mean", np.nan), ("sum", 0.0), ("none", 0.0)):
        for y in ([9, 9, 9], [-1, -1, -1]):
            value, gradient = fa.softmax_cross_entropy_value_and_grad(
                x, y, ignore_index=y[0], reduction=reduction, label_smoothing=0.1
            )
            np.testing.assert_array_equal(np.asarray(value, float), expected)
            assert (gradient == 0).all() and value.dtype == gradient.dtype == dtype
    none = np.empty((0, 4), dtype)
    for function, y in (
        (fa.softmax_cross_entropy_value_and_grad, np.empty(0, int)),
        (fa.softmax_cross_entropy_value_and_grad, none),
        (fa.sigmoid_cross_entropy_value_and_grad, none),
    ):
        value, gradient = function(none, y)
        assert np.isnan(float(value)) and gradient.shape == (0, 4)
        assert function(none, y, reduction="sum")[0] == 0


def test_what_is_ignored_is_not_read():
    """A nan in a row that is ignored does not show; in one that counts it does."""
    x = logits(np.float32, (2, 5))
    x[0, 2] = np.nan
    value, gradient = fa.softmax_cross_entropy_value_and_grad(x, [3, 1], ignore_index=3)
    assert np.isfinite(value) and (gradient[0] == 0).all()
    assert np.isnan(fa.softmax_cross_entropy(x, [3, 1]))


# -------------------------------------------------------------------- layouts and dtypes


def softmax_calls(x, axis):
    """Every form of the loss: class ids and probabilities, with and without smoothing."""
    weight = np.arange(1, x.shape[axis] + 1) / 4
    for y, smoothing in itertools.product(
        (labels_for(x, axis), probabilities_for(x, axis)), (0.0, 0.25)
    ):
        yield y, {"weight": weight, "label_smoothing": smoothing, "reduction": "none"}


def laid_out(x):
    yield "Fortran order", np.asfortranarray(x)
    yield "gaps", np.repeat(x, 2, axis=-1)[..., ::2]
    yield "reversed", x[::-1].copy()[::-1]
    yield "byte order", x.astype(x.dtype.newbyteorder())


@every_dtype
@pytest.mark.parametrize("shape", [(6, 5), (40, 70), (3, 4, 5), (2, 3, 4, 20), (130, 3)], ids=str)
def test_any_axis_and_layout(shape, dtype):
    """Each axis of each layout gives what the last axis of a contiguous copy gives."""
    x = logits(dtype, shape)
    for axis in range(-x.ndim, x.ndim):
        for y, options in softmax_calls(x, axis):
            whole = np.ascontiguousarray(np.moveaxis(x, axis, -1))
            probable = y.dtype.kind not in "iu"
            q = np.ascontiguousarray(np.moveaxis(y, axis, -1)) if probable else y
            value, gradient = fa.softmax_cross_entropy_value_and_grad(whole, q, **options)
            expected = (value, np.moveaxis(gradient, -1, axis))
            for note, other in (("as it is", x), *laid_out(x)):
                got = fa.softmax_cross_entropy_value_and_grad(other, y, axis=axis, **options)
                ops.assert_same_bits(got, expected, f"axis {axis}, {note}")


@every_dtype
@pytest.mark.parametrize("shape", [(7,), (5000,), (6, 5), (40, 70), (3, 4, 5)], ids=str)
def test_sigmoid_layouts(shape, dtype):
    x, t = logits(dtype, shape), logits(dtype, shape, 1.0, 1) > 0
    weight = np.arange(1, shape[-1] + 1) / 4
    for reduction, w in itertools.product(REDUCTIONS, (None, weight)):
        expected = fa.sigmoid_cross_entropy_value_and_grad(x, t, w, w, reduction)
        for note, other in laid_out(x):
            got = fa.sigmoid_cross_entropy_value_and_grad(other, t, w, w, reduction)
            ops.assert_same_bits(got, expected, note)
            out = np.zeros_like(other)
            value, same = fa.sigmoid_cross_entropy_value_and_grad(other, t, w, w, reduction, out)
            assert same is out
            ops.assert_same_bits(value, expected[0], note)
            assert (out == expected[1]).all()


@pytest.mark.parametrize("dtype", ops.HALVES, ids=str)
@pytest.mark.parametrize("classes", [1, 3, 16, 17, 100, 3000])
def test_half_is_the_rounded_single(classes, dtype):
    x = logits(dtype, (5, classes))
    for y in (labels_for(x), probabilities_for(x)):
        wide = x.astype(np.float32), y if y.dtype.kind == "i" else y.astype(np.float32)
        single = fa.softmax_cross_entropy_value_and_grad(*wide, reduction="none")
        half = fa.softmax_cross_entropy_value_and_grad(x, y, reduction="none")
        ops.assert_same_bits(half[1], single[1].astype(dtype))
        assert half[0].dtype == dtype
        np.testing.assert_allclose(
            half[0].astype(float), single[0], rtol=float(ulp.info(dtype).eps)
        )
    t = logits(dtype, x.shape, 1.0, 1) > 0
    single = fa.sigmoid_cross_entropy_value_and_grad(x.astype(np.float32), t, reduction="none")
    half = fa.sigmoid_cross_entropy_value_and_grad(x, t, reduction="none")
    ops.assert_same_bits(half, tuple(a.astype(dtype) for a in single))


@pytest.mark.parametrize("kind", "bhilqBHILQ")
def test_labels_of_any_integer_dtype(kind):
    x = logits(np.float64, (20, 11))
    ids = labels_for(x)
    expected = fa.softmax_cross_entropy(x, ids)
    ops.assert_same_bits(fa.softmax_cross_entropy(x, ids.astype(kind)), expected)
    swapped = ids.astype(np.dtype(kind).newbyteorder())
    ops.assert_same_bits(fa.softmax_cross_entropy(x, swapped), expected)
    ops.assert_same_bits(fa.softmax_cross_entropy(x, ids.astype(kind), ignore_index=-100), expected)


@every_dtype
def test_long_rows(dtype):
    """Rows that are cut into blocks: as exact as a short one, with any number of threads."""
    x = logits(dtype, (2, 300_001), 1.0)
    x[1, 299_999] = 30
    ids = np.array([131_072, 299_999])
    q = probabilities_for(x)
    calls = [(ids, {}), (ids, {"label_smoothing": 0.1}), (q, {})]
    threads = fa.get_num_threads()
    wide = x.astype(np.longdouble)
    top = wide.max(1, keepdims=True)
    others = np.exp(wide - top)
    others[[0, 1], wide.argmax(1)] = 0
    others = others.sum(1, keepdims=True)
    eps, least = float(ulp.info(dtype).eps), float(ulp.info(dtype).smallest_subnormal)
    try:
        for y, options in calls:
            with fa.use_target("serial"):
                expected = fa.softmax_cross_entropy_value_and_grad(
                    x, y, reduction="none", **options
                )
            for n in (2, 3):
                fa.set_num_threads(n)
                with fa.use_target("parallel"):
                    got = fa.softmax_cross_entropy_value_and_grad(x, y, reduction="none", **options)
                ops.assert_same_bits(got, expected, f"{n} threads")
        value, gradient = fa.softmax_cross_entropy_value_and_grad(x, ids, reduction="none")
        exact = (top[:, 0] - wide[[0, 1], ids]) + np.log1p(others[:, 0])
        np.testing.assert_allclose(value.astype(np.longdouble), exact, rtol=2 * eps, atol=least)
        p = np.exp(wide - top) / (1 + others)
        p[0, ids[0]] -= 1
        p[1, ids[1]] = -others[1, 0] / (1 + others[1, 0])  # the largest entry of its row
        room = 4 * eps * np.abs(p) + least
        assert (np.abs(gradient.astype(np.longdouble) - p) <= room).all()
    finally:
        fa.set_num_threads(threads)


@every_dtype
@pytest.mark.parametrize(
    ("shape", "axis"), [((300, 400), 1), ((400, 300), 0), ((9000, 3), 1), ((30, 7, 90), 1)], ids=str
)
def test_threads_do_not_show(shape, axis, dtype):
    x = logits(dtype, shape)
    t = logits(dtype, shape, 1.0, 1) > 0
    calls = [(fa.softmax_cross_entropy_value_and_grad, y, {**options, "axis": axis})
             for y, options in softmax_calls(x, axis)]  # fmt: skip
    calls += [(fa.sigmoid_cross_entropy_value_and_grad, t, {"reduction": r}) for r in REDUCTIONS]
    threads = fa.get_num_threads()
    try:
        for function, y, options in calls:
            with fa.use_target("serial"):
                expected = function(x, y, **options)
            for n in (2, 5):
                fa.set_num_threads(n)
                with fa.use_target("parallel"):
                    ops.assert_same_bits(function(x, y, **options), expected, f"{n} threads")
    finally:
        fa.set_num_threads(threads)


# ---------------------------------------------------------------------------------- out


@every_dtype
@pytest.mark.parametrize("shape", [(6, 5), (3, 100), (2, 5000), (2, 140_000)], ids=str)
def test_out(shape, dtype):
    """Into memory of its own, the logits themselves, the labels, and what overlaps them."""
    x = logits(dtype, shape)
    for y in (labels_for(x), probabilities_for(x)):
        expected = fa.softmax_cross_entropy_value_and_grad(x, y)
        own, itself, area = np.zeros_like(x), x.copy(), np.zeros((shape[0] + 1, shape[1]), dtype)
        area[1:] = x
        outs = [(x, own), (itself, itself), (area[1:], area[:-1])]
        for source, out in outs:
            value, gradient = fa.softmax_cross_entropy_value_and_grad(source, y, out=out)
            assert gradient is out
            ops.assert_same_bits((value, gradient), expected)
    value, gradient = fa.softmax_cross_entropy_value_and_grad(x, y, out=y)
    assert gradient is y
    ops.assert_same_bits((value, y), expected)
    t = (logits(dtype, shape, 1.0, 1) > 0).astype(dtype)
    expected = fa.sigmoid_cross_entropy_value_and_grad(x, t)
    for source, target, out in ((x.copy(), t, None), (x, t.copy(), None)):
        out = source if target is t else target
        value, gradient = fa.sigmoid_cross_entropy_value_and_grad(source, target, out=out)
        assert gradient is out
        ops.assert_same_bits((value, gradient), expected)


@every_dtype
@pytest.mark.parametrize("copied", [0, 1 << 17], ids=["in place", "copied"])
@pytest.mark.parametrize("shape", [(6, 5), (3, 70), (2, 3, 40), (2, 9000)], ids=str)
def test_options_in_place(shape, copied, dtype, monkeypatch):
    """What is one value for all rows reaches each of them where the logits are overwritten."""
    monkeypatch.setattr("fastact.runtime.direct.COPIED", copied)
    x = logits(dtype, shape)
    ids = labels_for(x)
    ids.flat[1] = -3
    weight = np.arange(1, shape[-1] + 1) / 4
    calls = [
        (y, {"weight": w, "label_smoothing": smoothing, "reduction": reduction, **more})
        for y, more in ((ids, {"ignore_index": -3}), (probabilities_for(x), {}))
        for w in (None, weight)
        for smoothing in (0.0, 0.25)
        for reduction in REDUCTIONS
    ]
    for y, options in calls:
        expected = fa.softmax_cross_entropy_value_and_grad(x, y, **options)
        itself, backwards = x.copy(), x[::-1].copy()[::-1]
        for out in (itself, backwards):
            value, gradient = fa.softmax_cross_entropy_value_and_grad(out, y, out=out, **options)
            assert gradient is out
            ops.assert_same_bits((value, gradient.copy()), expected)
    t = (logits(dtype, shape, 1.0, 1) > 0).astype(dtype)
    for own, reduction in itertools.product(((), (0.5, weight)), REDUCTIONS):
        expected = fa.sigmoid_cross_entropy_value_and_grad(x, t, *own, reduction=reduction)
        itself = x.copy()
        got = fa.sigmoid_cross_entropy_value_and_grad(
            itself, t, *own, reduction=reduction, out=itself
        )
        assert got[1] is itself
        ops.assert_same_bits(got, expected)


def test_labels_that_the_gradient_overwrites():
    """Class ids in the memory that the gradient goes to are read before they are gone."""
    x = logits(np.float64, (4, 3))
    ids = labels_for(x)
    expected = fa.softmax_cross_entropy_value_and_grad(x, ids)
    area = np.zeros((4, 3))
    shared = area.view(np.int64).ravel()[5:9]
    shared[:] = ids
    got = fa.softmax_cross_entropy_value_and_grad(x, shared, out=area)
    assert got[1] is area
    ops.assert_same_bits(got, expected)


@pytest.mark.parametrize("ignored", [None, 7], ids=["all count", "some ignored"])
@pytest.mark.parametrize("kind", "bhilqBHILQ")
def test_a_wrong_label_of_any_integer_dtype(kind, ignored):
    """Negative ones too, whatever number their bits are when read without a sign."""
    x = logits(np.float32, (4, 200))
    ends = np.iinfo(kind)
    for wrong in {-1, -100, -56, 200, ends.min, ends.max} - {0}:
        if not (ends.min <= wrong <= ends.max) or 0 <= wrong < 200:
            continue
        ids = np.array([7, 0, wrong, 7], kind)
        with pytest.raises(ValueError, match=rf"label {wrong} at \(2,\) is out of range"):
            fa.softmax_cross_entropy(x, ids, ignore_index=ignored)
        value = fa.softmax_cross_entropy(x, ids, ignore_index=wrong)
        ops.assert_same_bits(value, fa.softmax_cross_entropy(x[[0, 1, 3]], [7, 0, 7]))


@pytest.mark.parametrize("dtype", [d for d in ops.DTYPES if d.itemsize < 8], ids=str)
def test_a_loss_too_large_for_its_dtype_is_infinite(dtype):
    """Without a warning: losses are added in float64, where these are far from too large."""
    x = np.array([[60000.0, 0.0]] * 4).astype(dtype)
    if dtype == np.float32:
        x[:, 0] = np.finfo(dtype).max
    with np.errstate(all="raise"):
        value = fa.softmax_cross_entropy(x, [1] * 4, reduction="sum")
        each = fa.softmax_cross_entropy(x, [1] * 4, reduction="none")
        negative = fa.sigmoid_cross_entropy(-x[:, :1], np.ones((4, 1), dtype), reduction="sum")
    assert value.dtype == negative.dtype == dtype
    if dtype.name == "bfloat16":
        assert float(value) == float(negative) == pytest.approx(240_000, rel=0.01)
    else:
        assert value == negative == np.inf
    ops.assert_same_bits(each, x[:, 0])


def test_nothing_is_stored_beside_the_gradient():
    """In place, what is allocated is less than a hundredth of the logits."""
    x = logits(np.float32, (512, 8000))
    ids = labels_for(x)
    fa.softmax_cross_entropy_value_and_grad(x, ids)  # compiles
    tracemalloc.start()
    try:
        fa.softmax_cross_entropy_value_and_grad(x, ids, out=x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= x.nbytes / 100


def test_inputs_are_not_written():
    x, t = logits(np.float32, (9, 30)), logits(np.float32, (9, 30), 1.0, 1)
    for arrays in ((x, labels_for(x)), (x, probabilities_for(x))):
        copies = [a.copy() for a in arrays]
        fa.softmax_cross_entropy_value_and_grad(*arrays)
        assert all(map(np.array_equal, arrays, copies))
    copies = [x.copy(), t.copy()]
    fa.sigmoid_cross_entropy_value_and_grad(x, t)
    ops.assert_same_bits((x, t), tuple(copies))


# ------------------------------------------------------------------------------- errors

X = np.zeros((3, 4), np.float32)
GOOD = np.array([0, 1, 2])
WRONG = [
    (ValueError, "label 4 at \\(1,\\) is out of range: there are 4", {"labels": [0, 4, 1]}),
    (ValueError, "label -1 at \\(2,\\)", {"labels": [0, 3, -1]}),
    (ValueError, "label 5 at \\(0,\\)", {"labels": [5, -9, 1], "ignore_index": -9}),
    (ValueError, "labels of shape \\(2,\\) .* \\(3,\\)", {"labels": [0, 1]}),
    (ValueError, "labels of shape \\(3, 4\\)", {"labels": np.zeros((3, 4), int)}),
    (ValueError, "labels of shape \\(3,\\) .* \\(3, 4\\)", {"labels": np.ones(3)}),
    (TypeError, "labels have dtype bool", {"labels": GOOD > 0}),
    (TypeError, "labels have dtype complex", {"labels": GOOD * 1j}),
    (ValueError, "reduction must be one of 'mean', 'sum', 'none', got 'avg'", {"reduction": "avg"}),
    (ValueError, "reduction must be one of", {"reduction": None}),
    (ValueError, "axis 2 is out of bounds .*\\(3, 4\\)", {"axis": 2}),
    (TypeError, "axis must be an integer, got 1.0", {"axis": 1.0}),
    (TypeError, "ignore_index must be an integer, got 1.5", {"ignore_index": 1.5}),
    (ValueError, "ignore_index needs class ids", {"labels": X, "ignore_index": 0}),
    (ValueError, "weight has shape \\(3,\\); .* \\(4,\\)", {"weight": np.ones(3)}),
    (ValueError, "weight must be finite and not negative", {"weight": [1, 1, -1, 1]}),
    (ValueError, "weight must be finite", {"weight": [1, 1, np.inf, 1]}),
    (TypeError, "weight has dtype", {"weight": ["a", "b", "c", "d"]}),
    (ValueError, "label_smoothing must lie between 0 and 1, got 1.5", {"label_smoothing": 1.5}),
    (ValueError, "label_smoothing", {"label_smoothing": float("nan")}),
    (TypeError, "label_smoothing must be a real number", {"label_smoothing": "no"}),
    (TypeError, "logits has dtype complex", {"logits": X * 1j}),
    (ValueError, "no classes", {"logits": np.zeros((3, 0)), "labels": GOOD}),
    (ValueError, "axis -1 is out of bounds", {"logits": np.float32(3), "labels": 0}),
]
WRONG_SIGMOID = [
    (ValueError, "targets of shape \\(3,\\) .* \\(3, 4\\)", {"targets": GOOD}),
    (TypeError, "targets has dtype complex", {"targets": X * 1j}),
    (TypeError, "logits has dtype", {"logits": X * 1j}),
    (ValueError, "reduction must be one of", {"reduction": "avg"}),
    (ValueError, "weight must be finite and not negative", {"weight": -1.0}),
    (ValueError, "pos_weight must be finite and not negative", {"pos_weight": np.nan}),
    (ValueError, "pos_weight of shape \\(3,\\) does not broadcast", {"pos_weight": np.ones(3)}),
]
WRONG_OUT = [
    (ValueError, "out has shape \\(4, 3\\)", np.zeros((4, 3), np.float32)),
    (TypeError, "out has dtype float64", np.zeros((3, 4))),
    (TypeError, "out must be an array", [[0.0] * 4] * 3),
]


def refused(function, error, words, arguments):
    out = np.full((3, 4), 7, np.float32)
    with pytest.raises(error, match=f"{function.__name__}: .*{words}"):
        function(**arguments, out=out)
    assert (out == 7).all()


@pytest.mark.parametrize(("error", "words", "change"), WRONG, ids=lambda v: str(v)[:30])
def test_wrong_arguments(error, words, change):
    arguments = {"logits": X, "labels": GOOD, **change}
    refused(fa.softmax_cross_entropy_value_and_grad, error, words, arguments)
    with pytest.raises(error, match=words):
        fa.softmax_cross_entropy(**arguments)


@pytest.mark.parametrize(("error", "words", "change"), WRONG_SIGMOID, ids=lambda v: str(v)[:30])
def test_wrong_arguments_of_sigmoid(error, words, change):
    arguments = {"logits": X, "targets": X, **change}
    refused(fa.sigmoid_cross_entropy_value_and_grad, error, words, arguments)
    with pytest.raises(error, match=words):
        fa.sigmoid_cross_entropy(**arguments)


@pytest.mark.parametrize(("error", "words", "out"), WRONG_OUT, ids=["shape", "dtype", "type"])
def test_wrong_out(error, words, out):
    for function, y in (
        (fa.softmax_cross_entropy_value_and_grad, GOOD),
        (fa.sigmoid_cross_entropy_value_and_grad, X),
    ):
        with pytest.raises(error, match=words):
            function(X, y, out=out)
        locked = np.full((3, 4), 7, np.float32)
        locked.setflags(write=False)
        with pytest.raises(ValueError, match="out is read-only"):
            function(X, y, out=locked)


# -------------------------------------------------------------------------- other views


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(7, 5), (3, 6, 4, 5), (3, 3000)], ids=str)
def test_against_torch(shape, weighted, smoothing, reduction):
    torch = pytest.importorskip("torch")
    x = logits(np.float64, shape)
    weight = np.random.default_rng(3).uniform(0.1, 2, shape[1]) if weighted else None
    for y, ignored in (
        (labels_for(x, 1), None),
        (labels_for(x, 1), 1),
        (probabilities_for(x, 1), None),
    ):
        tensor = torch.tensor(x, requires_grad=True)
        loss = torch.nn.functional.cross_entropy(
            tensor,
            torch.tensor(y),
            weight=torch.tensor(weight) if weighted else None,
            ignore_index=-100 if ignored is None else ignored,
            label_smoothing=smoothing,
            reduction=reduction,
        )
        loss.sum().backward()
        value, gradient = fa.softmax_cross_entropy_value_and_grad(
            x, y, 1, weight, ignored, smoothing, reduction
        )
        np.testing.assert_allclose(value, loss.detach().numpy(), rtol=1e-12)
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_sigmoid_against_torch(weighted, reduction):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, t, weight = rng.normal(0, 5, (9, 80)), rng.uniform(0, 1, (9, 80)), rng.uniform(0, 2, (9, 1))
    pos = rng.uniform(0, 2, 80)
    tensor = torch.tensor(x, requires_grad=True)
    more = {"weight": torch.tensor(weight), "pos_weight": torch.tensor(pos)} if weighted else {}
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        tensor, torch.tensor(t), reduction=reduction, **more
    )
    loss.sum().backward()
    own = (weight, pos) if weighted else ()
    value, gradient = fa.sigmoid_cross_entropy_value_and_grad(x, t, *own, reduction=reduction)
    np.testing.assert_allclose(value, loss.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-10, atol=1e-15)


def test_op_objects():
    x = logits(np.float64, (4, 6))
    for name, y in (("softmax_cross_entropy", labels_for(x)), ("sigmoid_cross_entropy", x > 0)):
        op = fa.get(name)
        ops.assert_same_bits(op(x, y), getattr(fa, name)(x, y))
        ops.assert_same_bits(op.value_and_grad(x, y), getattr(fa, f"{name}_value_and_grad")(x, y))
        assert name in fa.names() and name in repr(op)
