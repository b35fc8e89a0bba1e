"""Kernels -> PTX and cubin, through numba-cuda and NVVM. No GPU is needed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda import types
from numba.cuda.extending import intrinsic

from fastact.cuda import elementwise, memory
from fastact.cuda.kinds import Elementwise
from fastact.cuda.primitives import Device, ExpressionWalk

INDEX = {32: (types.int32, np.int32), 64: (types.int64, np.int64)}


def numba_type(kernel: Any, argument: Any) -> Any:
    if argument.kind == "pointer":
        return types.int64
    return INDEX[kernel.index][0] if argument.kind == "index" else memory.NUMBA[argument.dtype]


def operation(kernel: Elementwise) -> Any:
    """The op as an intrinsic of its arrays and parameters."""
    record, direction = kernel.record, kernel.direction
    parameters = "".join(f", {p.name}" for p in record.parameters)
    arguments = [*direction.arrays, *(p.name for p in record.parameters)]
    sources = ("forward", "grad", "grad_from_output")
    scope = {name: getattr(record, name) for name in sources}
    computing, outputs = kernel.computing, len(direction.outputs)
    kind = memory.NUMBA[computing]
    result = kind if outputs == 1 else types.UniTuple(kind, outputs)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        walk = ExpressionWalk(
            Device(builder, computing), scope, dict(zip(arguments, args, strict=True))
        )
        values = walk.evaluate(direction.expression.format(p=parameters))
        return values[0] if outputs == 1 else context.make_tuple(builder, result, values)

    return intrinsic_of(len(arguments), kind, result, codegen)


def intrinsic_of(count: int, kind: Any, result: Any, codegen: Any) -> Any:
    """An intrinsic of so many arguments of one type."""
    names = ", ".join(f"a{k}" for k in range(count))
    scope = {"result": result, "kinds": (kind,) * count, "codegen": codegen}
    exec(f"def f(typingctx, {names}):\n    return result(*kinds), codegen", scope)
    return intrinsic(scope["f"])


def tools(kernel: Elementwise) -> dict[str, Any]:
    """What the text of a kernel calls, for the GPU."""
    constant = INDEX[kernel.index][1]
    return {
        "cuda": cuda,
        "f": operation(kernel),
        "index": memory.to_index(kernel.index),
        "add": memory.add,
        "subtract": memory.subtract,
        "multiply": memory.multiply,
        "divide": memory.divide,
        "shift_right": memory.shift_right,
        "load": memory.loader(kernel.dtype),
        "load_value": memory.loader(kernel.computing),
        "store": memory.storer(kernel.dtype),
        "load_vector": memory.vector_loader(kernel.dtype),
        "store_vector": memory.vector_storer(kernel.dtype),
        "LANES": constant(kernel.lanes),
        "LANES_LOG2": constant(kernel.lanes.bit_length() - 1),
    }


def function(kernel: Elementwise, scope: dict[str, Any]) -> Any:
    """The Python function of a kernel, its text bound to what it calls."""
    exec(elementwise.source(kernel), scope)
    return scope[kernel.name]


def ptx(kernel: Elementwise, cc: tuple[int, int]) -> str:
    """The PTX of a kernel for a compute capability; its entry has the kernel's name."""
    signature = types.void(*(numba_type(kernel, a) for a in kernel.arguments))
    threads = math.prod(kernel.block)
    text, _ = cuda.compile_ptx(
        function(kernel, tools(kernel)),
        signature,
        cc=cc,
        launch_bounds=(threads, kernel.resident_blocks(cc)),
    )
    mangled = text.split(".visible .entry ", 1)[1].split("(", 1)[0]
    return str(text).replace(mangled, kernel.name)
