"""The thread setting that a provider runs under, as a context manager."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import fastact as fa

# The threads of GNU OpenMP look for work for 4 ms after PyTorch's last call. What is timed in the
# meantime shares its cores with them: sigmoid of 1 Mi elements on two cores, 0.17 -> 0.28 ns.
SETTLE_SECONDS = 0.01


@contextmanager
def torch_threads(everything: bool) -> Iterator[None]:
    """PyTorch on one thread, or on as many as fastact uses."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(fa.get_num_threads() if everything else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if everything:
            time.sleep(SETTLE_SECONDS)
