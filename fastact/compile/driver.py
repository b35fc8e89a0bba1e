"""The compiled code that stands between NumPy and the kernels: its entry points.

They are compiled into one object, under the names of `fastact.compile.abi.ENTRIES`.
"""

from __future__ import annotations

from fastact.compile.elements import elementwise_task, ufunc_loop
from fastact.compile.pool import worker
from fastact.compile.row_loops import row_loop, stage_entries, unstage_entries

__all__ = [
    "elementwise_task",
    "row_loop",
    "stage_entries",
    "ufunc_loop",
    "unstage_entries",
    "worker",
]
