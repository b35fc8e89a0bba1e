"""What a call came to is kept for calls like it: the same op on operands of the same kinds,
layouts and alignment.

All that an earlier call has checked and recorded holds for them, but for where the operands lie,
on which streams, and what the numbers are. So a call costs little more than the reading of each
operand's interface, once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

from fastact.gpu import arrays
from fastact.gpu.arrays import Array, stream_of, torch_stream
from fastact.gpu.driver import LEGACY_STREAM, Driver, driver
from fastact.gpu.operands import extent, overlapping
from fastact.gpu.work import Place, Recipe, Work, place_of
from fastact.runtime.elsewhere import INTERFACE

MOST = 4096  # combinations of operands that are kept
SHAPE = slice(2, 5)  # of what an operand is known by: dtype, shape, strides

Kind = tuple[Any, ...]  # what a call can differ by in an operand
Found = tuple[Kind, int, int | None]  # an operand: its kind, its address, its stream
Compute = Callable[[Work, dict[str, Array], list[Array]], None]


class Result(NamedTuple):
    """A result that an earlier call has made."""

    shape: tuple[int, ...]
    dtype: str
    same: bool  # as that of the first operand


class Known(NamedTuple):
    """An earlier call; how far its operands and results reach, relative to their addresses."""

    recipe: Recipe
    operands: list[tuple[int, int]]
    results: list[tuple[int, int]]


class Like(NamedTuple):
    """Calls with operands of the same kinds."""

    results: list[Result | None]  # None: it was given so far
    known: dict[tuple[Kind, ...], Known]  # by the kinds of the results


_calls: dict[Hashable, Like] = {}


def forget() -> None:
    _calls.clear()


def found(value: Any) -> Found | None:
    """An operand, if it is a plain array on a GPU."""
    kind = type(value)
    if kind.__module__ == "torch":
        return of_torch()(value)
    if not hasattr(kind, INTERFACE) or getattr(value, "is_cuda", None) is False:
        return None
    if getattr(value, "requires_grad", False):
        return None
    interface = getattr(value, INTERFACE, None)
    if interface is None or interface.get("mask") is not None:
        return None
    address, readonly = interface["data"]
    own = (
        kind,
        getattr(value, "dtype", None),
        interface["typestr"],
        interface["shape"],
        interface.get("strides"),
        address % 16,
        readonly,
    )
    return own, address, stream_of(value, interface)


@cache
def of_torch() -> Callable[[Any], Found | None]:
    """`found` for PyTorch's tensors: their interface is made in Python, which takes three times as
    long as asking them.
    """
    import torch

    dense = torch.strided

    def read(value: Any) -> Found | None:
        if not isinstance(value, torch.Tensor) or not value.is_cuda or value.requires_grad:
            return None
        if value.layout is not dense or value.is_neg():
            return None
        address = value.data_ptr()
        shape, strides = value.shape, value.stride()
        kind = (type(value), None, value.dtype, shape, strides, address % 16, False)
        return kind, address, torch_stream(value)

    return read


def place_among(gpu: Driver, operands: Sequence[Found]) -> Place | None:
    """Where to run; None if the operands lie on several devices."""
    device = 0
    if gpu.count > 1:
        devices = {gpu.device_of(address) for _, address, _ in operands if address}
        if len(devices) != 1:
            return None
        (device,) = devices
    streams = [own[2] for own in operands if own[2] is not None]
    first = streams[0] if streams else LEGACY_STREAM
    if streams.count(first) == len(streams):
        return place_at(device, first)
    return Place(device, first, tuple(dict.fromkeys(streams))[1:])


@lru_cache(maxsize=256)
def place_at(device: int, stream: int) -> Place:
    return Place(device, stream, ())


def overlap(known: Known, operands: Sequence[Found], outputs: Sequence[Found]) -> bool:
    """Whether a result shares memory with an operand that is not exactly it."""
    for (kind, place, _), (low, high) in zip(outputs, known.results, strict=True):
        for (own, address, _), (start, stop) in zip(operands, known.operands, strict=True):
            if address + start >= place + high or place + low >= address + stop:
                continue
            if address != place or own[SHAPE] != kind[SHAPE]:
                return True
    return False


def attempt(
    what: Hashable, operands: Sequence[Any], outs: Sequence[Any], values: Sequence[float] = ()
) -> list[Any] | None:
    """The results of a call, if one like it has been made; else None, and nothing is done."""
    every: list[Found] = []
    key = [what]
    for value in operands:
        operand = found(value)
        if operand is None:
            return None
        every.append(operand)
        key.append(operand[0])
    try:
        like = _calls.get(tuple(key))
    except TypeError:  # a shape or a stride that cannot be a key
        return None
    if like is None:
        return None
    made, kinds, given = [], [], False
    for out, result in zip(outs, like.results, strict=True):
        if out is not None:
            given = True
        elif result is None:
            return None
        else:
            out = arrays.make(operands[0], *result)
        target = found(out)
        if target is None:
            return None
        made.append(out)
        every.append(target)
        kinds.append(target[0])
    known = like.known.get(tuple(kinds))
    count = len(operands)
    if known is None or (given and overlap(known, every[:count], every[count:])):
        return None
    gpu = driver()
    place = place_among(gpu, every)
    if place is None:
        return None
    known.recipe.perform(gpu, place, [address for _, address, _ in every], values)
    return made


def perform(
    op: str,
    what: Hashable | None,
    operands: dict[str, Array],
    outs: Sequence[Any],
    results: Sequence[Array],
    compute: Compute,
    values: Sequence[float] = (),
    late: bool = False,
) -> None:
    """Record a call, do it, and keep what it came to under `what`.

    `outs` are what was given for the results. One that overlaps an operand in another layout is
    written when all is computed, which `late` says that `compute` sees to itself.
    """
    gpu = driver()
    named = operands | {f"out{k}": r for k, r in enumerate(results)}
    place = place_of(op, gpu, named)
    work = Work(values)
    own = {n: work.operand(a) for n, a in operands.items()}
    targets = [work.operand(r) for r in results]
    mixed = [
        o is not None and overlapping(r, operands.values())
        for o, r in zip(outs, results, strict=True)
    ]
    written = [
        work.temporary(t.view.dtype, t.view.shape) if clash and not late else t
        for t, clash in zip(targets, mixed, strict=True)
    ]
    compute(work, own, written)
    for target, source in zip(targets, written, strict=True):
        if source is not target:
            work.copy(source, target)
    recipe = work.recipe()
    recipe.perform(gpu, place, [a.address for a in named.values()], values)
    if what is not None and not any(mixed):
        remember(what, list(operands.values()), outs, results, recipe)


def remember(
    what: Hashable,
    operands: Sequence[Array],
    outs: Sequence[Any],
    results: Sequence[Array],
    recipe: Recipe,
) -> None:
    """Keep what a call came to, for those like it."""
    kinds = []
    for a in (*operands, *results):
        operand = found(a.value)
        if operand is None:
            return
        kinds.append(operand[0])
    like = operands[0].view.dtype
    count = len(operands)
    if len(_calls) >= MOST:
        forget()
    try:
        calls = _calls.setdefault((what, *kinds[:count]), Like([None] * len(outs), {}))
        if len(calls.known) >= MOST:
            calls.known.clear()
        calls.known[tuple(kinds[count:])] = Known(
            recipe, [reach(a) for a in operands], [reach(a) for a in results]
        )
        for k, a in enumerate(results):
            if outs[k] is None:
                calls.results[k] = Result(a.view.shape, a.view.dtype, a.view.dtype == like)
    except TypeError:  # a shape or a stride that cannot be a key
        return


def reach(a: Array) -> tuple[int, int]:
    """The first byte of an array and the one after the last, relative to its address."""
    low, high = extent(a)
    return low - a.address, high - a.address
