"""Work for other threads and processes: calls whose results are known beforehand."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

import fastact as fa

LARGE = 300_000  # above every threshold of the parallel target


def calls() -> list[tuple[Any, tuple[np.ndarray, ...]]]:
    """A mixture of ops, dtypes and layouts."""
    rng = np.random.default_rng(11)
    single = rng.normal(0, 3, LARGE).astype(np.float32)
    double = rng.normal(0, 3, LARGE // 2)
    half = single[: LARGE // 3].astype(np.float16)
    return [
        (fa.sigmoid, (single,)),
        (fa.tanh, (double,)),
        (fa.elu, (half,)),
        (fa.swish, (single[::3],)),
        (fa.leaky_relu, (double[::-1],)),
        (fa.tanh_backward, (single, single[::-1])),
        (fa.relu, (single[:7],)),
        (fa.softmax, (single.reshape(-1, 100),)),
        (fa.softmax_backward, (double.reshape(3, -1), double.reshape(3, -1))),
    ]


def compute() -> list[bytes]:
    return [np.asarray(function(*arrays)).tobytes() for function, arrays in calls()]


def in_threads(expected: list[bytes], threads: int, repeats: int) -> None:
    """Many threads at once, each in another order; raises if any result differs."""
    wrong: list[str] = []
    barrier = threading.Barrier(threads)

    def body(start: int) -> None:
        try:
            work = calls()
            barrier.wait()
            for step in range(repeats * len(work)):
                i = (start + step) % len(work)
                function, arrays = work[i]
                if np.asarray(function(*arrays)).tobytes() != expected[i]:
                    wrong.append(function.__name__)
        except BaseException as error:
            wrong.append(repr(error))

    crew = [threading.Thread(target=body, args=(k,)) for k in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert not wrong, wrong


def is_right(expected: list[bytes]) -> bool:
    """For a process pool: whether this process computes the same."""
    return compute() == expected
