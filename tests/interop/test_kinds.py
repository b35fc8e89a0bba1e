"""Arrays of other libraries on the CPU: taken as they are, given back where that is possible."""

import array

import numpy as np
import ops
import pytest

import fastact as fa

X = np.random.default_rng(0).normal(0, 3, (4, 6)).astype(np.float32)


class OnlyDLPack:
    """An array of a library that speaks DLPack and nothing else."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()

    def __array_namespace__(self):
        return Namespace


class Namespace:
    """Its library."""

    @staticmethod
    def from_dlpack(values):
        return OnlyDLPack(np.from_dlpack(values))


class OnlyInterface:
    """An array that says where it lies."""

    def __init__(self, values):
        self.values = values
        self.__array_interface__ = values.__array_interface__


class OnAGPU(OnlyDLPack):
    def __dlpack_device__(self):
        return 2, 0  # kDLCUDA


def calls():
    """Functions of each sort: one array, two, two results, an axis, options."""
    return [
        (fa.swish, 1, {}),
        (fa.swish, 1, {"beta": 1.5}),
        (fa.elu_backward, 2, {"alpha": 0.5}),
        (fa.tanh_value_and_grad, 1, {}),
        (fa.softmax, 1, {}),
        (fa.softmax, 1, {"axis": 0}),
        (fa.softmax_backward, 2, {"axis": -2}),
        (fa.logsumexp, 1, {"keepdims": True}),
        (fa.causal_softmax, 1, {"offset": 1}),
        (fa.maxout, 1, {"groups": 3}),
        (fa.glu, 1, {"axis": 0}),
        (fa.prelu_backward, 3, {}),
        (fa.swish_backward, 2, {"wrt": ("x", "beta")}),
        (fa.swish_backward, 2, {"wrt": "beta"}),
        (fa.sigmoid_cross_entropy, 2, {}),
        (fa.softmax_cross_entropy_value_and_grad, 2, {"reduction": "none"}),
    ]


CALLS = pytest.mark.parametrize(
    ("function", "operands", "options"), calls(), ids=lambda v: getattr(v, "__name__", str(v))
)


@CALLS
def test_a_library_that_speaks_dlpack_only_gets_its_own_kind(function, operands, options):
    exact = ops.results(function(*[X] * operands, **options))
    found = function(*[OnlyDLPack(X)] * operands, **options)
    found = found if isinstance(found, tuple) else (found,)
    assert all(type(f) is OnlyDLPack for f in found)
    ops.assert_same_bits(tuple(f.values for f in found), exact)
    if operands == 2:  # beside an array of NumPy's
        mixed = function(X, OnlyDLPack(X), **options)
        mixed = mixed if isinstance(mixed, tuple) else (mixed,)
        ops.assert_same_bits(tuple(m.values for m in mixed), exact)


def test_dlpack_arrays_are_views_and_may_be_written():
    x, y = OnlyDLPack(X), OnlyDLPack(np.empty_like(X))
    assert fa.swish(x, out=y) is y
    ops.assert_same_bits(y.values, fa.swish(X))
    assert fa.swish(X, 1.5, out=y) is y
    ops.assert_same_bits(y.values, fa.swish(X, 1.5))
    ops.assert_same_bits(fa.swish(x, dtype=np.float64).values, fa.swish(X, dtype=np.float64))


def test_errors_name_the_op():
    with pytest.raises(TypeError, match="swish: x has dtype complex64"):
        fa.swish(OnlyDLPack(X.astype(np.complex64)))
    with pytest.raises(ValueError, match="swish_backward: shapes do not broadcast"):
        fa.swish_backward(OnlyDLPack(X), OnlyDLPack(X[:, :4]))
    with pytest.raises(TypeError, match="swish: x has dtype object"):
        fa.swish(OnAGPU(X))


@CALLS
@pytest.mark.parametrize(
    "make",
    [OnlyInterface, memoryview, lambda x: x.tolist()],
    ids=["interface", "memoryview", "list"],
)
def test_what_numpy_reads(make, function, operands, options):
    source = X.astype(np.float64)  # as lists become
    found = function(*[make(source)] * operands, **options)
    ops.assert_same_bits(found, function(*[source] * operands, **options))


def test_standard_arrays():
    values = array.array("f", X[0])
    ops.assert_same_bits(fa.swish(values), fa.swish(X[0]))
    ops.assert_same_bits(fa.softmax(values), fa.softmax(X[0]))


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")
@CALLS
def test_torch(function, operands, options):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(X)
    found = function(*[tensor] * operands, **options)
    found = found if isinstance(found, tuple) else (found,)
    assert all(isinstance(f, torch.Tensor) for f in found)
    ops.assert_same_bits(tuple(f.numpy() for f in found), function(*[X] * operands, **options))


def test_pandas_keeps_its_labels():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcdef"), index=list("wxyz"))
    found = fa.swish(frame)
    assert isinstance(found, pandas.DataFrame) and list(found.columns) == list("abcdef")
    ops.assert_same_bits(found.to_numpy(), fa.swish(X))
    assert fa.swish(frame["a"]).index.equals(frame.index)


def test_xarray_keeps_its_dimensions():
    xarray = pytest.importorskip("xarray")
    values = xarray.DataArray(X, dims=("t", "c"), attrs={"unit": "mV"})
    found = fa.swish(values)
    assert isinstance(found, xarray.DataArray) and found.dims == ("t", "c")
    ops.assert_same_bits(found.values, fa.swish(X))


def test_dask_stays_lazy():
    dask = pytest.importorskip("dask.array")
    chunked = dask.from_array(X, chunks=(2, 3))
    found = fa.swish(chunked)
    assert isinstance(found, dask.Array)
    ops.assert_same_bits(found.compute(), fa.swish(X))


@CALLS
@pytest.mark.parametrize("library", ["jax.numpy", "array_api_strict"])
def test_libraries_that_numpy_reads_without_asking(library, function, operands, options):
    made = pytest.importorskip(library).asarray(X)
    found = function(*[made] * operands, **options)
    ops.assert_same_bits(found, function(*[X] * operands, **options))
