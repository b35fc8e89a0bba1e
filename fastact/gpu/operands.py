"""What is asked of the operands of a call on a GPU, before anything is launched."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

import numpy as np

from fastact.gpu import arrays
from fastact.gpu.arrays import Array, described, interface_of, itemsize, library_of
from fastact.runtime.elsewhere import is_on_gpu
from fastact.runtime.row_functions import result_dtype

CASTINGS = ("no", "equiv", "safe", "same_kind", "unsafe")


def gathered(
    op: str,
    named: dict[str, Any],
    among: dict[str, Any] | None = None,
    dtypes: Container[str] = arrays.NUMBERS,
) -> dict[str, Array]:
    """The operands, all of them on the GPU; a TypeError names one that is, and one that is not.

    `among` are further values of the call, of which some lie on the GPU: results, parameters.
    """
    interfaces = {}
    for name, value in named.items():
        if getattr(value, "requires_grad", False):
            refuse_tracked(op, name)
        if library_of(value) == "torch" and value.is_neg():
            raise TypeError(f"{op}: {name} stands for its negative; pass {name}.resolve_neg()")
        interfaces[name] = interface_of(value)
        if interfaces[name] is None:
            every = named | (among or {})
            inside = next(n for n, v in every.items() if is_on_gpu(v))
            raise TypeError(
                f"{op}: {inside} is a {described(every[inside])}, but {name} is a "
                f"{described(value)}; copy one of them, fastact does not copy between the two"
            )
    return {
        name: arrays.array(op, name, value, dtypes, interfaces[name])
        for name, value in named.items()
    }


def refuse_tracked(op: str, name: str) -> None:
    raise TypeError(
        f"{op}: {name} is a tensor that requires grad; use fastact.torch, whose functions "
        "autograd knows, or pass x.detach()"
    )


def broadcast_shape(op: str, shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    every = list(shapes.values())
    if every.count(every[0]) == len(every):
        return every[0]
    try:
        return np.broadcast_shapes(*every)
    except ValueError:
        listed = ", ".join(f"{n} {s}" for n, s in shapes.items())
        raise ValueError(f"{op}: shapes do not broadcast: {listed}") from None


def grown(shape: tuple[int, ...], outs: Iterable[Any]) -> tuple[int, ...]:
    """The shape of a call whose results may be larger than what its operands broadcast to."""
    for out in outs:
        own = tuple(getattr(out, "shape", ()))
        fits = zip(reversed(own), reversed(shape), strict=False)
        if len(own) >= len(shape) and all(n in (1, m) for m, n in fits):
            shape = own
    return shape


def castable(source: str, target: str, casting: str) -> bool:
    """Whether NumPy's rule allows a conversion; it need not know bfloat16."""
    if source == target:
        return True
    if "bfloat16" not in (source, target):
        return np.can_cast(source, target, casting)  # type: ignore[arg-type]
    if casting == "same_kind":
        return target in arrays.FLOATS
    return casting == "unsafe" or (casting == "safe" and target in ("float32", "float64"))


def promoted(dtypes: dict[str, str]) -> str:
    """The dtype that a call computes for: NumPy's, that of np.exp for integers.

    Beside bfloat16 it is the smallest that holds both, as on the CPU: an integer of a byte fits
    bfloat16, one of two bytes float32.
    """
    names = set(dtypes.values())
    others = names - {"bfloat16"}
    if others < names:
        held = {n for n in others if arrays.SIZE[n] > 1}
        if not held:
            return "bfloat16"
        return "float32" if held <= {"float16", "float32", "int16", "uint16"} else "float64"
    return result_dtype([np.empty(0, n) for n in names], None).name


def loop_dtype(
    op: str, operands: dict[str, Array], dtype: Any = None, casting: str = "same_kind"
) -> str:
    """The dtype of a call's kernel, to which all operands can be converted."""
    dtypes = {n: a.view.dtype for n, a in operands.items()}
    names = list(dtypes.values())
    same = names.count(names[0]) == len(names) and names[0] in arrays.FLOATS
    if dtype is None:
        return names[0] if same else promoted(dtypes)
    found = dtype if dtype == "bfloat16" else np.dtype(dtype).name
    if found not in arrays.FLOATS:
        raise TypeError(f"{op}: dtype is {found}; it may be {', '.join(arrays.FLOATS)}")
    check_casting(op, casting)
    for name, own in dtypes.items():
        if not castable(own, found, casting):
            raise TypeError(
                f"{op}: {name} has dtype {own}, which casting={casting!r} does not let become "
                f"{found}"
            )
    return found


def check_casting(op: str, casting: Any) -> None:
    if casting not in CASTINGS:
        raise ValueError(f"{op}: casting must be one of {', '.join(CASTINGS)}, got {casting!r}")


def output(
    op: str,
    like: Array,
    given: Any,
    shape: tuple[int, ...],
    dtype: str,
    casting: str = "same_kind",
    name: str = "out",
) -> Array:
    """The array for a result: the one given, checked, or a new one."""
    if given is None:
        return arrays.array(op, name, arrays.empty_like(op, like, shape, dtype))
    if not is_on_gpu(given):
        raise TypeError(
            f"{op}: the inputs are on the GPU, but {name} is a {described(given)}; it must be on "
            "the same device"
        )
    out = arrays.array(op, name, given)
    if out.readonly:
        raise ValueError(f"{op}: {name} is read-only; it must be writeable")
    if out.view.shape != shape:
        raise ValueError(f"{op}: {name} has shape {out.view.shape}; it must have shape {shape}")
    if not castable(dtype, out.view.dtype, casting):
        raise TypeError(
            f"{op}: {name} has dtype {out.view.dtype}, which casting={casting!r} does not let "
            f"{dtype} become"
        )
    return out


def overlapping(out: Array, others: Iterable[Array]) -> bool:
    """Whether an output shares memory with an input in another order than element by element."""
    low, high = extent(out)
    for other in others:
        if other.address == out.address and other.view == out.view:
            continue
        start, stop = extent(other)
        if start < high and low < stop:
            return True
    return False


def extent(a: Array) -> tuple[int, int]:
    """The first byte of an array, and the one after the last."""
    size = itemsize(a.view.dtype)
    steps = [s * (n - 1) * size for s, n in zip(a.view.strides, a.view.shape, strict=True) if n]
    return a.address + sum(s for s in steps if s < 0), a.address + size + sum(
        s for s in steps if s > 0
    )


def refuse_overlap(op: str, outs: Sequence[Array], name: str, mask: Array) -> None:
    """A mask is read while results are written, so it must be apart from them."""
    if any(overlapping(out, [mask]) for out in outs):
        raise ValueError(f"{op}: out overlaps {name} in memory; they must be apart")
