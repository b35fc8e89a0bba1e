"""fastact's ops for Dask arrays.

    >>> import dask.array as da, fastact.dask
    >>> x = da.ones((2, 1000), chunks=(1, 100))
    >>> fastact.dask.softmax(x, axis=1).sum(axis=1).compute()
    array([1., 1.])

Elementwise ops go chunk by chunk (as `fastact.swish(x)` does by itself, through NumPy's protocol);
softmax, softmin, log_softmax, logsumexp and softmax_cross_entropy also work along an axis that is
split into chunks. What runs in a task runs on the thread that Dask gave it, and no other.
"""

from __future__ import annotations

from fastact.interop.catalogue import lazily, table
from fastact.interop.dask_functions import (
    function,
    row_function,
    softmax_cross_entropy,
    softmax_cross_entropy_value_and_grad,
)

_made = table(function, row_function)
__all__ = [
    "softmax_cross_entropy",
    "softmax_cross_entropy_value_and_grad",
    *sorted(_made),
]
__getattr__, __dir__ = lazily(__name__, globals(), _made)
