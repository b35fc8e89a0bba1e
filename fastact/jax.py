"""fastact's ops for JAX, on the CPU.

    >>> import jax, fastact.jax
    >>> float(jax.jit(jax.grad(fastact.jax.sigmoid))(0.0))
    0.25

XLA calls fastact through its foreign-function interface, on its own buffers. jit, vmap, jvp, grad
and a second derivative (where fastact has one) work; parameters are numbers, known at tracing.
float64 needs JAX's own `jax_enable_x64`. Programs for other devices than the CPU are refused by
JAX when they are compiled.
"""

from __future__ import annotations

from fastact.interop.catalogue import lazily, table
from fastact.interop.jax_functions import function, row_function
from fastact.interop.jax_fused import fused_function, loss_function

_made = table(function, row_function, fused_function, loss_function)
__all__ = sorted(_made)
__getattr__, __dir__ = lazily(__name__, globals(), _made)
