"""Object code -> callable addresses, with llvmlite alone."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import llvmlite.binding as llvm

_add_reference = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_IncRef", ctypes.pythonapi))


@lru_cache(maxsize=1)
def target_machine() -> Any:
    """LLVM's view of this processor, all its features on.

    Absolute addresses and the large code model: an object may be loaded anywhere, and
    position-independent code would share one global offset table between all objects.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=cpu_name(),
        features=cpu_features(),
        opt=3,
        reloc="static",
        codemodel="jitdefault",
        jit=True,
    )


@lru_cache(maxsize=1)
def cpu_name() -> str:
    return str(llvm.get_host_cpu_name())


@lru_cache(maxsize=1)
def cpu_features() -> str:
    """The processor's features in LLVM's notation, in a fixed order."""
    return str(llvm.get_host_cpu_features().flatten())


@lru_cache(maxsize=1)
def engine() -> Any:
    """The one loader of the process.

    It is never disposed of, not even when the interpreter ends: a worker thread may still
    be inside its code. One reference too many keeps it.
    """
    module = llvm.parse_assembly("")
    loader = llvm.create_mcjit_compiler(module, target_machine())
    _add_reference(loader)
    return loader


def load_object(code: bytes, symbols: tuple[str, ...]) -> list[int]:
    """Addresses of the symbols of an object, now in executable memory.

    Raises
    ------
    ValueError
        If the bytes are no object code or lack a symbol.
    """
    try:
        handle = llvm.ObjectFileRef.from_data(code)
    except RuntimeError as error:
        raise ValueError(f"not object code: {error}") from None
    loader = engine()
    loader.add_object_file(handle)
    loader.finalize_object()
    addresses = [int(loader.get_function_address(symbol)) for symbol in symbols]
    missing = [s for s, a in zip(symbols, addresses, strict=True) if not a]
    if missing:
        raise ValueError(f"object code without {', '.join(missing)}")
    return addresses
