"""Partials with respect to trained parameters, against differences in 600 bits."""

import inspect

import numpy as np
import ops
import oracle
import paired
import pytest
import ulp
from mpmath import mp

import fastact as fa

trained = pytest.mark.parametrize(
    ("record", "name"), paired.TRAINED, ids=lambda v: getattr(v, "name", v)
)
records = pytest.mark.parametrize(
    "record", dict.fromkeys(record for record, _ in paired.TRAINED), ids=lambda r: r.name
)
native = pytest.mark.parametrize("dtype", ops.NATIVE, ids=str)
BOUND = 4.0  # ulp of the partial, or of what it is the difference of


def backward_of(record):
    return getattr(fa, f"{record.name}_backward")


def cases(record):
    return [c for c in ops.all_cases() if c.op == record.name]


@native
@trained
def test_partial_of_each_entry(record, name, dtype):
    """With one parameter per entry nothing is summed: the derivative itself."""
    index = [p.name for p in record.parameters].index(name)
    for case in cases(record):
        x = np.concatenate([paired.values(dtype, 150, 1), paired.values(dtype, 50, 2, 30.0)])
        x = x[~np.isin(x, case.kinks)]
        arrays = [np.full(x.shape, p, dtype) for p in case.parameters]
        got = backward_of(record)(np.ones_like(x), x, *arrays, wrt=name)
        assert got.shape == x.shape and got.dtype == dtype
        values = case.rounded(dtype)
        exact = [paired.parameter_slope(record.name, index, v, values) for v in x.tolist()]
        error = ulp.ulp_errors(got, exact)
        # the derivative of celu by alpha is the difference of two terms of order 1
        least = float(np.finfo(dtype).eps) if name == "alpha" else 0.0
        wide = np.array([float(abs(mp.mpf(float(g)) - e)) for g, e in zip(got, exact, strict=True)])
        assert np.all((error <= BOUND) | (wide <= least)), (x[error.argmax()], error.max())


@native
@trained
def test_sum_over_a_number(record, name, dtype):
    x, dy = paired.values(dtype, (300, 41), 1), paired.values(dtype, (300, 41), 2)
    parameters = [dtype.type(p) for p in record.defaults]
    names = [p.name for p in record.parameters]
    got = backward_of(record)(dy, x, *parameters, wrt=name)
    full = [np.full(x.shape, p) for p in parameters]
    terms = backward_of(record)(dy, x, *full, wrt=name).astype(np.longdouble)
    eps = float(np.finfo(dtype).eps)
    assert np.ndim(got) == 0 and got.dtype == dtype
    assert abs(got - terms.sum()) <= 4 * eps * abs(terms).sum()
    full[names.index(name)] = np.full((300, 1), parameters[names.index(name)])
    column = backward_of(record)(dy, x, *full, wrt=name)
    assert column.shape == (300, 1)
    bound = 4 * eps * abs(terms).sum(1, keepdims=True)
    assert np.all(abs(column - terms.sum(1, keepdims=True)) <= bound)


@pytest.mark.parametrize("dtype", ops.DTYPES, ids=str)
@records
def test_several_at_once(record, dtype):
    """In the order asked for; dx has the bits of a plain backward pass."""
    x, dy = paired.values(dtype, (30, 7), 1), paired.values(dtype, (30, 7), 2)
    names = tuple(record.parameter_grads)
    backward = backward_of(record)
    plain = backward(dy, x)
    got = backward(dy, x, wrt=("x", *names))
    assert isinstance(got, tuple) and len(got) == 1 + len(names)
    ops.assert_same_bits(got[0], plain)
    swapped = backward(dy, x, wrt=[*names, "x"])
    ops.assert_same_bits((swapped[-1], *swapped[:-1]), got)
    for name, partial in zip(names, got[1:], strict=True):
        ops.assert_same_bits(backward(dy, x, wrt=name), partial)
        assert np.shape(partial) == ()
        assert partial.dtype == (np.float32 if dtype in ops.HALVES else dtype)
    ops.assert_same_bits(backward(dy, x, wrt="x"), plain)
    ops.assert_same_bits(backward(dy, x, wrt="".join(["x"])), plain)


@pytest.mark.parametrize("dtype", ops.HALVES, ids=str)
def test_half_types_sum_in_float32(dtype):
    x, dy = paired.values(dtype, 5000, 1), paired.values(dtype, 5000, 2)
    got = fa.swish_backward(dy, x, wrt="beta")
    single = fa.swish_backward(dy.astype(np.float32), x.astype(np.float32), wrt="beta")
    ops.assert_same_bits(got, single)


def test_torch_agrees():
    torch = pytest.importorskip("torch")
    x, dy = paired.values(float, (20, 5), 1), paired.values(float, (20, 5), 2)
    forms = {
        "swish": lambda x, beta: x * torch.sigmoid(beta * x),
        "elu": lambda x, alpha: torch.where(x > 0, x, alpha * torch.expm1(x)),
        "celu": lambda x, alpha: torch.where(x > 0, x, alpha * torch.expm1(x / alpha)),
        "leaky_relu": lambda x, slope: torch.where(x > 0, x, slope * x),
        "squareplus": lambda x, b: (x + torch.sqrt(x * x + b)) / 2,
    }
    for name, form in forms.items():
        weight = np.array([0.5, 1.0, 1.5, 2.0, 2.5])
        tx, tw = (torch.tensor(v, requires_grad=True) for v in (x, weight))
        form(tx, tw).backward(torch.from_numpy(dy))
        (parameter,) = fa.get(name).parameter_grads
        dx, dw = getattr(fa, f"{name}_backward")(dy, x, weight, wrt=("x", parameter))
        np.testing.assert_allclose(dx, tx.grad.numpy(), rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(dw, tw.grad.numpy(), rtol=1e-10, atol=1e-13)


@records
def test_far_out(record):
    """At the ends of the line a partial is a limit, and nan where x is nan."""
    for dtype in ops.NATIVE:
        top = np.finfo(dtype).max
        x = np.array([-top, -100.0, 100.0, top], dtype)
        parameters = [np.full(4, p, dtype) for p in record.defaults]
        for name in record.parameter_grads:
            got = backward_of(record)(np.ones_like(x), x, *parameters, wrt=name)
            index = [p.name for p in record.parameters].index(name)
            values = tuple(float(dtype.type(p)) for p in record.defaults)
            for v, g in zip(x.tolist(), got.tolist(), strict=True):
                with mp.workprec(oracle.GUARD_BITS):
                    e = paired.parameter_slope(record.name, index, v, values)
                    assert abs(g - e) <= 1e-6 * abs(e) + mp.mpf(float(np.finfo(dtype).tiny))
            nan = np.full(4, np.nan, dtype)
            assert np.isnan(
                backward_of(record)(np.ones(4, dtype), nan, *parameters, wrt=name)
            ).all()


@records
def test_errors_name_what_is_wrong(record):
    name = f"{record.name}_backward"
    backward, x = backward_of(record), np.ones(3)
    parameter = next(iter(record.parameter_grads))
    for wrong in ("slop", ("x", "slop"), (), 3, None, ("x", "x")):
        with pytest.raises(
            ValueError, match=rf"{name}: wrt .*{wrong!r}".replace("(", r"\(").replace(")", r"\)")
        ):
            backward(x, x, wrt=wrong)
    with pytest.raises(TypeError, match=rf"{name}: where, dtype and casting"):
        backward(x, x, wrt=parameter, where=np.ones(3, bool))
    with pytest.raises(ValueError, match=rf"{name}: shapes do not broadcast"):
        backward(x, np.ones(4), wrt=parameter)
    with pytest.raises(TypeError, match=rf"{name}: dy has dtype complex128"):
        backward(x * 1j, x, wrt=parameter)
    with pytest.raises(ValueError, match=rf"{name}: .*must be finite"):
        backward(x, x, np.nan, wrt=parameter)
    out = np.full(3, 7.0)
    with pytest.raises(ValueError, match=rf"{name}: out for d{parameter} has shape \(3,\)"):
        backward(x, x, wrt=parameter, out=out)
    assert (out == 7).all()
    number = np.empty(())
    assert backward(x, x, wrt=parameter, out=number) is number


def test_only_trained_parameters_have_it():
    assert "wrt" in inspect.signature(fa.swish_backward).parameters
    assert "wrt" not in inspect.signature(fa.relu_backward).parameters
    assert "wrt" in fa.swish_backward.__doc__
