"""CUDA tensors without a GPU: PyTorch takes them for its own, their memory is the interpreter's.

A wrapper subclass says that its device is cuda:0, so the dispatcher chooses CUDA kernels for it and
`__cuda_array_interface__` is PyTorch's own. fastact's operators run the kernel that is registered
for CUDA, PyTorch's own operators compute on a CPU tensor that shares the memory. What only a
build for CUDA has is replaced: the stream, the kernels that make tensors, autograd's engine.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ptx import Buffer
from torch._C import DispatchKey, DispatchKeySet
from torch.utils._pytree import tree_map

from fastact.interop.torch import functions

STREAM = 77
DEVICE = torch.device("cuda:0")
ON_CUDA = DispatchKeySet(DispatchKey.CUDA)
CUDA, LAZY = 1, 17  # c10::DeviceType
MAKERS = ("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided")


def let_autograd_record() -> None:
    """Give PyTorch a device guard for CUDA that does nothing; without one, autograd aborts.

    PyTorch puts it there itself, for its fake tensors, where a build for CUDA finds no device. To a
    build for the CPU that looks so when another guard without devices, the lazy tensors' one, is
    in its place.
    """
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * 32).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    if guards[CUDA] is None:
        guards[CUDA] = guards[LAZY]
        torch._C._ensureCUDADeviceGuardSet()
        assert guards[CUDA] != guards[LAZY]


@cache
def let_tensors_be_made() -> torch.library.Library:
    """Give PyTorch the kernels of CUDA that make tensors from nothing."""
    library = torch.library.Library("aten", "IMPL")
    aten = torch.ops.aten
    for name, operator in (
        ("empty.memory_format", aten.empty.memory_format),
        ("empty_strided", aten.empty_strided.default),
        ("arange", aten.arange.default),
        ("_efficientzerotensor", aten.zeros.default),
    ):

        def make(*given: Any, operator: Any = operator, **options: Any) -> OnCuda:
            made = operator(*given, **options | {"device": "cpu"})
            return on_cuda(made, known=operator._opname not in MAKERS)

        library.impl(name, make, "CUDA")
    return library


class OnCuda(torch.Tensor):
    """A tensor on the GPU that tests/executing.py makes of the PTX interpreter."""

    memory: Any  # the interpreter's
    __torch_function__ = torch._C._disabled_torch_function_impl
    __module__ = "torch"  # for fastact, whose array it is

    @staticmethod
    def __new__(cls, host: torch.Tensor, buffer: Buffer) -> OnCuda:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            host.shape,
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            device=DEVICE,
        )
        made.host, made.buffer = host, buffer
        return made

    def data_ptr(self) -> int:
        return self.buffer.base + self.host.data_ptr() - self.buffer.bytes.ctypes.data

    def __repr__(self) -> str:
        return f"OnCuda({self.host})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "fastact":
            return func.redispatch(ON_CUDA, *args, **kwargs)
        kwargs = {k: v for k, v in kwargs.items() if k != "device"}
        made = func(*tree_map(host_of, args), **tree_map(host_of, kwargs))
        known = func._opname not in MAKERS
        given = [a for a in args if isinstance(a, OnCuda)]
        return tree_map(lambda t: on_cuda(t, known, given), made)


def host_of(value: Any) -> Any:
    """The CPU's view of a tensor's memory."""
    if isinstance(value, OnCuda):
        return value.host
    mixed = isinstance(value, torch.Tensor) and value.dim()
    assert not mixed, "PyTorch refuses tensors of two devices, unless one is a number"
    return value


def on_cuda(host: Any, known: bool = True, views: Any = ()) -> Any:
    """A tensor as one on the GPU: of the same memory if it is a view, else of new memory."""
    if not isinstance(host, torch.Tensor):
        return host
    for other in views:
        if other.host.untyped_storage().data_ptr() == host.untyped_storage().data_ptr():
            return other if other.host is host else OnCuda(host, other.buffer)
    flat = torch.empty(host.untyped_storage().nbytes(), dtype=torch.uint8)
    flat.untyped_storage().copy_(host.untyped_storage())
    buffer = OnCuda.memory.place(Buffer(flat.numpy(), "inout"))
    buffer.initialised[:] = known
    storage = torch.from_numpy(buffer.bytes).untyped_storage()
    placed = torch.empty(0, dtype=host.dtype).set_(
        storage, host.storage_offset(), host.shape, host.stride()
    )
    return OnCuda(placed, buffer)


def cuda(host: torch.Tensor) -> OnCuda:
    """A copy of a tensor, of its layout, on the GPU."""
    made = on_cuda(host.detach())
    return made.requires_grad_(host.requires_grad)


def cpu(value: Any) -> torch.Tensor:
    """The values of a tensor on the GPU; reading what was never written is an error."""
    assert type(value) is OnCuda and value.device == DEVICE, "not on the GPU"
    at = np.zeros(value.buffer.initialised.size, bool)
    marks = torch.from_numpy(at.view(np.uint8)).untyped_storage()
    host, size = value.host, value.element_size()
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    torch.empty(0, dtype=kinds[size]).set_(
        marks, host.storage_offset(), host.shape, host.stride()
    ).fill_(-1 if size > 1 else 255)
    assert value.buffer.initialised[at].all(), "a result that was not written"
    return host.clone()


def called(node: Any, gradients: list[Any]) -> list[Any]:
    """What a node passes on, to each of those that follow."""
    if not isinstance(node, torch.autograd.function.BackwardCFunction):
        made = node(*gradients)
        return list(made) if isinstance(made, tuple) else [made]
    made = node.apply(*gradients)
    made = made if isinstance(made, tuple) else (made,)
    # an entry for each argument of `forward`, and perhaps more; nothing follows what is no tensor
    wanted = iter([m for m, needed in zip(made, node.needs_input_grad, strict=False) if needed])
    return [next(wanted) if following else None for following, _ in node.next_functions]


def place_of(t: torch.Tensor) -> tuple[Any, int]:
    """Where a tensor stands in the graph: by its node, a leaf by the tensor itself."""
    return (t.grad_fn, t.output_nr) if t.grad_fn is not None else (id(t), 0)


def backward(outputs: Any, gradients: Any, create_graph: bool) -> dict[tuple[Any, int], Any]:
    """What autograd's engine does: the gradients by their place in the graph.

    PyTorch's engine asks for an accelerator, which a build for the CPU has not.
    """
    order: list[Any] = []

    def visit(node: Any) -> None:
        if node is not None and node not in order:
            for following, _ in node.next_functions:
                visit(following)
            order.append(node)

    found: dict[tuple[Any, int], Any] = {}
    given: dict[Any, dict[int, torch.Tensor]] = {}

    def give(node: Any, place: int, gradient: Any) -> None:
        if node is not None and gradient is not None:
            own = given.setdefault(node, {})
            own[place] = own[place] + gradient if place in own else gradient

    for y, gradient in zip(outputs, gradients, strict=True):
        visit(y.grad_fn)
        give(y.grad_fn, y.output_nr, gradient)
    with torch.set_grad_enabled(create_graph):
        for node in reversed(order):
            own = given.get(node)
            if own is None:
                continue
            if hasattr(node, "variable"):
                leaf = node.variable
                found[id(leaf), 0] = own[0].sum_to_size(leaf.shape)
                continue
            shapes = [metadata.shape for metadata in node._input_metadata]
            summed = [own[k].sum_to_size(s) if k in own else None for k, s in enumerate(shapes)]
            found |= {(node, k): gradient for k, gradient in enumerate(summed)}
            made = called(node, summed)
            for (following, place), gradient in zip(node.next_functions, made, strict=True):
                give(following, place, gradient)
    return found


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    create_graph: bool = False,
    **_: Any,
) -> tuple[Any, ...]:
    """`torch.autograd.grad`."""
    several = lambda value: (value,) if isinstance(value, torch.Tensor) else tuple(value)  # noqa: E731
    found = backward(several(outputs), several(grad_outputs), create_graph)
    return tuple(found.get(place_of(t)) for t in several(inputs))


@pytest.fixture(params=["eager", "operators"])
def cuda_tensors(request: Any, executing: Any, monkeypatch: Any) -> Any:
    """PyTorch with a GPU: through the short ways of eager mode, or through the operators."""
    let_autograd_record()
    let_tensors_be_made()
    monkeypatch.setattr(OnCuda, "memory", executing.memory, raising=False)
    if request.param == "eager":
        monkeypatch.setattr(functions, "PLAIN", (*functions.PLAIN, OnCuda))

    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.autograd, "grad", grad)
    stream = SimpleNamespace(cuda_stream=STREAM)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    return executing
