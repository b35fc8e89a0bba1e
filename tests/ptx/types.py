"""The fundamental types of PTX and the NumPy types that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Type:
    """A PTX type: `kind` is p (predicate), b (bits), u, s, f (IEEE float) or h (bfloat16)."""

    name: str
    kind: str
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        return self.dtype.itemsize


def _types() -> dict[str, Type]:
    numpy_kinds = {"b": "u", "u": "u", "s": "i", "f": "f"}
    found = {"pred": Type("pred", "p", np.dtype(bool))}
    for kind, widths in (("b", (8, 16, 32, 64)), ("u", (8, 16, 32, 64)), ("s", (8, 16, 32, 64))):
        for width in widths:
            dtype = np.dtype(f"{numpy_kinds[kind]}{width // 8}")
            found[f"{kind}{width}"] = Type(f"{kind}{width}", kind, dtype)
    for width in (16, 32, 64):
        found[f"f{width}"] = Type(f"f{width}", "f", np.dtype(f"f{width // 8}"))
    found["bf16"] = Type("bf16", "h", np.dtype("u2"))
    # two halves in one 32-bit register
    found["f16x2"] = Type("f16x2", "b", np.dtype("u4"))
    found["bf16x2"] = Type("bf16x2", "b", np.dtype("u4"))
    return found


TYPES = _types()


def raw(size: int) -> np.dtype[Any]:
    """The unsigned type in which registers of this many bytes are kept."""
    return np.dtype(f"u{size}")


def resize(value: np.ndarray, size: int, signed: bool) -> np.ndarray:
    """The bit patterns of a value, cut or extended to a register of another size."""
    if value.dtype.itemsize == size:
        return value.view(raw(size))
    if signed and value.dtype.itemsize < size:
        return value.astype(f"i{size}").view(raw(size))
    return value.view(raw(value.dtype.itemsize)).astype(raw(size))
