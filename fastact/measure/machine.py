"""The machine and the versions that a measurement was made with."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import fastact as fa

PACKAGES = ("fastact", "numpy", "numba", "llvmlite", "ml_dtypes", "scipy", "torch")

# The features that decide which vector code LLVM emits, in LLVM's names.
VECTOR_FEATURES = (
    "sse4.2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512dq",
    "avx512bw",
    "avx512vl",
    "avx512fp16",
    "neon",
    "fullfp16",
    "sve",
    "sve2",
)


def versions() -> dict[str, str | None]:
    """The version of each package, None where it is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = getattr(fa, "__version__", None) if package == "fastact" else None
    return found


def cpu_name() -> str:
    """The processor's name as its maker gives it, as far as the system tells."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def vector_features() -> list[str]:
    """The features of this processor that the compiled code may use."""
    from fastact.compile.loading import cpu_features

    present = set(cpu_features().split(","))
    return [feature for feature in VECTOR_FEATURES if f"+{feature}" in present]


def architecture() -> str:
    """LLVM's name for the processor family."""
    from fastact.compile.loading import cpu_name as family

    return family()


def load() -> float | None:
    """Processes that wanted a core during the last minute, on average; None where unknown."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def describe() -> dict[str, object]:
    """All of it, for a report."""
    return {
        "cpu": cpu_name(),
        "architecture": architecture(),
        "features": vector_features(),
        "cores": os.cpu_count(),
        "threads": fa.get_num_threads(),
        "load": load(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
    }


def summary() -> str:
    """One line: processor, threads, and the versions of what is compared."""
    known = ", ".join(f"{name} {number}" for name, number in versions().items() if number)
    return f"{cpu_name()}, {fa.get_num_threads()} threads; {known}"


def warning() -> str:
    """A line to print if other programs are using the machine; "" if not."""
    busy = load() or 0.0
    if busy < 0.5:
        return ""
    return f"Other programs are running (load {busy:g}): times on all cores mean little."
