"""Kernels in numba-cuda's simulator: see cuda_simulation.py.

A process per op takes ten seconds and more, so by default some ops stand for all: what differs
between ops, their scalars, is compiled and executed by test_ptx_elementwise.
"""

import children
import gpu
import ops
import pytest

from fastact.registry import ROW_OPS

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
SIMULATOR = {"NUMBA_ENABLE_CUDASIM": "1", "FASTACT_TABLES": "0"}


def simulate(call):
    children.run(f"import cuda_simulation\ncuda_simulation.{call}", SIMULATOR, seconds=400)


@pytest.mark.parametrize("op", ops.ELEMENTWISE if gpu.FULL else gpu.PROBES)
def test_elementwise(op):
    simulate(f"check_elementwise({op!r})")


# Causal rows and groups have no kernel of their own.
GPU_ROW_OPS = [o.name for o in ROW_OPS if not o.causal and not o.groups]


@pytest.mark.parametrize("op", GPU_ROW_OPS if gpu.FULL else GPU_ROW_OPS[::3])
def test_rows(op):
    simulate(f"check_rows({op!r})")


def test_softmax_against_the_oracle():
    simulate("check_softmax_against_oracle()")


def test_special_rows():
    simulate("check_special_rows()")


def test_losses():
    simulate("check_losses()")


def test_copies():
    simulate("check_copies()")
