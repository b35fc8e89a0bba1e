"""Every elementwise kernel compiles to PTX for every compute capability, without a GPU."""

import re

import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from fastact.activations.directions import DIRECTIONS
from fastact.cuda import build, kinds
from fastact.registry import RECORDS
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
    return kernel.index if argument.kind == "index" else 8 * kinds.ITEMSIZE[argument.dtype]


@pytest.mark.parametrize(("record", "direction"), FORMS, ids=lambda v: v.name)
def test_every_form_compiles(record, direction):
    """In each dtype and layout, over all capabilities; the arguments are those of the table."""
    layouts = [kinds.Layout(), kinds.Layout(2, bool(record.parameters), 64)]
    for k, dtype in enumerate(DTYPES):
        for layout in layouts:
            kernel = kinds.elementwise(record, direction, dtype, layout)
            cc = kinds.CAPABILITIES[k % len(kinds.CAPABILITIES)]
            text = build.ptx(kernel, cc)
            name, types = entry(text)
            assert name == kernel.name
            assert [int(t[1:]) for t in types] == [width(kernel, a) for a in kernel.arguments]
            assert f".target sm_{cc[0]}{cc[1]}" in text


@pytest.mark.parametrize("cc", kinds.CAPABILITIES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_contiguous_kernels_move_sixteen_bytes(dtype, cc):
    kernel = kinds.elementwise(RECORDS["sigmoid"], DIRECTIONS["backward"], dtype)
    text = build.ptx(kernel, cc)
    assert len(re.findall(r"ld\.global\.v[24]", text)) == 2
    assert len(re.findall(r"st\.global\.v[24]", text)) == 1
