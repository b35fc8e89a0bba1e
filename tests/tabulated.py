"""The ops that look tables up in registers, on processors that can."""

import inspect
import re

from fastact.registry import PAIRED, RECORDS

SCALARS = [
    (op, direction)
    for op, record in RECORDS.items()
    for direction in ("forward", "grad")
    if record.scalars[direction].tables is not None
]
OPS = {op for op, _ in SCALARS}
OPS |= {name for name, record in PAIRED.items() if record.activation.name in OPS}

NAMED = OPS | {alias for op in OPS & set(RECORDS) for alias in RECORDS[op].aliases}

# The tests that compare an op on a GPU with what the CPU computes
BESIDE_A_GPU = ("test_cuda_in_kernels.py", "test_cuda_paired.py", "test_ptx_elementwise.py")


def looks_up(test):
    """Whether a test is about such an op: its parameters or its source name one."""
    text = test.name.partition("[")[2] + inspect.getsource(test.function)
    return bool(NAMED & set(re.findall(r"[a-z_]+?(?=_grad|_backward|_value|\W)", text)))
