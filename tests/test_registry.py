"""Every record is complete, and everything that is public is derived from it."""

import dataclasses
import doctest
import inspect
import re
import sys
from importlib.util import find_spec

import numpy as np
import ops
import pytest

import fastact as fa
from fastact.activations.directions import DIRECTIONS
from fastact.activations.record import Activation

MAY_BE_EMPTY = {
    "parameters", "grad_from_output", "output_note", "kinks", "kink_note", "stable",
    "stable_note", "scipy", "torch", "jax", "aliases", "odd", "constraint", "parameter_grads",
    "like", "joint",
}  # fmt: skip
# PyTorch's 1/6 has the digits of a float32; its 1 - tanh**2 cancels
TORCH_GRAD = {"hard_sigmoid": 1e-7, "gelu_tanh": 2e-6}
JAX_GRAD = {"gelu_tanh": 2e-5}
op = pytest.mark.parametrize("op", ops.ELEMENTWISE)
call = pytest.mark.parametrize(("case", "direction"), ops.directed(ops.default_cases()), ids=str)


@op
def test_fields_are_filled(op):
    record = fa.get(op).record
    for field in dataclasses.fields(Activation):
        value = getattr(record, field.name)
        if field.name not in MAY_BE_EMPTY:
            assert value, field.name
    assert set(record.accuracy) == {d.name for d in ops.NATIVE}
    assert all(0 <= v <= 2 for a in record.accuracy.values() for v in dataclasses.astuple(a))
    assert bool(record.kinks) == bool(record.kink_note)
    assert record.grad_from_output is None or record.output_note
    assert not record.stable or record.stable != record.numpy
    assert record.summary.endswith(".") and "\n" not in record.summary
    for parameter in record.parameters:
        assert parameter.meaning and parameter.domain in ops.OTHER_VALUES
        assert parameter.name.isidentifier()


@pytest.mark.parametrize("name", fa.names())
def test_every_record_says_what_all_must_say(name):
    """Ops of one array and of two, along rows, and losses."""
    record = fa.get(name).record
    assert record.name == name
    for field in ("summary", "formula", "sources", "use", "numpy", "stable_note", "accuracy"):
        optional = field == "stable_note" and name in ops.ELEMENTWISE
        assert optional or getattr(record, field), field
    assert set(record.accuracy) == {d.name for d in ops.NATIVE}
    assert all(source.strip() == source and len(source) > 20 for source in record.sources)


def evaluate(expression, case, x, **more):
    if "scipy." in expression:
        pytest.importorskip("scipy.special")
        more["scipy"] = sys.modules["scipy"]
    with np.errstate(all="ignore"):
        return eval(expression, {"np": np, "x": x, **case.scope, **more})


@pytest.mark.parametrize("case", ops.all_cases(), ids=str)
def test_numpy_forms_compute_the_op(case):
    """The naive form where it is stable, the stable form wherever it is finite."""
    x = np.linspace(-6, 6, 1001)
    expected = ops.function(case.op, "forward")(x, *case.parameters)
    naive = evaluate(case.record.numpy, case, x)
    np.testing.assert_allclose(naive, expected, rtol=1e-11, atol=1e-13)
    if case.record.stable:
        far = np.linspace(-700, 700, 1001)
        stable = evaluate(case.record.stable, case, far)
        expected = ops.function(case.op, "forward")(far, *case.parameters)
        np.testing.assert_allclose(stable, expected, rtol=1e-11, atol=1e-300)


@pytest.mark.parametrize("case", [c for c in ops.default_cases() if c.record.scipy], ids=str)
def test_scipy_forms_compute_the_op(case):
    x = np.linspace(-6, 6, 1001)
    expected = ops.function(case.op, "forward")(x)
    got = evaluate(case.record.scipy, case, x, out=np.empty_like(x))
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("case", [c for c in ops.default_cases() if c.record.torch], ids=str)
def test_torch_forms_compute_the_op(case):
    """PyTorch as a second opinion: the value, and the derivative by autograd."""
    torch = pytest.importorskip("torch")
    values = np.linspace(-6, 6, 1000)
    x = torch.tensor(values, requires_grad=True)
    y = evaluate(case.record.torch, case, x, out=None, torch=torch, F=torch.nn.functional)
    expected = ops.function(case.op, "forward")(values)
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-12, atol=1e-15)
    if case.record.derivative != "0":  # no autograd through the steps
        y.backward(torch.ones_like(x))
        expected = ops.function(case.op, "grad")(values)
        np.testing.assert_allclose(x.grad.numpy(), expected, rtol=TORCH_GRAD.get(case.op, 1e-9))


@pytest.mark.parametrize("case", [c for c in ops.default_cases() if c.record.jax], ids=str)
def test_jax_forms_compute_the_op(case):
    """JAX as another: the value, and the derivative of each entry."""
    jax = pytest.importorskip("jax")
    values = np.linspace(0.01, 0.99, 50) if case.op == "logit" else np.linspace(-6, 6, 1000)
    values = values[values > 0] if case.op == "log1mexp" else values
    f = lambda x: evaluate(case.record.jax, case, x, jax=jax, jnp=jax.numpy)  # noqa: E731
    with jax.enable_x64(True):
        y = np.asarray(f(jax.numpy.asarray(values)))
        slope = np.asarray(jax.vmap(jax.grad(f))(jax.numpy.asarray(values)))
    expected = ops.function(case.op, "forward")(values)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-15)
    expected = ops.function(case.op, "grad")(values)
    np.testing.assert_allclose(slope, expected, rtol=JAX_GRAD.get(case.op, 1e-9), atol=1e-15)


@op
def test_names_and_aliases(op):
    assert op in fa.names()
    for alias in fa.get(op).aliases:
        assert fa.get(alias).name == op
        for direction in DIRECTIONS.values():
            made = getattr(fa, alias + direction.suffix, None)
            assert made is getattr(fa, op + direction.suffix, None)


def test_public_names():
    assert len(fa.names()) == len(set(fa.names()))
    assert {"identity", "binary_step", "bipolar_step", "sigmoid", "bipolar_sigmoid", "tanh",
            "relu", "leaky_relu", "elu", "swish", "softmax"} <= set(fa.names())  # fmt: skip
    for op in ("identity", "sigmoid", "bipolar_sigmoid", "tanh", "relu", "elu", "softmax"):
        assert f"{op}_backward_from_output" in fa.__all__
    assert fa.silu is fa.swish and fa.get("silu").name == "swish"
    for name in fa.__all__:
        assert getattr(fa, name) is not None
    assert set(fa.__all__) <= set(dir(fa))
    for case, direction in ops.directed(ops.default_cases()):
        assert case.op + DIRECTIONS[direction].suffix in fa.__all__


@call
def test_signature(case, direction):
    function = ops.function(case.op, direction)
    form = DIRECTIONS[direction]
    found = inspect.signature(function).parameters
    own = [p.name for p in case.record.parameters]
    wrt = ["wrt"] if direction == "backward" and case.record.parameter_grads else []
    assert list(found) == [*form.arrays, *own, "out", "where", "dtype", "casting", *wrt]
    for parameter in case.record.parameters:
        assert found[parameter.name].default == parameter.default
    assert function.__name__ == case.op + form.suffix
    assert function.__module__ == "fastact"


@call
def test_docstring_is_complete(case, direction):
    record, text = case.record, ops.function(case.op, direction).__doc__
    first = text.strip().splitlines()[0]
    assert first.endswith(".") and len(first) <= 100
    flat = " ".join(text.split())
    formula = record.formula if direction == "forward" else record.derivative
    assert " ".join(formula.split()) in flat
    for parameter in record.parameters:
        assert parameter.name in flat and " ".join(parameter.meaning.split()) in flat
    for note in (record.kink_note, *record.sources):
        assert " ".join(note.split()) in flat
    assert re.search("ULP|ulp", text) and "float16" in text and "bfloat16" in text
    assert "-inf" in text
    assert "TypeError" in text
    assert ">>>" in text
    assert max(map(len, text.splitlines())) <= 100


def examples():
    """Every public function, and the package itself."""
    needs = {"plot": "matplotlib"}
    for name in sorted(set(fa.__all__)):
        missing = name in needs and not find_spec(needs[name])
        skip = [pytest.mark.skip(f"needs {needs[name]}")] if missing else []
        yield pytest.param(getattr(fa, name), id=name, marks=skip)
    yield pytest.param(fa, id="fastact")


@pytest.mark.parametrize("thing", list(examples()))
def test_examples_in_docstrings_run(thing):
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    report = []
    for test in finder.find(thing, "example", globs={"fa": fa, "np": np}):
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


def test_op_object():
    swish = fa.get("swish")
    x = np.linspace(-3, 3, 50)
    ops.assert_same_bits(swish(x, 2.0), fa.swish(x, 2.0))
    ops.assert_same_bits(swish.grad(x), fa.swish_grad(x))
    ops.assert_same_bits(swish.value_and_grad(x), fa.swish_value_and_grad(x))
    assert swish.backward_from_output is None
    assert "swish" in repr(swish) and swish.record.formula in repr(swish)
    with pytest.raises(AttributeError):
        swish.nothing  # noqa: B018
