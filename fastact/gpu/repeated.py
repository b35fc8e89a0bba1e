"""Calls like an earlier one: the same op on operands of the same kinds, layouts and alignment.

What an earlier call has checked and planned holds for them, but for where the operands lie, on
which streams, and what the numbers are. So a call costs little more than the reading of each
operand's interface, once. Calls that need copies, masks or limits are not among these.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from fastact.gpu import arrays
from fastact.gpu.arrays import Array, stream_of
from fastact.gpu.driver import LEGACY_STREAM, Driver, driver
from fastact.gpu.operands import extent
from fastact.gpu.work import Launch, Place, Work
from fastact.runtime.elsewhere import INTERFACE

MOST = 4096  # combinations that are kept
SHAPE = slice(2, 5)  # of what an operand is known by: dtype, shape, strides


# An operand: what a call can differ by, its address, its stream
Found = tuple[tuple[Any, ...], int, int | None]


class Recipe(NamedTuple):
    """What an earlier call came to."""

    launch: Launch
    operands: list[tuple[int, int]]  # how far each reaches, relative to its address
    results: list[tuple[int, int]]


class Result(NamedTuple):
    """A result of an earlier call."""

    shape: tuple[int, ...]
    dtype: str
    same: bool  # as that of the first operand


_results: dict[Hashable, list[Result]] = {}
_recipes: dict[Hashable, Recipe] = {}


def forget() -> None:
    _results.clear()
    _recipes.clear()


def found(value: Any) -> Found | None:
    """An operand, if it is a plain array on a GPU."""
    if not hasattr(type(value), INTERFACE) or getattr(value, "is_cuda", None) is False:
        return None
    if getattr(value, "requires_grad", False):
        return None
    interface = getattr(value, INTERFACE, None)
    if interface is None or interface.get("mask") is not None:
        return None
    address, readonly = interface["data"]
    kind = (
        type(value),
        getattr(value, "dtype", None),
        interface["typestr"],
        interface["shape"],
        interface.get("strides"),
        address % 16,
        readonly,
    )
    return kind, address, stream_of(value, interface)


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


def overlap(recipe: Recipe, operands: Sequence[Found], outputs: Sequence[Found]) -> bool:
    """Whether a result shares memory with an operand that is not exactly it."""
    for (kind, place, _), (low, high) in zip(outputs, recipe.results, strict=True):
        for (own, address, _), (start, stop) in zip(operands, recipe.operands, strict=True):
            apart = address + start >= place + high or place + low >= address + stop
            if not apart and (address != place or own[SHAPE] != kind[SHAPE]):
                return True
    return False


def attempt(
    what: Hashable, operands: Sequence[Any], outs: Sequence[Any], values: Sequence[float]
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
        results = _results.get(tuple(key))
    except TypeError:  # a shape or a stride that cannot be a key
        return None
    if results is None:
        return None
    made, given = [], False
    for out, result in zip(outs, results, strict=True):
        if out is None:
            out = arrays.make(operands[0], result.shape, result.dtype, result.same)
        else:
            given = True
        target = found(out)
        if target is None:
            return None
        made.append(out)
        every.append(target)
        key.append(target[0])
    recipe = _recipes.get(tuple(key))
    count = len(operands)
    if recipe is None or (given and overlap(recipe, every[:count], every[count:])):
        return None
    gpu = driver()
    place = place_among(gpu, every)
    if place is None:
        return None
    with Work(gpu, place) as work:
        work.run(recipe.launch, [address for _, address, _ in every], values)
    return made


def remember(
    what: Hashable, operands: Sequence[Array], results: Sequence[Array], launch: Launch
) -> None:
    """Keep what a call came to, for those like it."""
    every = [*operands, *results]
    kinds = []
    for a in every:
        operand = found(a.value)
        if operand is None:
            return
        kinds.append(operand[0])
    like = operands[0].view.dtype
    if len(_recipes) >= MOST:
        forget()
    try:
        _results[what, *kinds[: len(operands)]] = [
            Result(a.view.shape, a.view.dtype, a.view.dtype == like) for a in results
        ]
        ends = [reach(a) for a in every]
        count = len(operands)
        _recipes[what, *kinds] = Recipe(launch, ends[:count], ends[count:])
    except TypeError:  # a shape or a stride that cannot be a key
        return


def reach(a: Array) -> tuple[int, int]:
    """The first byte of an array and the one after the last, relative to its address."""
    low, high = extent(a)
    return low - a.address, high - a.address
