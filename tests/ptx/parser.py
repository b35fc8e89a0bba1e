"""PTX text to instructions. Calls of functions in the same text are expanded in place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ptx.faults import UnknownInstruction
from ptx.types import TYPES, Type


@dataclass(frozen=True)
class Register:
    name: str


@dataclass(frozen=True)
class Immediate:
    """A number: an int as written, or the bits of a float of `size` bytes (0f…, 0d…)."""

    value: int
    size: int = 0


@dataclass(frozen=True)
class Symbol:
    """A variable, a label, a function or a special register without its per cent sign."""

    name: str


@dataclass(frozen=True)
class Address:
    base: Any
    offset: int


@dataclass(frozen=True)
class Group:
    """`{a, b}`, `a|b` or `(a, b)`: several operands in one place."""

    items: tuple[Any, ...]


@dataclass(frozen=True)
class Not:
    """A negated predicate operand."""

    operand: Any


@dataclass(frozen=True)
class Instruction:
    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple[Any, ...]
    guard: Any = None
    text: str = ""

    def __str__(self) -> str:
        return self.text

    def unknown(self, why: str) -> UnknownInstruction:
        return UnknownInstruction(f"{why}: {self.text}")


@dataclass(frozen=True)
class Variable:
    """A `.param`, `.global`, `.const` or `.shared` variable."""

    name: str
    space: str
    type: Type
    count: int = 1
    align: int = 0
    initial: tuple[int, ...] = ()

    @property
    def nbytes(self) -> int:
        return self.type.size * self.count


@dataclass
class Function:
    name: str
    parameters: list[Variable]
    results: list[Variable] = field(default_factory=list)
    registers: dict[str, Type] = field(default_factory=dict)
    variables: list[Variable] = field(default_factory=list)
    code: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)


@dataclass
class Module:
    target: str
    entries: dict[str, Function]
    functions: dict[str, Function]
    variables: list[Variable]

    @property
    def entry(self) -> Function:
        (only,) = self.entries.values()
        return only


def parse(text: str) -> Module:
    text = re.sub(r"//[^\n]*|/\*.*?\*/", " ", text, flags=re.S)
    target = re.search(r"\.target\s+(\w+)", text)
    text = re.sub(r"^\s*\.(version|target|address_size)\b[^\n]*", "", text, flags=re.M)
    module = Module(target.group(1) if target else "", {}, {}, [])
    for head, body in _top_level(text):
        kind = re.search(r"\.(entry|func)\b", head)
        if kind is None:
            module.variables.append(_variable(head))
        elif body is not None:
            function = _function(head, body)
            home = module.entries if kind.group(1) == "entry" else module.functions
            home[function.name] = function
    for entry in module.entries.values():
        _expand_calls(entry, module.functions)
    return module


def _top_level(text: str) -> Iterator[tuple[str, str | None]]:
    """(declaration, None) or (head of a function, body)."""
    position = 0
    while text[position:].strip():
        end = re.compile(r"[;{]").search(text, position)
        assert end, f"no end of statement: {text[position:].strip()[:80]}"
        head = text[position : end.start()]
        if end.group() == "{" and re.search(r"\.(entry|func)\b", head):
            close = _closing_brace(text, end.start())
            yield head, text[end.end() : close]
            position = close + 1
        else:
            stop = text.index(";", position)
            yield text[position:stop], None
            position = stop + 1


def _closing_brace(text: str, start: int) -> int:
    depth = 0
    for match in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if match.group() == "{" else -1
        if depth == 0:
            return match.start()
    raise ValueError("a brace is not closed")


def _variable(text: str) -> Variable:
    """One declaration, such as `.shared .align 4 .b8 name[128]` or `.param .u64 .ptr name`."""
    declared, _, initial = text.partition("=")
    space = re.search(r"\.(param|global|const|shared|local)\b", declared)
    type_name = re.search(r"\.([busf](?:8|16|32|64)|pred)\b", declared)
    align = re.search(r"\.align\s+(\d+)", declared)
    name = re.search(r"([\w$%]+)\s*(?:\[(\d*)\])?\s*$", declared)
    assert space and type_name and name, f"a declaration that is not understood: {text.strip()}"
    if space.group(1) == "local":
        raise UnknownInstruction(f"local memory: {text.strip()}")
    type_ = TYPES[type_name.group(1)]
    count = 1 if name.group(2) is None else int(name.group(2) or 0)
    values = tuple(int(v, 0) for v in re.findall(r"-?\w+", initial))
    alignment = int(align.group(1)) if align else type_.size
    return Variable(name.group(1), space.group(1), type_, count, alignment, values)


def _function(head: str, body: str) -> Function:
    match = re.search(
        r"\.(?:entry|func)\s*(?:\(([^)]*)\))?\s*([\w$]+)\s*(?:\(([^)]*)\))?", head, flags=re.S
    )
    assert match, f"a function head that is not understood: {head.strip()[:80]}"
    results, name, parameters = match.groups()
    function = Function(name, _parameters(parameters), _parameters(results))
    _body(function, body)
    return function


def _parameters(text: str | None) -> list[Variable]:
    if not (text or "").strip():
        return []
    # the alignment of what a pointer points at is no property of the parameter
    plain = re.sub(r"\.ptr(\s+\.(global|shared|const))?(\s+\.align\s+\d+)?", "", text or "")
    return [_variable(part) for part in plain.split(",")]


def _body(function: Function, text: str) -> None:
    """Statements of a body, with the names of inner scopes made unique."""
    scopes: list[dict[str, str]] = [{}]
    opened = 0
    position = 0
    stop = re.compile(r"[;{}]")
    while True:
        label = re.compile(r"\s*([\w$]+):").match(text, position)
        if label:
            function.labels[label.group(1)] = len(function.code)
            position = label.end()
            continue
        match = stop.search(text, position)
        if match is None:
            return
        before = text[position : match.start()]
        if match.group() == "{" and not before.strip():
            opened += 1
            scopes.append({})
            position = match.end()
        elif match.group() == "}" and not before.strip():
            scopes.pop()
            position = match.end()
        else:
            end = text.index(";", position)
            _statement(function, " ".join(text[position:end].split()), scopes, opened)
            position = end + 1


def _statement(function: Function, text: str, scopes: list[dict[str, str]], opened: int) -> None:
    if text.startswith(".reg"):
        _, type_name, names = text.split(None, 2)
        for part in names.split(","):
            many = re.fullmatch(r"\s*([\w$%]+)<(\d+)>\s*", part)
            name = many.group(1) if many else part.strip()
            for one in [f"{name}{i}" for i in range(int(many.group(2)))] if many else [name]:
                unique = one if len(scopes) == 1 else f"{one}@{opened}"
                scopes[-1][one] = unique
                function.registers[unique] = TYPES[type_name[1:]]
    elif re.match(r"\.(param|shared)\b", text):
        variable = _variable(text)
        unique = variable.name if len(scopes) == 1 else f"{variable.name}@{opened}"
        scopes[-1][variable.name] = unique
        function.variables.append(replace(variable, name=unique))
    elif not text.startswith(".pragma") and text:
        names = {k: v for scope in scopes for k, v in scope.items()}
        function.code.append(_instruction(text, names))


def _instruction(text: str, names: dict[str, str]) -> Instruction:
    rest, guard = text, None
    if text.startswith("@"):
        condition, rest = text[1:].split(None, 1)
        guard = _operand(condition, names)
    head, _, tail = rest.partition(" ")
    opcode, *modifiers = head.split(".")
    # `cvta.to.global`, `ld.volatile.global` and so on: one modifier per dot, `::` kept
    operands = tuple(_operand(part, names) for part in _split(tail))
    return Instruction(opcode, tuple(modifiers), operands, guard, text)


def _split(text: str) -> list[str]:
    """Operands apart at commas outside of brackets."""
    parts, depth, start = [], 0, 0
    for i, character in enumerate(text):
        if character in "{[(":
            depth += 1
        elif character in "}])":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    return [p.strip() for p in parts if p.strip()]


def _operand(text: str, names: dict[str, str]) -> Any:
    text = text.strip()
    if text.startswith("!"):
        return Not(_operand(text[1:], names))
    if text[0] in "{(":
        return Group(tuple(_operand(p, names) for p in _split(text[1:-1])))
    if text[0] == "[":
        base, sign, offset = re.fullmatch(r"\[\s*([^\s+]+)\s*(\+)?\s*(-?\w+)?\s*\]", text).groups()  # type: ignore[union-attr]
        return Address(_operand(base, names), int(offset, 0) if sign else 0)
    if "|" in text:
        return Group(tuple(_operand(p, names) for p in text.split("|")))
    if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", text):
        return Immediate(int(text[2:], 16), 4)
    if re.fullmatch(r"0[dD][0-9a-fA-F]{16}", text):
        return Immediate(int(text[2:], 16), 8)
    if re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)U?", text):
        return Immediate(int(text.rstrip("U"), 0))
    if text in names:
        return Register(names[text]) if text[0] == "%" else Symbol(names[text])
    return Symbol(text.lstrip("%"))


def _expand_calls(function: Function, functions: dict[str, Function], depth: int = 0) -> None:
    """Put the body of each called function in the place of its call.

    Registers, labels and parameters get names of their own for each call, so that no stack
    is needed: a return is a branch behind the body.
    """
    calls = 0
    code: list[Instruction] = []
    moved: dict[int, int] = {}
    for index, instruction in enumerate(function.code):
        moved[index] = len(code)
        if instruction.opcode != "call":
            code.append(instruction)
            continue
        *results, callee, given = [*instruction.operands] + (
            [] if isinstance(instruction.operands[-1], Group) else [Group(())]
        )
        if callee.name not in functions or depth > 8 or instruction.guard is not None:
            raise instruction.unknown("a call that cannot be expanded")
        called = functions[callee.name]
        _expand_calls(called, functions, depth + 1)
        tag = f"@{function.name}.{calls}"
        calls += 1
        actual = [*(results[0].items if results else ()), *given.items]
        formal = [*called.results, *called.parameters]
        names = {f.name: a.name for f, a in zip(formal, actual, strict=True)}
        names |= {v.name: v.name + tag for v in called.variables}
        names |= {label: label + tag for label in called.labels}
        end = f"end{tag}"
        function.registers |= {name + tag: t for name, t in called.registers.items()}
        function.variables += [replace(v, name=v.name + tag) for v in called.variables]
        function.labels |= {k + tag: ~(len(code) + v) for k, v in called.labels.items()}
        for inner in called.code:
            if inner.opcode == "ret":
                jump = Instruction("bra", (), (Symbol(end),), inner.guard, inner.text)
                code.append(_renamed(jump, names, tag))
            else:
                code.append(_renamed(inner, names, tag))
        function.labels[end] = ~len(code)
    moved[len(function.code)] = len(code)
    # labels of this body move with it; those just added are marked by complement
    function.labels = {k: moved[v] if v >= 0 else ~v for k, v in function.labels.items()}
    function.code = code


def _renamed(instruction: Instruction, names: dict[str, str], tag: str) -> Instruction:
    def rename(operand: Any) -> Any:
        match operand:
            case Register(name):
                return Register(name + tag)
            case Symbol(name):
                return Symbol(names.get(name, name))
            case Address(base, offset):
                return Address(rename(base), offset)
            case Group(items):
                return Group(tuple(map(rename, items)))
            case Not(inner):
                return Not(rename(inner))
        return operand

    guard = rename(instruction.guard) if instruction.guard is not None else None
    return replace(instruction, operands=tuple(map(rename, instruction.operands)), guard=guard)
