"""What a user's loop over numbers needs beyond the scalar itself to be as fast as our own kernel.

Three things, which Numba offers no place for, so its library of compiled code is extended:

* Interleaving. LLVM works at one vector at a time in a loop as long as these; the kernels work at
  several, which hides the latency of one chain of operations behind the others. Measured in cache,
  of the ufunc's time: float64 softplus 1.33, tanh 1.20, gelu 1.15, float32 swish' 1.13 without,
  none above 1.0 with it.
* Tables in registers. The vector form of a scalar that looks tables up takes its place when loops
  become vectors, too late for LLVM to inline it: the call loads sixteen registers of tables for
  each vector (float32 gelu 1.3 times the ufunc's time; 0.95 inlined, the tables loaded once).
* Width. A loop that calls a scalar through a function of the user's, as that of `@vectorize` does,
  is compiled later and elsewhere; what it links tells that it wants wide vectors too.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache, wraps
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core.codegen import CPUCodeLibrary

from fastact.compile import tabulated  # which may be what imports Numba, and so this
from fastact.compile.kernels import INTERLEAVE, VECTOR_WIDTH

# function -> the blocks in which calls of scalars stand, and how many vectors each wants
_calls: WeakKeyDictionary[ir.Function, list[tuple[ir.Block, int]]] = WeakKeyDictionary()
_with_calls: WeakSet[Any] = WeakSet()  # libraries of compiled code
# LLVM's own choice on processors with AVX-512 is half the width
WIDE = f'"prefer-vector-width"="{VECTOR_WIDTH}"'


def note_call(builder: Any, computing: str) -> None:
    """Ask that the loop around a scalar that is being written out is made like a kernel's."""
    set.add(builder.function.attributes, WIDE)
    _calls.setdefault(builder.function, []).append((builder.block, INTERLEAVE[computing]))


def successors(block: ir.Block) -> list[ir.Block]:
    end = block.terminator
    if end is None:
        return []
    cases = [target for _, target in getattr(end, "cases", ())]
    reached = [*end.operands, getattr(end, "default", None), *cases]
    return [b for b in reached if isinstance(b, ir.Block)]


def back_edges(function: ir.Function) -> list[tuple[ir.Block, ir.Block]]:
    """The branches that close loops: (from, to the head of the loop)."""
    found: list[tuple[ir.Block, ir.Block]] = []
    seen: set[ir.Block] = set()
    open_: set[ir.Block] = set()
    stack = [(function.entry_basic_block, False)]
    while stack:
        block, left = stack.pop()
        if left:
            open_.remove(block)
        elif block not in seen:
            seen.add(block)
            open_.add(block)
            stack.append((block, True))
            following = successors(block)
            found += [(block, head) for head in following if head in open_]
            stack += [(b, False) for b in following if b not in seen]
    return found


def loops(function: ir.Function) -> list[tuple[set[ir.Block], list[ir.Block]]]:
    """The loops of a function: their blocks, and those that branch back to the head."""
    before: dict[ir.Block, list[ir.Block]] = {}
    for block in function.blocks:
        for following in successors(block):
            before.setdefault(following, []).append(block)
    latches: dict[ir.Block, list[ir.Block]] = {}
    for latch, head in back_edges(function):
        latches.setdefault(head, []).append(latch)
    found = []
    for head, ends in latches.items():
        body, reached = {head}, list(ends)
        while reached:
            block = reached.pop()
            if block not in body:
                body.add(block)
                reached += before.get(block, ())
        found.append((body, ends))
    return found


def hint_loops(module: ir.Module) -> bool:
    """Ask LLVM to interleave the innermost loops around noted calls; whether there are any."""
    noted = [(f, _calls.pop(f)) for f in module.functions if f in _calls]
    for function, calls in noted:
        inside_out = sorted(loops(function), key=lambda loop: len(loop[0]))
        wanted: dict[int, int] = {}
        several: Counter[int] = Counter()
        for block, count in calls:
            k = next((k for k, (body, _) in enumerate(inside_out) if block in body), None)
            if k is not None:
                several[k] += 1
                wanted[k] = min(count, wanted.get(k, count))
        for k, count in wanted.items():
            # several scalars in one loop hide each other's latency
            if count // several[k] > 1:
                hint(module, inside_out[k][1], count // several[k])
    return bool(noted)


def hint(module: ir.Module, latches: list[ir.Block], count: int) -> None:
    wish = module.add_metadata(["llvm.loop.interleave.count", ir.IntType(32)(count)])
    loop = module.add_metadata([f"fastact loop {id(latches)}", wish])
    loop.operands = (loop, wish)  # a loop's metadata must name itself first
    for latch in latches:
        latch.terminator.set_metadata("llvm.loop", loop)


def widened(module: Any) -> Any:
    """A module whose functions all prefer wide vectors."""
    lines = str(module).split("\n")
    for k, line in enumerate(lines):
        head = re.match(r'define [^@]*@("[^"]*"|[\w.$-]+)\(', line)
        if head and WIDE not in line:
            end, depth = head.end(), 1
            while depth:  # the arguments have attributes in parentheses
                depth += {"(": 1, ")": -1}.get(line[end], 0)
                end += 1
            end += len(re.match(r"( (local_)?unnamed_addr)?", line[end:])[0])  # type: ignore[index]
            lines[k] = f"{line[:end]} {WIDE}{line[end:]}"
    made = llvm.parse_assembly("\n".join(lines))
    made.name = module.name
    return made


@cache
def watch_libraries() -> None:
    """See what Numba compiles, before LLVM optimises it and after."""
    add, optimize = CPUCodeLibrary.add_ir_module, CPUCodeLibrary._optimize_final_module

    @wraps(add)
    def add_ir_module(self: Any, ir_module: ir.Module) -> None:
        if hint_loops(ir_module):
            _with_calls.add(self)
        add(self, ir_module)

    @wraps(optimize)
    def optimize_final_module(self: Any) -> None:
        if self not in _with_calls and not _with_calls.isdisjoint(self._linking_libraries):
            _with_calls.add(self)
            self._final_module = widened(self._final_module)
        optimize(self)
        if any(tabulated.NAMES in f.name for f in self._final_module.functions):
            tabulated.inline_tabulated(self._final_module, self._codegen._tm)

    CPUCodeLibrary.add_ir_module = add_ir_module
    CPUCodeLibrary._optimize_final_module = optimize_final_module
