"""Opcode to arithmetic. An instruction that no table holds is an error, never a guess."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptx import numerics
from ptx.parser import Instruction
from ptx.types import TYPES, Type, raw, resize


@dataclass(frozen=True)
class Operation:
    """One value from several: result = function(*sources)."""

    sources: tuple[Type, ...]
    result: Type
    function: Callable[..., Any]


def shifted(shift: Callable[..., Any]) -> Callable[..., Any]:
    """Shifts clamp: by the width or more, nothing is left but the sign."""

    def clamped(a: Any, count: Any) -> Any:
        bits = 8 * a.dtype.itemsize
        wide = count >= bits
        inside = shift(a, np.where(wide, 0, count).astype(a.dtype))
        gone = a >> a.dtype.type(bits - 1) if a.dtype.kind == "i" else a.dtype.type(0)
        return np.where(wide, gone, inside)

    return clamped


def divided(quotient: bool) -> Callable[..., Any]:
    """Integer division towards zero; by zero, what the hardware gives is unspecified."""

    def function(a: Any, b: Any) -> Any:
        b = np.where(b == 0, a.dtype.type(1), b)
        rest = np.fmod(a, b)
        return (a - rest) // b if quotient else rest

    return function


ONE = np.uint64(1)


def low_bits(count: Any) -> Any:
    """A mask of the low `count` bits."""
    return np.where(
        count >= 64, ~np.uint64(0), (ONE << np.minimum(count, 63).astype(np.uint64)) - ONE
    )


def bit_field(a: Any, start: Any, length: Any) -> Any:
    """bfe: `length` bits of a from bit `start`, the sign bit of the field repeated if signed."""
    bits = 8 * a.dtype.itemsize
    start, length = (start & 0xFF).astype(np.int64), (length & 0xFF).astype(np.int64)
    unsigned = a.view(raw(a.dtype.itemsize)).astype(np.uint64)
    mask = low_bits(length)
    field = np.where(start < bits, unsigned >> np.minimum(start, 63).astype(np.uint64), 0) & mask
    if a.dtype.kind == "i":
        top = np.clip(start + length - 1, 0, bits - 1).astype(np.uint64)
        negative = ((unsigned >> top) & ONE == ONE) & (length > 0)
        reached = low_bits(np.clip(bits - start, 0, length))  # past the top: the sign
        field = np.where(negative, field | ~(mask & reached), field)
    return field.astype(raw(a.dtype.itemsize)).view(a.dtype)


def insert_bits(a: Any, b: Any, start: Any, length: Any) -> Any:
    """bfi: the low `length` bits of a put into b at bit `start`."""
    start, length = (start & 0xFF).astype(np.uint64), (length & 0xFF).astype(np.uint64)
    by = np.minimum(start, np.uint64(63))
    mask = np.where(start < 64, low_bits(length) << by, np.uint64(0))
    put = a.astype(np.uint64) << by
    return ((b.astype(np.uint64) & ~mask) | (put & mask)).astype(b.dtype)


def permuted(a: Any, b: Any, selector: Any) -> Any:
    """prmt: each byte of the result is one of the eight bytes of b:a, or its sign repeated."""
    both = a.astype(np.uint64) | (b.astype(np.uint64) << np.uint64(32))
    out = np.zeros(np.broadcast(a, b, selector).shape, np.uint64)
    for i in range(4):
        nibble = (selector.astype(np.uint64) >> np.uint64(4 * i)) & np.uint64(15)
        byte = (both >> ((nibble & np.uint64(7)) * np.uint64(8))) & np.uint64(0xFF)
        sign = np.where(byte >= 128, np.uint64(0xFF), np.uint64(0))
        out |= np.where(nibble >= 8, sign, byte) << np.uint64(8 * i)
    return out.astype(np.uint32)


def funnel(left: bool, wrap: bool) -> Callable[..., Any]:
    """shf: 32 bits of b:a shifted."""

    def function(a: Any, b: Any, count: Any) -> Any:
        n = (count & 31 if wrap else np.minimum(count, 32)).astype(np.uint64)
        both = a.astype(np.uint64) | (b.astype(np.uint64) << np.uint64(32))
        moved = (both << n) >> np.uint64(32) if left else both >> n
        return moved.astype(np.uint32)

    return function


def truth_table(a: Any, b: Any, c: Any, table: Any) -> Any:
    """lop3: any function of three bits, its value for each of the eight cases in `table`."""
    out = np.zeros(np.broadcast(a, b, c).shape, np.uint32)
    for case in range(8):
        term = (a if case & 4 else ~a) & (b if case & 2 else ~b) & (c if case & 1 else ~c)
        out |= np.where((table >> case) & 1 == 1, term, np.uint32(0))
    return out


def count_leading(a: Any) -> Any:
    """clz."""
    bits = 8 * a.dtype.itemsize
    whole = np.array([bits - int(v).bit_length() for v in a.ravel()], np.uint32)
    return whole.reshape(a.shape)


FLOAT: dict[str, tuple[int, Callable[..., Any]]] = {
    "add": (2, np.add),
    "sub": (2, np.subtract),
    "mul": (2, np.multiply),
    "div": (2, np.divide),
    "fma": (3, numerics.fma),
    "mad": (3, numerics.fma),
    "rcp": (1, np.reciprocal),
    "sqrt": (1, np.sqrt),
    "min": (2, numerics.minimum),
    "max": (2, numerics.maximum),
    "abs": (1, np.abs),
    "neg": (1, np.negative),
    "copysign": (2, numerics.copysign),
}
SIGN_ONLY = ("abs", "neg", "copysign")  # these keep a NaN's payload
NEEDS_ROUNDING = ("div", "fma", "mad", "rcp", "sqrt")  # `.rn` is the default of the others

INTEGER: dict[str, tuple[int, Callable[..., Any]]] = {
    "add": (2, np.add),
    "sub": (2, np.subtract),
    "min": (2, np.minimum),
    "max": (2, np.maximum),
    "abs": (1, np.abs),
    "neg": (1, np.negative),
    "div": (2, divided(quotient=True)),
    "rem": (2, divided(quotient=False)),
}
LOGIC: dict[str, tuple[int, Callable[..., Any]]] = {
    "and": (2, np.bitwise_and),
    "or": (2, np.bitwise_or),
    "xor": (2, np.bitwise_xor),
    "not": (1, np.invert),
}

U32 = TYPES["u32"]
# opcode -> the types of the sources, given the instruction's own type; result type; function
SHAPED: dict[str, tuple[Callable[[Type], tuple[Type, ...]], Callable[[Type], Type], Any]] = {
    "shl": (lambda t: (t, U32), lambda t: t, shifted(np.left_shift)),
    "shr": (lambda t: (t, U32), lambda t: t, shifted(np.right_shift)),
    "bfe": (lambda t: (t, U32, U32), lambda t: t, bit_field),
    "bfi": (lambda t: (t, t, U32, U32), lambda t: t, insert_bits),
    "prmt": (lambda t: (U32, U32, U32), lambda t: U32, permuted),
    "lop3": (lambda t: (U32, U32, U32, U32), lambda t: U32, truth_table),
    "popc": (lambda t: (t,), lambda t: U32, lambda a: np.bitwise_count(a).astype(np.uint32)),
    "clz": (lambda t: (t,), lambda t: U32, count_leading),
    "selp": (lambda t: (t, t, TYPES["pred"]), lambda t: t, lambda a, b, p: np.where(p, a, b)),
}

ORDERED: dict[str, Callable[..., Any]] = {
    "eq": np.equal,
    "ne": lambda a, b: (a < b) | (a > b),
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


def unordered(compare: Callable[..., Any]) -> Callable[..., Any]:
    """equ, neu, ltu … hold where an operand is NaN."""
    return lambda a, b: compare(a, b) | np.isnan(a) | np.isnan(b)


COMPARISONS: dict[str, Callable[..., Any]] = {
    **ORDERED,
    **{f"{name}u": unordered(compare) for name, compare in ORDERED.items()},
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
    "num": lambda a, b: ~(np.isnan(a) | np.isnan(b)),
    "nan": lambda a, b: np.isnan(a) | np.isnan(b),
}
COMBINED = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}

TO_WHOLE = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def operation(ins: Instruction, generator: Any = None) -> Operation:
    """What an instruction without side effects computes."""
    modifiers = list(ins.modifiers)
    if ins.opcode == "cvt":
        return conversion(ins, modifiers)
    type_ = TYPES.get(modifiers.pop() if modifiers else "")
    if type_ is None:
        raise ins.unknown("no type")
    if ins.opcode in ("setp", "set"):
        return comparison(ins, modifiers, type_)
    if ins.opcode in LOGIC and not modifiers:
        arity, function = LOGIC[ins.opcode]
        return Operation((type_,) * arity, type_, function)
    if ins.opcode == "shf":
        left, wrap = modifiers[0] == "l", modifiers[1] == "wrap"
        return Operation((U32,) * 3, U32, funnel(left, wrap))
    if (ins.opcode in SHAPED and not modifiers) or ins.opcode == "lop3":
        sources, result, function = SHAPED[ins.opcode]
        return Operation(sources(type_), result(type_), function)
    if type_.kind == "f":
        return float_operation(ins, modifiers, type_, generator)
    if type_.kind in "us" or (type_.kind == "b" and ins.opcode == "mov"):
        return integer_operation(ins, modifiers, type_)
    raise ins.unknown("no such operation on this type")


def float_operation(ins: Instruction, modifiers: list[str], t: Type, generator: Any) -> Operation:
    if ins.opcode in numerics.APPROXIMATIONS and ("approx" in modifiers or "full" in modifiers):
        return approximation(ins, modifiers, t, generator)
    if ins.opcode not in FLOAT or t.size < 4:
        raise ins.unknown("no such operation on this type")
    arity, function = FLOAT[ins.opcode]
    rounding = next((m for m in modifiers if m in ("rn", "rz", "rm", "rp")), None)
    rest = [m for m in modifiers if m != rounding]
    if ins.opcode == "fma" and rounding in ("rm", "rp") and t.size == 4:
        function = numerics.fma_directed(-1 if rounding == "rm" else 1)
    elif rounding not in ("rn", None) or (rounding is None and ins.opcode in NEEDS_ROUNDING):
        raise ins.unknown("a rounding that the interpreter does not know")
    if ins.opcode in ("min", "max") and rest == ["NaN"]:
        function, rest = numerics.nan_wins(function), []
    if rest:
        raise ins.unknown(f"a modifier that the interpreter does not know, {rest[0]}")
    if t.size == 4 and ins.opcode not in SIGN_ONLY:
        return Operation((t,) * arity, t, lambda *a: numerics.canonical(function(*a)))
    return Operation((t,) * arity, t, function)


def approximation(ins: Instruction, modifiers: list[str], t: Type, generator: Any) -> Operation:
    about = numerics.APPROXIMATIONS[ins.opcode]
    if t.name != "f32" or not set(modifiers) <= {"approx", "full", "ftz"}:
        raise ins.unknown("an approximation that the interpreter does not know")

    def function(*operands: Any) -> Any:
        if "ftz" in modifiers:
            return numerics.canonical(
                numerics.flush(about(generator, *map(numerics.flush, operands)))
            )
        return numerics.canonical(about(generator, *operands))

    return Operation((t,) * (2 if ins.opcode == "div" else 1), t, function)


def integer_operation(ins: Instruction, modifiers: list[str], t: Type) -> Operation:
    if ins.opcode in ("mul", "mad") and len(modifiers) == 1:
        way, double = modifiers[0], TYPES.get(f"{t.kind}{16 * t.size}")
        products: dict[str, tuple[Type | None, Callable[..., Any]]] = {
            "lo": (t, np.multiply),
            "hi": (t, numerics.high_product),
            "wide": (double, lambda a, b: a.astype(double.dtype) * b),  # type: ignore[union-attr]
        }
        result, product = products.get(way, (None, np.multiply))
        if result is not None:
            if ins.opcode == "mul":
                return Operation((t, t), result, product)
            return Operation((t, t, result), result, lambda a, b, c: product(a, b) + c)
    if ins.opcode in INTEGER and not modifiers:
        arity, function = INTEGER[ins.opcode]
        return Operation((t,) * arity, t, function)
    raise ins.unknown("no such operation on this type")


def comparison(ins: Instruction, modifiers: list[str], t: Type) -> Operation:
    """setp gives a predicate; set gives all ones or 1.0."""
    result = TYPES["pred"]
    if ins.opcode == "set":
        result = TYPES[modifiers.pop()]
    compare = COMPARISONS.get(modifiers[0])
    if compare is None or ((t.kind in "usb") and modifiers[0] in ("num", "nan")):
        raise ins.unknown("no such comparison")
    sources: tuple[Type, ...] = (t, t)
    if len(modifiers) == 2 and modifiers[1] in COMBINED:
        combine, inner = COMBINED[modifiers[1]], compare
        sources = (t, t, TYPES["pred"])
        compare = lambda a, b, p: combine(inner(a, b), p)  # noqa: E731
    elif len(modifiers) != 1:
        raise ins.unknown("no such comparison")
    if ins.opcode == "set":
        ones = np.float32(1) if result.kind == "f" else ~result.dtype.type(0)
        picked = compare
        compare = lambda *a: np.where(picked(*a), ones, result.dtype.type(0))  # noqa: E731
    return Operation(sources, result, compare)


def conversion(ins: Instruction, modifiers: list[str]) -> Operation:
    """cvt: modifiers, then the type of the result, then that of the source."""
    source, result = TYPES.get(modifiers.pop()), TYPES.get(modifiers.pop())
    if source is None or result is None:
        raise ins.unknown("a type that the interpreter does not know")
    sat = "sat" in modifiers
    rest = [m for m in modifiers if m != "sat"]
    rounding = rest[0] if len(rest) == 1 else None
    if len(rest) > 1:
        raise ins.unknown("a modifier that the interpreter does not know")
    if result.name in ("f16x2", "bf16x2"):
        return packing(ins, source, result, rounding, sat)

    def widened(value: Any) -> Any:
        return numerics.single_from_bfloat16(value) if source.kind == "h" else value

    floats = (source.kind in "fh", result.kind in "fh")
    function: Callable[..., Any]
    if floats == (False, False) and rounding is None and not sat:
        signed = source.kind == "s"

        def function(value: Any) -> Any:
            return resize(value, result.size, signed).view(result.dtype)
    elif floats == (True, False) and rounding in TO_WHOLE:

        def function(value: Any) -> Any:
            return numerics.to_integer(widened(value), result.dtype, TO_WHOLE[rounding])
    elif floats == (False, True) and rounding == "rn" and result.kind == "f":

        def function(value: Any) -> Any:
            return value.astype(result.dtype)
    elif floats == (True, True) and source is result and rounding in TO_WHOLE:
        function = TO_WHOLE[rounding]
    elif floats == (True, True):
        widens = source.size < result.size or source is result
        if rounding not in ((None,) if widens else ("rn",)):
            raise ins.unknown("a rounding that the interpreter does not know")
        if result.kind == "h":
            if source.name != "f32":
                raise ins.unknown("a source that the interpreter does not know")
            function = numerics.bfloat16_from_single
        else:

            def function(value: Any) -> Any:
                return widened(value).astype(result.dtype)
    else:
        raise ins.unknown("a conversion that the interpreter does not know")
    if sat and result.kind == "f":
        exact = function
        return Operation((source,), result, lambda v: numerics.saturate(exact(v)))
    if sat:
        raise ins.unknown("a saturating conversion that the interpreter does not know")
    return Operation((source,), result, function)


def packing(ins: Instruction, source: Type, t: Type, rounding: str | None, sat: bool) -> Operation:
    """cvt.rn.f16x2.f32 d, a, b: a in the upper half, b in the lower."""
    if source.name != "f32" or rounding != "rn" or sat:
        raise ins.unknown("a conversion that the interpreter does not know")

    def half(value: Any) -> Any:
        if t.name == "f16x2":
            return value.astype(np.float16).view(np.uint16).astype(np.uint32)
        return numerics.bfloat16_from_single(value).astype(np.uint32)

    return Operation((source, source), t, lambda a, b: (half(a) << np.uint32(16)) | half(b))
