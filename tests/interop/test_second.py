"""The second derivatives that adapters use, against the textbook's differentiated numerically."""

import numpy as np
import oracle
import pytest
import samples
from mpmath import mp

from fastact.interop.catalogue import elementwise
from fastact.interop.second import SECOND

HAVE = [op for op in samples.ELEMENTWISE if op.name in SECOND]
LACK = [op for op in samples.ELEMENTWISE if op.name not in SECOND]


@pytest.mark.parametrize("op", HAVE, ids=samples.name_of)
@pytest.mark.parametrize("which", ["defaults", "others"])
def test_against_the_textbook(op, which):
    parameters = op.record.defaults if which == "defaults" else samples.other_parameters(op)
    x = samples.smooth_points(op, 25, parameters)
    grad = oracle.FORMULAS[op.name].grad
    with mp.workprec(250):
        expected = [
            float(mp.diff(lambda t: mp.mpf(1) * grad(t, *parameters), mp.mpf(v))) for v in x
        ]
    got = op.second(x, *parameters)
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("op", HAVE, ids=samples.name_of)
def test_far_out_and_in_every_dtype(op):
    far = np.array([-1e30, -1e4, -800.0, 800.0, 1e4, 1e30])
    domain = np.isfinite(op.grad(far))
    assert np.isfinite(op.second(far[domain])).all()
    assert op.second(np.float32(0.3)).dtype == np.float32


@pytest.mark.parametrize("op", LACK, ids=samples.name_of)
def test_an_op_without_one_says_so(op):
    with pytest.raises(NotImplementedError, match=op.name):
        op.second(np.ones(3))


def test_every_entry_is_an_op():
    assert set(SECOND) <= {*elementwise(), *oracle.FORMULAS}
