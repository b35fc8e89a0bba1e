"""fastact.sklearn: what is registered trains, what cannot be says so, and all can be undone."""

import pickle

import numpy as np
import pytest
import samples

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

import sklearn.neural_network._base as base
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils._param_validation import InvalidParameterError

import fastact.sklearn as fs

CAN = [op for op in samples.ELEMENTWISE if op.backward_from_output is not None]
CANNOT = [op for op in samples.ELEMENTWISE if op.backward_from_output is None]


def state():
    return (
        dict(base.ACTIVATIONS),
        dict(base.DERIVATIVES),
        [sorted(c.options) for c in MLPClassifier._parameter_constraints["activation"]],
    )


@pytest.fixture(autouse=True)
def unchanged():
    """Nothing of what a test registers is left."""
    before = state()
    yield
    fs.unregister()
    assert state() == before


@pytest.mark.parametrize("op", CAN, ids=samples.name_of)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_in_place_functions(op, dtype):
    with fs.register(op.name) as added:
        (name,) = added.names
        x = np.random.default_rng(0).normal(0, 2, (5, 4)).astype(dtype)
        z = x.copy()
        assert base.ACTIVATIONS[name](z) is None
        np.testing.assert_array_equal(z, op.forward(x))
        delta = np.ones_like(z)
        assert base.DERIVATIVES[name](z, delta) is None
        np.testing.assert_array_equal(delta, op.backward_from_output(np.ones_like(z), z))
        np.testing.assert_allclose(delta, op.grad(x), rtol=1e-4, atol=1e-6)


def test_a_model_learns_as_with_its_own_tanh():
    x = np.random.default_rng(1).normal(size=(200, 3))
    y = (x[:, 0] * x[:, 1] > 0).astype(int)

    def score(activation):
        model = MLPClassifier((16,), activation=activation, max_iter=40, random_state=0)
        model.set_params(early_stopping=False, tol=0.0, n_iter_no_change=1000)
        with pytest.warns(Warning, match="Maximum iterations"):
            return model.fit(x, y).loss_curve_

    with fs.register("tanh"):
        np.testing.assert_allclose(score("fastact_tanh"), score("tanh"), rtol=1e-6)


def test_regression_and_pickle():
    x = np.linspace(-1, 1, 50)[:, None]
    with fs.register():
        model = MLPRegressor(
            hidden_layer_sizes=(12,), activation="fastact_elu", solver="lbfgs", random_state=0
        )
        model.fit(x, x[:, 0] ** 2)
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(again.predict(x), model.predict(x))
        assert model.score(x, x[:, 0] ** 2) > 0.99


def test_all_ops_are_either_offered_or_refused():
    added = fs.register()
    assert set(added.names) == {f"fastact_{op.name}" for op in CAN}
    assert set(added.refused) == {op.name for op in CANNOT}
    assert all(name in why for name, why in added.refused.items())


def test_undone():
    before = state()
    first, second = fs.register("elu"), fs.register("elu", "sigmoid", prefix="my_")
    first.unregister()
    assert "fastact_elu" not in base.ACTIVATIONS and "my_elu" in base.ACTIVATIONS
    second.unregister()
    second.unregister()
    assert state() == before
    with pytest.raises(InvalidParameterError, match="fastact_elu"):
        MLPClassifier(activation="fastact_elu").fit([[0.0], [1.0]], [0, 1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"ops": ("swish",)}, "the derivative of swish does not follow from its output"),
        ({"ops": ("nothing",)}, "op must be one of .* got 'nothing'"),
        ({"ops": ("tanh",), "prefix": ""}, "scikit-learn has its own tanh"),
    ],
)
def test_errors(arguments, words):
    before = state()
    with pytest.raises(ValueError, match=words):
        fs.register(*arguments.pop("ops"), **arguments)
    assert state() == before
