"""The roofline: a plain memory copy of as many bytes, on one thread or on several."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np


@cache
def buffers(count: int) -> tuple[Any, Any]:
    """A source and a destination of `count` bytes, their pages in memory."""
    return np.ones(count, np.uint8), np.ones(count, np.uint8)


@cache
def helpers(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count)


def copier(moved: int, threads: int) -> Callable[[], None]:
    """A function that reads half of `moved` bytes and writes as many."""
    source, destination = buffers(moved // 2)
    if threads == 1:
        return lambda: np.copyto(destination, source)
    first, *rest = zip(
        np.array_split(destination, threads), np.array_split(source, threads), strict=True
    )
    pool = helpers(threads - 1)

    def copy() -> None:
        waiting = [pool.submit(np.copyto, *pair) for pair in rest]
        np.copyto(*first)
        for task in waiting:
            task.result()

    return copy


def forget() -> None:
    """Give the memory of the buffers back."""
    buffers.cache_clear()
