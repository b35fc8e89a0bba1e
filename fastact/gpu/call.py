"""An elementwise call on GPU arrays: checked, planned once per layout, launched.

The kernels take operands of one dtype. What differs from it, an integer, another float, an `out`
of another dtype, and a result of which only a part is wanted, is copied before or after.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fastact.activations.directions import Direction
from fastact.activations.paired import Pointwise
from fastact.cuda.kinds import COMPUTING
from fastact.gpu.arrays import Array, array, described, placed
from fastact.gpu.operands import (
    broadcast_shape,
    check_casting,
    gathered,
    grown,
    loop_dtype,
    output,
    refuse_overlap,
)
from fastact.gpu.repeated import attempt, perform
from fastact.gpu.work import Work, elementwise_launch
from fastact.runtime.elsewhere import is_on_gpu, on_gpu
from fastact.runtime.functions import check_constraint, check_parameter
from fastact.runtime.halves import half_axis
from fastact.runtime.outputs import Options

NUMBERS = frozenset((int, float))  # a parameter of another type may be an array


def outs_of(op: str, direction: Direction, out: Any) -> tuple[Any, ...]:
    """One array, or None, per result."""
    count = len(direction.outputs)
    if out is None or (count == 1 and not isinstance(out, tuple)):
        return (out,) * count
    if not isinstance(out, tuple):
        raise TypeError(f"{op}: out must be a tuple of {count} arrays, got {out!r}")
    if len(out) != count:
        wanted = f"a tuple of {count} arrays" if count > 1 else "one array"
        raise ValueError(f"{op}: out must be {wanted}, got {len(out)}")
    return out


def what_of(record: Pointwise, direction: Direction, grouped: bool, asked: Options) -> Hashable:
    """What a call asks for, apart from its arrays and numbers."""
    _, where, dtype, casting = asked
    return (record, direction.suffix, grouped, where is not True, dtype, casting)


def repeated(record: Pointwise, direction: Direction, named: dict[str, Any], asked: Options) -> Any:
    """An elementwise op on GPU arrays, if a call like it has been made; else None.

    `named` has its arrays, then its parameters.
    """
    op = record.name + direction.suffix
    arrays, values, grouped = [*named.values()], (), False
    if record.parameters:
        count = len(direction.arrays)
        values = tuple(arrays[count:])
        grouped = not NUMBERS.issuperset(map(type, values))
        if not grouped:
            check_numbers(op, record, *values)
            del arrays[count:]
    if asked.where is not True:
        arrays.append(asked.where)
    out = asked.out
    outs = (out,) if len(direction.outputs) == 1 and type(out) is not tuple else None
    what = what_of(record, direction, grouped, asked)
    made = attempt(what, arrays, outs or outs_of(op, direction, out), values)
    if made is None:
        return None
    return made[0] if len(made) == 1 else tuple(made)


@lru_cache(maxsize=1024)
def check_numbers(op: str, record: Pointwise, *numbers: float) -> None:
    """Raise what is wrong with parameters."""
    numbers_of(op, record, dict(zip((p.name for p in record.parameters), numbers, strict=True)))


def elementwise(
    record: Pointwise, direction: Direction, named: dict[str, Any], asked: Options
) -> Any:
    """An elementwise op on GPU arrays that is not like an earlier one."""
    op = record.name + direction.suffix
    outs, where, casting = outs_of(op, direction, asked.out), asked.where, asked.casting
    if not on_gpu((*named.values(), where, *outs)):
        from fastact.gpu import host

        return host.elementwise(record, direction, named, asked)
    check_casting(op, casting)
    wanted = {n: named[n] for n in direction.arrays}
    if where is not True:
        wanted["where"] = where
    operands = gathered(op, wanted, named | {"out": outs[0]})
    mask = operands.pop("where", None)
    if mask and mask.view.dtype != "bool":
        raise TypeError(f"{op}: where has dtype {mask.view.dtype}; it must be boolean")
    kind = loop_dtype(op, operands, asked.dtype, casting)
    parameters, values = parameters_of(op, record, named)
    every = operands | parameters | ({"where": mask} if mask else {})
    shape = grown(broadcast_shape(op, {n: a.view.shape for n, a in every.items()}), outs)
    first = operands[direction.arrays[0]]
    results = [output(op, first, o, shape, kind, casting) for o in outs]
    if mask:
        given = [r for r, o in zip(results, outs, strict=True) if o is not None]
        refuse_overlap(op, given, "where", mask)

    def compute(work: Work, operands: dict[str, Array], results: list[Array]) -> None:
        mask = operands.pop("where", None)
        Call(record, direction, kind, operands, values, results, mask).work(work)

    what = what_of(record, direction, bool(parameters), asked)
    perform(op, what, every, outs, results, compute, values, late=mask is not None)
    return results[0].value if len(results) == 1 else tuple(r.value for r in results)


def parameters_of(
    op: str, record: Pointwise, named: dict[str, Any]
) -> tuple[dict[str, Array], list[float]]:
    """The parameters: arrays by their names, or numbers; one of the two is empty."""
    if not record.parameters:
        return {}, []
    given = {p.name: named[p.name] for p in record.parameters}
    if any(map(is_on_gpu, given.values())):
        for name, value in given.items():
            if not is_on_gpu(value):
                raise TypeError(
                    f"{op}: if one parameter is an array on the GPU, all must be; {name} is a "
                    f"{described(value)}"
                )
        return {n: array(op, n, v) for n, v in given.items()}, []
    return {}, numbers_of(op, record, named)


def numbers_of(op: str, record: Pointwise, named: dict[str, Any]) -> list[float]:
    """The parameters as numbers, checked."""
    values: list[float] = []
    for p in record.parameters:
        value = check_parameter(op, p, named[p.name])
        if np.ndim(value):
            raise TypeError(
                f"{op}: {p.name} is a {described(value)}; it must be a number, or an array on "
                "the GPU"
            )
        values.append(float(value))
    if record.constraint:
        check_constraint(op, record, *values)
    return values


class Call:
    """A call whose operands have been checked."""

    def __init__(
        self,
        record: Pointwise,
        direction: Direction,
        kind: str,
        operands: dict[str, Array],  # arrays, then parameters if they are arrays
        values: Sequence[float],
        results: Sequence[Array],
        mask: Array | None = None,
    ) -> None:
        self.record, self.direction, self.kind = record, direction, kind
        self.operands, self.values, self.results, self.mask = operands, values, results, mask

    def work(self, work: Work) -> None:
        """Launch the kernel, and the copies that it needs."""
        kind, arrays = self.kind, self.direction.arrays
        operands = [
            work.converted(a, kind if n in arrays else COMPUTING[kind])
            for n, a in self.operands.items()
        ]
        targets = [
            r if r.view.dtype == kind and not self.mask else work.temporary(kind, r.view.shape)
            for r in self.results
        ]
        every = [*operands, *targets]
        launch = elementwise_launch(
            self.record,
            self.direction,
            tuple([a.view for a in every]),
            targets[0].view.shape,
            len(operands) > len(arrays),
        )
        work.run(launch, [a.address for a in every], self.values)
        for target, result in zip(targets, self.results, strict=True):
            if target is not result:
                work.copy(target, result, self.mask)


# An op whose two arrays are the halves of one


def half_arrays(op: str, x: Array, axis: int) -> list[Array]:
    """The two halves of an array along an axis."""
    k = half_axis(op, x.view.shape, axis)
    length, strides = x.view.shape[k] // 2, x.view.strides
    shape = (*x.view.shape[:k], length, *x.view.shape[k + 1 :])
    return [placed(x, start * strides[k], shape, strides) for start in (0, length)]


def halves(
    record: Pointwise, direction: Direction, named: dict[str, Any], axis: int, out: Any
) -> Any:
    """`glu` on an array on the GPU, or its backward pass, whose result has the shape of x."""
    op = record.name + direction.suffix
    target = out[0] if isinstance(out, tuple) else out
    what = (record, direction.suffix, axis, type(axis))  # True is no axis, though it equals 1
    if isinstance(axis, int) and (made := attempt(what, [*named.values()], [target])):
        return made[0]
    given = gathered(op, named, {"out": target})
    kind = loop_dtype(op, given)
    x = given["x"]
    a, _ = half_arrays(op, x, axis)
    backward = "dy" in given
    if backward and given["dy"].view.shape != a.view.shape:
        raise ValueError(
            f"{op}: dy has shape {given['dy'].view.shape}; it must have shape {a.view.shape}"
        )
    result = output(op, x, target, x.view.shape if backward else a.view.shape, kind)

    def compute(work: Work, given: dict[str, Array], results: list[Array]) -> None:
        a, b = half_arrays(op, given["x"], axis)
        operands = {n: v for n, v in given.items() if n != "x"} | {"a": a, "b": b}
        made = half_arrays(op, results[0], axis) if backward else results
        Call(record, direction, kind, operands, [], made).work(work)

    perform(op, what, given, [target], [result], compute)
    return result.value
