"""Softmax along one axis of 1e8 entries in many chunks: `python bench/dask_memory.py`.

Prints the time and the largest memory of a worker, which stays that of a few chunks.
"""

from __future__ import annotations

import resource
import time

import dask
import dask.array as da
import numpy as np

import fastact.dask as fd

ENTRIES = 100_000_000
CHUNK = 1_000_000


def peak() -> float:
    """The most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    with dask.config.set(scheduler="threads", num_workers=2):
        x = da.random.default_rng(0).standard_normal(ENTRIES, chunks=CHUNK, dtype=np.float32)
        fd.softmax(x[: 2 * CHUNK], recompute=True).sum().compute()  # compiles
        before, start = peak(), time.perf_counter()
        total = fd.softmax(x, recompute=True).sum(dtype=np.float64).compute()
        seconds = time.perf_counter() - start
    print(
        f"{ENTRIES:.0e} entries, {ENTRIES * 4 / 2**20:.0f} MiB, chunks of {CHUNK * 4 / 2**20:.1f}"
    )
    print(f"sum {total:.9f}, {seconds:.1f} s, peak {peak():.0f} MiB, of which {before:.0f} before")


if __name__ == "__main__":
    main()
