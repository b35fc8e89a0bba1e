"""The ops that look tables up in registers, on processors that can."""

from fastact.registry import PAIRED, RECORDS

SCALARS = [
    (op, direction)
    for op, record in RECORDS.items()
    for direction in ("forward", "grad")
    if record.scalars[direction].tables is not None
]
OPS = {op for op, _ in SCALARS}
OPS |= {name for name, record in PAIRED.items() if record.activation.name in OPS}

# The tests that compare an op on a GPU with what the CPU computes
BESIDE_A_GPU = ("test_cuda_in_kernels.py", "test_cuda_paired.py", "test_ptx_elementwise.py")
