"""fastact's ops for PyTorch tensors, with autograd.

    >>> import torch, fastact.torch
    >>> x = torch.linspace(-1, 1, 3, requires_grad=True)
    >>> fastact.torch.sigmoid(x).sum().backward()
    >>> x.grad
    tensor([0.1966, 0.2500, 0.1966])

Tensors are on the CPU, or on a GPU, where the ops run on PyTorch's current stream; results stay
there. Every elementwise op takes its parameters by name, every op along an axis takes `dim`.
`accelerate(model)` replaces a model's activation modules and losses by `Activation`,
`RowActivation`, `FusedActivation`, `PReLU` and `Loss`. `build()` compiles calls in C++, once: they
then cost what calls of PyTorch's own functions cost. Importing this module registers the operators
`torch.ops.fastact`.
"""

from __future__ import annotations

from fastact.interop.catalogue import lazily, table
from fastact.interop.torch.functions import function, row_function
from fastact.interop.torch.fused import fused_function
from fastact.interop.torch.losses import loss_function
from fastact.interop.torch.modules import (
    Activation,
    FusedActivation,
    Loss,
    PReLU,
    Report,
    RowActivation,
    accelerate,
)
from fastact.interop.torch.native import build, load_stored

_made = table(function, row_function, fused_function, loss_function)
__all__ = [
    "Activation",
    "FusedActivation",
    "Loss",
    "PReLU",
    "Report",
    "RowActivation",
    "accelerate",
    "build",
    *sorted(_made),
]
__getattr__, __dir__ = lazily(__name__, globals(), _made)
load_stored()
