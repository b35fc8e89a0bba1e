"""Elementwise kernels, as Python text: one source for the compiler and for the simulator.

The text calls what its `Tools` provide: memory accesses, index arithmetic, and `f`, the op. All
loads of a step come before its first store, so an output may be one of the inputs.
"""

from __future__ import annotations

from fastact.cuda.helpers import Helper
from fastact.cuda.kinds import Elementwise


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{k}" for k in range(count)]


def call(kernel: Elementwise, streams: list[str]) -> str:
    """The call of the op on one element, by the names of the elements and of the values."""
    return f"f({', '.join([*streams, *(v.name for v in kernel.values)])})"


def contiguous(kernel: Elementwise) -> list[str]:
    """A vector per thread and step, then the few elements beyond the last whole vector."""
    inputs = [s.name for s in kernel.streams if not s.output]
    outputs = [s.name for s in kernel.streams if s.output]
    lanes = kernel.lanes
    body = [
        "thread = add(multiply(index(cuda.blockIdx.x), index(cuda.blockDim.x)), "
        "index(cuda.threadIdx.x))",
        "step = multiply(index(cuda.gridDim.x), index(cuda.blockDim.x))",
        "vectors = shift_right(size, LANES_LOG2)",
        "i = thread",
        "while i < vectors:",
    ]
    for name in inputs:
        body.append(f"    {', '.join(names(f'{name}_', lanes))} = load_vector({name}, i)")
    for k in range(lanes):
        results = ", ".join(f"{name}_{k}" for name in outputs)
        body.append(f"    {results} = {call(kernel, [f'{name}_{k}' for name in inputs])}")
    for name in outputs:
        body.append(f"    store_vector({name}, i, ({', '.join(names(f'{name}_', lanes))}))")
    body += [
        "    i = add(i, step)",
        "i = add(multiply(vectors, LANES), thread)",
        "if i < size:",
        *(f"    {line}" for line in scalar_step(kernel, "i")),
    ]
    return body


def strided(kernel: Elementwise) -> list[str]:
    """An element per thread and step."""
    return stepping(kernel.layout.dimensions, [s.name for s in kernel.streams], scalar_step(kernel))


def stepping(dimensions: int, streams: list[str], step: list[str]) -> list[str]:
    """A loop that finds each element of its streams, `at_<name>`, by its indices."""
    body = [
        "i = add(multiply(index(cuda.blockIdx.x), index(cuda.blockDim.x)), "
        "index(cuda.threadIdx.x))",
        "step = multiply(index(cuda.gridDim.x), index(cuda.blockDim.x))",
        "while i < size:",
        "    rest_0 = i",
    ]
    for k, d in enumerate(reversed(range(1, dimensions))):
        body += [
            f"    rest_{k + 1} = divide(rest_{k}, length_{d})",
            f"    i_{d} = subtract(rest_{k}, multiply(rest_{k + 1}, length_{d}))",
        ]
    body.append(f"    i_0 = rest_{dimensions - 1}")
    for name in streams:
        place = f"multiply(i_0, {name}_stride_0)"
        for d in range(1, dimensions):
            place = f"add({place}, multiply(i_{d}, {name}_stride_{d}))"
        body.append(f"    at_{name} = {place}")
    return [*body, *(f"    {line}" for line in step), "    i = add(i, step)"]


def scalar_step(kernel: Elementwise, place: str = "") -> list[str]:
    """Load, compute and store one element; `place`: where it is in all streams."""
    inputs = [s.name for s in kernel.streams if not s.output]
    outputs = [s.name for s in kernel.streams if s.output]
    loads = {s.name: "load" if s.dtype == kernel.dtype else "load_value" for s in kernel.streams}
    return [
        *(f"one_{name} = {loads[name]}({name}, {place or f'at_{name}'})" for name in inputs),
        f"{', '.join(f'one_{n}' for n in outputs)} = "
        + call(kernel, [f"one_{name}" for name in inputs]),
        *(f"store({name}, {place or f'at_{name}'}, one_{name})" for name in outputs),
    ]


def source(kernel: Elementwise | Helper) -> str:
    """The text of a kernel's function."""
    if isinstance(kernel, Helper):
        body = stepping(kernel.dimensions, [s.name for s in kernel.streams], kernel.step())
    else:
        body = strided(kernel) if kernel.layout.dimensions else contiguous(kernel)
    head = f"def {kernel.name}({', '.join(a.name for a in kernel.arguments)}):"
    return "\n".join([head, *(f"    {line}" for line in body)])
