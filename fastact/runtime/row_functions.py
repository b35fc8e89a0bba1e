"""Row ops -> the public Python functions, with an axis, a mask and a policy for empty rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from fastact.rowwise.record import RowOp
from fastact.runtime import dlpack, elsewhere
from fastact.runtime.announce import announce
from fastact.runtime.docs import row_docstring
from fastact.runtime.functions import check_dtypes, foreign, on_first_call
from fastact.runtime.outputs import Options
from fastact.runtime.ufuncs import gufunc

# A call without options goes straight to the ufunc; everything else is sorted out in `call_rows`,
# which takes 8 us: as long as the softmax of 16384 numbers. Along another axis than the last that
# needs an `out` laid out like the input: NumPy would lay it out along the axis.
TEMPLATE = """
def {name}({arrays}, axis=-1, *, {signature}):
    if {defaults}dtype is None and casting == "same_kind" and not {frame}:
        try:
            if axis == -1:
                return _rows({arrays}, out=out)
            if type(axis) is int:
                if type(out) is _array:
                    return _rows({arrays}, axis=axis, out=out)
                if out is None and {alike}:
                    return _rows({arrays}, axis=axis, out={made})
        except (TypeError, ValueError, RuntimeError):
            pass
    return _call(({arrays},), axis, out, dtype, casting{options})
"""
# Functions with an argument of their own in place of the axis or before it.
TEMPLATE_WITH = """
def {name}({arrays}, {own}, *, {signature}):
    return _call(({arrays},), {passed}, out, dtype, casting{options})
"""


class RowCall(NamedTuple):
    """A call of a row op whose options have been checked."""

    op: RowOp
    arrays: tuple[Any, ...]
    axis: Any
    asked: Options
    empty: float = math.nan
    factor: float = 1.0
    keepdims: bool = False
    offset: int | None = None  # of a causal op
    groups: Any = None  # of an op on groups

    @property
    def target(self) -> Any:
        return self.asked.outs[0]

    @property
    def operands(self) -> tuple[Any, ...]:
        return (*self.arrays, self.target, self.asked.where)


UNLIMITED = np.int64(1 << 62)
FLOATS = ("float16", "bfloat16", "float32", "float64")
NATIVE = frozenset(map(np.dtype, ("float16", "float32", "float64")))


def options_of(op: RowOp) -> dict[str, Any]:
    """The options of a row op's function, and their defaults."""
    options: dict[str, Any] = {}
    if op.groups:
        return options
    if op.many_axes:
        options["keepdims"] = False
    if op.scalable:
        options |= {"temperature": 1.0, "scale": 1.0}
    options["where"] = True
    if op.policy:
        options["empty"] = op.policy
    return options


def empty_value(op: RowOp, empty: Any) -> float:
    """The value that stands for an empty row under a policy."""
    if empty not in ("nan", "zero"):
        raise ValueError(f"{op.name}: empty must be 'nan' or 'zero', got {empty!r}")
    return math.nan if empty == "nan" else op.empty


def check_axis(name: str, axis: Any) -> int:
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise TypeError(f"{name}: axis must be an integer, got {axis!r}")
    return int(axis.__index__())


def check_factor(name: str, temperature: Any, scale: Any) -> float:
    """What x is multiplied by."""
    for word, value in (("temperature", temperature), ("scale", scale)):
        if type(value) is float:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
            raise TypeError(f"{name}: {word} must be a real number, got {value!r}")
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"{name}: temperature must be finite and positive, got {temperature!r}")
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"{name}: scale must be finite and positive, got {scale!r}")
    factor = float(scale) / float(temperature)
    if not (math.isfinite(factor) and factor > 0):
        raise ValueError(f"{name}: scale / temperature must be finite and positive, got {factor!r}")
    return factor


def check_mask(name: str, where: Any, shape: tuple[int, ...]) -> Any:
    """The mask, of the shape of x."""
    if where is True:  # `np.broadcast_to` takes 4 us
        return np.ndarray(shape, bool, b"\1", strides=(0,) * len(shape))
    mask = np.asanyarray(where)
    if mask.dtype != bool:
        raise TypeError(f"{name}: where must be boolean, got {mask.dtype}")
    if type(mask) is np.ndarray and mask.shape == shape:
        return mask
    try:
        return np.broadcast_to(mask, shape)
    except ValueError:
        raise ValueError(
            f"{name}: where of shape {mask.shape} does not broadcast against x of shape {shape}"
        ) from None


def explain(op: RowOp, error: Exception, arrays: tuple[Any, ...], axis: Any, out: Any) -> None:
    """Raise what NumPy raised, in words that name the op and the argument at fault."""
    named = dict(zip(op.inputs, arrays, strict=True))
    if any(map(foreign, arrays)):
        raise error
    if isinstance(error, TypeError):
        check_dtypes(op.name, named)
        raise error
    shapes = " and ".join(f"{name} of shape {np.shape(a)}" for name, a in named.items())
    if isinstance(error, np.exceptions.AxisError):
        raise ValueError(f"{op.name}: axis {axis} is out of bounds for {shapes}") from None
    target = out[0] if isinstance(out, tuple) else out
    if isinstance(target, np.ndarray) and not target.flags.writeable:
        raise ValueError(f"{op.name}: out is read-only; it must be writeable") from None
    if target is None:
        raise ValueError(f"{op.name}: {shapes} do not match") from None
    raise ValueError(
        f"{op.name}: {shapes} and out of shape {np.shape(target)} do not match"
    ) from None


def result_dtype(arrays: list[Any], dtype: Any) -> np.dtype[Any]:
    """The dtype that the ufunc will choose: that of np.exp for integers."""
    if dtype is not None:
        return np.dtype(dtype)
    common = np.result_type(*arrays)
    return common if common.name in FLOATS else np.exp(np.empty(0, common)).dtype


def like_input(op: RowOp, arrays: list[Any], axis: int, dtype: Any) -> np.ndarray | None:
    """An output laid out as the input: NumPy would lay it out along the axis."""
    x = arrays[-1]
    if not op.apply or axis in (-1, np.ndim(x) - 1) or any(map(foreign, arrays)):
        return None
    shapes = {
        np.shape(a) for name, a in zip(op.inputs, arrays, strict=True) if name not in op.per_row
    }
    if len(shapes) > 1 or not -x.ndim <= axis < x.ndim:
        return None
    lead = [n for k, n in enumerate(x.shape) if k != axis % x.ndim]
    for name, a in zip(op.inputs, arrays, strict=True):
        if name in op.per_row:
            own = np.shape(a)
            fits = zip(reversed(own), reversed(lead), strict=False)
            if len(own) > len(lead) or not all(n in (1, m) for n, m in fits):
                return None  # the rows are more than those of x
    return np.empty_like(x, dtype=result_dtype(arrays, dtype), subok=False)


def positive_axes(name: str, shape: tuple[int, ...], axes: Any) -> tuple[int, ...]:
    """The axes of a reduction, in order."""
    ndim = len(shape)
    chosen = range(ndim) if axes is None else [check_axis(name, a) for a in axes]
    for axis in chosen:
        if not -ndim <= axis < ndim:
            raise ValueError(f"{name}: axis {axis} is out of bounds for x of shape {shape}")
    positive = tuple(sorted(a % ndim for a in chosen))
    if len(set(positive)) < len(positive):
        raise ValueError(f"{name}: axis {axes!r} names an axis twice")
    return positive


def flattened(name: str, x: Any, axes: Any) -> tuple[tuple[int, ...], Any]:
    """The axes of a reduction, in order, and a function that makes them the last one."""
    ndim, positive = np.ndim(x), positive_axes(name, np.shape(x), axes)

    def flatten(array: Any) -> Any:
        moved = np.moveaxis(array, positive, range(ndim - len(positive), ndim))
        return moved.reshape(*moved.shape[: ndim - len(positive)], -1)

    return positive, flatten


def call_rows(
    op: RowOp,
    arrays: tuple[Any, ...],
    axis: Any,
    out: Any,
    dtype: Any,
    casting: Any,
    *,
    keepdims: bool = False,
    temperature: Any = 1.0,
    scale: Any = 1.0,
    where: Any = True,
    empty: Any = "nan",
    limit: Any = None,
) -> Any:
    """A call with options."""
    for name, array in zip(op.inputs, arrays, strict=True):
        if hasattr(array, "columns"):
            raise TypeError(
                f"{op.name}: {name} is a DataFrame, of which pandas hands on the transpose: "
                f"rows would be taken for columns; use {name}.to_numpy()"
            )
    value = empty_value(op, empty)
    factor = check_factor(op.name, temperature, scale)
    given = arrays
    asked = Options(out, where, dtype, casting)
    call = RowCall(op, arrays, axis, asked, value, factor, keepdims)
    if elsewhere.may_be_on_gpu(arrays):
        made = there().repeated(call)
        if made is not None:
            return made
    if elsewhere.on_gpu(call.operands):
        return there().rows(call)
    if dlpack.concerns((*arrays, out)):

        def on_host(*operands: Any, **options: Any) -> Any:
            return call_rows(op, operands, axis, casting=casting, **options)

        more: dict[str, Any] = {"keepdims": keepdims, "temperature": temperature, "scale": scale}
        more |= {"where": where, "empty": empty, "limit": limit, "dtype": dtype}
        return dlpack.call(on_host, arrays, out, **more)
    if op.many_axes and (axis is None or isinstance(axis, tuple)):
        return over_axes(op, arrays, axis, asked, keepdims, empty)
    if elsewhere.host_too():
        return there().rows(call)
    axis = check_axis(op.name, axis)
    inputs = [a if foreign(a) else np.asanyarray(a) for a in arrays]
    x = inputs[-1]
    scalar = not foreign(x) and x.ndim == 0 and axis in (-1, 0)
    if scalar:
        check_dtypes(op.name, dict(zip(op.inputs, arrays, strict=True)))
        inputs = [
            a if n in op.per_row else a.reshape(1) for n, a in zip(op.inputs, inputs, strict=True)
        ]
        where = where if where is True else np.reshape(where, 1)
        axis = -1
    if keepdims and op.per_row and not scalar:
        inputs[0] = np.squeeze(inputs[0], axis)
    operands: list[Any] = list(inputs)
    general = where is not True or factor != 1.0 or limit is not None
    if general:
        operands += [check_mask(op.name, where, inputs[-1].shape)]
        operands += [UNLIMITED if limit is None else limit]
        operands += [np.float64(factor)] if op.scalable else []
    target = out[0] if isinstance(out, tuple) else out
    if target is None and not scalar:
        target = like_input(op, inputs, axis, dtype)
    elif target is not None and (scalar and op.apply):
        target = np.reshape(target, 1)
    elif target is not None and keepdims and op.value and not scalar:
        target = np.squeeze(target, axis)
    try:
        result = gufunc(op, value, general)(
            *operands, axis=axis, out=target, dtype=dtype, casting=casting
        )
    except (TypeError, ValueError) as error:
        explain(op, error, given, axis, out)
    if out is not None:
        return out[0] if isinstance(out, tuple) else out
    if scalar and op.apply:
        return result[0]
    return np.expand_dims(result, axis) if keepdims and op.value and not scalar else result


@cache
def there() -> Any:
    """The room for rows on a GPU; an import statement would take 0.6 us of each call."""
    from fastact.gpu import rows

    return rows


def on_gpu(call: RowCall) -> Any:
    made = there().repeated(call)
    return there().rows(call) if made is None else made


def over_axes(
    op: RowOp,
    arrays: tuple[Any, ...],
    axis: Any,
    asked: Options,
    keepdims: bool,
    empty: Any,
) -> Any:
    """A reduction over several axes, or all: over one axis that they are flattened to."""
    out, where, dtype, casting = asked
    x = np.asanyarray(arrays[-1])
    axes, flatten = flattened(op.name, x, axis)
    mask = where if where is True else flatten(check_mask(op.name, where, x.shape))
    rows = flatten(x)
    options = {"where": mask, "empty": empty}
    if op.value:
        target = out[0] if isinstance(out, tuple) else out
        if target is not None and keepdims:
            target = np.squeeze(target, axes)
        result = call_rows(op, (rows,), -1, target, dtype, casting, **options)
        if out is not None:
            return out[0] if isinstance(out, tuple) else out
        return np.expand_dims(result, axes) if keepdims else result
    dy = np.asanyarray(arrays[0])
    if keepdims:
        dy = np.squeeze(dy, axes)
    flat = call_rows(op, (dy, rows), -1, None, dtype, casting, **options)
    kept = [n for k, n in enumerate(x.shape) if k not in axes]
    shaped = flat.reshape(*kept, *(x.shape[a] for a in axes))
    result = np.moveaxis(shaped, range(len(kept), x.ndim), axes)
    if out is None:
        return result
    target = out[0] if isinstance(out, tuple) else out
    np.copyto(target, result, casting=casting)
    return target


def call_causal(
    op: RowOp, arrays: tuple[Any, ...], offset: Any, out: Any, dtype: Any, casting: Any, **more: Any
) -> Any:
    """A call in which row i of a matrix has the entries up to i + offset."""
    if isinstance(offset, bool) or not hasattr(offset, "__index__"):
        raise TypeError(f"{op.name}: offset must be an integer, got {offset!r}")
    there = elsewhere.on_gpu((*arrays, out, more["where"]))
    if not there and dlpack.concerns((*arrays, out)):

        def on_host(*operands: Any, out: Any, **options: Any) -> Any:
            return call_causal(op, operands, offset, out, dtype, casting, **options)

        return dlpack.call(on_host, arrays, out, **more)
    shape = tuple(getattr(arrays[-1], "shape", ())) if there else np.shape(arrays[-1])
    if len(shape) < 2:
        raise ValueError(f"{op.name}: {op.inputs[-1]} of shape {shape} is no matrix")
    if there or elsewhere.host_too():
        value = empty_value(op, more.get("empty", "nan"))
        factor = check_factor(op.name, more["temperature"], more["scale"])
        asked = Options(out, more["where"], dtype, casting)
        return on_gpu(RowCall(op, arrays, -1, asked, value, factor, False, offset.__index__()))
    rows, columns = shape[-2:]
    first = min(max(offset.__index__() + 1, -rows), columns)
    limit = np.arange(first, first + rows)
    np.maximum(np.minimum(limit, columns, out=limit), 0, out=limit)  # `np.clip` takes 5 us
    return call_rows(op, arrays, -1, out, dtype, casting, limit=limit, **more)


def check_groups(op: RowOp, shape: tuple[int, ...], groups: Any, axis: int) -> int:
    """How many groups an axis of x is cut into."""
    if isinstance(groups, bool) or not hasattr(groups, "__index__"):
        raise TypeError(f"{op.name}: groups must be an integer, got {groups!r}")
    number = int(groups.__index__())
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"{op.name}: axis {axis} is out of bounds for x of shape {shape}")
    length = shape[axis]
    if number < 1 or length % number or not length:
        raise ValueError(
            f"{op.name}: groups must divide the {length} entries of axis {axis}, got {groups!r}"
        )
    return number


def call_groups(
    op: RowOp, arrays: tuple[Any, ...], groups: Any, axis: Any, out: Any, dtype: Any, casting: Any
) -> Any:
    """A call in which a row is one of the groups of neighbours that an axis is cut into."""
    if elsewhere.on_gpu((*arrays, out)):
        asked = Options(out, dtype=dtype, casting=casting)
        return on_gpu(RowCall(op, arrays, axis, asked, groups=groups))
    if dlpack.concerns((*arrays, out)):

        def on_host(*operands: Any, out: Any) -> Any:
            return call_groups(op, operands, groups, axis, out, dtype, casting)

        return dlpack.call(on_host, arrays, out)
    axis = check_axis(op.name, axis)
    check_dtypes(op.name, dict(zip(op.inputs, arrays, strict=True)))
    *others, x = map(np.asanyarray, arrays)
    number = check_groups(op, x.shape, groups, axis)
    reduced = list(x.shape)
    reduced[axis] = number
    for name, array in zip(op.inputs, others, strict=False):
        if array.shape != tuple(reduced):
            raise ValueError(
                f"{op.name}: {name} has shape {array.shape}; it must have shape {tuple(reduced)}"
            )
    target = out[0] if isinstance(out, tuple) else out
    shape = tuple(reduced) if op.value else x.shape
    if target is None:
        target = np.empty(shape, result_dtype([*others, x], dtype))
    elif not isinstance(target, np.ndarray):
        raise TypeError(f"{op.name}: out must be an array, got {target!r}")
    elif target.shape != shape:
        raise ValueError(f"{op.name}: out has shape {target.shape}; it must have shape {shape}")

    def grouped(array: Any) -> Any:
        moved = np.moveaxis(array, axis, -1)
        return moved.reshape(*moved.shape[:-1], number, -1)

    inputs = [np.moveaxis(array, axis, -1) for array in others]
    place = np.moveaxis(target, axis, -1) if op.value else grouped(target)
    call_rows(op, (*inputs, grouped(x)), -1, place, dtype, casting)
    return target


@cache
def row_function(op: RowOp) -> Callable[..., Any]:
    """The public function of a row op."""
    options = options_of(op)
    signature = {**options, "out": None, "dtype": None, "casting": "same_kind"}
    *others, key = op.inputs
    words = {
        "name": op.name,
        "arrays": ", ".join(op.inputs),
        "alike": " and ".join(
            [
                f"type({key}) is _array and {key}.dtype in _native",
                *(f"type({a}) is _array and {a}.dtype is {key}.dtype" for a in others),
                *(f"{a}.shape == {key}.shape" for a in others if a not in op.per_row),
            ]
        ),
        "made": f"_empty_like({key})" if op.apply else "None",
        "signature": ", ".join(f"{name}={default!r}" for name, default in signature.items()),
    }
    passed_on = "".join(f", {name}={name}" for name in options)
    scope: dict[str, Any] = {
        "__name__": "fastact",
        "_array": np.ndarray,
        "_native": NATIVE,
        "_empty_like": np.empty_like,
    }
    if op.causal or op.groups:
        call = call_causal if op.causal else call_groups
        scope["_call"] = partial(call, op)
        own, passed = ("offset=0", "offset") if op.causal else ("groups, axis=-1", "groups, axis")
        source = TEMPLATE_WITH.format(**words, own=own, passed=passed, options=passed_on)
    else:
        scope["_call"] = partial(call_rows, op)
        on_first_call(scope, "_rows", partial(gufunc, op, empty_value(op, op.policy or "nan")))
        defaults = "".join(
            f"{name} {'is' if default is True else '=='} {default!r} and "
            for name, default in options.items()
        )
        frame = f'hasattr({op.inputs[-1]}, "columns")'
        source = TEMPLATE.format(**words, defaults=defaults, frame=frame, options=passed_on)
    exec(source, scope)
    made: Callable[..., Any] = scope[op.name]
    made.__doc__ = row_docstring(op)
    made.__module__ = "fastact"
    announce(made, op)
    return made
