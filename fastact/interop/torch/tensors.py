"""Tensors as the arrays that fastact computes with, and back, without a copy, bfloat16 included.

A tensor on the CPU becomes NumPy's view of its memory. One on a GPU is an array as it is: the
array functions take it, run on PyTorch's current stream and return another one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


# glibc maps and unmaps large blocks anew, until one of their size has been freed: a step on 1 Mi
# elements then spends two thirds of its time on the page faults of its results. The size rises with
# each freed block, up to this one; none of its pages is ever touched.
LARGEST_KEPT = 32 << 20


def keep_freed_memory() -> None:
    """Let glibc use freed blocks again rather than map new ones; elsewhere nothing happens."""
    np.empty(LARGEST_KEPT - (1 << 20), np.uint8)


def array_of(x: Tensor) -> Any:
    """The tensor's memory as an array."""
    if x.requires_grad:
        x = x.detach()
    if x.is_neg():
        x = x.resolve_neg()
    if not x.is_cpu:
        return x
    return x.view(torch.uint16).numpy().view(BFLOAT16) if x.dtype is torch.bfloat16 else x.numpy()


def tensor_of(y: Any) -> Tensor:
    """The memory of a result as a tensor."""
    if isinstance(y, Tensor):
        return y
    y = np.asarray(y, order="C")
    if y.dtype is BFLOAT16:
        return torch.from_numpy(y.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(y)


def floating(name: str, x: Tensor, argument: str = "x") -> Tensor:
    """The tensor as PyTorch's own activations take it: integers become the default dtype.

    Raises
    ------
    TypeError
        If x is no tensor, or neither real nor dense.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: {argument} must be a torch.Tensor, got {type(x).__name__}")
    if x.layout is not torch.strided:
        raise TypeError(
            f"{name}: {argument} must be dense, got layout {x.layout}; use {argument}.to_dense()"
        )
    if x.dtype in FLOATS:
        return x
    if x.dtype in INTEGERS:
        return x.to(torch.get_default_dtype())
    allowed = ", ".join(str(d).removeprefix("torch.") for d in FLOATS)
    raise TypeError(
        f"{name}: {argument} has dtype {x.dtype}; it may be bool, an integer, {allowed}"
    )


def check_devices(name: str, named: dict[str, Tensor]) -> None:
    """Raise a ValueError if the tensors lie on several devices."""
    if len({t.device for t in named.values()}) > 1:
        listed = ", ".join(f"{n} on {t.device}" for n, t in named.items())
        raise ValueError(f"{name}: all tensors must be on one device: {listed}")


def computed(function: Callable[..., Any], like: Tensor, *operands: Any, **options: Any) -> Tensor:
    """function of the tensors' arrays, of the dtype and layout of `torch.empty_like(like)`.

    Where the layout is the same, NumPy makes the result: one call of PyTorch less.
    """
    arrays = [array_of(o) if isinstance(o, Tensor) else o for o in operands]
    if like.is_cpu and like.dim() and like.is_contiguous():
        y = function(*arrays, **options)
        if y.flags.c_contiguous and y.ndim:
            y = tensor_of(y)
            if y.dtype is like.dtype:
                return y
    out = torch.empty_like(like)
    function(*arrays, **options, out=array_of(out))
    return out


keep_freed_memory()
