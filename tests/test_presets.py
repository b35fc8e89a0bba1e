"""Other libraries' names, parameter names and defaults, against the libraries themselves."""

import inspect

import numpy as np
import ops
import pytest

import fastact as fa
from fastact.activations.presets import PRESETS, Preset
from fastact.registry import RECORDS

X = np.linspace(-7, 7, 1401)
ENTRIES = [
    (library, name, entry) for library, table in PRESETS.items() for name, entry in table.items()
]
KNOWN = [e for e in ENTRIES if isinstance(e[2], Preset) and e[2].op in fa.names()]


@pytest.mark.parametrize(("library", "name", "preset"), KNOWN, ids=str)
def test_a_preset_is_the_op_under_other_names(library, name, preset):
    op, own = fa.get(name, like=library), fa.get(preset.op)
    assert fa.get(name, like=library) is op
    if preset.op not in RECORDS:
        assert op is own
        return
    assert set(preset.names) | set(preset.defaults) <= {p.name for p in own.parameters}
    given = {p.name: preset.defaults.get(p.name, p.default) for p in own.parameters}
    theirs = {preset.names.get(n, n): v for n, v in given.items()}
    assert {p.name: p.default for p in op.parameters} == theirs
    assert list(inspect.signature(op.forward).parameters)[1 : 1 + len(theirs)] == list(theirs)
    ops.assert_same_bits(op(X), own(X, **given))
    ops.assert_same_bits(op(X, **theirs), own(X, **given))
    ops.assert_same_bits(op.grad(X), own.grad(X, **given))
    ops.assert_same_bits(op.backward(X, X), own.backward(X, X, **given))
    ops.assert_same_bits(op.value_and_grad(X), own.value_and_grad(X, **given))
    scope = {"np": np, "x": X, **theirs}
    np.testing.assert_allclose(eval(op.numpy, scope), op(X), rtol=1e-12, atol=1e-14)
    for parameter in op.parameter_grads:
        assert np.shape(op.backward(X, X, wrt=parameter)) == ()
    gone = set(given) - set(theirs)
    for word in gone:
        with pytest.raises(TypeError, match=word):
            op(X, **{word: 1.0})


def test_torch_defaults_are_torchs():
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    for name in ("leaky_relu", "elu", "celu", "hardtanh", "relu6", "hardswish", "hardsigmoid"):
        op = fa.get(name, like="torch")
        theirs = inspect.signature(getattr(f, name)).parameters
        for p in op.parameters:
            assert theirs[p.name].default == p.default
        expected = getattr(f, name)(torch.from_numpy(X)).numpy()
        np.testing.assert_allclose(op(X), expected, rtol=1e-12, atol=1e-15)


def test_jax_defaults_are_jaxs():
    jax = pytest.importorskip("jax")
    x = X.astype(np.float32)
    for name in ("leaky_relu", "elu", "celu", "squareplus", "soft_sign", "hard_silu", "swish",
                 "sparse_plus", "sparse_sigmoid", "relu6"):  # fmt: skip
        op = fa.get(name, like="jax")
        theirs = inspect.signature(getattr(jax.nn, name)).parameters
        for p in op.parameters:
            assert name == "swish" or theirs[p.name].default == p.default
        expected = np.asarray(getattr(jax.nn, name)(x))
        np.testing.assert_allclose(op(x), expected, rtol=2e-5, atol=1e-6)


def test_any_spelling():
    assert fa.get("LeakyRelu", like="onnx") is not fa.get("leaky_relu")
    assert fa.get("LeakyRelu", like="onnx").record.name == "leaky_relu"
    assert fa.get("HardSwish", like="onnx") is fa.get("hard_swish")
    assert fa.get("SiLU", like="torch") is fa.get("swish")


def test_what_cannot_be_expressed():
    for library, name, entry in ENTRIES:
        if not isinstance(entry, Preset):
            with pytest.raises(KeyError, match=f"{name} of {library} cannot be expressed"):
                fa.get(name, like=library)
    with pytest.raises(ValueError, match=r"like must be one of 'torch'.*'theano'"):
        fa.get("relu", like="theano")
    with pytest.raises(KeyError, match="no op named 'reluu'"):
        fa.get("reluu", like="torch")
    # the constants of selu are not parameters here, as ONNX has them
    with pytest.raises(TypeError, match="gamma"):
        fa.get("selu", like="onnx")(X, gamma=1.0)


def test_the_op_itself_is_unchanged():
    before = fa.leaky_relu(-1.0)
    fa.get("leaky_relu", like="keras")(X)
    assert fa.leaky_relu(-1.0) == before == -0.01
    assert fa.get("leaky_relu").defaults == (0.01,)
