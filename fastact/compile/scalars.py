"""Scalar functions with the C calling convention, for code that calls them by address."""

from __future__ import annotations

from numba import njit, types

from fastact.activations.directions import Direction
from fastact.activations.paired import Pointwise
from fastact.compile.abi import MAX_OPERANDS
from fastact.compile.build import WORD, emit, linked, module_of, scalar_program
from fastact.compile.kernels import NUMBA_TYPE
from fastact.compile.machine import call4, stack
from fastact.compile.slots import set_slot

SOURCES = """
def scalar({arguments}):
    return program({arguments})

def scalar_pair({arguments}, first, second):
    first[0], second[0] = program({arguments})

def with_data({x}, data):
    return program({x}{from_data})

def middle(window, count, result, data):
    result[0] = program(window[count // 2]{from_data})
    return 1
"""


def build_scalars(record: Pointwise, direction: Direction, dtype: str, symbol: str) -> bytes:
    """The scalar function of one direction of an op, and its forms for SciPy, as one object.

    {symbol}         (x, ..., parameters...) -> result; two results go to two pointers at the end
    {symbol}_data    (x, parameters *) -> result
    {symbol}_middle  (window *, count, result *, parameters *): of the middle entry of a window
    """
    number = NUMBA_TYPE[dtype]
    pointer = types.CPointer(number)
    parameters = [p.name for p in record.parameters]
    arguments = [*direction.arrays, *parameters]
    source = SOURCES.format(
        arguments=", ".join(arguments),
        x=direction.arrays[0],
        from_data="".join(f", data[{k}]" for k in range(len(parameters))),
    )
    scope = {"program": scalar_program(record, direction, dtype)}
    exec(source, scope)
    numbers = [number] * len(arguments)
    if len(direction.outputs) == 2:
        signature = types.void(*numbers, pointer, pointer)
        return emit(module_of(scope["scalar_pair"], signature, symbol))
    forms = [(scope["scalar"], number(*numbers), symbol)]
    if len(direction.arrays) == 1:
        window = types.intc(pointer, WORD, pointer, pointer)
        forms += [
            (scope["with_data"], number(number, pointer), f"{symbol}_data"),
            (scope["middle"], window, f"{symbol}_middle"),
        ]
    return emit(linked(module_of(f, s, name) for f, s, name in forms))


ARGUMENT_BYTES = 8 * MAX_OPERANDS


@njit(error_model="numpy")
def reduce_window(window, count, result, data):
    """A reduction over a window of float64: `data` holds a loop over rows and its own data."""
    arguments, steps = stack(ARGUMENT_BYTES), stack(ARGUMENT_BYTES)
    dimensions = stack(16)
    set_slot(arguments, 0, window)
    set_slot(arguments, 1, result)
    set_slot(dimensions, 0, 1)
    set_slot(dimensions, 1, count)
    set_slot(steps, 0, 0)
    set_slot(steps, 1, 0)
    set_slot(steps, 2, 8)
    call4(data[0], arguments, dimensions, steps, data[1])
    return 1


def build_window() -> bytes:
    """The function that reduces a window as one object."""
    signature = types.intc(WORD, WORD, WORD, types.CPointer(WORD))
    return emit(module_of(reduce_window.py_func, signature, "fastact_reduce_window"))
