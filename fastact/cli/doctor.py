"""`fastact doctor`: what slows this set-up, and how to mend it."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import typer
from rich.table import Table
from rich.text import Text

import fastact as fa
from fastact.cli.options import Json, out, show_json
from fastact.cli.storing import contents
from fastact.interop.torch import native
from fastact.measure import machine
from fastact.runtime import state, store

GOOD, NOTE, SLOW = "good", "note", "slow"
STYLES = {GOOD: "green", NOTE: "cyan", SLOW: "bold red"}

# The vector features that matter, best first, and what each is worth.
WIDE = (
    ("avx512f", "512-bit vectors"),
    ("avx2", "256-bit vectors"),
    ("sve", "scalable vectors"),
    ("neon", "128-bit vectors"),
)
OLDEST_CUDA = 12_000  # as the driver counts: 12.0


@dataclass(frozen=True)
class Diagnosis:
    """One thing looked at: how it is, and what to do about it."""

    topic: str
    verdict: str
    found: str
    mend: str = ""


def vectors() -> Iterator[Diagnosis]:
    """Which vector instructions kernels may use."""
    features = machine.vector_features()
    best = next((words for name, words in WIDE if name in features), "")
    x86 = any(f.startswith(("sse", "avx")) for f in features)
    missing = [f for f in ("avx2", "fma") if x86 and f not in features]
    if best and not missing:
        yield Diagnosis("vectors", GOOD, f"{best}; {' '.join(features)}")
        return
    yield Diagnosis(
        "vectors",
        SLOW,
        f"no {' and '.join(missing) or 'vector instructions'}: kernels run at a fraction of speed",
        "in a virtual machine, have the host's processor passed through (QEMU: -cpu host); "
        "otherwise this processor has none",
    )


def quota(path: Path = Path("/sys/fs/cgroup/cpu.max")) -> float | None:
    """The processors' time that a container is given, None if it is not limited."""
    try:
        allowed, period = path.read_text().split()
        return int(allowed) / int(period)
    except (OSError, ValueError):
        return None


def threads() -> Iterator[Diagnosis]:
    """Whether all processors can be used."""
    count, source = state.initial_threads()
    there, usable, limit = os.cpu_count() or 1, state.available_cpus(), quota()
    if not state.HAS_POOL:
        yield Diagnosis(
            "threads",
            SLOW,
            "no POSIX threads on this system: every call runs on one thread",
            "use Linux or macOS (on Windows, WSL)",
        )
    elif count < usable:
        yield Diagnosis(
            "threads",
            SLOW,
            f"{count} of {usable} processors, because of {source}",
            f"unset {source}, or set FASTACT_NUM_THREADS={usable}",
        )
    elif limit is not None and limit < count:
        yield Diagnosis(
            "threads",
            SLOW,
            f"{count} threads, but the container is given the time of {limit:g} processors",
            f"set FASTACT_NUM_THREADS={max(1, int(limit))}, or give it more",
        )
    elif count > usable:
        yield Diagnosis(
            "threads",
            SLOW,
            f"{count} threads on {usable} processors, because of {source}",
            f"set FASTACT_NUM_THREADS={usable}",
        )
    else:
        found = f"{count}, from {source}"
        if usable < there:
            found += f"; this process may run on {usable} of {there} processors"
        yield Diagnosis("threads", NOTE if usable < there else GOOD, found)
    target = fa.get_target()
    if target == "serial":
        yield Diagnosis(
            "target", SLOW, "serial: large arrays use one thread", "unset FASTACT_TARGET"
        )


def kept() -> Iterator[Diagnosis]:
    """Whether compiled kernels are kept."""
    root = store.root()
    if store.folder() is None:
        reason = "no user cache folder" if root is None else store.problem(root) or "not writable"
        yield Diagnosis(
            "store",
            SLOW,
            f"{root or 'nowhere'}: {reason}; each process compiles again",
            "set FASTACT_CACHE_DIR to a folder of your own (mode 0700)",
        )
        return
    count = len(contents(root))
    found = f"{root}: {count} objects"
    if count:
        yield Diagnosis("store", GOOD, found)
    else:
        yield Diagnosis("store", NOTE, found, "fastact compile compiles everything ahead of use")


def release(text: str) -> tuple[int, ...]:
    """The numbers of a version: "0.61.2rc1" -> (0, 61, 2)."""
    numbers = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def needed() -> dict[str, str]:
    """The oldest versions that fastact declares: {"numba": "0.61"}."""
    try:
        declared = requires("fastact") or []
    except PackageNotFoundError:
        return {}
    pairs = (line.partition(";")[0].partition(">=") for line in declared if "extra" not in line)
    return {name.strip(): oldest.strip() for name, sign, oldest in pairs if sign}


def packages() -> Iterator[Diagnosis]:
    """Versions of what fastact stands on, and settings of Numba that slow or stop it."""
    for name, oldest in {"numba": "0.61", "numpy": "2.0", **needed()}.items():
        try:
            there = version(name)
        except PackageNotFoundError:
            yield Diagnosis(
                name,
                SLOW,
                "not installed: nothing can be compiled",
                f"pip install '{name}>={oldest}'",
            )
            continue
        if release(there) < release(oldest):
            mend = f"pip install --upgrade '{name}>={oldest}'"
            yield Diagnosis(name, SLOW, f"{there} is too old: {oldest} or later is needed", mend)
        else:
            yield Diagnosis(name, GOOD, there)
    for setting in store.SETTINGS:
        value = os.environ.get(setting)
        if value:
            yield Diagnosis(
                "numba",
                SLOW,
                f"{setting}={value} changes what is compiled",
                f"unset {setting}",
            )
    if not find_spec("ml_dtypes"):
        yield Diagnosis("bfloat16", NOTE, "not available", "pip install ml_dtypes")


def tbb() -> Iterator[Diagnosis]:
    """Numba's threading layer: the user's business, not ours."""
    if find_spec("tbb"):
        yield Diagnosis("TBB", GOOD, "installed; fastact does not need it, it has its own pool")
    else:
        yield Diagnosis(
            "TBB",
            NOTE,
            "not installed, nor needed: fastact has its own pool of threads",
            "only for your own @njit(parallel=True) called from several threads: pip install tbb, "
            "with its library on the loader's path",
        )


def subnormals() -> Iterator[Diagnosis]:
    """Whether something in this process has switched subnormal numbers off."""
    least = np.float32(1.1754944e-38)
    if float(least * np.float32(0.5)) == 0.0:
        yield Diagnosis(
            "subnormals",
            SLOW,
            "flushed to zero by a library in this process: tails lose their digits",
            "find the library that was built with -ffast-math, or the call that sets it",
        )


def driver() -> int | None:
    """The version of CUDA that the NVIDIA driver is for, None without a driver."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        library = ctypes.CDLL(name)
        found = ctypes.c_int()
        return found.value if library.cuDriverGetVersion(ctypes.byref(found)) == 0 else None
    except (OSError, AttributeError):
        return None


def gpu() -> Iterator[Diagnosis]:
    """NVIDIA's driver and what compiles for it."""
    cuda = driver()
    if cuda is None:
        card = Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidia0").exists()
        if card:
            mend = (
                "install the NVIDIA driver's user part (libcuda.so.1); in a container, pass the GPU"
            )
            yield Diagnosis("GPU", SLOW, "there is one, but its driver does not load", mend)
        else:
            yield Diagnosis("GPU", NOTE, "no NVIDIA driver: everything runs on the processor")
        return
    name = f"CUDA {cuda // 1000}.{cuda % 1000 // 10}"
    if cuda < OLDEST_CUDA:
        yield Diagnosis(
            "GPU", SLOW, f"the driver is for {name}", "update the NVIDIA driver to CUDA 12"
        )
    elif not find_spec("numba_cuda"):
        mend = "pip install 'fastact[cuda]'"
        yield Diagnosis("GPU", SLOW, f"driver for {name}, but numba-cuda is not installed", mend)
    else:
        yield Diagnosis("GPU", GOOD, f"driver for {name}, numba-cuda installed")


def torch_calls() -> Iterator[Diagnosis]:
    """Whether calls from PyTorch pass through Python."""
    if native.torch_folder() is None:
        return
    found = native.status()
    if found == native.COMPILED:
        yield Diagnosis("PyTorch", GOOD, "calls are compiled")
        return
    mend = 'python -c "import fastact.torch as ft; ft.build()"'
    yield Diagnosis("PyTorch", NOTE, f"calls are {found.partition(';')[0]}: 2 to 5 us each", mend)


def busy() -> Iterator[Diagnosis]:
    """Other programs on the same processors."""
    load = machine.load() or 0.0
    if load > 0.75 * (os.cpu_count() or 1):
        yield Diagnosis("load", NOTE, f"{load:g}: other programs keep the processors busy")


CHECKS: tuple[Callable[[], Iterator[Diagnosis]], ...] = (
    vectors,
    threads,
    kept,
    packages,
    tbb,
    subnormals,
    gpu,
    torch_calls,
    busy,
)


def diagnoses() -> list[Diagnosis]:
    """Everything that was looked at."""
    return [d for check in CHECKS for d in check()]


def doctor(as_json: Json = False) -> None:
    """Find what slows this set-up, and say how to mend it. Status 1 if there is something."""
    found = diagnoses()
    if as_json:
        show_json([asdict(d) for d in found])
    else:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
        for _ in range(3):
            table.add_column(overflow="fold")
        for d in found:
            text = d.found + (f"\n→ {d.mend}" if d.mend else "")
            table.add_row(d.topic, Text(d.verdict, STYLES[d.verdict]), Text(text))
        out.print(table)
        slow = sum(d.verdict == SLOW for d in found)
        things = "thing slows" if slow == 1 else "things slow"
        out.print(f"{slow} {things} this set-up" if slow else "nothing slows this set-up")
    if any(d.verdict == SLOW for d in found):
        raise typer.Exit(1)
