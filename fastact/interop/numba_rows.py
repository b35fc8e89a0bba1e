"""Row ops inside Numba's compiled code: calls of the library's own loops."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.np.numpy_support import from_dtype

from fastact.interop.addresses import row_key
from fastact.interop.numba_arrays import (
    ONE,
    WORD,
    Operands,
    Result,
    Strided,
    any_of,
    fail_if,
    number,
    run,
    strided,
)
from fastact.interop.numba_typing import (
    UNKNOWN,
    Call,
    Resolve,
    array_type,
    common,
    given_value,
    is_array,
    plain,
    refuse,
)
from fastact.rowwise.record import RowOp
from fastact.runtime.row_functions import UNLIMITED, empty_value

OPTIONS = {"out": None, "dtype": None, "casting": "same_kind"}
FACTORS = ("temperature", "scale")


@dataclass(frozen=True)
class Form:
    """What is known of a call when it is compiled."""

    dtype: np.dtype[Any]
    axes: int  # of x
    layout: str
    keepdims: bool
    flatten: bool  # axis=None
    general: bool  # with a mask, a limit and a scale
    empty: float
    taken: dict[str, Any]  # the arguments whose values are used, as types


def form_of(op: RowOp, given: dict[str, Any]) -> Form:
    """Check the types of a call, and the options that must be known when it is compiled."""

    def known(option: str, default: Any, allowed: tuple[Any, ...]) -> Any:
        value = given_value(given[option]) if option in given else default
        if value is UNKNOWN or value not in allowed:
            words = " or ".join(map(repr, allowed))
            raise TypingError(f"{op.name}: {option} must be {words}, written out in the call")
        return value

    refuse(op.name, given, OPTIONS)
    operands = {a: given[a] for a in op.inputs}
    dtype = common(op.name, operands)
    keepdims = op.groups or known("keepdims", False, (False, True))
    empty = known("empty", op.policy or "nan", ("nan", "zero"))
    x = operands[op.inputs[-1]]
    for a, t in operands.items():
        wanted = x.ndim if is_array(x) else 1
        wanted -= a in op.per_row and not keepdims
        if (t.ndim if is_array(t) else 0) != wanted:
            raise TypingError(f"{op.name}: {a} must be an array with {wanted} dimensions, got {t}")
    if x.ndim < 1 + op.causal:
        what = "a matrix" if op.causal else "an array with an axis"
        raise TypingError(f"{op.name}: {op.inputs[-1]} must be {what}, got {x}")
    taken = {a: t if is_array(t) else plain(t) for a, t in operands.items()}
    taken |= {o.name: given[o.name] for o in op.extra}
    for own in ("groups", "offset"):
        if not isinstance(given.get(own, types.Omitted(0)), types.Omitted):
            if not isinstance(plain(given[own]), types.Integer):
                raise TypingError(f"{op.name}: {own} must be an integer, got {given[own]}")
            taken[own] = types.intp
    axis = given.get("axis", types.Omitted(-1))
    flatten = given_value(axis) is None
    if flatten and (keepdims or not op.many_axes or op.value is None):
        raise TypingError(f"{op.name}: axis must be an integer inside compiled code, got None")
    if not flatten:
        if not isinstance(plain(axis), types.Integer):
            raise TypingError(f"{op.name}: axis must be an integer, got {axis}")
        if given_value(axis) != -1:
            taken["axis"] = types.intp
    for factor in FACTORS:
        if factor in given and given_value(given[factor]) != 1.0:
            if not isinstance(plain(given[factor]), types.Float | types.Integer):
                raise TypingError(f"{op.name}: {factor} must be a number, got {given[factor]}")
            taken[factor] = types.float64
    mask = given.get("where", types.Omitted(True))
    if given_value(mask) is not True:
        if not (is_array(mask) and mask.dtype == types.boolean and mask.ndim <= x.ndim):
            raise TypingError(
                f"{op.name}: where must be a boolean array that broadcasts against "
                f"{op.inputs[-1]}, got {mask}"
            )
        taken["where"] = mask
    layout = "F" if x.layout == "F" and x.ndim > 1 and not flatten else "C"
    axes = 1 if flatten else x.ndim
    value = empty_value(op, empty)
    general = op.causal or any(a in taken for a in (*FACTORS, "where"))
    return Form(dtype, axes, layout, keepdims, flatten, general, value, taken)


def resolver(op: RowOp) -> Resolve:
    """What a call of a row op is, for the types of its arguments."""

    def resolve(given: dict[str, Any]) -> Call:
        form = form_of(op, given)
        results = result_types(op, form)
        result = results[0] if len(results) == 1 else types.Tuple(results)

        def lower(context: Any, builder: Any, args: Any) -> Any:
            values = dict(zip(form.taken, args, strict=True))
            found = Rows(op, form, context, builder).call(values, results)
            return found[0] if len(found) == 1 else context.make_tuple(builder, result, found)

        return Call(result, form.taken, lower)

    return resolve


def result_types(op: RowOp, form: Form) -> list[Any]:
    found = []
    for o in op.results():
        dtype = np.dtype(o.dtype or form.dtype)
        axes = form.axes - (not o.is_row and not form.keepdims)
        layout = form.layout if o.is_row else "C"
        found.append(array_type(dtype, axes, layout) if axes else from_dtype(dtype))
    return found


def causal_limits(rows, columns, offset):
    limits = np.empty(rows, np.int64)
    for row in range(rows):
        limits[row] = min(max(row + offset + 1, 0), columns)
    return limits


class Rows:
    """The code of one call."""

    def __init__(self, op: RowOp, form: Form, context: Any, builder: Any) -> None:
        self.op, self.form, self.context, self.builder = op, form, context, builder

    def fail_if(self, condition: Any, message: str) -> None:
        fail_if(self.context, self.builder, condition, ValueError, f"{self.op.name}: {message}")

    def call(self, values: dict[str, Any], results: list[Any]) -> list[Any]:
        """Write out the call; returns the values of its results."""
        op, form, builder = self.op, self.form, self.builder
        call = self.operands = Operands(self.context, builder)
        inputs = []
        for a in op.inputs:
            type_, value = form.taken[a], values[a]
            if form.flatten:
                type_, value = call.flat(type_, value)
            inputs.append(call.take(type_, value, form.dtype))
        x = inputs[-1]
        self.axis = self.row_axis(values.get("axis"))
        length = self.chosen(x.shape)
        self.groups = self.groups_of(length, values["groups"]) if op.groups else ONE
        length = builder.sdiv(length, self.groups)
        outer, kept = self.without_axis(x.shape), self.reduced(x.shape)
        for a, given in zip(op.inputs[:-1], inputs, strict=False):
            per_row = kept if form.keepdims else outer
            self.check_shape(given, per_row if a in op.per_row else x.shape)
        for o in op.extra:
            inputs.append(call.take(form.taken[o.name], values[o.name], o.dtype))
            self.check_shape(inputs[-1], outer)
        if form.general:
            inputs += self.general(values, x)
        made = []
        for o, type_ in zip(op.results(), results, strict=True):
            shape = x.shape if o.is_row else kept if form.keepdims else outer
            made.append(Result(self.context, builder, type_, shape))
        operands = [*inputs, *(r.operand for r in made)]
        declared = (*op.operands(form.general), *op.results())
        rows = {k: self.along(operands[k]) for k, o in enumerate(declared) if o.is_row}
        across = [
            o if o.axes < form.axes else self.across(o, length if k in rows else ONE)
            for k, o in enumerate(operands)
        ]
        if op.groups:
            outer = [*outer, self.groups]
        key = row_key(op.name, form.dtype.name, form.empty, form.general)
        run(self.context, builder, key, outer, across, rows, length)
        call.release()
        return [r.value() for r in made]

    def row_axis(self, axis: Any) -> Any:
        """The axis along which the rows run, not negative."""
        axes = WORD(self.form.axes)
        if axis is None:
            return WORD(self.form.axes - 1)
        low = self.builder.icmp_signed("<", axis, WORD(-self.form.axes))
        high = self.builder.icmp_signed(">=", axis, axes)
        self.fail_if(self.builder.or_(low, high), "axis is out of bounds")
        negative = self.builder.icmp_signed("<", axis, WORD(0))
        return self.builder.select(negative, self.builder.add(axis, axes), axis)

    def is_axis(self, k: int) -> Any:
        return self.builder.icmp_signed("==", self.axis, WORD(k))

    def without_axis(self, values: list[Any]) -> list[Any]:
        """One value per axis, that of the row's axis left out."""
        before = [self.builder.icmp_signed("<", WORD(k), self.axis) for k in range(len(values))]
        return [
            self.builder.select(before[k], values[k], values[k + 1]) for k in range(len(values) - 1)
        ]

    def groups_of(self, length: Any, groups: Any) -> Any:
        """How many rows the axis is cut into."""
        few = self.builder.icmp_signed("<", groups, ONE)
        empty = self.builder.icmp_signed("<", length, ONE)
        groups = self.builder.select(few, ONE, groups)  # the division must not trap
        uneven = self.builder.icmp_signed("!=", self.builder.srem(length, groups), WORD(0))
        bad = any_of(self.builder, [few, empty, uneven])
        self.fail_if(bad, "groups must divide the entries of the axis")
        return groups

    def reduced(self, shape: list[Any]) -> list[Any]:
        """The shape with one value per row in place of the row."""
        return [self.builder.select(self.is_axis(k), self.groups, n) for k, n in enumerate(shape)]

    def chosen(self, values: list[Any]) -> Any:
        """The value that belongs to the row's axis."""
        found = values[0]
        for k in range(1, len(values)):
            found = self.builder.select(self.is_axis(k), values[k], found)
        return found

    def along(self, operand: Strided) -> Any:
        """The stride of an operand along the row; a mask of length 1 there is repeated."""
        single = self.builder.icmp_signed("==", self.chosen(operand.shape), ONE)
        return self.builder.select(single, WORD(0), self.chosen(operand.strides))

    def across(self, operand: Strided, length: Any) -> Strided:
        """An operand's axes from row to row, that of the groups last, each `length` entries on."""
        shape, strides = map(self.without_axis, (operand.shape, operand.strides))
        if self.op.groups:
            shape = [*shape, self.groups]
            strides = [*strides, self.builder.mul(self.chosen(operand.strides), length)]
        return replace(operand, shape=shape, strides=strides)

    def check_shape(self, operand: Strided, shape: list[Any]) -> None:
        pairs = zip(operand.shape, shape, strict=True)
        bad = [self.builder.icmp_signed("!=", a, b) for a, b in pairs]
        names = " and ".join(self.op.inputs)
        self.fail_if(any_of(self.builder, bad), f"the shapes of {names} do not match")

    def general(self, values: dict[str, Any], x: Strided) -> list[Strided]:
        """The further operands of the general form: mask, limit and scale."""
        builder = self.builder
        operands = [self.mask(values.get("where"), x)]
        if self.op.causal:
            operands += [self.limits(x, values.get("offset", WORD(0)))]
        else:
            operands += [number(builder, WORD(int(UNLIMITED)))]
        if self.op.scalable:
            operands += [number(builder, self.factor(values))]
        return operands

    def limits(self, x: Strided, offset: Any) -> Strided:
        """How many entries each row of a matrix has."""
        type_ = types.Array(types.int64, 1, "C")
        signature = type_(types.intp, types.intp, types.intp)
        args = [x.shape[-2], x.shape[-1], offset]
        value = self.context.compile_internal(self.builder, causal_limits, signature, args)
        self.operands.made.append((type_, value))
        return strided(self.context, self.builder, type_, value)

    def mask(self, value: Any, x: Strided) -> Strided:
        """The mask as an operand with as many axes as x."""
        missing = self.form.axes
        if value is None:
            mask = number(self.builder, ir.IntType(8)(1))
        else:
            mask = strided(self.context, self.builder, self.form.taken["where"], value)
            missing -= mask.axes
        shape, strides = [ONE] * missing + mask.shape, [WORD(0)] * missing + mask.strides
        bad = [
            self.builder.and_(
                self.builder.icmp_signed("!=", n, ONE), self.builder.icmp_signed("!=", n, wanted)
            )
            for n, wanted in zip(shape, x.shape, strict=True)
        ]
        self.fail_if(
            any_of(self.builder, bad), f"where does not broadcast against {self.op.inputs[-1]}"
        )
        return Strided(mask.address, shape, strides)

    def factor(self, values: dict[str, Any]) -> Any:
        """What x is multiplied by."""
        builder = self.builder
        one = ir.DoubleType()(1.0)
        temperature, scale = (values.get(f, one) for f in FACTORS)
        factor = builder.fdiv(scale, temperature)
        for value in (temperature, scale, factor):
            low = builder.fcmp_unordered("<=", value, ir.DoubleType()(0.0))
            high = builder.fcmp_unordered("==", value, ir.DoubleType()(math.inf))
            message = "temperature, scale and scale / temperature must be finite and positive"
            self.fail_if(builder.or_(low, high), message)
        return factor
