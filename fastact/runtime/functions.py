"""Records -> the public Python functions: NumPy's ufunc call with named, checked parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from fastact.activations.directions import DIRECTIONS, Direction
from fastact.activations.paired import Paired, Pointwise
from fastact.activations.record import Parameter
from fastact.runtime import dlpack, elsewhere
from fastact.runtime.announce import announce
from fastact.runtime.docs import docstring
from fastact.runtime.outputs import Options
from fastact.runtime.paired_docs import paired_docstring
from fastact.runtime.ufuncs import ufunc

FLOATS = ("float16", "bfloat16", "float32", "float64")
ALLOWED = "bool, an integer, float16, bfloat16, float32 or float64"
DOMAINS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "finite": ("finite", np.isfinite),
    "nonnegative": ("finite and not negative", lambda v: np.isfinite(v) & (v >= 0)),
    "positive": ("finite and positive", lambda v: np.isfinite(v) & (v > 0)),
}

# What the wrapper costs beside the ufunc's own 210 ns was measured: keyword-only options 70 ns
# (their defaults come from a dictionary), `out` passed by keyword 20 ns, options passed on
# 100 ns; options with ordinary defaults, `out` by position and an identity test each: 40 ns.
TEMPLATE = """
def {name}({arrays}{signature}, out=None, where=True, dtype=None, casting=_same_kind{wrt}):
    {partial}try:
        if {test}where is True and dtype is None and casting is _same_kind:
            {defaults}return _default({plain})
            return _general({arrays}{checked}{plain_out})
        {defaults}return _default({arrays}, {options})
        return _general({arrays}{checked}, {options})
    except (TypeError, ValueError, RuntimeError) as error:{unpack}
        return _refused(error, {named}, out, where, dtype, casting)
"""
# With one output, which NumPy also takes as a tuple, and with two.
UNPACK = (
    """
        if type(out) is tuple and len(out) == 1:
            return _self({operands}, out[0], where, dtype, casting)""",
    "",
)
TESTS = ("", "out is None and ")
PLAIN_OUT = (", out", "")
# Beside the path of a plain call this costs an identity test.
PARTIAL = """if wrt is not _x:
        return _partial(wrt, ({arrays}, {parameters}), out, (where, dtype, casting))
    """
SUMMED = """
def {name}({arrays}{signature}, out=None):
    return _summed(({operands}), out)
"""
OPTIONS = ("out=out", "out=(None, None) if out is None else out")


def check_parameter(op: str, parameter: Parameter, value: Any) -> Any:
    """The value, if it lies in the parameter's domain; an array is checked as a whole."""
    words, holds = DOMAINS[parameter.domain]
    if type(value) is float or type(value) is int:
        good = math.isfinite(value) and holds(value)
    elif hasattr(value, "__array_ufunc__") and not isinstance(value, np.ndarray | np.generic):
        return value  # another library's array: it will call back with its own pieces
    else:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
            raise TypeError(
                f"{op}: {parameter.name} must be a real number or an array of them, got {value!r}"
            )
        good = bool(np.all(holds(array)))
    if not good:
        raise ValueError(f"{op}: {parameter.name} must be {words}, got {value!r}")
    return value


def check_constraint(op: str, record: Pointwise, *values: Any) -> tuple[Any, ...]:
    """The parameters, each checked, if they agree with one another too."""
    named = dict(zip((p.name for p in record.parameters), values, strict=True))
    for p in record.parameters:
        check_parameter(op, p, named[p.name])
    if record.constraint and not any(map(foreign, values)):
        arrays = {name: np.asarray(value) for name, value in named.items()}
        try:
            holds = bool(np.all(eval(record.constraint, {"__builtins__": {}}, arrays)))
        except ValueError:
            return values  # shapes that do not broadcast: what the ufunc says is clearer
        if not holds:
            given = ", ".join(f"{n}={named[n]!r}" for n in named if n in record.constraint)
            raise ValueError(f"{op}: {record.constraint} must hold, got {given}")
    return values


def foreign(value: Any) -> bool:
    """Whether a value brings its own way of being computed with (`__array_ufunc__`)."""
    return hasattr(value, "__array_ufunc__") and not isinstance(value, np.ndarray | np.generic)


def check_dtypes(op: str, named: dict[str, Any]) -> None:
    """Raise a TypeError that names the first array whose dtype is not real floating point."""
    for name, value in named.items():
        if foreign(value):
            continue
        kind = np.asarray(value).dtype
        if kind.kind not in "biu" and kind.name not in FLOATS:
            raise TypeError(f"{op}: {name} has dtype {kind}; it may be {ALLOWED}") from None


def explain(op: str, error: Exception, named: dict[str, Any], asked: Options) -> None:
    """Raise what NumPy raised, in words that name the op and the argument at fault."""
    if isinstance(error, RuntimeError) or str(error).startswith(op):
        raise error
    if any(map(foreign, named.values())):
        raise error
    out, where = asked.out, asked.where
    outs = [o for o in asked.outs if o is not None]
    if isinstance(error, TypeError):
        check_dtypes(op, named)
        for o in outs:
            if not isinstance(o, np.ndarray) and not foreign(o):
                raise TypeError(f"{op}: out must be an array, got {o!r}") from None
        if isinstance(out, tuple) and "ArrayType" in str(error):
            raise ValueError(f"{op}: out must be one array, got {len(out)}") from None
        raise error
    if any(isinstance(o, np.ndarray) and not o.flags.writeable for o in outs):
        raise ValueError(f"{op}: out is read-only; it must be writeable") from None
    shapes = {name: np.shape(value) for name, value in named.items()}
    if where is not True:
        shapes["where"] = np.shape(where)
    try:
        common = np.broadcast_shapes(*shapes.values())
    except ValueError:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{op}: shapes do not broadcast: {listed}") from None
    for o in outs:
        if np.shape(o) != common:
            raise ValueError(
                f"{op}: out has shape {np.shape(o)}; it must have shape {common}"
            ) from None
    raise error


@cache
def on_gpu() -> Any:
    """The room for calls on a GPU; an import statement would take 0.6 us of each call."""
    from fastact.gpu import call

    return call


def refused(
    record: Pointwise,
    direction: Direction,
    error: Exception,
    named: dict[str, Any],
    *options: Any,
) -> Any:
    """What a call comes to that NumPy has refused: one for others' arrays, or an explanation."""
    asked = Options(*options)
    if elsewhere.may_be_on_gpu(named.values()):
        try:
            made = on_gpu().repeated(record, direction, named, asked)
        except (TypeError, ValueError, RuntimeError) as problem:
            raise problem from None
        if made is not None:
            return made
    operands = (*named.values(), *asked.outs)
    there = elsewhere.on_gpu(operands)
    if not there and dlpack.concerns(operands):
        again = function(record, direction)
        call = partial(dlpack.call, again, named.values(), **asked._asdict())
    elif there or elsewhere.host_too():
        call = partial(on_gpu().elementwise, record, direction, named, asked)
    else:
        return explain(record.name + direction.suffix, error, named, asked)
    try:
        return call()
    except (TypeError, ValueError, RuntimeError) as problem:
        raise problem from None


def on_first_call(scope: dict[str, Any], name: str, make: Callable[[], np.ufunc]) -> None:
    """Put a stand-in for a ufunc into a scope: called, it makes the ufunc and gives way to it.

    The first ufunc loads the engine. Where that fails, it fails here, as a plain exception.
    """

    def stand_in(*args: Any, **options: Any) -> Any:
        made = make()
        elsewhere.install(scope, name, made)
        return made(*args, **options)

    elsewhere.install(scope, name, stand_in)


def later(name: str, *arguments: Any) -> Callable[..., Any]:
    """A function of `fastact.runtime.partials`, which few calls need, imported when called."""

    def call(*more: Any) -> Any:
        from fastact.runtime import partials

        return getattr(partials, name)(*arguments, *more)

    return call


@cache
def function(record: Pointwise, direction: Direction) -> Callable[..., Any]:
    """The public function of one direction of an op."""
    name = record.name + direction.suffix
    scope: dict[str, Any] = {
        "_refused": partial(refused, record, direction),
        "_same_kind": "same_kind",
        "__name__": "fastact",
    }
    signature = checked = ""
    operands = (*direction.arrays, *(p.name for p in record.parameters))
    on_first_call(scope, "_general", partial(ufunc, record, direction, False))
    on_first_call(scope, "_default", partial(ufunc, record, direction, bool(record.parameters)))
    tests = []
    for k, p in enumerate(record.parameters):
        scope[f"_d{k}"] = p.default
        scope[f"_check{k}"] = partial(check_parameter, name, p)
        signature += f", {p.name}=_d{k}"
        checked += f", _check{k}({p.name})"
        tests.append(f"{p.name} is _d{k}")
    if record.constraint:
        scope["_checked"] = partial(check_constraint, name, record)
        checked = f", *_checked({', '.join(p.name for p in record.parameters)})"
    two = len(direction.outputs) == 2
    partial_of = direction.name == "backward" and bool(getattr(record, "parameter_grads", None))
    words = {
        "name": name,
        "arrays": ", ".join(direction.arrays),
        "checked": checked,
        "defaults": f"if {' and '.join(tests)}: " if tests else "",
        "signature": signature,
        "operands": ", ".join(operands),
        "parameters": ", ".join(p.name for p in record.parameters),
    }
    template = SUMMED if direction.results else TEMPLATE
    if direction.results:
        scope["_summed"] = later("summed_backward", record, direction)
    elif partial_of:
        scope |= {"_x": "x", "_partial": later("wrt_backward", record)}
    source = template.format(
        **words,
        test=TESTS[two],
        unpack=UNPACK[two].format(operands=", ".join(operands)),
        plain=words["arrays"] + PLAIN_OUT[two],
        plain_out=PLAIN_OUT[two],
        wrt=", wrt=_x" if partial_of else "",
        partial=PARTIAL.format(**words) if partial_of else "",
        options=f"{OPTIONS[two]}, where=where, dtype=dtype, casting=casting",
        named="{" + ", ".join(f"'{n}': {n}" for n in operands) + "}",
    )
    exec(source, scope)
    made: Callable[..., Any] = scope[name]
    scope["_self"] = made  # a parameter may have the op's name
    if isinstance(record, Paired):
        made.__doc__ = paired_docstring(record, direction)
    else:
        made.__doc__ = docstring(record, direction)
    made.__module__ = "fastact"
    if not getattr(record, "like", ""):  # another library's defaults: the name is taken
        announce(made, record, direction)
    return made


def directions_of(record: Pointwise) -> list[Direction]:
    """The directions that an op has."""
    if isinstance(record, Paired):
        return list(record.form.directions)
    return [
        d
        for d in DIRECTIONS.values()
        if d.name != "backward_from_output" or record.grad_from_output is not None
    ]
