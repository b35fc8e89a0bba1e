"""What teaching Numba a function takes: the types of a call, its errors, its registration."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.errors import TypingError
from numba.core.registry import cpu_target
from numba.core.typing.templates import AbstractTemplate, Signature, infer_global
from numba.extending import lower_builtin
from numba.np.numpy_support import as_dtype, from_dtype

UNKNOWN = object()


@dataclass(frozen=True)
class Call:
    """A call for given types: its result, the types it takes, and how it is written out."""

    result: Any
    operands: dict[str, Any]  # the arguments it uses, as the types that they are converted to
    lower: Callable[..., Any]  # lower(context, builder, args), args in the order of `operands`


Resolve = Callable[[dict[str, Any]], Call]


def given_value(given: Any) -> Any:
    """The value of an argument that is known when the caller is compiled, else UNKNOWN."""
    if isinstance(given, types.Omitted):
        return given.value
    if isinstance(given, types.Literal):
        return given.literal_value
    return None if given == types.none else UNKNOWN


def plain(given: Any) -> Any:
    """The type of an argument, what is known of its value forgotten."""
    if isinstance(given, types.Omitted):
        return cpu_target.typing_context.resolve_value_type(given.value)
    return types.unliteral(given)


def is_array(given: Any) -> bool:
    return isinstance(given, types.Array)


def float_of(name: str, argument: str, given: Any) -> np.dtype[Any]:
    """The float dtype in which a number or the entries of an array enter the computation."""
    given = plain(given)
    entry = given.dtype if is_array(given) else given
    if isinstance(entry, types.Boolean | types.Integer):
        dtype = np.exp(np.empty(0, as_dtype(entry))).dtype
        # Numba has no float16 on the CPU: its own np.exp takes the next dtype too
        return np.dtype(np.float32) if dtype == np.float16 else dtype
    if entry in (types.float32, types.float64):
        return as_dtype(entry)
    allowed = "bool, an integer, float32 or float64, or an array of these"
    raise TypingError(f"{name}: {argument} has type {given}; it may be {allowed}")


def common(name: str, operands: dict[str, Any]) -> np.dtype[Any]:
    """The dtype of the result: that of the arrays, or of the numbers where there is no array."""
    found = {a: float_of(name, a, given) for a, given in operands.items()}
    arrays = [dtype for a, dtype in found.items() if is_array(operands[a])]
    return np.result_type(*(arrays or found.values()))


def refuse(name: str, given: dict[str, Any], options: dict[str, Any]) -> None:
    """Raise for an option of the public function that compiled code does not have."""
    for option, default in options.items():
        if option in given and given_value(given[option]) != default:
            raise TypingError(f"{name}: {option}= is not available inside compiled code")


def array_type(dtype: np.dtype[Any], axes: int, layout: str = "C") -> Any:
    return types.Array(from_dtype(dtype), axes, layout)


def install(function: Any, resolve: Resolve) -> None:
    """Register the typing and the lowering of a public function with Numba."""
    declared = inspect.signature(function).parameters.values()
    # keyword-only parameters are a notion that Numba does not have
    parameters = [p.replace(kind=p.POSITIONAL_OR_KEYWORD) for p in declared]
    public = inspect.Signature(parameters)
    name = function.__name__

    class Template(AbstractTemplate):
        key = function
        metadata = {"target": "cpu"}  # noqa: RUF012 (Numba's protocol)
        prefer_literal = True

        def generic(self, args: Any, kws: Any) -> Any:
            if type(self.context).__module__.startswith("numba.cuda"):
                return None  # numba-cuda reads Numba's registry; fastact.interop.numba_cuda answers
            try:
                given = public.bind(*args, **kws).arguments
                call = resolve(given)
            except (TypeError, TypingError) as error:
                shown = ", ".join([*map(str, args), *(f"{k}={v}" for k, v in kws.items())])
                message = getattr(error, "msg", f"{name}: {error}")
                raise TypingError(f"{message}; called as {name}({shown})") from None
            omitted = {p.name: types.Omitted(p.default) for p in parameters}
            arguments = {**omitted, **given, **call.operands}
            return Signature(call.result, tuple(arguments.values()), None, pysig=public)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        names = [p.name for p in parameters]
        call = resolve(dict(zip(names, signature.args, strict=True)))
        values = dict(zip(names, args, strict=True))
        return call.lower(context, builder, [values[a] for a in call.operands])

    infer_global(function, types.Function(Template))
    lower_builtin(function, types.VarArg(types.Any))(lower)
    make_known()


def make_known() -> None:
    """Let a function that is met while its caller is being typed be found.

    Numba looks for new registrations before it compiles, and takes milliseconds for it: the others
    wait for that.
    """
    if global_compiler_lock.is_locked():
        cpu_target.typing_context.refresh()
