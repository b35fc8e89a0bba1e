"""Python functions -> object code, through Numba and LLVM. The only room that imports Numba.

An object has no tie to the process that made it: no absolute address, no library call but
memcpy and memset. So it can be stored and loaded by any later process with llvmlite alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import llvmlite.binding as llvm
from numba import cfunc, njit, types

from fastact.activations.directions import Direction, program
from fastact.activations.paired import Pointwise
from fastact.compile import driver, iterate
from fastact.compile.cpu import CPU
from fastact.compile.kernels import KERNEL_SIGNATURE, STORAGE, elementwise_kernel
from fastact.compile.loading import target_machine
from fastact.compile.specialize import specialize
from fastact.compile.tabulated import NAMES, USED, inline_tabulated

WORD = types.intp
ENTRY_SIGNATURES = {
    "ufunc_loop": types.void(WORD, WORD, WORD, WORD),
    "elementwise_task": WORD(WORD, WORD, WORD),
    "worker": WORD(WORD),
    "row_loop": types.void(WORD, WORD, WORD, WORD),
    "stage_entries": WORD(*[WORD] * 7),
    "unstage_entries": WORD(*[WORD] * 6),
}


def module_of(function: Callable[..., Any], signature: Any, symbol: str) -> Any:
    """Compile a function; returns its optimised LLVM module, only `symbol` visible."""
    compiled = cfunc(signature, forceinline=True, error_model="numpy")(function)
    text = compiled._library.get_llvm_str()
    module = llvm.parse_assembly(without_references(text))
    for f in module.functions:
        if f.name == compiled._wrapper_name:
            f.name = symbol
            f.linkage = "external"
        # what is internal may lose arguments, which a scalar's vector forms then still take
        elif not f.is_declaration and NAMES not in f.name:
            f.linkage = "internal"
    if NAMES in text:
        inline_tabulated(module, target_machine())
    for v in (*module.functions, *module.global_variables):
        if not v.is_declaration and v.name != symbol:
            v.linkage = "internal"
    return module


def without_references(text: str) -> str:
    """A module's text without the list of functions that must be kept though nothing calls them."""
    return re.sub(rf"^@{re.escape(USED)} = .*$", "", text, flags=re.MULTILINE)


def emit(module: Any) -> bytes:
    """Object code of a module, what nothing calls left out."""
    machine = target_machine()
    options = llvm.create_pipeline_tuning_options(speed_level=0)
    passes = llvm.create_pass_builder(machine, options)
    manager = llvm.create_new_module_pass_manager()
    manager.add_global_dead_code_eliminate_pass()
    manager.run(module, passes)
    module.verify()
    return bytes(machine.emit_object(module))


def linked(modules: Iterable[Any]) -> Any:
    """Several LLVM modules as one."""
    first, *others = modules
    for module in others:
        first.link_in(module)
    return first


def build_driver() -> bytes:
    """The engine's own functions as one object."""
    return emit(
        linked(
            module_of(getattr(driver, name).py_func, signature, f"fastact_{name}")
            for name, signature in ENTRY_SIGNATURES.items()
        )
    )


def build_iterate() -> bytes:
    """The function that runs a loop over arrays of any shape as one object."""
    signature = WORD(WORD, WORD, WORD)
    return emit(module_of(iterate.iterate.py_func, signature, "fastact_iterate"))


def scalar_program(record: Pointwise, direction: Direction, computing: str) -> Any:
    """The scalar function of one direction of an op, compiled for a computing dtype."""
    tables = computing == "float32" and CPU.tabulated is not None
    arguments, expression, sources = program(record, direction, tables)
    scope = {name: specialize(source, computing, CPU) for name, source in sources.items()}
    exec(f"def program({', '.join(arguments)}): return {expression}", scope)
    return njit(scope["program"], forceinline=True, error_model="numpy")


def kernel_module(
    record: Pointwise, direction: Direction, dtype: str, variant: int, symbol: str
) -> Any:
    """The LLVM module of one kernel."""
    computing = STORAGE[dtype][1]
    kernel = elementwise_kernel(
        scalar_program(record, direction, computing),
        dtype,
        len(direction.arrays),
        record.defaults,
        len(direction.outputs),
        variant,
    )
    return module_of(kernel, KERNEL_SIGNATURE, symbol)


def build_kernel(
    record: Pointwise, direction: Direction, dtype: str, variant: int, symbol: str
) -> bytes:
    """Object code of one kernel."""
    return emit(kernel_module(record, direction, dtype, variant, symbol))
