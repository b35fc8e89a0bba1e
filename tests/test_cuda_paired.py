"""The compiled kernels of ops of two arrays, executed: the bits that the CPU gives."""

import numpy as np
import ops
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from ptx import Buffer, Machine

import fastact as fa
from fastact.cuda import build, kinds
from fastact.registry import PAIRED
from fastact.runtime.functions import directions_of
from fastact.runtime.halves import HALVED

SIZE = 103
FORMS = [
    (record, direction)
    for record in PAIRED.values()
    for direction in directions_of(record)
    if record.name != HALVED and not direction.results
]


@pytest.mark.parametrize(("record", "direction"), FORMS, ids=lambda v: v.name)
def test_every_form(record, direction):
    kernel = kinds.elementwise(record, direction, "float32")
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(0, 4, SIZE).astype(np.float32) for name in direction.arrays}
    defaults = {p.name: p.default for p in record.parameters}
    outputs, arguments = [], []
    for argument in kernel.arguments:
        if argument.output:
            outputs.append(Buffer(np.zeros(SIZE, np.float32), "out"))
            arguments.append(outputs[-1])
        elif argument.kind == "pointer":
            arguments.append(Buffer(arrays[argument.name]))
        elif argument.kind == "value":
            arguments.append(np.float32(defaults[argument.name]))
        else:
            arguments.append(np.int32(SIZE))
    Machine(build.ptx(kernel, (8, 0))).launch(kernel.grid(SIZE), kernel.block, arguments)
    with np.errstate(all="ignore"):
        function = getattr(fa, record.name + direction.suffix)
        expected = ops.results(function(*arrays.values()))
    for out, right in zip(outputs, expected, strict=True):
        out.check_written()
        ops.assert_same_bits(out.array, right)
