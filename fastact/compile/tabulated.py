"""Scalars that look tables up, on processors that do so in registers (AVX-512).

A table of 32 float32 fills two registers, and vpermi2ps picks an entry for each lane. LLVM's loop
vectoriser has no form of that, and would gather from memory. So such a scalar is written out
twice: for one element, as a function that stays a call until loops are vectorised, and for LANES
of them, as the form that the vectoriser is told to put in its place (a "vector function ABI
variant", as it does for libraries of vector mathematics). The second is then inlined, in a kernel
of ours (`fastact.compile.build`) and in a user's loop (`fastact.interop.numba_loops`).
"""

from __future__ import annotations

import ast
import hashlib
import math
import os
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic as numba_intrinsic

from fastact.compile.loading import cpu_features
from fastact.compile.vectors import Vectors, Walk, intrinsic, parameters
from fastact.numerics.language import Primitive, Scalar

LANES = 16
NARROW = (4, 8)  # vectors of a loop that has wider values too, or of fewer elements
ENTRIES = 2 * LANES
FLOAT = ir.FloatType()
INDEX = ir.IntType(32)
NAMES = "fastact_tabulated"  # what the names of all such functions begin with
USED = "llvm.compiler.used"
# No memory is read but constants; the result depends on the arguments alone.
PURE = ("memory(none)", "nounwind", "willreturn")
WIDE = ('"prefer-vector-width"="512"', '"min-legal-vector-width"="512"')


def tables_in_registers() -> bool:
    """Whether scalars are compiled that look tables up in registers, as AVX-512 can.

    Not where Numba has been told to make code for less than this processor: LLVM ends the process
    when it is given an instruction that its target lacks. FASTACT_TABLES=0 turns them off, too: the
    processor then runs what others do.
    """
    features = cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    wanted = config.ENABLE_AVX and os.environ.get("FASTACT_TABLES") != "0"
    return bool(wanted) and "+avx512f" in features.split(",")


class TableWalk(Walk):
    """A source with `pieces`, its like, and `rarely`, for LANES elements or for one."""

    def called(self, node: ast.Call) -> list[Any]:
        assert isinstance(node.func, ast.Name)
        function = self.resolve(node.func.id)
        if isinstance(function, Primitive) and function.__name__ == "rarely":
            return [self.rarely(*node.args)]
        if isinstance(function, Primitive) and function.__name__ in PIECES:
            x, index, table, *low = node.args
            assert isinstance(table, ast.Name)
            value, number = self.value(x), self.value(index)
            centre, *rows = (self.lookup(row, number) for row in self.resolve(table.id))
            d = self.builder.fsub(value, centre)
            for rest in low:
                d = self.builder.fadd(d, self.value(rest))
            return [PIECES[function.__name__](self, d, *rows)]
        return super().called(node)

    def rarely(self, condition: ast.expr, a: ast.expr, b: ast.expr) -> Any:
        """A branch around what is seldom needed, weighted so that it is laid out elsewhere."""
        builder = self.builder
        needed, usual = self.value(condition), self.value(b)
        before = builder.block
        with builder.if_then(self.any(needed), likely=False):
            chosen = builder.select(needed, self.value(a), usual)
            inside = builder.block
        result = builder.phi(usual.type)
        result.add_incoming(usual, before)
        result.add_incoming(chosen, inside)
        return result

    def any(self, condition: Any) -> Any:
        name = f"llvm.vector.reduce.or.v{self.target.lanes}i1"
        return intrinsic(self.builder, name, ir.IntType(1), [condition])

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return self.float_intrinsic("fma", [a, b, c])

    def pieces(self, d: Any, value: Any, *rest: Any) -> Any:
        for c in rest:
            value = self.fma(value, d, c)
        return value

    def pieces_linear_last(self, d: Any, *coefficients: Any) -> Any:
        *upper, linear, constant = coefficients
        value = self.fma(self.builder.fmul(d, d), self.pieces(d, *upper), constant)
        return self.fma(d, linear, value)

    def pieces_from_line(self, d: Any, *coefficients: Any) -> Any:
        *upper, constant = coefficients
        larger = self.builder.fcmp_ordered(">", d, constant)
        return self.fma(self.pieces(d, *upper), d, self.builder.select(larger, d, constant))

    def lookup(self, row: tuple[float, ...], index: Any) -> Any:
        """Entry index modulo ENTRIES of a row, for each lane."""
        kind, builder = self.target.type, self.builder
        assert isinstance(self.target, Constants)
        first = self.target.place_of(row)
        if self.target.lanes == LANES:
            low, high = (self.target.load(first + k, kind) for k in (0, LANES))
            name = "llvm.x86.avx512.vpermi2var.ps.512"
            return intrinsic(builder, name, kind, [low, index, high])
        chosen = builder.and_(builder.extract_element(index, INDEX(0)), INDEX(ENTRIES - 1))
        entry = self.target.load(builder.add(chosen, INDEX(first)), FLOAT)
        return builder.insert_element(ir.Constant(kind, ir.Undefined), entry, INDEX(0))


FORMS = TableWalk.pieces, TableWalk.pieces_linear_last, TableWalk.pieces_from_line
PIECES = {form.__name__: form for form in FORMS}


class Constants(Vectors):
    """Scalars emitted with all their constants in one array.

    Code that may lie anywhere needs ten bytes for an absolute address, and a call that is not
    inlined loads every constant: 0.49 ns an element in a loop over gelu with an address each. LLVM
    must not know what the array holds, or would make single constants of it again.
    """

    def __init__(self, builder: Any, lanes: int, name: str) -> None:
        super().__init__(builder, "float32", lanes)
        self.walk = TableWalk
        self.values: list[float] = []
        self.places: dict[Any, int] = {}
        self.array = ir.GlobalVariable(builder.module, ir.ArrayType(FLOAT, 0), name)
        self.array.linkage, self.array.align = "linkonce_odr", 4 * LANES

    def place_of(self, row: tuple[float, ...]) -> int:
        """Where a row of constants begins, tables where a cache line does."""
        if row not in self.places:
            if len(row) > 1:
                self.values += [0.0] * (-len(self.values) % LANES)
            self.places[row] = len(self.values)
            self.values += row
        return self.places[row]

    def load(self, place: Any, kind: Any) -> Any:
        """Constants from a place on; they never change, so a loop need not load them again."""
        place = INDEX(place) if isinstance(place, int) else place
        base = self.builder.bitcast(self.array, FLOAT.as_pointer())
        address = self.builder.bitcast(self.builder.gep(base, [place]), kind.as_pointer())
        value = self.builder.load(address, align=4 if kind == FLOAT else 4 * LANES)
        value.set_metadata("invariant.load", self.builder.module.add_metadata([]))
        return value

    def constant(self, value: float) -> Any:
        if value == 0.0 or not math.isfinite(value):
            return super().constant(value)
        return self.splat(self.load(self.place_of((float(value),)), FLOAT))

    def finish(self) -> None:
        kind = ir.ArrayType(FLOAT, len(self.values))
        self.array.value_type, self.array.type = kind, kind.as_pointer()
        self.array.initializer = ir.Constant(kind, self.values)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def written(module: ir.Module, scalar: Scalar, lanes: int, name: str) -> Any:
    """The function for so many elements; for one it takes and returns plain numbers."""
    kind = FLOAT if lanes == 1 else ir.VectorType(FLOAT, lanes)
    arguments = parameters(scalar)
    function = ir.Function(module, ir.FunctionType(kind, [kind] * len(arguments)), name)
    function.linkage = "linkonce_odr"
    for attribute in (*PURE, *WIDE, "noinline" if lanes == 1 else "alwaysinline"):
        # llvmlite knows only LLVM's own attributes; some belong to the x86 back end
        set.add(function.attributes, attribute)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    target = Constants(builder, lanes, f"{name}_constants")
    values = function.args
    if lanes == 1:
        nothing = ir.Constant(target.type, ir.Undefined)
        values = [builder.insert_element(nothing, a, INDEX(0)) for a in values]
    names = dict(zip(arguments, values, strict=True))
    assert scalar.tables is not None
    (result,) = TableWalk(target, scalar.tables, names).results()
    builder.ret(builder.extract_element(result, INDEX(0)) if lanes == 1 else result)
    target.finish()
    return function


def narrower(module: ir.Module, wide: Any, lanes: int, name: str) -> Any:
    """The function for fewer elements: the rest of the vector is padding."""
    kind = ir.VectorType(FLOAT, lanes)
    function = ir.Function(module, ir.FunctionType(kind, [kind] * len(wide.args)), name)
    function.linkage = "linkonce_odr"
    for attribute in (*PURE, *WIDE):
        set.add(function.attributes, attribute)
    builder = ir.IRBuilder(function.append_basic_block("entry"))

    def resized(value: Any, count: int) -> Any:
        lanes = ir.Constant(
            ir.VectorType(INDEX, count), [k % lanes_of(value) for k in range(count)]
        )
        return builder.shuffle_vector(value, value, lanes)

    result = builder.call(wide, [resized(a, LANES) for a in function.args])
    builder.ret(resized(result, lanes))
    return function


def lanes_of(value: Any) -> int:
    return int(value.type.count)


def keep(module: ir.Module, functions: list[Any]) -> None:
    """Tell LLVM that functions are used, which nothing calls before loops are vectorised."""
    pointer = ir.IntType(8).as_pointer()
    used = module.globals.get(USED)
    held = [*used.initializer.constant] if used else []
    held += [function.bitcast(pointer) for function in functions]
    kind = ir.ArrayType(pointer, len(held))
    if used is None:
        used = ir.GlobalVariable(module, kind, USED)
        used.linkage, used.section = "appending", "llvm.metadata"
    used.value_type, used.type = kind, kind.as_pointer()
    used.initializer = ir.Constant(kind, held)


def inline_tabulated(module: Any, machine: Any) -> None:
    """Put the vector forms of scalars that look tables up into the loops that call them."""
    # the loops are vectors already
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)


def tabulated(scalar: Scalar) -> Any:
    """A scalar that looks tables up as an intrinsic for Numba."""
    arity = len(parameters(scalar))
    scratch = ir.Module("scratch")
    written(scratch, scalar, LANES, NAMES)
    name = f"{NAMES}_{scalar.__name__}_{digest(str(scratch))}"
    forms = ",".join(f"_ZGV_LLVM_N{n}{'v' * arity}_{name}({name}_{n})" for n in (*NARROW, LANES))
    variants = f'"vector-function-abi-variant"="{forms}"'

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        module = builder.module
        if name not in module.globals:
            written(module, scalar, 1, name)
            wide = written(module, scalar, LANES, f"{name}_{LANES}")
            keep(module, [wide, *(narrower(module, wide, n, f"{name}_{n}") for n in NARROW)])
        call = builder.call(module.globals[name], args)
        for attribute in (*PURE, variants):
            set.add(call.attributes, attribute)
        return call

    # Numba reads an intrinsic's arity from its signature
    typed = {"arity": arity, "codegen": codegen, "single": types.float32}
    names = ", ".join(parameters(scalar))
    exec(f"def call(typingctx, {names}): return single(*[single] * arity), codegen", typed)
    return numba_intrinsic(typed["call"])
