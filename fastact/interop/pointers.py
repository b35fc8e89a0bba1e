"""Ops as C function pointers, for Cython, C and `scipy.LowLevelCallable`."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from fastact.activations.directions import DIRECTIONS, Direction
from fastact.activations.paired import Pointwise
from fastact.rowwise.record import RowOp
from fastact.runtime.functions import FLOATS, check_parameter, directions_of
from fastact.runtime.loops import Loop, RowLoop, driver_entry, load
from fastact.runtime.numpy_api import new_capsule

C_NAMES = {"float32": "float", "float64": "double"}
C_TYPES = {"float32": ctypes.c_float, "float64": ctypes.c_double}
LOOP_SIGNATURE = "void (char **, intptr_t *, intptr_t *, void *)"
WINDOW_SIGNATURE = "int (double *, intptr_t, double *, void *)"


@dataclass(frozen=True)
class Pointer:
    """A scalar function and an inner loop in memory, which stay valid as long as the process lives.

    Attributes
    ----------
    address, signature
        The C function of one element, "double (double, double)" for example: it takes
        `arguments` in order, the parameters last, and never raises. The two results of
        `value_and_grad` go to two pointers at the end. None for the half dtypes and for row ops.
    arguments
        Names of what the scalar function takes.
    loop_address, loop_signature, loop_data
        NumPy's inner loop: `loop(args, dimensions, steps, loop_data)`. `args` and `steps` list the
        arrays, then the parameters (a step of 0 repeats one), then the results; row ops have
        their row length in `dimensions[1]` and the steps along the row after the others.
        It uses the threads and the target of fastact.
    """

    name: str
    dtype: str
    direction: str
    arguments: tuple[str, ...]
    address: int | None
    signature: str | None
    loop_address: int
    loop_data: int
    loop_signature: str = LOOP_SIGNATURE
    _forms: dict[str, tuple[int, Any]] = field(default_factory=dict, repr=False, compare=False)

    def as_ctypes(self) -> Any:
        """The scalar function as a ctypes function."""
        if self.address is None:
            raise ValueError(f"{self.name} in {self.dtype} has no scalar function, only a loop")
        number = C_TYPES[self.dtype]
        numbers = [number] * len(self.arguments)
        if self.signature is not None and self.signature.startswith("void"):
            pointer = ctypes.POINTER(number)
            return ctypes.CFUNCTYPE(None, *numbers, pointer, pointer)(self.address)
        return ctypes.CFUNCTYPE(number, *numbers)(self.address)

    def for_integration(self, **parameters: float) -> Any:
        """A `scipy.LowLevelCallable` of x alone, as `scipy.integrate.quad` takes it."""
        return self._for_scipy("data", "double (double, void *)", parameters)

    def for_filter(self, **parameters: float) -> Any:
        """A `scipy.LowLevelCallable` for `scipy.ndimage.generic_filter`.

        A reduction such as logsumexp is taken over the window; any other op is applied to
        the window's middle entry.
        """
        return self._for_scipy("window", WINDOW_SIGNATURE, parameters)

    def _for_scipy(self, form: str, signature: str, parameters: dict[str, float]) -> Any:
        from scipy import LowLevelCallable

        if form not in self._forms:
            raise ValueError(
                f"SciPy calls functions of one float64; {self.name} ({self.direction}) in "
                f"{self.dtype} is none"
            )
        address, data = self._forms[form]
        if isinstance(data, Pointwise):
            unknown = parameters.keys() - {p.name for p in data.parameters}
            values = {p.name: parameters.get(p.name, p.default) for p in data.parameters}
            given = [check_parameter(self.name, p, values[p.name]) for p in data.parameters]
            buffer: Any = (ctypes.c_double * max(len(given), 1))(*given)
        else:
            unknown, buffer = set(parameters), data
        if unknown:
            raise TypeError(f"{self.name} has no parameter {', '.join(sorted(unknown))}")
        function = capsule(address, signature.encode())
        return LowLevelCallable(function, ctypes.cast(buffer, ctypes.c_void_p))


@cache
def capsule(address: int, name: bytes) -> Any:
    """A PyCapsule, kept for good: it points to its name."""
    return new_capsule(address, name, None)


def pointer(name: str, dtype: Any, direction: str = "forward") -> Pointer:
    """The address and signature of an op's scalar function and inner loop, for compiled code.

    Parameters
    ----------
    name : str
        An op or an alias; `fastact.names()` lists them.
    dtype : dtype or str
        float32 or float64; float16 and bfloat16 have the loop only.
    direction : str, default "forward"
        "forward", "grad", "backward", "backward_from_output" or "value_and_grad".

    Raises
    ------
    KeyError
        If there is no such op.
    ValueError
        If the op has no such direction, or the dtype is none of these.

    Examples
    --------
    >>> import fastact as fa
    >>> p = fa.pointer("elu", "float64")
    >>> p.signature, p.arguments
    ('double (double, double)', ('x', 'alpha'))
    >>> p.as_ctypes()(1.0, 0.5)
    1.0
    """
    from fastact import registry

    op = registry.get(name)
    chosen = dtype if dtype == "bfloat16" else np.dtype(dtype).name
    if chosen not in FLOATS:
        raise ValueError(f"dtype must be {', '.join(FLOATS[:-1])} or {FLOATS[-1]}, got {dtype!r}")
    record = op.record
    if isinstance(record, Pointwise):
        # a direction whose results are sums is no function of one element
        directions: dict[str, Any] = {d.name: d for d in directions_of(record) if not d.results}
    elif isinstance(record, RowOp) and not record.causal:
        family = {row.name: row for row in registry.ROW_OPS}
        suffixes = {d.name: record.name + d.suffix for d in DIRECTIONS.values()}
        directions = {d: family[full] for d, full in suffixes.items() if full in family}
    else:
        directions = {}
    if direction not in directions:
        has = ", ".join(map(repr, directions)) or "no pointers"
        raise ValueError(f"{record.name} has no direction {direction!r}; it has {has}")
    if isinstance(record, Pointwise):
        return elementwise_pointer(record, directions[direction], chosen)
    return row_pointer(directions[direction], chosen, direction)


@cache
def elementwise_pointer(record: Pointwise, direction: Direction, dtype: str) -> Pointer:
    entry = driver_entry("ufunc_loop")
    loop = Loop(record, direction, dtype, False)
    loop.resolve(0)
    name = record.name + direction.suffix
    arguments = (*direction.arrays, *(p.name for p in record.parameters))
    if dtype not in C_NAMES:
        return Pointer(name, dtype, direction.name, arguments, None, None, entry, loop.address)
    symbol = f"fastact_{name}_{dtype}_scalar"
    pair = len(direction.outputs) == 2
    symbols = [symbol]
    if not pair and len(direction.arrays) == 1:
        symbols += [f"{symbol}_data", f"{symbol}_middle"]

    def build() -> bytes:
        from fastact.compile.scalars import build_scalars

        return build_scalars(record, direction, dtype, symbol)

    addresses = load(symbol, tuple(symbols), build)
    number = C_NAMES[dtype]
    taken = [number] * len(arguments) + [f"{number} *"] * 2 * pair
    signature = f"{'void' if pair else number} ({', '.join(taken)})"
    forms = {}
    if dtype == "float64" and len(addresses) > 1:
        forms = {"data": (addresses[1], record), "window": (addresses[2], record)}
    return Pointer(
        name,
        dtype,
        direction.name,
        arguments,
        addresses[0],
        signature,
        entry,
        loop.address,
        _forms=forms,
    )


@cache
def row_pointer(op: RowOp, dtype: str, direction: str) -> Pointer:
    from fastact.runtime.row_functions import empty_value

    entry = driver_entry("row_loop")
    loop = RowLoop(op, dtype, empty_value(op, op.policy or "nan"))
    loop.resolve(0)
    forms = {}
    if dtype == "float64" and op.value is not None and op.inputs == ("x",):

        def build() -> bytes:
            from fastact.compile.scalars import build_window

            return build_window()

        (window,) = load("window", ("fastact_reduce_window",), build)
        words = (ctypes.c_int64 * 2)(entry, loop.address)
        forms = {"window": (window, words)}
    return Pointer(
        op.name, dtype, direction, op.inputs, None, None, entry, loop.address, _forms=forms
    )
