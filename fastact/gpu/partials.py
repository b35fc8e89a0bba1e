"""Backward passes on GPU arrays whose results are summed to the shapes of arguments.

The partials are made slab by slab, in the dtype that is computed in, and added up one axis after
the other by the kernels of the row ops: compensated, in a fixed order. What a slab leaves is added
up in the same way. A slab depends on the shapes alone, and so do the bits of a sum.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from fastact.activations.directions import Direction
from fastact.activations.paired import Pointwise
from fastact.cuda.kinds import COMPUTING
from fastact.gpu import plan
from fastact.gpu.arrays import Array, placed
from fastact.gpu.call import Call, check_numbers, parameters_of
from fastact.gpu.layouts import permuted
from fastact.gpu.operands import broadcast_shape, gathered, loop_dtype, output
from fastact.gpu.repeated import attempt, perform
from fastact.gpu.rows import total
from fastact.gpu.work import Work
from fastact.runtime.elsewhere import is_on_gpu
from fastact.runtime.partials import summed_axes

# Entries whose partials are made at once: 16 MiB of float32, less than the second cache of a large
# GPU holds (40 MiB: NVIDIA A100 architecture whitepaper), so that the sums need not read memory.
SLAB = 1 << 22
ALIGNED = 16  # a slab begins at a multiple of this many entries, so that accesses stay wide


class Backward(NamedTuple):
    """A backward pass that sums."""

    record: Pointwise
    direction: Direction
    computing: str
    values: Sequence[float]  # of the parameters that are numbers


def backward(
    record: Pointwise, direction: Direction, named: dict[str, Any], outs: list[Any]
) -> list[Any]:
    """The results of a direction that sums; `named` are its arrays and parameters."""
    made = repeated(record, direction, named, outs)
    if made is not None:
        return made
    op = f"{record.name}_backward"
    given = {n: named[n] for n in direction.arrays}
    operands = gathered(op, given, named | {"out": outs[0]})
    kind = loop_dtype(op, operands)
    computing = COMPUTING[kind]
    parameters, values = parameters_of(op, record, named)
    arguments = operands | parameters
    common = broadcast_shape(op, {n: a.view.shape for n, a in arguments.items()})
    like = operands[direction.arrays[0]]
    results = []
    for result, out in zip(direction.results, outs, strict=True):
        argument = arguments.get(result.argument)
        dtype = kind if result.argument in direction.arrays else computing
        shape = argument.view.shape if argument else ()
        word = f"out for {result.name}"
        results.append(output(op, like, out, shape, dtype, name=word))

    def compute(work: Work, arguments: dict[str, Array], results: list[Array]) -> None:
        what = Backward(record, direction, computing, values)
        if math.prod(common) <= SLAB:
            fill(work, what, arguments, common, results)
        else:
            in_slabs(work, what, arguments, common, results)

    what = what_of(record, direction, bool(parameters))
    perform(op, what, arguments, outs, results, compute, values)
    return [r.value for r in results]


def what_of(record: Pointwise, direction: Direction, grouped: bool) -> Hashable:
    """What a call asks for, apart from its arrays and numbers."""
    return (record, tuple(direction.results), grouped, SLAB)


def repeated(
    record: Pointwise, direction: Direction, named: dict[str, Any], outs: list[Any]
) -> list[Any] | None:
    """The results of a call, if one like it has been made; else None."""
    count = len(direction.arrays)
    given = [*named.values()]
    numbers = tuple(given[count:])
    grouped = bool(numbers) and is_on_gpu(numbers[0])
    if grouped:
        return attempt(what_of(record, direction, True), given, outs)
    if not all(type(v) in (int, float) for v in numbers):
        return None
    check_numbers(f"{record.name}_backward", record, *numbers)
    return attempt(what_of(record, direction, False), given[:count], outs, numbers)


def in_slabs(
    work: Work,
    what: Backward,
    arguments: dict[str, Array],
    common: tuple[int, ...],
    results: Sequence[Array],
) -> None:
    """Fill the results slab by slab; those that every slab has a share of are then added up."""
    axis, step = slabs(common)
    at = axis - len(common)  # counted from the last axis, as arrays may have fewer
    starts = range(0, common[axis], step)
    shares = [
        None if long_along(a, at) else work.temporary(what.computing, (len(starts), *a.view.shape))
        for a in results
    ]
    for k, start in enumerate(starts):
        cut = slice(start, min(start + step, common[axis]))
        lengths = (*common[:axis], cut.stop - start, *common[axis + 1 :])
        pieces = {n: part(a, at, cut) for n, a in arguments.items()}
        targets = [
            part(a, at, cut) if share is None else row(share, k)
            for a, share in zip(results, shares, strict=True)
        ]
        with work.scope():
            fill(work, what, pieces, lengths, targets)
    for share, result in zip(shares, results, strict=True):
        if share is not None:
            order = [*range(1, len(share.view.shape)), 0]
            total(work, share._replace(view=permuted(share.view, order)), result, 0.0)


def slabs(shape: tuple[int, ...]) -> tuple[int, int]:
    """The axis to cut, and how many of its entries a slab has."""
    size = math.prod(shape)
    small = [k for k, n in enumerate(shape) if size // n <= SLAB]
    axis = small[0] if small else shape.index(max(shape))
    step = max(1, SLAB // (size // shape[axis]))
    return axis, step - step % ALIGNED if step > ALIGNED else step


def long_along(array: Array, axis: int) -> bool:
    """Whether an array has an axis, counted from the last, along which it is not broadcast."""
    return len(array.view.shape) >= -axis and array.view.shape[axis] != 1


def part(array: Array, axis: int, cut: slice) -> Array:
    """A slab of an array; all of one that is broadcast."""
    if not long_along(array, axis):
        return array
    shape, strides = list(array.view.shape), array.view.strides
    shape[axis] = cut.stop - cut.start
    return placed(array, cut.start * strides[axis], shape, strides)


def row(array: Array, k: int) -> Array:
    """The k-th entry along the first axis."""
    _, *shape = array.view.shape
    first, *strides = array.view.strides
    return placed(array, k * first, shape, strides)


def fill(
    work: Work,
    what: Backward,
    arguments: dict[str, Array],
    shape: tuple[int, ...],
    targets: Sequence[Array],
) -> None:
    """The results of a direction, summed to the shapes of their targets.

    What is wanted whole, and in the dtype that is computed in, the kernel writes itself.
    """
    record, direction, computing, values = what
    whole = {
        result.output: target
        for result, target in zip(direction.results, targets, strict=True)
        if target.view.shape == shape and target.view.dtype == computing
    }
    outputs = range(len(direction.outputs))
    made = [whole.get(k) or work.temporary(computing, shape) for k in outputs]
    Call(record, direction, computing, arguments, values, made).work(work)
    for result, target in zip(direction.results, targets, strict=True):
        if made[result.output] is not target:
            add_up(work, made[result.output], target)


def add_up(work: Work, made: Array, target: Array) -> None:
    """Sum an array over the axes along which an argument of the target's shape was broadcast."""
    common = made.view.shape
    axes = summed_axes(target.view.shape, common)
    if not axes:
        missing = len(common) - len(target.view.shape)
        view = target.view
        view = view._replace(shape=common, strides=(0,) * missing + view.strides)
        work.copy(made, target._replace(view=view))
        return
    # neighbouring axes that are summed are one, as the array is in C order
    lengths, gone = [], []
    for summed, run in groupby(range(len(common)), axes.__contains__):
        sizes = [common[k] for k in run]
        lengths += [math.prod(sizes)] if summed else sizes
        gone += [True] if summed else [False] * len(sizes)
    kept = target.view
    padded = (0,) * (len(common) - len(kept.shape)) + kept.strides
    outer = [k for k in range(len(common)) if k not in axes]
    final = kept._replace(
        shape=tuple([common[k] for k in outer]), strides=tuple([padded[k] for k in outer])
    )
    array = made._replace(view=plan.contiguous(made.view.dtype, tuple(lengths)))
    left = [k for k, flag in enumerate(gone) if flag]
    for k in reversed(left):
        shape = array.view.shape[:k] + array.view.shape[k + 1 :]
        order = [j for j in range(len(array.view.shape)) if j != k] + [k]
        rows = array._replace(view=permuted(array.view, order))
        array = (
            target._replace(view=final) if k == left[0] else work.temporary(made.view.dtype, shape)
        )
        total(work, rows, array, 0.0)
