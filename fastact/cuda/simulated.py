"""Kernels run by the simulator of numba-cuda (NUMBA_ENABLE_CUDASIM=1): as Python, thread by thread.

The same kernel text as on the GPU; here a vector access is a loop over elements, and an address
is an array with an offset, which refuses whatever lies outside it.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import numpy as np
from numba import cuda

from fastact.activations.directions import program
from fastact.compile.specialize import specialize
from fastact.cuda import elementwise, row_tools, rows
from fastact.cuda.helpers import WRONG, Copy, Helper
from fastact.cuda.kinds import COMPUTING, ITEMSIZE, SIZE, VECTOR_BYTES, Elementwise
from fastact.cuda.meanings import PRIMITIVES, SIMULATED
from fastact.cuda.row_kinds import WARP, Rows
from fastact.rowwise.record import IGNORED


class Address:
    """A place in an array, from which elements are counted."""

    def __init__(self, array: np.ndarray, offset: int = 0) -> None:
        self.array = array
        self.offset = offset

    def place(self, index: int) -> int:
        at = self.offset + index
        if not 0 <= at < self.array.size:
            raise IndexError(f"element {at} of an array of {self.array.size}")
        return at


def load(address: Address, index: int) -> Any:
    array = address.array
    value = array[address.place(index)]
    return np.dtype(COMPUTING.get(array.dtype.name, array.dtype)).type(value)


def store(address: Address, index: int, value: Any) -> None:
    with np.errstate(all="ignore"):
        address.array[address.place(index)] = np.asarray(value).astype(address.array.dtype)


def lanes_of(address: Address) -> int:
    if address.offset * address.array.dtype.itemsize % VECTOR_BYTES:
        raise ValueError(f"offset {address.offset} is not aligned to {VECTOR_BYTES} bytes")
    return VECTOR_BYTES // ITEMSIZE[address.array.dtype.name]


def load_vector(address: Address, index: int) -> tuple[Any, ...]:
    lanes = lanes_of(address)
    return tuple(load(address, lanes * index + k) for k in range(lanes))


def store_vector(address: Address, index: int, values: tuple[Any, ...]) -> None:
    lanes = lanes_of(address)
    for k, value in enumerate(values):
        store(address, lanes * index + k, value)


def moved(address: Address, offset: int) -> Address:
    return Address(address.array, address.offset + offset)


def exchanged(value: Any) -> dict[int, Any]:
    """What every thread of this warp has given, by its number in the block."""
    thread: Any = threading.current_thread()
    board = thread._manager.__dict__.setdefault("board", {})
    board[thread.thread_id] = value
    thread.syncthreads()
    warp = thread.thread_id // WARP
    seen = {k: v for k, v in board.items() if k // WARP == warp}
    thread.syncthreads()
    return seen


def shuffle(value: Any, step: int) -> Any:
    thread: Any = threading.current_thread()
    return exchanged(value)[thread.thread_id ^ step]


def anywhere(condition: Any) -> bool:
    return any(exchanged(condition).values())


def operation(kernel: Elementwise) -> Any:
    """The op as a Python function of its arrays and parameters."""
    arguments, expression, sources = program(kernel.record, kernel.direction)
    scope = {n: specialize(source, kernel.computing, SIMULATED) for n, source in sources.items()}
    exec(f"def f({', '.join(arguments)}): return {expression}", scope)
    return scope["f"]


INDEX_TOOLS: dict[str, Any] = {
    "cuda": cuda,
    "index": int,
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a // b,
    "shift_right": lambda a, b: a >> b,
    "both": lambda a, b: a & b,
    "either": lambda a, b: a ^ b,
    "least": min,
    "limited": lambda limit, count: max(0, min(int(limit), count)),
}


def elementwise_tools(kernel: Elementwise) -> dict[str, Any]:
    """What the text of an elementwise kernel calls, in the simulator."""
    return INDEX_TOOLS | {
        "f": operation(kernel),
        "load": load,
        "load_value": load,
        "store": store,
        "load_vector": load_vector,
        "store_vector": store_vector,
        "LANES": kernel.lanes,
        "LANES_LOG2": kernel.lanes.bit_length() - 1,
    }


STORED_TOOLS: dict[str, Any] = {
    f"{name}_{dtype}": tool
    for dtype in SIZE
    for name, tool in (("load", load), ("at", moved), ("store", store))
}


def helper_tools(kernel: Helper) -> dict[str, Any]:
    """What the text of a helper calls, in the simulator."""
    computing = np.dtype(kernel.computing).type
    to_own = {"converted": computing, "times": lambda a, b: a * b, "NOTHING": computing(0)}
    if isinstance(kernel, Copy):
        to_own = {"converted": lambda value: value}
    whole = {"whole": int, "ZERO": 0, "IGNORED": IGNORED, "WRONG": WRONG}
    return INDEX_TOOLS | STORED_TOOLS | to_own | whole


def row_scope(kernel: Rows) -> dict[str, Any]:
    """What the text of a row kernel calls, in the simulator."""
    kinds = {name: np.dtype(name).type for name in ("float32", "float64")}
    computing, finishing = kinds[kernel.computing], kinds[kernel.finishing]
    scope = INDEX_TOOLS | {
        "computing": np.dtype(kernel.computing),
        "finishing": np.dtype(kernel.finishing),
        "select": PRIMITIVES["select"],
        "wide_select": PRIMITIVES["select"],
        "larger": np.fmax,
        "shuffle": shuffle,
        "anywhere": anywhere,
        "wide": finishing,
        "close": computing,
        "load_vector": load_vector,
        "store_vector": store_vector,
        "PARTIALS": kernel.partials,
        "IGNORED": IGNORED,
    }
    scope |= STORED_TOOLS
    for name, (source, kind) in row_tools.scalars(kernel).items():
        scope[name] = specialize(source, kind, SIMULATED)
    for name, (value, kind) in row_tools.constants(kernel).items():
        scope[name] = kinds[kind](value)
    return scope | {f"N{k}": k for k in rows.numbers(rows.source(kernel))}


def launch(
    kernel: Elementwise | Rows | Helper, arguments: list[Any], grid: Any, block: Any
) -> None:
    """Run a kernel in the simulator; pointers are `Address`es."""
    if isinstance(kernel, Rows):
        scope, text = row_scope(kernel), rows.source(kernel)
    elif isinstance(kernel, Helper):
        scope, text = helper_tools(kernel), elementwise.source(kernel)
    else:
        scope, text = elementwise_tools(kernel), elementwise.source(kernel)
    exec(text, scope)
    scope["quiet"] = partial(np.errstate, all="ignore")  # per thread, as NumPy keeps it
    exec(f"def run(*arguments):\n    with quiet():\n        {kernel.name}(*arguments)", scope)
    cuda.jit(scope["run"])[grid, block](*arguments)
