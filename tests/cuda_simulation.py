"""Kernels in the simulator of numba-cuda, thread by thread, on small inputs.

Run in a process of its own with NUMBA_ENABLE_CUDASIM=1. What a call would launch on a GPU is
planned by the same code, and its results are compared with the oracle, and with the CPU's.
"""

from __future__ import annotations

import math

import numpy as np
import ops
import oracle
import ulp

from fastact.activations.directions import DIRECTIONS
from fastact.cuda.simulated import Address, launch
from fastact.gpu import plan
from fastact.registry import RECORDS, ROW_OPS

BLOCK = (8, 1, 1)  # any block computes everything; a small one is quickly simulated
SIZE = 21
ROWS = {op.name: op for op in ROW_OPS}


def memory_of(array):
    """A view's first element as an address in the memory that it is a view of."""
    base = array
    while base.base is not None:
        base = base.base
    flat = base.ravel(order="K")
    offset = array.__array_interface__["data"][0] - flat.__array_interface__["data"][0]
    return Address(flat, offset // array.itemsize)


def view_of(array, address):
    strides = tuple(s // array.itemsize for s in array.strides)
    return plan.View(
        array.dtype.name, array.shape, strides, not address.offset * array.itemsize % 16
    )


def run(plans, addresses, values, computing, block=None):
    """Simulate the launches of a call."""
    workspace = Address(np.full(plans.workspace // computing.itemsize, np.nan, computing))
    for step in plans.launches:
        arguments = plan.filled(step, addresses, values, workspace)
        launch(step.kernel, arguments, step.grid, block or step.kernel.block)


# Ways to lay out an operand of SIZE elements; each has its elements in the same order.
def contiguous(x):
    return x.copy()


def shifted(x):
    """Contiguous, but not aligned to 16 bytes."""
    return np.concatenate([x[:1], x])[1:]


def reversed_steps(x):
    return np.repeat(x[::-1], 2)[::-2]


def transposed(x):
    return np.asfortranarray(np.stack([x, x]))[0]


LAYOUTS = (contiguous, shifted, reversed_steps, transposed)


def elementwise(op, direction, dtype, layout, arrays, case):
    """One call against the CPU's result, bit by bit."""
    record, form = RECORDS[op], DIRECTIONS[direction]
    dtype = np.dtype(dtype) if dtype != "bfloat16" else ops.BFLOAT16[0]
    computing = np.dtype(np.float64 if dtype == np.float64 else np.float32)
    x = ops.mixed(dtype, SIZE, seed=3)
    given = [layout(a) for a in ops.operands(direction, x)]
    outputs = [layout(np.zeros(SIZE, dtype)) for _ in form.outputs]
    with np.errstate(all="ignore"):
        expected = ops.results(ops.function(op, direction)(*given, *case.parameters))
    values = [computing.type(p) for p in case.parameters]
    operands = [*given]
    if arrays:
        operands += [np.array([v, v], computing)[:1] for v in values]  # broadcast
    operands += outputs
    addresses = [memory_of(a) for a in operands]
    views = [view_of(a, address) for a, address in zip(operands, addresses, strict=True)]
    run(plan.elementwise(record, form, views, x.shape, arrays), addresses, values, computing, BLOCK)
    for got, right in zip(outputs, expected, strict=True):
        ops.assert_same_bits(got, right, f"{case} {direction} {dtype} {layout.__name__}")
    return x, outputs[0]


def check_elementwise(op):
    """Every direction and dtype of an op; layouts take turns."""
    for n, (case, direction) in enumerate(
        ops.directed([c for c in ops.default_cases() if c.op == op])
    ):
        for k, dtype in enumerate(("float32", "float64", "float16", "bfloat16")):
            if dtype == "bfloat16" and not ops.BFLOAT16:
                continue
            layout = LAYOUTS[(n + k) % len(LAYOUTS)]
            arrays = bool(case.parameters) and (n + k) % 3 == 0
            x, y = elementwise(op, direction, dtype, layout, arrays, case)
            if direction in ("forward", "grad") and dtype in ("float32", "float64"):
                bound = getattr(case.record.accuracy[dtype], direction)
                check_against_oracle(case, direction, x, y, bound)


def check_against_oracle(case, direction, x, y, bound):
    finite = np.isfinite(x)
    for v, got in zip(x[finite], y[finite], strict=True):
        (exact,) = ops.exact(case, x.dtype, direction, np.array([v]))
        near = ulp.ulp_error(got, exact, x.dtype) <= bound
        ends = ops.exact(case, x.dtype, direction, ulp.neighbours(v, (-2, 2), x.dtype))
        assert near or ulp.ulp_interval_error(got, tuple(ends), x.dtype) <= bound, (case, v, got)


# Rows


def tolerance(op, dtype):
    """Units in the last place between the CPU's sums and the GPU's, both within the record's."""
    return op.accuracy.get(dtype.name, 4.0)


def rows_case(name, dtype, shape, axis=-1, kernels=None, **options):
    """One call against the CPU's result."""
    import fastact as fa
    from fastact.cuda import row_kinds

    op, dtype = ROWS[name], np.dtype(dtype)
    rng = np.random.default_rng(len(name))
    per_row = tuple(n for k, n in enumerate(shape) if k != axis % len(shape))
    arrays = {}
    for n in op.inputs:
        arrays[n] = rng.normal(0, 3, per_row if n in op.per_row else shape).astype(dtype)
    if "y" in arrays:  # an output of the op
        forward = getattr(fa, name.removesuffix("_backward_from_output"))
        arrays["y"] = forward(arrays["y"], axis=axis)
    key = arrays[op.inputs[-1]]
    expected = getattr(fa, name)(*arrays.values(), axis=axis, **options)
    masked = options.get("where", True) is not True
    scaled = options.get("temperature", 1.0) != 1.0
    if masked:
        arrays["mask"] = np.broadcast_to(options["where"], shape)
    out = np.full_like(expected, 7)
    arrays[op.results()[0].name] = out
    computing = np.dtype(np.float64 if dtype == np.float64 else np.float32)
    placed = {n: memory_of(a) for n, a in arrays.items()}
    views = {n: view_of(a, placed[n]) for n, a in arrays.items()}
    last = axis % len(shape)

    def row_last(view):
        """A view with the axis of the rows last."""
        if view.shape != shape:
            return view
        order = [k for k in range(len(shape)) if k != last] + [last]
        return view._replace(
            shape=tuple(view.shape[k] for k in order), strides=tuple(view.strides[k] for k in order)
        )

    moved = {n: row_last(v) for n, v in views.items()}
    factor = 1 / options.get("temperature", 1.0)
    scale = computing.type(factor)
    empty = math.nan if options.get("empty", op.policy or "nan") == "nan" else op.empty
    values = [computing.type(v) for v in (empty, scale, factor - float(scale))]
    chosen = row_kinds.chosen
    try:
        if kernels is not None:
            row_kinds.chosen = lambda *_: kernels
        plans = plan.rowwise(op, moved, masked=masked, scaled=scaled)
    finally:
        row_kinds.chosen = chosen
    run(plans, list(placed.values()), values, computing)
    compare_rows(op, key, out, expected)


def compare_rows(op, key, out, expected):
    info = ulp.info(expected.dtype)
    got, right = out.astype(np.float64), expected.astype(np.float64)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(right))
    with np.errstate(all="ignore"):
        # A difference cancels: its error is one of the terms, here a sum of up to 300 normal dy.
        scale = np.abs(right) if op.accuracy else np.maximum(np.abs(right), 16)
        bound = tolerance(op, expected.dtype) * float(info.eps) * scale
        same = (got == right) | (np.abs(got - right) <= bound + float(info.smallest_subnormal))
    assert np.all(same | np.isnan(right)), (op.name, got, right)


def check_softmax_against_oracle():
    """The exact values themselves, in float32, by the kernel for short rows."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 8, (3, 12)).astype(np.float32)
    out = np.zeros_like(x)
    op = ROWS["softmax"]
    placed = {"x": memory_of(x), "out0": memory_of(out)}
    views = {n: view_of(a, placed[n]) for n, a in (("x", x), ("out0", out))}
    run(plan.rowwise(op, views), list(placed.values()),
        [np.float32(np.nan)], np.dtype(np.float32))  # fmt: skip
    for row, y in zip(x, out, strict=True):
        exact = oracle.softmax(row.tolist())
        assert ulp.ulp_errors(y, exact).max() <= op.accuracy["float32"]


def check_rows(name):
    """Warp, block, chunks, columns; masks, scales and more dimensions in turns."""
    from fastact.cuda.row_kinds import Rows, in_chunks

    op = ROWS[name]
    mask = np.random.default_rng(5).random((3, 20)) < 0.7
    rows_case(name, "float32", (3, 20))
    rows_case(name, "float64", (3, 19))  # rows that are not aligned
    rows_case(name, "float16", (2, 2, 9), axis=1)  # two dimensions of rows, strided
    rows_case(name, "float32", (5, 33), axis=0)  # columns
    if op.policy:
        rows_case(name, "float32", (3, 20), where=mask)
    if op.scalable:
        rows_case(name, "float64", (3, 20), temperature=1.7)
    block = Rows(op, "float32", 64, 1, "block")
    rows_case(name, "float32", (2, 250), kernels=(block,))
    cut = in_chunks(block)
    rows_case(name, "float32", (2, 300), kernels=cut)
    columns = in_chunks(Rows(op, "float64", 2, 1, "columns", aligned=False))
    rows_case(name, "float64", (10, 3), axis=0, kernels=columns)


def check_special_rows():
    """Infinities, nans and empty rows, through every way of exchanging values."""
    import fastact as fa

    inf, nan = np.inf, np.nan
    x = np.array([[inf, 1, 2, 3], [inf, inf, 0, 1], [-inf] * 4, [nan, 1, 2, 3], [-inf, 5, 5, -inf]],
                 np.float32)  # fmt: skip
    for name in ("softmax", "log_softmax", "logsumexp"):
        op = ROWS[name]
        for layout in (np.ascontiguousarray, np.asfortranarray):
            given = layout(x)
            with np.errstate(all="ignore"):
                expected = getattr(fa, name)(x)
            out = layout(np.full_like(expected, 7))
            arrays = {"x": given, op.results()[0].name: out}
            placed = {n: Address(a.ravel(order="K")) for n, a in arrays.items()}
            views = {n: view_of(a, placed[n]) for n, a in arrays.items()}
            empty = math.nan if op.policy == "nan" else op.empty
            run(plan.rowwise(op, views), list(placed.values()),
                [np.float32(empty)], np.dtype(np.float32))  # fmt: skip
            flat = list(placed.values())[1].array
            got = flat.reshape(out.shape, order="F" if out.flags.f_contiguous else "C")
            compare_rows(op, x, got, expected)


# Losses, and what stands before and after a kernel


def check_losses():
    """Class ids of another type with weights and ignored rows, prepared, then loss and gradient."""
    import fastact as fa
    from fastact.rowwise.losses import CLASS

    rng = np.random.default_rng(0)
    x, weight = rng.normal(0, 3, (7, 10)).astype(np.float32), rng.uniform(0.1, 2, 10)
    labels = rng.integers(0, 10, 7).astype(np.uint8)
    labels[2] = 5
    own, ids = np.zeros(7, np.float32), np.zeros(7, np.int64)
    arrays = [labels, ids, own, weight]
    placed = [Address(a) for a in arrays]
    views = [view_of(a, at) for a, at in zip(arrays, placed, strict=True)]
    plans = plan.labels(views[0], "float32", views[3], True)
    run(plans, placed, [10, 5, np.float32(1.0)], np.dtype(np.float32))
    assert ids.tolist() == [-1 if label == 5 else label for label in labels.tolist()]
    np.testing.assert_array_equal(own, np.where(labels == 5, 0, weight[labels]).astype(np.float32))
    named = {"x": x, "factor": own, "label": ids, "out0": np.zeros_like(x),
             "value": np.zeros(7, np.float32)}  # fmt: skip
    placed = {n: memory_of(a) for n, a in named.items()}
    views = {n: view_of(a, placed[n]) for n, a in named.items()}
    computing = np.dtype(np.float32)
    run(plan.rowwise(CLASS[True], views), list(placed.values()), [np.float32(np.nan)], computing)
    options = {"weight": weight, "ignore_index": 5, "reduction": "none"}
    losses, gradient = fa.softmax_cross_entropy_value_and_grad(x, labels, **options)
    np.testing.assert_allclose(named["value"], losses, rtol=5e-7)
    np.testing.assert_allclose(named["out0"], gradient, rtol=1e-6, atol=1e-9)


def check_copies():
    """Every dtype into every float, every float into every dtype, some under a mask."""
    from fastact.cuda.kinds import ITEMSIZE, SIZE

    for n, source in enumerate(SIZE):
        for target in SIZE if source in ITEMSIZE else ITEMSIZE:
            if "bfloat16" in (source, target) and not ops.BFLOAT16:
                continue
            kinds = [ops.BFLOAT16[0] if k == "bfloat16" else np.dtype(k) for k in (source, target)]
            x = np.arange(-4, 5).astype(kinds[0])
            out, mask = np.full(9, 7, kinds[1]), np.arange(9) % 3 > 0
            given = [x, *((mask,) if n % 2 else ()), out]
            placed = [Address(a) for a in given]
            views = [view_of(a, at) for a, at in zip(given, placed, strict=True)]
            plans = plan.copy(views[0], views[-1], views[1] if n % 2 else None)
            run(plans, placed, [], np.dtype(np.float32), BLOCK)
            with np.errstate(over="ignore"):  # -4 as an unsigned integer is beyond float16
                right = np.where(mask if n % 2 else True, x.astype(kinds[1]), kinds[1].type(7))
            ops.assert_same_bits(out, right, f"{source} {target}")
