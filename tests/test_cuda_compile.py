"""Every elementwise kernel compiles to PTX for every compute capability, without a GPU."""

import re
import sys
from dataclasses import replace

import gpu
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from fastact.activations.directions import DIRECTIONS
from fastact.cuda import build, kinds, row_kinds
from fastact.cuda.helpers import Copy, Labels
from fastact.registry import RECORDS, ROW_OPS
from fastact.rowwise.losses import LOSSES, TOTAL
from fastact.runtime.functions import directions_of

FORMS = [(r, d) for r in RECORDS.values() for d in directions_of(r)]
DTYPES = tuple(kinds.ITEMSIZE)


def entry(text):
    """The name and the parameters' types of the one entry of a PTX module."""
    (name, parameters) = re.search(r"\.visible \.entry (\w+)\((.*?)\)", text, re.DOTALL).groups()
    return name, re.findall(r"\.param (?:\.align \d+ )?\.(\w+)", parameters)


def width(kernel, argument):
    """Bits of an argument."""
    if argument.kind == "pointer":
        return 64
    return kernel.index if argument.kind == "index" else 8 * kinds.SIZE[argument.dtype]


@pytest.mark.parametrize(("record", "direction"), FORMS, ids=lambda v: v.name)
def test_every_form_compiles(record, direction):
    """Dtypes, layouts and capabilities in turn; the arguments are those of the table."""
    layouts = [kinds.Layout(), kinds.Layout(2, bool(record.parameters), 64)]
    every = [(dtype, layout) for dtype in DTYPES for layout in layouts]
    n = FORMS.index((record, direction))
    for dtype, layout in every if gpu.FULL else [every[n % len(every)]]:
        kernel = kinds.elementwise(record, direction, dtype, layout)
        cc = kinds.CAPABILITIES[n % len(kinds.CAPABILITIES)]
        text = build.ptx(kernel, cc)
        name, types = entry(text)
        assert name == kernel.name
        assert [int(t[1:]) for t in types] == [width(kernel, a) for a in kernel.arguments]
        assert f".target sm_{cc[0]}{cc[1]}" in text


def row_kernels(op, dtype):
    """A short row, one for a block, one that is cut, and columns, with everything optional once."""
    flags = {"aligned": False, "masked": True, "limited": True, "scaled": op.scalable}
    if any(o.name == "label" for o in op.extra):
        flags = {"aligned": False, "averaged": True}
    yield from (replace(k, **flags) for k in row_kinds.chosen(op, dtype, 20))
    yield from row_kinds.chosen(op, dtype, 3000)
    yield from row_kinds.chosen(op, dtype, 1 << 20)
    yield from row_kinds.chosen(op, dtype, 20, columns=True)


LOSS_OPS = tuple(op for loss in LOSSES for op in loss.ops)
GPU_ROW_OPS = (*ROW_OPS, *LOSS_OPS, TOTAL)


@pytest.mark.parametrize("op", GPU_ROW_OPS, ids=lambda op: op.name)
def test_every_row_op_compiles(op):
    """A kernel per dtype, all shapes and capabilities over the ops: a kernel takes a second."""
    first = GPU_ROW_OPS.index(op)
    chosen = list(enumerate(DTYPES))
    for k, dtype in chosen if gpu.FULL else [chosen[first % len(chosen)]]:
        n = k + first
        kernels = list(row_kernels(op, dtype))
        kernel, cc = kernels[n % len(kernels)], kinds.CAPABILITIES[n % len(kinds.CAPABILITIES)]
        name, types = entry(build.ptx(kernel, cc))
        assert name == kernel.name
        assert [int(t[1:]) for t in types] == [width(kernel, a) for a in kernel.arguments]


def test_every_helper_compiles():
    """What is copied, converted and prepared, the dtypes in turn."""
    sources = list(kinds.SIZE)
    helpers = [Copy(1, 32, s, DTYPES[n % 4]) for n, s in enumerate(sources)]
    helpers += [Copy(1, 32, DTYPES[n % 4], t) for n, t in enumerate(sources)]
    helpers += [Copy(2, 64, d, d, True) for d in DTYPES[:2]] + [Copy(2, 32, "bool", "bool")]
    helpers += [
        Labels(1, 32, "int64", "float32"),
        Labels(2, 64, "uint8", "float64", "float16", True),
    ]
    for n, kernel in enumerate(helpers if gpu.FULL else helpers[::3]):
        name, types = entry(build.ptx(kernel, kinds.CAPABILITIES[n % len(kinds.CAPABILITIES)]))
        assert name == kernel.name
        assert [int(t[1:]) for t in types] == [width(kernel, a) for a in kernel.arguments]


@pytest.mark.parametrize("cc", kinds.CAPABILITIES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_contiguous_kernels_move_sixteen_bytes(dtype, cc):
    kernel = kinds.elementwise(RECORDS["sigmoid"], DIRECTIONS["backward"], dtype)
    text = build.ptx(kernel, cc)
    assert len(re.findall(r"ld\.global\.v[24]", text)) == 2
    assert len(re.findall(r"st\.global\.v[24]", text)) == 1


@pytest.mark.parametrize("problem", ["a GPU of the future", "no linker"])
def test_ptx_where_nothing_can_be_linked(monkeypatch, problem):
    """The driver compiles it: PTX of the latest GPU that is known, for all that come after it."""
    kernel = kinds.elementwise(RECORDS["relu"], DIRECTIONS["forward"], "float32")
    if problem == "no linker":
        monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    made = build.cubin(kernel, (9, 0) if problem == "no linker" else (99, 0))
    assert made.startswith(b"//") and f".entry {kernel.name}(".encode() in made
    known = int(made.split(b".target sm_")[1].split(b"\n")[0])
    assert known == 90 if problem == "no linker" else known >= 120


@pytest.mark.parametrize("cc", [(8, 6), (8, 9), (10, 3), (12, 1)])
def test_machine_code_of_gpus_between_those_that_are_tested(cc):
    kernel = kinds.elementwise(RECORDS["relu"], DIRECTIONS["forward"], "float32")
    assert build.cubin(kernel, cc).startswith(b"\x7fELF")
