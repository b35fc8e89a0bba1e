"""Every kernel is SIMD code that calls nothing: read from what LLVM emits for this processor."""

import re
from functools import cache

import ops
import paired
import pytest

import fastact as fa
from fastact.activations.directions import DIRECTIONS, with_respect_to
from fastact.registry import ROW_OPS
from fastact.rowwise.record import Form
from fastact.runtime import store

pytest.importorskip("numba")

from fastact.compile.abi import BLOCK, BROADCAST, DEFAULT, FIXED, LINE, STREAMING
from fastact.compile.build import emit, kernel_module, module_of
from fastact.compile.loading import cpu_features, target_machine
from fastact.compile.row_objects import build_rows

X86 = target_machine().triple.split("-")[0] in ("x86_64", "amd64")
ELF = "linux" in target_machine().triple
pytestmark = pytest.mark.skipif(not X86, reason="reads x86-64 assembly")

FEATURES = set(cpu_features().split(","))
WIDEST = "zmm" if "+avx512f" in FEATURES else "ymm" if "+avx2" in FEATURES else "xmm"
SUFFIX = {"float32": "ps", "float64": "pd", "float16": "ps", "bfloat16": "ps"}
ARITHMETIC = "add|sub|mul|div|sqrt|max|min|fn?m(?:add|sub)[123]{3}"
MAY_CALL = {"memcpy", "memset"}


@cache
def compiled(op, direction, dtype, variant):
    """A kernel as assembly and as object code."""
    record, symbol = fa.get(op).record, "fastact_under_test"
    module = kernel_module(record, DIRECTIONS[direction], dtype, variant, symbol)
    return target_machine().emit_assembly(module), emit(module)


def assembly(op, direction, dtype, variant):
    return compiled(op, direction, dtype, variant)[0]


def calls(text):
    """What is called, or whose address is taken, outside the text itself."""
    labels = set(re.findall(r"^([\w.$]+):", text, re.MULTILINE))
    direct = re.findall(r"\b(?:call|jmp)q?\s+([A-Za-z_.][\w.$]*)", text)
    through_register = re.findall(r"\bmov\w*\s+[$]([A-Za-z_.][\w.$]*)", text)
    return {*direct, *through_register} - labels


def variants(case, direction):
    """Streaming kernels differ in their stores alone: two directions cover both their forms."""
    chosen = (FIXED, BROADCAST, DEFAULT) if case.parameters else (FIXED,)
    return (*chosen, STREAMING) if direction in ("forward", "value_and_grad") else chosen


KERNELS = [
    (case, direction, dtype.name, variant)
    for case, direction in ops.directed(ops.default_cases())
    for dtype in ops.DTYPES
    for variant in variants(case, direction)
    if ops.FULL or case.op in ops.PROBES or (dtype in ops.NATIVE and variant == FIXED)
]


def exponential(case):
    return bool(re.search("exp|tanh|erf", case.record.numpy))


def over(chosen):
    return pytest.mark.parametrize(("case", "direction", "dtype", "variant"), chosen, ids=str)


kernels = over(KERNELS)
exponentials = over([k for k in KERNELS if exponential(k[0]) and k[1] != "backward_from_output"])


def loops(text):
    """The bodies of innermost loops: from a label to a jump back to it."""
    position, found, first = {}, [], 0
    lines = text.splitlines()
    for i, line in enumerate(lines):
        if label := re.match(r"([\w.$]+):", line):
            position[label[1]] = i
        jump = re.match(r"\s+j\w+\s+([\w.$]+)", line)
        if jump and position.get(jump[1], -1) >= first:
            found.append("\n".join(lines[position[jump[1]] : i]))
            first = i
    return found


def vector_loops(text, width):
    """The loops that work on whole vectors, one or its unrolled forms; an error if there is none.

    Beside it LLVM may emit the same loop over single elements, for cases that it cannot rule
    out: a trip count of 2**64, two outputs less than a vector apart.
    """
    found = [loop for loop in loops(text) if re.search(f"%{width}", loop)]
    assert found, f"no loop over {width} registers in\n{text}"
    return found


def width_of(dtype, case):
    """Half types that are only moved and compared fill half a register per vector of singles."""
    half = dtype in {d.name for d in ops.HALVES}
    return "[yz]mm" if half and not exponential(case) else WIDEST


@over([k for k in KERNELS if k[3] == STREAMING])
def test_streaming_kernel_goes_past_the_caches(case, direction, dtype, variant):
    """Every line of results is written so, its inputs asked for ahead, and a fence ends it."""
    text = assembly(case.op, direction, dtype, variant)
    outputs = 2 if direction == "value_and_grad" else 1
    lines = outputs * BLOCK * {d.name: d for d in ops.DTYPES}[dtype].itemsize // LINE
    registers = {"zmm": 1, "ymm": 2, "xmm": 4}[WIDEST]
    assert len(re.findall(r"\bv?movnt\w*\s", text)) >= lines * registers
    assert len(re.findall(r"\bprefetcht0\b", text)) >= lines // outputs
    assert "sfence" in text


@pytest.mark.skipif("+fma" not in FEATURES, reason="this processor has no fma")
@exponentials
def test_exponentials_use_packed_fma(case, direction, dtype, variant):
    fma = rf"\bvfn?m(?:add|sub)[123]{{3}}{SUFFIX[dtype]}\b.*%{WIDEST}"
    for loop in vector_loops(assembly(case.op, direction, dtype, variant), WIDEST):
        assert len(re.findall(fma, loop)) >= 4


def undefined_symbols(code):
    """The names that an ELF object needs from elsewhere."""
    assert code[:6] == b"\x7fELF\x02\x01", "64-bit little-endian ELF"

    def number(offset, size):
        return int.from_bytes(code[offset : offset + size], "little")

    table, entry, count = number(0x28, 8), number(0x3A, 2), number(0x3C, 2)
    sections = [table + entry * i for i in range(count)]
    names = set()
    for section in sections:
        if number(section + 4, 4) != 2:  # SHT_SYMTAB
            continue
        start, size = number(section + 0x18, 8), number(section + 0x20, 8)
        strings = number(sections[number(section + 0x28, 4)] + 0x18, 8)
        for symbol in range(start + 24, start + size, 24):
            if number(symbol + 6, 2) == 0:  # SHN_UNDEF
                first = strings + number(symbol, 4)
                names.add(code[first : code.index(b"\0", first)].decode())
    return names


@kernels
def test_kernel_is_packed_and_calls_nothing(case, direction, dtype, variant):
    """Vector registers of full width, no arithmetic on single elements, no library."""
    text = assembly(case.op, direction, dtype, variant)
    assert calls(text) == set()
    for loop in vector_loops(text, width_of(dtype, case)):
        assert not re.findall(rf"\bv?(?:{ARITHMETIC})s[sdh]\b.*", loop)
    if ELF:
        assert undefined_symbols(compiled(case.op, direction, dtype, variant)[1]) <= MAY_CALL


@pytest.mark.skipif(not ELF, reason="reads ELF")
def test_driver_object_needs_no_library():
    fa.relu(1.0)  # the engine is built, if it was not yet
    assert undefined_symbols(store.get("driver")) <= MAY_CALL


def test_the_readers_can_fail():
    """A call of libm, and a loop over single elements, are found out."""
    import math

    from numba import types

    def call(x):
        return math.exp(x)

    module = module_of(call, types.float64(types.float64), "fastact_under_test")
    assert "exp" in calls(target_machine().emit_assembly(module))
    if ELF:
        assert "exp" in undefined_symbols(emit(module))

    def chain(x):
        while x < 1e9:  # each step needs the one before
            x = x * x + 1.0
        return x

    module = module_of(chain, types.float64(types.float64), "fastact_under_test")
    text = target_machine().emit_assembly(module)
    assert re.search(rf"\bv?(?:{ARITHMETIC})sd\b", *loops(text))
    with pytest.raises(AssertionError, match="no loop"):
        vector_loops(text, WIDEST)


ROWS = {op.name: op for op in ROW_OPS}
FORMS = [*((name, False) for name in ROWS), ("softmax", True), ("logsumexp", True)]


TASKS = [(*form, ()) for form in FORMS]
TASKS += [(op.name, False, ("streaming",)) for op in ROW_OPS if op.apply]


@pytest.mark.parametrize("dtype", ops.NATIVE, ids=str)
@pytest.mark.parametrize(("name", "general", "tasks"), TASKS, ids=str)
def test_rows_are_packed(name, general, tasks, dtype, monkeypatch):
    """Whole registers in the loops, and exponentials in packed fma."""
    machine = target_machine()
    monkeypatch.setattr(machine, "emit_object", lambda m: machine.emit_assembly(m).encode())
    form = Form(ROWS[name], dtype.name, general)
    text = build_rows(form, "fastact_under_test", tasks).decode()
    assert calls(text) <= MAY_CALL | ({"malloc", "free"} if tasks else set())
    packed = vector_loops(text, WIDEST)
    fma = rf"\bvfn?m(?:add|sub)[123]{{3}}{SUFFIX[dtype.name]}\b.*%{WIDEST}"
    exponentials = [loop for loop in packed if len(re.findall(fma, loop)) >= 4]
    assert bool(exponentials) == ("exp" in ROWS[name].numpy)
    for loop in exponentials:
        assert not re.findall(rf"\bv?(?:{ARITHMETIC})s[sdh]\b.*", loop)


PAIRED_KERNELS = [
    *((op, d) for op in paired.PAIRED for d in op.form.directions),
    *((record, with_respect_to(("x", name))) for record, name in paired.TRAINED),
]


@pytest.mark.parametrize("dtype", [d.name for d in ops.DTYPES])
@pytest.mark.parametrize(
    ("record", "direction"), PAIRED_KERNELS, ids=lambda v: getattr(v, "name", "")
)
def test_paired_kernels_are_packed(record, direction, dtype):
    """Ops of two arrays, and partials by parameters: SIMD code that calls nothing."""
    module = kernel_module(record, direction, dtype, FIXED, "fastact_under_test")
    text = target_machine().emit_assembly(module)
    assert calls(text) == set()
    half = dtype in {d.name for d in ops.HALVES}
    for loop in vector_loops(text, "[yz]mm" if half else WIDEST):
        assert not re.findall(rf"\bv?(?:{ARITHMETIC})s[sdh]\b.*", loop)
