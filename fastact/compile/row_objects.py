"""Row ops -> object code."""

from __future__ import annotations

from dataclasses import replace

from fastact.compile.columns import columns_task, narrow_task
from fastact.compile.rows import apply_task, combine_task, partial_task, rows_task
from fastact.compile.streams import streaming_task
from fastact.compile.strips import new_module, object_code
from fastact.rowwise.record import Form

TASKS = {
    "rows": rows_task,
    "columns": columns_task,
    "narrow": narrow_task,
    "partial": partial_task,
    "combine": combine_task,
    "apply": apply_task,
    "streaming": streaming_task,
}


def build_rows(form: Form, symbol: str, names: tuple[str, ...] = ()) -> bytes:
    """Tasks of a form of a row op as one object: all that every call may need, or those named."""
    module = new_module()
    if form.has_precise:
        rows_task(replace(form, precise=True), module, f"{symbol}_precise")
    for name in names or form.entries:
        TASKS[name](form, module, f"{symbol}_{name}")
    return object_code(module)
