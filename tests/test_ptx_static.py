"""The compiled GPU kernels as text: how they access memory, and what the assembler says of them."""

import itertools
import math
import re
import subprocess
from functools import cache
from importlib import metadata

import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

import gpu
from gpu import elementwise

from fastact.activations.directions import DIRECTIONS
from fastact.cuda import kinds, row_kinds
from fastact.registry import ROW_OPS
from fastact.rowwise.losses import LOSSES

REGISTERS = 65536  # of a multiprocessor, on every compute capability here (CUDA guide, 16.2)
GRANULE = 8  # registers per thread are given out in eights


@cache
def assembler():
    """ptxas of the wheel nvidia-cuda-nvcc, whatever PATH holds."""
    try:
        files = metadata.files("nvidia-cuda-nvcc") or []
    except metadata.PackageNotFoundError:
        return None
    return next((str(f.locate()) for f in files if f.stem == "ptxas"), None)


def assembled(text, cc, folder):
    """(registers per thread, bytes spilled, bytes of stack) of the one entry."""
    if assembler() is None:
        pytest.skip("ptxas is not installed (the wheel nvidia-cuda-nvcc)")
    source = folder / "kernel.ptx"
    source.write_text(text)
    command = [assembler(), "-v", f"-arch={gpu.capability(cc)}", str(source), "-o"]
    done = subprocess.run([*command, str(folder / "kernel.cubin")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    stack, stores, loads = map(
        int,
        re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads",
            done.stderr,
        ).groups(),
    )
    registers = int(re.search(r"Used (\d+) registers", done.stderr).group(1))
    return registers, stores + loads, stack


def check_text(text, dtype):
    """What holds of every kernel."""
    assert ".local" not in text, "local memory"
    assert not re.search(r"^\s*call", text, re.M), "a call that was not inlined"
    assert not re.search(r"\.ftz\b", text), "subnormals are flushed"
    if dtype != "float64":
        assert not re.search(r"\.f64\b|\bcvt\.\S*f64", text), "float64 in a float32 kernel"


def check_occupancy(kernel, cc, folder):
    """No spill, and registers for the blocks that the kernel asks for."""
    registers, spilled, stack = assembled(gpu.text(kernel, cc), cc, folder)
    assert (spilled, stack) == (0, 0)
    threads = math.prod(kernel.block)
    blocks = REGISTERS // (-(-registers // GRANULE) * GRANULE * threads)
    assert blocks >= kernel.resident_blocks(cc), f"{registers} registers"


by_capability = {"ids": lambda v: gpu.capability(v) if isinstance(v, tuple) else v}


@pytest.mark.parametrize(("op", "direction", "dtype", "cc"), gpu.cover(), **by_capability)
def test_elementwise(op, direction, dtype, cc, tmp_path):
    kernel = elementwise(op, direction, dtype)
    text = gpu.text(kernel, cc)
    check_text(text, dtype)
    form = DIRECTIONS[direction]
    for way, count in (("ld", len(form.arrays)), ("st", len(form.outputs))):
        # the loop may be unrolled, but never into accesses of another width
        wide = re.findall(rf"\b{way}\.global(?:\.nc)?\.(?:v4\.\w32|v2\.\w64)\b", text)
        one = re.findall(rf"\b{way}\.global(?:\.nc)?\.\w+\b(?!\.)", text)
        assert wide and len(wide) % count == 0, f"{wide}, not sixteen bytes"
        assert len(one) == count, "the tail: one element of each operand"
    check_occupancy(kernel, cc, tmp_path)


@pytest.mark.parametrize("cc", gpu.CAPABILITIES, ids=gpu.capability)
@pytest.mark.parametrize("dtype", gpu.DTYPES)
def test_strided(dtype, cc, tmp_path):
    for layout in (kinds.Layout(3, False, 32), kinds.Layout(2, True, 64)):
        kernel = elementwise("swish", "backward", dtype, layout)
        text = gpu.text(kernel, cc)
        check_text(text, dtype)
        if layout.index == 32:
            # 64-bit division is a long routine: indices are wide only where they must be
            assert not re.search(r"\b(?:div|rem)\.\w64", text)
        check_occupancy(kernel, cc, tmp_path)


@pytest.mark.parametrize("cc", gpu.CAPABILITIES, ids=gpu.capability)
@pytest.mark.parametrize("dtype", gpu.DTYPES)
def test_resident_threads(dtype, cc):
    """float32: every thread that a multiprocessor holds; the others: more than half of them."""
    kernel = elementwise("relu", "forward", dtype)
    resident = kernel.resident_blocks(cc) * kernel.block[0]
    held = kinds.resident_threads(cc)
    assert resident == held if dtype == "float32" else held / 2 < resident <= held


LOSS_OPS = [op for loss in LOSSES for op in loss.ops]
ROWS = [*ROW_OPS, *(LOSS_OPS if gpu.FULL else LOSS_OPS[1::2])]  # with the gradient
# rows of a lane, of a warp, of a block, in chunks
LENGTHS = (8, 1024, 4096, 1 << 20)


def row_cases():
    """(op, dtype, length, columns, capability): all for 9.0, or as many as there are ops, twice."""
    if gpu.FULL:
        return list(itertools.product(ROWS, gpu.DTYPES, LENGTHS, (False, True), [(9, 0)]))
    dtypes = list(gpu.DTYPES)
    return [
        (op, dtypes[(i + k) % 4], LENGTHS[(i // 4 + 2 * k) % 4], k == 1, gpu.CAPABILITIES[i % 5])
        for i, op in enumerate(ROWS)
        for k in range(2 if op in ROW_OPS else 1)
    ]


@pytest.mark.parametrize(
    ("op", "dtype", "length", "columns", "cc"),
    row_cases(),
    ids=lambda v: gpu.capability(v) if isinstance(v, tuple) else getattr(v, "name", str(v)),
)
def test_rows(op, dtype, length, columns, cc, tmp_path):
    for kernel in row_kinds.chosen(op, dtype, length, columns):
        text = gpu.text(kernel, cc)
        check_text(text, kernel.finishing)
        check_occupancy(kernel, cc, tmp_path)
        if kernel.aligned and kernel.stage == "whole":
            rows = [o for o in kernel.inputs if o.is_row]
            wide = re.findall(r"\bld\.global(?:\.nc)?\.(?:v4\.\w32|v2\.\w64)\b", text)
            assert len(wide) == len(rows) * kernel.vectors
            outputs = [o for o in kernel.outputs if o.is_row]
            wide = re.findall(r"\bst\.global\.(?:v4\.\w32|v2\.\w64)\b", text)
            assert len(wide) == len(outputs) * kernel.vectors
