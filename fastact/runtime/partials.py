"""Backward passes whose results have the shapes of arguments that were broadcast: sums.

The kernel's outputs are made slab by slab, so that they are summed while they are in the cache
and never stored whole. A slab depends on the shapes alone, and so do the bits of a sum: chains
of 32 in the computing dtype (pairwise along the last axis), then float64.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np

from fastact.activations.directions import DIRECTIONS, Direction, Result, with_respect_to
from fastact.activations.paired import Pointwise
from fastact.activations.record import Activation
from fastact.compile.abi import MAX_OPERANDS
from fastact.runtime import dlpack, elsewhere
from fastact.runtime.functions import check_constraint, check_dtypes, foreign, function
from fastact.runtime.loops import COMPUTING
from fastact.runtime.ufuncs import ufunc

SLAB = 1 << 18  # entries whose partials are made at once: a megabyte of float32
CHAIN = 32  # entries that are added up in the computing dtype, where it is not pairwise


def chained(sums: np.ndarray, axis: int) -> np.ndarray:
    """Sums of CHAIN neighbours along an axis that is not the last."""
    whole = sums.shape[axis] // CHAIN * CHAIN
    head, tail = np.split(sums, [whole], axis)
    chains = (*head.shape[:axis], whole // CHAIN, CHAIN, *head.shape[axis + 1 :])
    parts = np.add.reduce(head.reshape(chains), axis + 1)
    return np.concatenate([parts, np.add.reduce(tail, axis, keepdims=True)], axis)


def total(partial: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The sum over axes of a C-contiguous array, in float64; the axes stay, with length 1."""
    runs = [(gone, list(run)) for gone, run in groupby(range(partial.ndim), axes.__contains__)]
    sums = partial.reshape([int(np.prod([partial.shape[k] for k in run])) for _, run in runs])
    for axis in reversed([k for k, (gone, _) in enumerate(runs) if gone]):
        if axis == sums.ndim - 1:
            sums = np.add.reduce(sums, axis, keepdims=True)
        else:
            sums = chained(sums, axis)
        sums = np.add.reduce(sums, axis, np.float64, keepdims=True)
    return sums.reshape([1 if k in axes else n for k, n in enumerate(partial.shape)])


def summed_axes(shape: tuple[int, ...], common: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of `common` along which an array of this shape is broadcast."""
    padded = (1,) * (len(common) - len(shape)) + shape
    return tuple(k for k, n in enumerate(common) if padded[k] == 1 != n)


def slab_rows(shape: tuple[int, ...]) -> int:
    """How many entries of the first axis make about SLAB entries."""
    return min(max(1, shape[0]), max(1, SLAB // max(1, int(np.prod(shape[1:])))))


class Partial:
    """One result: whole, or summed over the axes along which its argument was broadcast."""

    def __init__(self, result: Result, argument: Any, common: tuple[int, ...], dtype: Any) -> None:
        self.output = result.output
        self.shape = np.shape(argument)
        self.dtype = np.dtype(dtype)
        self.axes = summed_axes(self.shape, common)
        kept = tuple(1 if k in self.axes else n for k, n in enumerate(common))
        self.value = np.zeros(kept) if self.axes else np.empty(common, dtype)

    def aim(self, out: Any, operands: list[Any]) -> None:
        """Make a result that is not summed in `out`, if that lies apart and needs no cast."""
        if out is None or self.axes or out.dtype != self.dtype or out.shape != self.value.shape:
            return
        if not any(isinstance(v, np.ndarray) and np.may_share_memory(out, v) for v in operands):
            self.value = out

    def take(self, made: np.ndarray, slab: slice) -> None:
        """Use a slab of the kernel's output."""
        if not self.axes:
            self.value[slab] = made
        elif 0 in self.axes:
            self.value += total(made, self.axes)
        else:
            self.value[slab] = total(made, self.axes)

    def result(self, out: Any) -> Any:
        """The finished result, in `out` if that is given."""
        if self.value is out:
            return out
        shaped = self.value.reshape(self.shape)
        if out is not None:
            np.copyto(out, shaped, casting="same_kind")
            return out
        return shaped.astype(self.dtype, copy=False)[()]


def backward(
    record: Pointwise, direction: Direction, named: dict[str, Any], outs: list[Any]
) -> list[Any]:
    """The results of a direction that sums; `named` are its arrays and parameters, checked."""
    call = ufunc(record, direction, False)
    values = [v if type(v) in (int, float) else np.asanyarray(v) for v in named.values()]
    common = np.broadcast_shapes(*map(np.shape, values))
    found = call(*(np.empty(0, v.dtype) if isinstance(v, np.ndarray) else v for v in values))
    storage = (found[0] if isinstance(found, tuple) else found).dtype
    computing = np.dtype(COMPUTING.get(storage.name, storage))
    shape = common or (1,)
    partials = [
        Partial(
            result,
            named[result.argument],
            shape,
            storage if result.argument in direction.arrays else computing,
        )
        for result in direction.results
    ]
    check_outs(record.name + "_backward", direction, partials, outs)
    for partial, out in zip(partials, outs, strict=True):
        partial.aim(out, values)
    if elsewhere.host_too():
        from fastact.gpu import host

        given = dict(zip(named, values, strict=True))
        host.sums(record, direction, given, shape, partials, computing)
    else:
        fill(call, direction, values, shape, partials, computing)
    return [p.result(out) for p, out in zip(partials, outs, strict=True)]


def fill(
    call: np.ufunc,
    direction: Direction,
    values: list[Any],
    shape: tuple[int, ...],
    partials: list[Partial],
    computing: np.dtype[Any],
) -> None:
    """Compute the partials, slab by slab."""
    arrays = [np.broadcast_to(v, shape) if isinstance(v, np.ndarray) else v for v in values]
    # what is wanted whole, and in the dtype that is computed in, the kernel writes itself
    direct = {p.output: p for p in partials if not p.axes and p.dtype == computing}
    rows = slab_rows(shape)
    scratch = {
        k: np.empty((rows, *shape[1:]), computing)
        for k in range(len(direction.outputs))
        if k not in direct
    }
    for start in range(0, shape[0], rows):
        slab = slice(start, min(start + rows, shape[0]))
        pieces = [a[slab] if isinstance(a, np.ndarray) else a for a in arrays]
        made = tuple(
            direct[k].value[slab] if k in direct else scratch[k][: slab.stop - start]
            for k in range(len(direction.outputs))
        )
        call(*pieces, out=made, dtype=computing)
        for p in partials:
            if direct.get(p.output) is not p:
                p.take(made[p.output], slab)


def check_outs(name: str, direction: Direction, partials: list[Partial], outs: list[Any]) -> None:
    """Raise what is wrong with the arrays that results shall be written to."""
    for result, partial, out in zip(direction.results, partials, outs, strict=True):
        if out is None:
            continue
        if not isinstance(out, np.ndarray):
            raise TypeError(f"{name}: out for {result.name} must be an array, got {out!r}")
        if out.shape != partial.shape:
            raise ValueError(
                f"{name}: out for {result.name} has shape {out.shape}; "
                f"it must have shape {partial.shape}"
            )
        if not np.can_cast(partial.dtype, out.dtype, "same_kind"):
            raise TypeError(
                f"{name}: out for {result.name} has dtype {out.dtype}; the result is "
                f"{partial.dtype}"
            )
        if not out.flags.writeable:
            raise ValueError(f"{name}: out for {result.name} is read-only; it must be writeable")


def outs_of(name: str, results: tuple[str, ...], out: Any) -> list[Any]:
    """One array, or None, per result."""
    if out is None:
        return [None] * len(results)
    given = list(out) if isinstance(out, tuple) else [out]
    if len(given) != len(results):
        listed = ", ".join(results)
        raise ValueError(f"{name}: out must be one array for each of {listed}, got {len(given)}")
    return given


def checked(name: str, record: Pointwise, named: dict[str, Any]) -> dict[str, Any]:
    """The arguments, checked; only arrays of NumPy and what becomes one can be summed here."""
    for argument, value in named.items():
        if foreign(value):
            raise TypeError(
                f"{name}: {argument} is a {type(value).__name__}; partials that are summed need "
                "NumPy arrays"
            )
    parameters = {p.name: named[p.name] for p in record.parameters}
    check_constraint(name, record, *parameters.values())
    check_dtypes(name, {n: v for n, v in named.items() if n not in parameters})
    try:
        np.broadcast_shapes(*(np.shape(v) for v in named.values()))
    except ValueError:
        listed = ", ".join(f"{n} {np.shape(v)}" for n, v in named.items())
        raise ValueError(f"{name}: shapes do not broadcast: {listed}") from None
    return named


def summed_backward(
    record: Pointwise, direction: Direction, values: tuple[Any, ...], out: Any
) -> tuple[Any, ...]:
    """The backward pass of an op whose second array is summed over: (dx, db), (dx, dweight)."""
    if is_foreign(values, out):

        def on_host(*operands: Any, out: Any) -> Any:
            return summed_backward(record, direction, operands, out)

        found: tuple[Any, ...] = dlpack.call(on_host, values, out)
        return found
    name = record.name + direction.suffix
    named, run = prepared(name, record, operand_names(record, direction), values, out)
    outs = outs_of(name, tuple(r.name for r in direction.results), out)
    return tuple(run(record, direction, named, outs))


def is_foreign(values: tuple[Any, ...], out: Any) -> bool:
    """Whether a call is for arrays of another library on the CPU."""
    every = (*values, *(out if isinstance(out, tuple) else (out,)))
    return dlpack.concerns(every) and not elsewhere.on_gpu(every)


def prepared(
    name: str, record: Pointwise, operands: tuple[str, ...], values: tuple[Any, ...], out: Any
) -> tuple[dict[str, Any], Callable[..., list[Any]]]:
    """The arguments by name, and what computes with them: here, or on the GPU where they lie."""
    named = dict(zip(operands, values, strict=True))
    if elsewhere.on_gpu((*values, *(out if isinstance(out, tuple) else (out,)))):
        from fastact.gpu import partials as on_gpu

        return named, on_gpu.backward
    return checked(name, record, named), backward


def operand_names(record: Pointwise, direction: Direction) -> tuple[str, ...]:
    return (*direction.arrays, *(p.name for p in record.parameters))


def trained(record: Activation) -> tuple[str, ...]:
    """What `wrt` may name."""
    return ("x", *record.parameter_grads)


def wrt_backward(
    record: Activation, wrt: Any, values: tuple[Any, ...], out: Any, options: tuple[Any, ...]
) -> Any:
    """The backward pass with respect to the arguments named: one partial, or a tuple of them."""
    name = f"{record.name}_backward"
    if isinstance(wrt, str) and wrt == "x":
        return function(record, DIRECTIONS["backward"])(*values, out, *options)
    names = (wrt,) if isinstance(wrt, str) else wrt
    allowed = trained(record)
    if not isinstance(names, tuple | list) or not names or set(names) - set(allowed):
        raise ValueError(f"{name}: wrt must be one or several of {allowed}, got {wrt!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"{name}: wrt names an argument twice: {wrt!r}")
    where, dtype, casting = options
    if where is not True or dtype is not None or casting != "same_kind":
        raise TypeError(f"{name}: where, dtype and casting are for wrt='x' only")
    if is_foreign(values, out):

        def on_host(*arrays: Any, out: Any) -> Any:
            return wrt_backward(record, wrt, arrays, out, options)

        return dlpack.call(on_host, values, out)
    operands = operand_names(record, DIRECTIONS["backward"])
    named, run = prepared(name, record, operands, values, out)
    outs = outs_of(name, tuple(f"d{n}" for n in names), out)
    room = MAX_OPERANDS - len(named)
    results: list[Any] = []
    for k in range(0, len(names), room):
        direction = with_respect_to(tuple(names[k : k + room]))
        results += run(record, direction, named, outs[k : k + room])
    return results[0] if isinstance(wrt, str) else tuple(results)
