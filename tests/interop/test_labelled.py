"""xarray and pandas: NumPy's own protocols keep labels, names and kinds."""

import numpy as np
import pytest

import fastact as fa


def test_xarray():
    xr = pytest.importorskip("xarray", reason="xarray is not installed")
    values = np.linspace(-3, 3, 6).reshape(2, 3)
    x = xr.DataArray(values, dims=("case", "score"), coords={"case": ["a", "b"]}, name="x")
    for y in (fa.swish(x), fa.elu(x, 0.5), fa.swish_backward(x, x)):
        assert isinstance(y, xr.DataArray) and y.dims == x.dims
        assert y.coords["case"].values.tolist() == ["a", "b"]
    np.testing.assert_array_equal(fa.swish(x).values, fa.swish(values))
    p = xr.apply_ufunc(fa.softmax, x, input_core_dims=[["score"]], output_core_dims=[["score"]])
    assert p.dims == x.dims and p.coords["case"].values.tolist() == ["a", "b"]
    np.testing.assert_array_equal(p.values, fa.softmax(values))
    total = xr.apply_ufunc(fa.logsumexp, x, input_core_dims=[["score"]])
    assert total.dims == ("case",)
    np.testing.assert_array_equal(total.values, fa.logsumexp(values))


def test_xarray_over_dask():
    xr = pytest.importorskip("xarray", reason="xarray is not installed")
    da = pytest.importorskip("dask.array", reason="Dask is not installed")
    import fastact.dask as fd

    values = np.linspace(-3, 3, 24).reshape(4, 6)
    x = xr.DataArray(da.from_array(values, chunks=(2, 2)), dims=("case", "score"))
    y = fa.swish(x)
    assert isinstance(y.data, da.Array)
    np.testing.assert_array_equal(y.values, fa.swish(values))
    p = xr.apply_ufunc(
        fd.softmax,
        x,
        input_core_dims=[["score"]],
        output_core_dims=[["score"]],
        dask="allowed",
    )
    assert isinstance(p.data, da.Array)
    np.testing.assert_allclose(p.values, fa.softmax(values), rtol=1e-15)


def test_pandas():
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pd.DataFrame({"a": [1.0, -2.0], "b": [0.0, 3.0]}, index=["x", "y"])
    y = fa.swish(frame)
    assert isinstance(y, pd.DataFrame)
    assert list(y.columns) == ["a", "b"] and list(y.index) == ["x", "y"]
    np.testing.assert_array_equal(y.to_numpy(), fa.swish(frame.to_numpy()))
    series = fa.elu(frame["a"], alpha=0.5)
    assert isinstance(series, pd.Series) and series.name == "a"
    value, slope = fa.swish_value_and_grad(frame["a"])
    assert isinstance(value, pd.Series) and isinstance(slope, pd.Series)
    assert isinstance(fa.softmax(frame["a"]), pd.Series)
    # pandas hands the transpose of a frame on: refused, rather than computed along columns
    for call in (lambda: fa.softmax(frame), lambda: fa.logsumexp(frame, axis=0)):
        with pytest.raises(TypeError, match=r"x is a DataFrame.*use x.to_numpy\(\)"):
            call()
    p = pd.DataFrame(fa.softmax(frame.to_numpy()), frame.index, frame.columns)
    np.testing.assert_allclose(p.sum(axis=1), 1)
