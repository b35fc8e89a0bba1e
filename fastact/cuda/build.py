"""Kernels -> PTX and cubin, through numba-cuda and NVVM. No GPU is needed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cuda
from numba.cuda import types
from numba.cuda.extending import intrinsic

from fastact.activations.directions import program
from fastact.cuda import elementwise, memory, row_tools, rows
from fastact.cuda.helpers import WRONG, Helper
from fastact.cuda.kinds import Elementwise
from fastact.cuda.primitives import Device, DeviceWalk, ExpressionWalk
from fastact.cuda.row_kinds import Rows
from fastact.rowwise.record import IGNORED

Kernel = Elementwise | Rows | Helper
Capability = tuple[int, int]
INDEX = {32: (types.int32, np.int32), 64: (types.int64, np.int64)}
FLOAT = {"float32": np.float32, "float64": np.float64}


def numba_type(kernel: Kernel, argument: Any) -> Any:
    if argument.kind == "pointer":
        return types.int64
    return INDEX[kernel.index][0] if argument.kind == "index" else memory.NUMBA[argument.dtype]


def intrinsic_of(count: int, kind: Any, results: int, codegen: Any) -> Any:
    """An intrinsic of so many arguments of one type; `codegen(builder, args)` lists its results."""
    result = kind if results == 1 else types.UniTuple(kind, results)

    def whole(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = codegen(builder, args)
        return values[0] if results == 1 else context.make_tuple(builder, result, values)

    names = ", ".join(f"a{k}" for k in range(count))
    scope = {"result": result, "kinds": (kind,) * count, "codegen": whole}
    exec(f"def f(typingctx, {names}):\n    return result(*kinds), codegen", scope)
    return intrinsic(scope["f"])


def operation(kernel: Elementwise) -> Any:
    """The op as an intrinsic of its arrays and parameters."""
    direction = kernel.direction
    arguments, expression, sources = program(kernel.record, direction)

    def codegen(builder: Any, args: Any) -> list[Any]:
        names = dict(zip(arguments, args, strict=True))
        return ExpressionWalk(Device(builder, kernel.computing), sources, names).evaluate(
            expression
        )

    kind = memory.NUMBA[kernel.computing]
    return intrinsic_of(len(arguments), kind, len(direction.outputs), codegen)


def scalar_tool(source: Any, dtype: str) -> Any:
    """A scalar as an intrinsic."""
    count, results = row_tools.shape(source)

    def codegen(builder: Any, args: Any) -> list[Any]:
        return Device(builder, dtype).call(source, list(args))

    return intrinsic_of(count, memory.NUMBA[dtype], results, codegen)


def conversion(source: str, target: str) -> Any:
    """A float of one computing dtype as another."""
    kind = memory.STORED[target]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if source == target:
            return args[0]
        convert = builder.fpext if target == "float64" else builder.fptrunc
        return convert(args[0], kind)

    @intrinsic
    def converted(typingctx, value):
        return memory.NUMBA[target](memory.NUMBA[source]), codegen

    return converted


@intrinsic
def select(typingctx, condition, a, b):
    def codegen(context, builder, signature, args):
        return builder.select(*args)

    return a(types.boolean, a, a), codegen


def larger_of(dtype: str) -> Any:
    def codegen(builder: Any, args: Any) -> list[Any]:
        walk = DeviceWalk(Device(builder, dtype), larger_of, {})
        return [walk.float_intrinsic("larger", list(args))]

    return intrinsic_of(2, memory.NUMBA[dtype], 1, codegen)


@intrinsic
def anywhere(typingctx, condition):
    """Whether the condition holds in any thread of the warp."""

    def codegen(context, builder, signature, args):
        bit = ir.IntType(1)
        name = "llvm.nvvm.vote.any.sync"
        kind = ir.FunctionType(bit, [memory.WORD, bit])
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        return builder.call(function, [ir.Constant(memory.WORD, 0xFFFFFFFF), args[0]])

    return types.boolean(types.boolean), codegen


def index_tools(width: int) -> dict[str, Any]:
    names = ("add", "subtract", "multiply", "divide", "shift_right", "both", "either", "least")
    return {name: getattr(memory, name) for name in names} | {
        "cuda": cuda,
        "index": memory.to_index(width),
        "limited": memory.limited,
    }


def elementwise_tools(kernel: Elementwise, cc: Capability) -> dict[str, Any]:
    """What the text of an elementwise kernel calls, on the GPU."""
    constant = INDEX[kernel.index][1]
    return index_tools(kernel.index) | {
        "f": operation(kernel),
        "load": memory.loader(kernel.dtype),
        "load_value": memory.loader(kernel.computing),
        "store": memory.storer(kernel.dtype, cc),
        "load_vector": memory.vector_loader(kernel.dtype),
        "store_vector": memory.vector_storer(kernel.dtype, cc),
        "LANES": constant(kernel.lanes),
        "LANES_LOG2": constant(kernel.lanes.bit_length() - 1),
    }


def stored_tools(dtypes: set[str], cc: Capability) -> dict[str, Any]:
    """Loads, stores and addresses of elements of these dtypes."""
    tools: dict[str, Any] = {}
    for name in dtypes:
        tools |= {f"load_{name}": memory.loader(name), f"at_{name}": memory.mover(name)}
        tools |= {f"store_{name}": memory.storer(name, cc)}
    return tools


def helper_tools(kernel: Helper, cc: Capability) -> dict[str, Any]:
    """What the text of a helper calls, on the GPU."""
    computing = kernel.computing
    stored = {a.dtype for a in kernel.arguments if a.kind == "pointer"}
    return (
        index_tools(kernel.index)
        | stored_tools(stored, cc)
        | {
            "converted": memory.converter(getattr(kernel, "target", computing)),
            "whole": memory.whole,
            "times": scalar_tool(row_tools.COMMON["times"][0], computing),
            "ZERO": np.int64(0),
            "NOTHING": FLOAT[computing](0),
            "IGNORED": np.int64(IGNORED),
            "WRONG": np.int64(WRONG),
        }
    )


def row_scope(kernel: Rows, cc: Capability) -> dict[str, Any]:
    """What the text of a row kernel calls, on the GPU."""
    dtype, computing, finishing = kernel.dtype, kernel.computing, kernel.finishing
    constant = INDEX[kernel.index][1]
    scope = index_tools(kernel.index) | {
        "computing": memory.NUMBA[computing],
        "finishing": memory.NUMBA[finishing],
        "select": select,
        "wide_select": select,
        "larger": larger_of(computing),
        "shuffle": memory.shuffle,
        "anywhere": anywhere,
        "wide": conversion(computing, finishing),
        "close": conversion(finishing, computing),
        "load_vector": memory.vector_loader(dtype),
        "store_vector": memory.vector_storer(dtype, cc),
        "PARTIALS": constant(kernel.partials),
        "IGNORED": np.int64(IGNORED),
    }
    scope |= stored_tools({dtype, computing, kernel.value_dtype or dtype, "bool", "int64"}, cc)
    for name, (source, kind) in row_tools.scalars(kernel).items():
        scope[name] = scalar_tool(source, kind)
    for name, (value, kind) in row_tools.constants(kernel).items():
        scope[name] = FLOAT[kind](value)
    for k in rows.numbers(rows.source(kernel)):
        scope[f"N{k}"] = constant(k)
    return scope


def function(kernel: Kernel, cc: Capability) -> Any:
    """The Python function of a kernel, its text bound to what it calls on the GPU."""
    if isinstance(kernel, Rows):
        scope, text = row_scope(kernel, cc), rows.source(kernel)
    elif isinstance(kernel, Helper):
        scope, text = helper_tools(kernel, cc), elementwise.source(kernel)
    else:
        scope, text = elementwise_tools(kernel, cc), elementwise.source(kernel)
    exec(text, scope)
    return scope[kernel.name]


def ptx(kernel: Kernel, cc: tuple[int, int]) -> str:
    """The PTX of a kernel for a compute capability; its entry has the kernel's name."""
    signature = types.void(*(numba_type(kernel, a) for a in kernel.arguments))
    text, _ = cuda.compile_ptx(
        function(kernel, cc),
        signature,
        cc=cc,
        launch_bounds=(math.prod(kernel.block), kernel.resident_blocks(cc)),
    )
    mangled = text.split(".visible .entry ", 1)[1].split("(", 1)[0]
    return str(text).replace(mangled, kernel.name)


def cubin(kernel: Kernel, cc: tuple[int, int]) -> bytes:
    """The machine code of a kernel.

    Not its PTX: a driver older than the compiler refuses PTX, but runs machine code made by any
    compiler of the same major version. For a GPU that the linker does not know yet, or where there
    is no linker, it is the PTX after all: that of the latest GPU before it, which the driver
    compiles.
    """
    text = ptx(kernel, cc).encode()
    try:
        return linked(kernel.name, text, cc)
    except Exception:  # of the linker, of what finds it, of what imports it
        return text


def linked(name: str, text: bytes, cc: Capability) -> bytes:
    """PTX as machine code."""
    from cuda.bindings import nvjitlink

    handle = nvjitlink.create(1, [f"-arch=sm_{cc[0]}{cc[1]}"])
    try:
        nvjitlink.add_data(handle, nvjitlink.InputType.PTX, text, len(text), name)
        nvjitlink.complete(handle)
        code = bytearray(nvjitlink.get_linked_cubin_size(handle))
        nvjitlink.get_linked_cubin(handle, code)
    finally:
        nvjitlink.destroy(handle)
    return bytes(code)
