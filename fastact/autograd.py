"""fastact's ops as primitives of HIPS autograd.

    >>> import numpy as np, autograd, fastact.autograd
    >>> autograd.grad(fastact.autograd.sigmoid)(0.0).item()
    0.25

Reverse and forward mode; a second time where the op has a second derivative in fastact. Ops along
an axis take `axis`.
"""

from __future__ import annotations

from fastact.interop.catalogue import lazily, table
from fastact.interop.hips import function, fused_function, loss_function, row_function

_made = table(function, row_function, fused_function, loss_function)
__all__ = sorted(_made)
__getattr__, __dir__ = lazily(__name__, globals(), _made)
