"""Backward passes whose results have the shapes of arguments that were broadcast: sums.

The kernel's outputs are made slab by slab, so that they are summed while they are in the cache
and never stored whole. A slab depends on the shapes alone, and so do the bits of a sum: chains
of 32 in the computing dtype (pairwise along the last axis), then float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from fastact.activations.directions import DIRECTIONS, Direction, Result, with_respect_to
from fastact.activations.paired import Pointwise
from fastact.activations.record import Activation
from fastact.compile.abi import MAX_OPERANDS
from fastact.runtime import dlpack, elsewhere
from fastact.runtime.functions import check_constraint, check_dtypes, foreign, function
from fastact.runtime.loops import COMPUTING
from fastact.runtime.outputs import computed_in
from fastact.runtime.ufuncs import ufunc

SLAB = 1 << 18  # entries whose partials are made at once: a megabyte of float32
SIGNATURES = 1024  # shapes and dtypes of arguments that are remembered with what follows from them
CHAIN = 32  # entries that are added up in the computing dtype, where it is not pairwise


def chained(sums: np.ndarray, axis: int) -> np.ndarray:
    """Sums of CHAIN neighbours along an axis that is not the last."""
    chains, rest = divmod(sums.shape[axis], CHAIN)
    before: tuple[slice, ...] = (slice(None),) * axis
    head = sums[(*before, slice(0, chains * CHAIN))]
    parts = np.add.reduce(
        head.reshape(*sums.shape[:axis], chains, CHAIN, *sums.shape[axis + 1 :]), axis + 1
    )
    if not rest:
        return parts
    tail = np.add.reduce(sums[(*before, slice(chains * CHAIN, None))], axis, keepdims=True)
    return np.concatenate([parts, tail], axis)


def total(partial: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The sum over axes of a C-contiguous array, in float64; the axes stay, with length 1."""
    joined, along = runs(partial.shape, axes)
    sums = partial.reshape(joined)
    for axis in along:
        if axis == sums.ndim - 1:
            sums = np.add.reduce(sums, axis, keepdims=True)
        else:
            sums = chained(sums, axis)
        sums = np.add.reduce(sums, axis, np.float64, keepdims=True)
    return sums.reshape([1 if k in axes else n for k, n in enumerate(partial.shape)])


@lru_cache(SIGNATURES)
def runs(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[tuple[int, ...], list[int]]:
    """A shape with neighbours joined that are summed, or kept, alike; which to sum, last first."""
    found = [(gone, list(run)) for gone, run in groupby(range(len(shape)), axes.__contains__)]
    joined = tuple(math.prod(shape[k] for k in run) for _, run in found)
    return joined, [k for k, (gone, _) in enumerate(found) if gone][::-1]


def summed_axes(shape: tuple[int, ...], common: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of `common` along which an array of this shape is broadcast."""
    padded = (1,) * (len(common) - len(shape)) + shape
    return tuple(k for k, n in enumerate(common) if padded[k] == 1 != n)


def slab_rows(shape: tuple[int, ...]) -> int:
    """How many entries of the first axis make about SLAB entries."""
    return min(max(1, shape[0]), max(1, SLAB // max(1, math.prod(shape[1:]))))


class Share(NamedTuple):
    """What a result is: which output of the kernel, summed over which axes."""

    output: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: tuple[int, ...]
    kept: tuple[int, ...]  # the shape with the axes, of length 1

    @classmethod
    def of(
        cls, result: Result, shape: tuple[int, ...], common: tuple[int, ...], dtype: Any
    ) -> Share:
        axes = summed_axes(shape, common)
        kept = tuple(1 if k in axes else n for k, n in enumerate(common))
        return cls(result.output, shape, np.dtype(dtype), axes, kept)


# The shape and dtype of an array, or the type of a number: what a call's layout depends on.
Kind = tuple[Any, ...]


def kind_of(value: Any) -> Kind:
    return (value.shape, value.dtype) if isinstance(value, np.ndarray) else (type(value),)


def example(kind: Kind) -> Any:
    """A value of a kind that takes no memory."""
    return np.broadcast_to(np.zeros((), kind[1]), kind[0]) if len(kind) == 2 else kind[0](1)


class Layout(NamedTuple):
    """What follows from the kinds of a call's arguments."""

    call: np.ufunc
    shape: tuple[int, ...]
    computing: np.dtype[Any]
    shares: tuple[Share, ...]


@lru_cache(SIGNATURES)
def layout(record: Pointwise, direction: Direction, kinds: tuple[Kind, ...]) -> Layout:
    call = ufunc(record, direction, False)
    names = operand_names(record, direction)
    shapes = {
        name: kind[0] if len(kind) == 2 else () for name, kind in zip(names, kinds, strict=True)
    }
    shape = np.broadcast_shapes(*shapes.values()) or (1,)
    found = call(*(np.empty(0, kind[1]) if len(kind) == 2 else kind[0](1) for kind in kinds))
    storage = (found[0] if isinstance(found, tuple) else found).dtype
    computing = np.dtype(COMPUTING.get(storage.name, storage))
    shares = tuple(
        Share.of(
            result,
            shapes[result.argument],
            shape,
            storage if result.argument in direction.arrays else computing,
        )
        for result in direction.results
    )
    return Layout(call, shape, computing, shares)


class Partial:
    """One result: whole, or summed over the axes along which its argument was broadcast."""

    def __init__(self, share: Share) -> None:
        self.output, self.shape, self.dtype, self.axes, kept = share
        self.value = np.zeros(kept) if self.axes else np.empty(kept, self.dtype)

    def aim(self, out: Any, operands: list[Any]) -> None:
        """Make a result that is not summed in `out`, if that lies apart and needs no cast."""
        if not self.axes and computed_in(out, self.value.shape, self.dtype, operands):
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
    values = list(named.values())
    call, shape, computing, shares = layout(record, direction, tuple(map(kind_of, values)))
    partials = [Partial(share) for share in shares]
    check_outs(record.name + "_backward", direction, partials, outs)
    for partial, out in zip(partials, outs, strict=True):
        partial.aim(out, values)
    if elsewhere.host_too():
        from fastact.gpu import host

        host.sums(record, direction, named, shape, partials, computing)
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
    rows = slab_rows(shape)
    arrays = values
    if rows < shape[0]:
        arrays = [np.broadcast_to(v, shape) if isinstance(v, np.ndarray) else v for v in values]
    # what is wanted whole, and in the dtype that is computed in, the kernel writes itself
    direct = {p.output: p for p in partials if not p.axes and p.dtype == computing}
    scratch = {
        k: np.empty((rows, *shape[1:]), computing)
        for k in range(len(direction.outputs))
        if k not in direct
    }
    for start in range(0, shape[0], rows):
        slab = slice(start, min(start + rows, shape[0]))
        pieces = arrays
        if rows < shape[0]:
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
    if record.parameters:
        check_constraint(name, record, *(named[p.name] for p in record.parameters))
    arrays = {n: v if type(v) in (int, float) else np.asanyarray(v) for n, v in named.items()}
    check_kinds(name, record, tuple(arrays), tuple(map(kind_of, arrays.values())))
    return arrays


@lru_cache(SIGNATURES)
def check_kinds(
    name: str, record: Pointwise, names: tuple[str, ...], kinds: tuple[Kind, ...]
) -> None:
    """Raise what the dtypes and shapes of the arguments forbid."""
    examples = dict(zip(names, map(example, kinds), strict=True))
    parameters = {p.name for p in record.parameters}
    check_dtypes(name, {n: v for n, v in examples.items() if n not in parameters})
    try:
        np.broadcast_shapes(*(np.shape(v) for v in examples.values()))
    except ValueError:
        listed = ", ".join(f"{n} {np.shape(v)}" for n, v in examples.items())
        raise ValueError(f"{name}: shapes do not broadcast: {listed}") from None


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
