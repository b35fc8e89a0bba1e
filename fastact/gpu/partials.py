"""Backward passes on GPU arrays whose results are summed to the shapes of arguments.

The partials are made whole, in the dtype that is computed in, and then added up one axis after
the other by the kernels of the row ops: compensated, in a fixed order.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import Any

from fastact.activations.directions import Direction
from fastact.activations.paired import Pointwise
from fastact.cuda.kinds import COMPUTING
from fastact.gpu import plan
from fastact.gpu.arrays import Array
from fastact.gpu.call import Call, parameters_of
from fastact.gpu.driver import driver
from fastact.gpu.operands import broadcast_shape, gathered, loop_dtype, output, refuse_overlap
from fastact.gpu.rows import permuted, total
from fastact.gpu.work import Work, place_of
from fastact.runtime.partials import summed_axes


def backward(
    record: Pointwise, direction: Direction, named: dict[str, Any], outs: list[Any]
) -> list[Any]:
    """The results of a direction that sums; `named` are its arrays and parameters."""
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
    refuse_overlap(op, [r for r, o in zip(results, outs, strict=True) if o is not None],
                   arguments.values())  # fmt: skip
    gpu = driver()
    place = place_of(op, gpu, arguments | {r.name: a for r, a in
                     zip(direction.results, results, strict=True)})  # fmt: skip
    with Work(gpu, place) as work:
        made = [work.temporary(computing, common) for _ in direction.outputs]
        Call(record, direction, computing, arguments, values, made).work(work)
        for result, array in zip(direction.results, results, strict=True):
            add_up(work, made[result.output], array)
    return [r.value for r in results]


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
