"""The stand-in driver library behind a compiled one, made of NVIDIA's header.

ctypes calls compiled functions of NVIDIA's prototypes, which hand what arrived to the stand-in.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastact.gpu import driver

SOURCE = Path(__file__).with_suffix(".c")
COMPILER = shutil.which("cc") or shutil.which("gcc")
# The names of NVIDIA's header for numbers that fastact writes out.
CONSTANTS = {
    "CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT": driver.MULTIPROCESSORS,
    "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR": driver.MAJOR,
    "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR": driver.MINOR,
    "CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL": driver.DEVICE_ORDINAL,
    "(uintptr_t)CU_LAUNCH_PARAM_BUFFER_POINTER": driver.ARGUMENTS,
    "(uintptr_t)CU_LAUNCH_PARAM_BUFFER_SIZE": driver.ARGUMENTS_SIZE,
    "(uintptr_t)CU_LAUNCH_PARAM_END": 0,
    "CU_EVENT_DISABLE_TIMING": driver.NO_TIMING,
    "CU_STREAM_NON_BLOCKING": driver.NON_BLOCKING,
    "(uintptr_t)CU_STREAM_LEGACY": driver.LEGACY_STREAM,
    "CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED": driver.HAS_POOLS,
    "CU_MEM_ALLOCATION_TYPE_PINNED": driver.PINNED,
    "CU_MEM_LOCATION_TYPE_DEVICE": driver.ON_DEVICE,
    "CU_MEMPOOL_ATTR_RELEASE_THRESHOLD": driver.KEPT,
    "(sizeof(CUmemPoolProps) <= POOL_PROPERTIES) * POOL_PROPERTIES": driver.POOL_PROPERTIES,
    "offsetof(CUmemPoolProps, location)": 8,
}


def headers() -> Path | None:
    """The folder of NVIDIA's header, from the package of CUDA's runtime."""
    spec = find_spec("nvidia")
    for place in spec.submodule_search_locations or () if spec else ():
        for found in Path(place).glob("*/include/cuda.h"):
            return found.parent
    return None


def missing() -> str:
    """Why the library cannot be made here."""
    if sys.platform != "linux" or not COMPILER:
        return "no C compiler"
    return "" if headers() else "cuda.h is not installed"


def compiled(folder: Path) -> Path:
    """The library; does not compile if a prototype or a constant is not NVIDIA's."""
    made, checks = folder / "driver.so", folder / "constants.h"
    checks.write_text(
        "#include <cuda.h>\n#include <stddef.h>\n#include <stdint.h>\n"
        f"#define POOL_PROPERTIES {driver.POOL_PROPERTIES}\n"
        + "".join(f'_Static_assert({n} == {v}, "{n}");\n' for n, v in CONSTANTS.items())
    )
    flags = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-O1"]
    run = [COMPILER, *flags, f"-I{headers()}", "-include", checks, SOURCE, "-o", made]
    subprocess.run([str(part) for part in run], check=True)
    return made


class Argument(ctypes.Structure):
    _fields_ = (("value", ctypes.c_uint64), ("size", ctypes.c_uint64))


class Word(int):
    """An argument as the stand-in reads one of ctypes: a number, or where a result goes."""

    size = 0

    @property
    def _obj(self) -> Word:
        return self

    @property
    def value(self) -> int:
        return int(self)

    @value.setter
    def value(self, result: Any) -> None:
        assert self.size, "written through an argument that is no pointer to a result"
        raw = bytes(result) if isinstance(result, bytes) else int(result or 0)
        if isinstance(raw, bytes) and self.size == ctypes.sizeof(ctypes.c_void_p):
            KEPT.append(ctypes.create_string_buffer(raw))
            raw = ctypes.addressof(KEPT[-1])
        if isinstance(raw, int):
            raw = raw.to_bytes(self.size, sys.byteorder)
        else:
            raw = (raw + b"\0")[: self.size]
        ctypes.memmove(int(self), raw, len(raw))


KEPT: list[Any] = []  # texts whose addresses have been given out
TEXTS = {"cuModuleLoadData": 1, "cuModuleGetFunction": 2}  # which argument is read as a text
HANDLER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(Argument), ctypes.c_int)
FAILED = 999  # CUDA_ERROR_UNKNOWN


class Door:
    """Calls that come through the compiled functions, answered by a stand-in."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.errors: list[BaseException] = []
        self.called: set[str] = set()
        self.handler = HANDLER(self.handle)

    def open(self, path: Path) -> None:
        ctypes.CDLL(str(path)).handle_by(self.handler)

    def handle(self, name: bytes, arguments: Any, count: int) -> int:
        try:
            return self.answer(name.decode(), arguments[:count])
        except BaseException as error:
            self.errors.append(error)
            return FAILED

    def answer(self, name: str, arguments: list[Argument]) -> int:
        self.called.add(name)
        words: list[Any] = []
        for argument in arguments:
            words.append(Word(argument.value))
            words[-1].size = argument.size
        if name in TEXTS:
            words[TEXTS[name]] = ctypes.string_at(words[TEXTS[name]])
        if name == "cuLaunchKernel":
            words[-2] = words[-2] or None
            words[-1] = (ctypes.c_void_p * 5).from_address(words[-1])
        return int(getattr(self.library, name)(*words))
