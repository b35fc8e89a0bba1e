"""The entry point that Numba calls before it compiles anything: it must cost next to nothing."""

from __future__ import annotations

from typing import Any

from fastact.runtime.announce import listen


def teach(function: Any, declaration: Any, *direction: Any) -> None:
    """Teach Numba one public function of fastact."""
    from fastact.activations.paired import Pointwise
    from fastact.interop import numba_elementwise, numba_loops, numba_rows
    from fastact.interop.numba_typing import install
    from fastact.rowwise.record import Loss
    from fastact.runtime.halves import Halves

    if isinstance(declaration, Halves):
        from fastact.interop.numba_halves import teach_halves

        teach_halves(function, declaration.gate, *direction)
    elif isinstance(declaration, Loss):
        from fastact.interop.numba_losses import teach_loss

        teach_loss(function, declaration, *direction)
    elif isinstance(declaration, Pointwise):
        numba_loops.watch_libraries()
        install(function, numba_elementwise.resolver(declaration, *direction))
    else:
        install(function, numba_rows.resolver(declaration))


def init() -> None:
    """Teach Numba the functions of fastact, those that exist and each new one."""
    listen(teach)
