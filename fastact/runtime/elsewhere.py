"""Arrays that are not for the CPU: found where a call fails, at no cost to one that does not.

NumPy refuses an array of CuPy or PyTorch on a GPU, and the public function asks here before it
explains the refusal. Two cases need more, and get it only while they can occur: arrays of
numba.cuda, which NumPy would copy to the host without a word, and the target "cuda", under which
host arrays go to the GPU. For them a guard stands before every ufunc and refuses in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastact.runtime.arrivals import when_imported
from fastact.runtime.dlpack import unknown

INTERFACE = "__cuda_array_interface__"
DEVICE_ARRAYS = "numba.cuda.cudadrv.devicearray"

Scope = dict[str, Any]
_scopes: list[Scope] = []
_reasons: set[str] = set()  # why there are guards: "numba", "target"


class Elsewhere(TypeError):  # noqa: N818
    """The call is not for the CPU."""


def is_on_gpu(value: Any) -> bool:
    """Whether a value is an array on a GPU.

    The types of PyTorch and JAX have the attribute on the CPU too. PyTorch's tensors say where they
    are, and raise another error if their gradient is wanted.
    """
    if not hasattr(type(value), INTERFACE):
        return False
    known = getattr(value, "is_cuda", None)
    return hasattr(value, INTERFACE) if known is None else bool(known)


def may_be_on_gpu(values: Iterable[Any]) -> bool:
    """Whether the first of these is of a type whose arrays can lie on a GPU: no array is asked."""
    return hasattr(type(next(iter(values))), INTERFACE)


def is_tracked(value: Any) -> bool:
    """Whether a value is a tensor whose gradient is wanted."""
    return bool(getattr(value, "requires_grad", False))


def on_gpu(values: Iterable[Any]) -> bool:
    """Whether one of these lies on a GPU, or is a tensor that cannot be computed with here."""
    asked = unknown(values)
    return bool(asked) and (any(map(is_on_gpu, asked)) or any(map(is_tracked, asked)))


def host_too() -> bool:
    """Whether host arrays go to the GPU."""
    return "target" in _reasons


def install(scope: Scope, name: str, call: Callable[..., Any]) -> None:
    """Put what a public function calls into its scope."""
    plain = scope.setdefault("_plain", {})
    if not plain:
        _scopes.append(scope)
    plain[name] = call
    scope[name] = guard(scope, name) if _reasons else call


def guard(scope: Scope, name: str) -> Callable[..., Any]:
    def guarded(*args: Any, **options: Any) -> Any:
        if host_too() or any(map(is_on_gpu, args)) or is_on_gpu(options.get("out")):
            raise Elsewhere
        return scope["_plain"][name](*args, **options)

    return guarded


def set_reason(reason: str, holds: bool) -> None:
    """Put up guards, or take them away when no reason for them is left."""
    before = bool(_reasons)
    (_reasons.add if holds else _reasons.discard)(reason)
    if bool(_reasons) == before:
        return
    for scope in _scopes:
        for name, call in scope["_plain"].items():
            scope[name] = guard(scope, name) if _reasons else call


when_imported(DEVICE_ARRAYS, lambda: set_reason("numba", True))
