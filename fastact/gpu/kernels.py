"""Compiled kernels: from the object store, or compiled now; loaded once per device."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from fastact.gpu.driver import Driver
from fastact.gpu.plan import Plan, Slot


def stored_name(kernel: Any, cc: tuple[int, int]) -> str:
    """The name of a kernel in the object store."""
    from importlib import metadata

    version = metadata.version("numba-cuda")
    return f"{kernel.name}-sm_{cc[0]}{cc[1]}-{version}"


def cubin(kernel: Any, cc: tuple[int, int]) -> bytes:
    """The machine code of a kernel, or its PTX: the driver takes both."""
    from fastact.runtime.loops import stored

    def build() -> bytes:
        from fastact.cuda.build import cubin

        return cubin(kernel, cc)

    return stored(stored_name(kernel, cc), build)


def function(driver: Driver, device: int, kernel: Any) -> Any:
    """A kernel on a device, in whose context the caller is."""
    found = driver.functions.get((device, kernel.name))
    if found is None:
        with driver.lock:
            found = driver.functions.get((device, kernel.name))
            if found is not None:  # another thread has loaded it meanwhile
                return found
            found = driver.load(cubin(kernel, driver.capability(device)), kernel.name)
            driver.functions[device, kernel.name] = found
    return found


def letter(kernel: Any, argument: Any) -> str:
    """The struct code of an argument."""
    if argument.kind == "index":
        return "i" if kernel.index == 32 else "q"
    if argument.kind == "value":
        return {"float32": "f", "float64": "d", "int64": "q"}[argument.dtype]
    return "Q"


Pack = Callable[[Any, Sequence[int], Sequence[float], int], None]


def packer(plan: Plan) -> tuple[int, Pack]:
    """How many bytes the arguments of a launch take as the driver wants them, and what puts them

    there: pack(buffer, addresses, values, workspace).
    """
    sources = {"address": "a[{}]", "value": "v[{}]", "workspace": "w"}
    parts = [
        sources[x.kind].format(x.number) if isinstance(x, Slot) else repr(x) for x in plan.arguments
    ]
    codes = "".join(letter(plan.kernel, a) for a in plan.kernel.arguments)
    layout = struct.Struct("@" + codes)
    scope = {"pack": layout.pack_into}
    made: Any = eval(f"lambda buffer, a, v, w: pack(buffer, 0, {', '.join(parts)})", scope)
    return layout.size, made
