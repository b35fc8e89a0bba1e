"""fastact's ops for Dask arrays.

    >>> import dask.array as da, fastact.dask
    >>> x = da.ones((2, 1000), chunks=(1, 100))
    >>> fastact.dask.softmax(x, axis=1).sum(axis=1).compute()
    array([1., 1.])

Elementwise ops go chunk by chunk (as `fastact.swish(x)` does by itself, through NumPy's protocol);
softmax, softmin, log_softmax, logsumexp and softmax_cross_entropy also work along an axis that is
split into chunks. Losses have `_value_and_grad` forms too. What runs in a task runs on the thread
that Dask gave it, and no other.
"""

from __future__ import annotations

from functools import partial

from fastact.interop.catalogue import lazily, losses, table
from fastact.interop.dask_functions import function, fused_function, row_function
from fastact.interop.dask_losses import loss_function, loss_with_gradient

_made = table(function, row_function, fused_function, loss_function)
_made |= {f"{name}_value_and_grad": partial(loss_with_gradient, name) for name in losses()}
__all__ = sorted(_made)
__getattr__, __dir__ = lazily(__name__, globals(), _made)
