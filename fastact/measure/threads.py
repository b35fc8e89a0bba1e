"""The thread setting that a provider runs under, as a context manager."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import fastact as fa


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
