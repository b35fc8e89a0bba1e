"""Scalar functions inside `@cuda.jit` code: `fa.sigmoid(x)` and every other elementwise form.

A call becomes the op's own instructions, written into the caller: no device function is compiled,
nothing is linked. It computes in float64 if an array operand is a float64 or an integer, as
Python numbers are, and else in float32; parameters are converted to that.
"""

from __future__ import annotations

import inspect
from typing import Any

import numba
from numba.cuda import types
from numba.cuda.cudadecl import registry
from numba.cuda.cudaimpl import lower
from numba.cuda.descriptor import cuda_target
from numba.cuda.typing.templates import AbstractTemplate, signature

from fastact.activations.directions import Direction, program
from fastact.activations.record import Activation
from fastact.cuda.primitives import Device, ExpressionWalk

KIND = {"float32": types.float32, "float64": types.float64}


def computing(operands: list[Any]) -> str | None:
    """The dtype that operands of these types are computed in; None if one is no real number."""
    if not all(isinstance(t, types.Float | types.Integer | types.Boolean) for t in operands):
        return None
    if any(isinstance(t, types.Float) and t.bitwidth < 32 for t in operands):
        return None
    return "float32" if all(t == types.float32 for t in operands) else "float64"


def call_signature(record: Activation, direction: Direction) -> inspect.Signature:
    """The arguments that a call in compiled code may have."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    arrays = [inspect.Parameter(name, kind) for name in direction.arrays]
    parameters = [inspect.Parameter(p.name, kind, default=p.default) for p in record.parameters]
    return inspect.Signature(arrays + parameters)


def teach(function: Any, record: Any, *direction: Any) -> None:
    """Teach numba-cuda one public function."""
    if not isinstance(record, Activation) or direction[0].results:
        return
    (form,) = direction
    expected = call_signature(record, form)
    outputs = len(form.outputs)

    class Template(AbstractTemplate):
        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            try:
                given = expected.bind(*args, **kws).arguments
            except TypeError:
                return None
            dtype = computing([given[name] for name in form.arrays])
            if dtype is None or computing(list(given.values())) is None:
                return None
            kind = KIND[dtype]
            result = kind if outputs == 1 else types.UniTuple(kind, outputs)
            found = signature(result, *[kind] * len(expected.parameters))
            return found.replace(pysig=expected)

    def implement(context: Any, builder: Any, found: Any, args: Any) -> Any:
        names, expression, scope = program(record, form)
        dtype = "float32" if found.args[0] == types.float32 else "float64"
        walk = ExpressionWalk(Device(builder, dtype), scope, dict(zip(names, args, strict=True)))
        values = walk.evaluate(expression)
        if outputs == 1:
            return values[0]
        return context.make_tuple(builder, found.return_type, values)

    registry.register_global(function, types.Function(Template))
    # By their exact types: Numba's own adapter, which numba-cuda knows too, takes any.
    for kind in KIND.values():
        lower(function, *[kind] * len(expected.parameters))(implement)
    # A function may be met for the first time while its caller is being typed; but not while
    # numba.cuda is still being imported, which its contexts themselves import.
    if hasattr(numba, "cuda"):
        cuda_target.typing_context.refresh()
        cuda_target.target_context.refresh()
