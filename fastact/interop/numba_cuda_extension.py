"""What is done when numba.cuda has been imported: it must cost next to nothing."""

from __future__ import annotations

from typing import Any

from fastact.runtime.announce import listen


def teach(*declared: Any) -> None:
    """Teach numba-cuda one public function of fastact."""
    from fastact.interop.numba_cuda import teach

    teach(*declared)


def init() -> None:
    """Teach numba-cuda the functions of fastact, those that exist and each new one.

    Its simulator runs kernels as Python, where they are what they are.
    """
    from numba.core import config

    if not config.ENABLE_CUDASIM:
        listen(teach)
