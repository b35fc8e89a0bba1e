"""fastact.autograd against autograd's own numerical check, in both modes, to second order."""

import numpy as np
import pytest
import samples

from fastact.interop.second import SECOND

pytest.importorskip("autograd", reason="HIPS autograd is not installed")

import autograd
import autograd.numpy as anp
from autograd.test_util import check_grads

import fastact.autograd as fg
from fastact.interop.hips import JVP

elementwise = pytest.mark.parametrize("op", samples.ELEMENTWISE, ids=samples.name_of)
rowwise = pytest.mark.parametrize("op", samples.ROWWISE, ids=samples.name_of)


@elementwise
def test_elementwise(op):
    f = getattr(fg, op.name)
    order = 2 if op.name in SECOND else 1
    for parameters in (op.record.defaults, samples.other_parameters(op)):
        x = samples.smooth_points(op, 9, parameters)
        np.testing.assert_array_equal(f(x, *parameters), op.forward(x, *parameters))
        check_grads(f, modes=["fwd", "rev"], order=order)(x, *parameters)


@rowwise
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_rows(op, axis):
    x = np.random.default_rng(1).normal(0, 2, (3, 4))
    f = getattr(fg, op.name)
    np.testing.assert_array_equal(f(x, axis=axis), op.forward(x, axis=axis))
    twice = op.name in JVP
    modes = ["fwd", "rev"] if twice else ["rev"]
    check_grads(lambda t: f(t, axis=axis), modes=modes, order=1 + twice)(x)


@pytest.mark.parametrize(("op", "arrays", "numbers"), samples.FUSED, ids=samples.case_id)
def test_fused(op, arrays, numbers):
    f = getattr(fg, op.name)
    np.testing.assert_array_equal(f(*arrays, *numbers), op.forward(*arrays, *numbers))
    check_grads(lambda *a: f(*a, *numbers), modes=["fwd", "rev"], order=2)(*arrays)


@pytest.mark.parametrize(("loss", "x", "target", "options"), samples.LOSSES, ids=samples.case_id)
def test_losses(loss, x, target, options):
    f = getattr(fg, loss.name)
    np.testing.assert_array_equal(f(x, target, **options), loss.forward(x, target, **options))
    check_grads(lambda t: f(t, target, **options), modes=["fwd", "rev"], order=2)(x)
    if target.dtype.kind == "f":
        check_grads(lambda q: f(x, q, **options), modes=["fwd", "rev"])(target)


def test_gradients_of_losses_are_fastacts_own():
    _, x, target, options = samples.LOSSES[0]
    g = autograd.grad(lambda t: fg.softmax_cross_entropy(t, target, **options))(x)
    expected = samples.losses()["softmax_cross_entropy"].value_and_grad(x, target, **options)[1]
    np.testing.assert_array_equal(g, expected)


def test_gradient_is_the_exact_one():
    """From the input, exact where the output has saturated."""
    x = np.array([-40.0, 40.0, 700.0])
    g = autograd.elementwise_grad(fg.sigmoid)(x)
    np.testing.assert_array_equal(g, samples.elementwise()["sigmoid"].grad(x))
    assert (g > 0).all()


def test_named_and_broadcast_parameters():
    x = np.linspace(-2, 2, 5)
    np.testing.assert_array_equal(
        autograd.elementwise_grad(lambda t: fg.elu(t, alpha=0.5))(x),
        samples.elementwise()["elu"].grad(x, 0.5),
    )
    alpha = np.array([[0.5], [2.0]])
    check_grads(lambda t: fg.elu(t, alpha), modes=["fwd", "rev"], order=2)(x - 0.3)


def test_inside_a_program():
    def loss(w):
        return anp.sum(fg.log_softmax(anp.dot(fg.swish(w), w.T))[:, 0])

    check_grads(loss, modes=["fwd", "rev"], order=2)(np.random.default_rng(0).normal(0, 1, (3, 3)))


def test_what_cannot_be_differentiated_twice_says_so(monkeypatch):
    monkeypatch.delitem(SECOND, "swish")
    with pytest.raises(NotImplementedError, match="swish has no second derivative"):
        autograd.grad(autograd.grad(fg.swish))(0.5)


def test_public_names():
    assert {"swish", "silu", "softmax"} <= set(fg.__all__) <= set(dir(fg))
    assert fg.silu is fg.swish and "fastact.swish" in fg.swish.__doc__
    with pytest.raises(AttributeError, match="no_such_op"):
        fg.no_such_op  # noqa: B018
