"""Launches: a kernel, its arguments in memory, its blocks."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ptx.memory import Buffer, GlobalMemory
from ptx.parser import Function, Module, parse
from ptx.run import Run

THREADS_AT_ONCE = 1 << 14


@contextmanager
def no_collection() -> Iterator[None]:
    """Decoding makes thousands of small functions; a collection walks all that Numba holds."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Machine:
    """One launch of one kernel.

    Parameters
    ----------
    module
        PTX text, or what `parse` made of it.
    perturb
        A seed: results of approximate instructions fall anywhere within their bounds.
    memory
        That of an earlier launch, whose buffers this one goes on with.
    """

    def __init__(
        self,
        module: Module | str,
        kernel: str | None = None,
        perturb: Any = None,
        memory: GlobalMemory | None = None,
    ) -> None:
        self.module = parse(module) if isinstance(module, str) else module
        self.kernel = self.module.entries[kernel] if kernel else self.module.entry
        self.memory = memory or GlobalMemory()
        self.generator = None if perturb is None else np.random.default_rng(perturb)
        self.constants: dict[str, int] = {}
        for variable in self.module.variables:
            if variable.space in ("global", "const"):
                values = np.array(variable.initial or [0] * variable.count, variable.type.dtype)
                placed = self.memory.place(Buffer(values, "in"))
                self.constants[variable.name] = placed.address

    def launch(
        self,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        arguments: Sequence[Any],
        shared: int = 0,
        together: int | None = None,
        order: Sequence[int] | None = None,
    ) -> None:
        """Run all blocks, or those in `order`. Arguments are numbers or `Buffer`s.

        A buffer stands for the address of its first element. `shared` is the size of the
        dynamic shared memory, `together` how many blocks run beside one another.
        """
        grid3, block3 = _three(grid), _three(block)
        parameters = _pack(self.kernel, arguments, self.memory)
        blocks = np.arange(int(np.prod(grid3))) if order is None else np.asarray(order)
        threads = int(np.prod(block3))
        chunk = together or max(1, THREADS_AT_ONCE // threads)
        with np.errstate(all="ignore"), no_collection():
            for start in range(0, len(blocks), chunk):
                Run(self, parameters, grid3, block3, blocks[start : start + chunk], shared).go()


def _three(size: int | Sequence[int]) -> tuple[int, int, int]:
    given = (size,) if isinstance(size, int) else tuple(size)
    return (*given, 1, 1, 1)[:3]  # type: ignore[return-value]


def _pack(kernel: Function, arguments: Sequence[Any], memory: GlobalMemory) -> dict[str, Any]:
    """The bytes of each kernel parameter."""
    if len(arguments) != len(kernel.parameters):
        raise ValueError(f"{len(arguments)} arguments for {len(kernel.parameters)} parameters")
    packed = {}
    for parameter, argument in zip(kernel.parameters, arguments, strict=True):
        if isinstance(argument, Buffer):
            if argument not in memory.buffers:
                memory.place(argument)
            argument = np.uint64(argument.address)
        value = np.asarray(argument)
        if value.nbytes != parameter.nbytes:  # a Python number: as wide as the parameter
            kind = "f" if value.dtype.kind == "f" else "i"
            value = value.astype(f"{kind}{parameter.nbytes}")
        packed[parameter.name] = np.frombuffer(value.tobytes(), np.uint8)
    return packed
