"""What it costs to share a call between threads: the figure behind the "auto" target.

    python bench/dispatch.py

A call too small to be worth sharing is forced onto the pool, back to back (the workers are
still looking for work) and after a pause (they sleep). The difference to the serial call is
what sharing costs: `fastact.compile.abi.SHARING` and `fastact.runtime.state.WAKING_NANOSECONDS`,
where the engine begins; what waking costs it then measures as it goes.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

import fastact as fa

SIZE = 4096
CALLS = 400


def median_call(pause: float) -> float:
    """Median time of a call in microseconds, each after a pause in seconds."""
    x = np.linspace(-1, 1, SIZE, dtype=np.float32)
    out = np.empty_like(x)
    times = []
    for _ in range(CALLS):
        if pause:
            time.sleep(pause)
        start = time.perf_counter_ns()
        fa.relu(x, out=out)
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1000


def main() -> None:
    print(f"{fa.get_num_threads()} threads, relu of {SIZE} float32, median of {CALLS} calls in us")
    for label, pause in (("back to back", 0.0), ("after 2 ms of rest", 0.002)):
        row = []
        for target in ("serial", "parallel"):
            with fa.use_target(target):
                median_call(0.0)
                row.append(median_call(pause))
        print(f"{label:20} serial {row[0]:6.2f}  shared {row[1]:6.2f}  cost {row[1] - row[0]:6.2f}")


if __name__ == "__main__":
    main()
