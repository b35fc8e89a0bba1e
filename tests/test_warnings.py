"""No floating-point warning, whatever the input: a `select` that discards one must hide it."""

import numpy as np
import ops
import pytest

import fastact as fa
from fastact.activations.directions import DIRECTIONS


@pytest.mark.parametrize("target", ["serial", "parallel"])
@pytest.mark.parametrize("dtype", ops.DTYPES, ids=str)
@pytest.mark.parametrize(("case", "direction"), ops.directed(ops.default_cases()), ids=str)
def test_no_warning(case, direction, dtype, target):
    x = ops.mixed(dtype, 4096)
    finest = ops.inputs(case, dtype, 400) if dtype in ops.NATIVE else x
    for values in (x, finest, x[1::2], x[:1]):
        arrays = [values]
        if len(DIRECTIONS[direction].arrays) == 2:
            arrays = [np.ones_like(values), values]
        with np.errstate(all="raise", under="ignore"), fa.use_target(target):
            ops.function(case.op, direction)(*arrays, *case.parameters)


@pytest.mark.parametrize("case", ops.default_cases(), ids=str)
def test_callers_warnings_still_work(case):
    """The flags are cleared, not the reporting of the NumPy calls around."""
    with np.errstate(divide="raise"):
        ops.function(case.op, "forward")(np.array([0.0, np.inf]), *case.parameters)
        with pytest.raises(FloatingPointError):
            np.divide(np.ones(2), np.zeros(2))
