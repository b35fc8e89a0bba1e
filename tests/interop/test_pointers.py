"""Ops as C function pointers: the library's bits through every form, alone and from other code."""

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig

import children
import numpy as np
import ops
import pytest

import fastact as fa
from fastact.activations.directions import DIRECTIONS
from fastact.registry import ROW_OPS

DTYPES = pytest.mark.parametrize("dtype", ops.NATIVE, ids=str)
LOOPS = [op for op in ROW_OPS if len(op.inputs) == 1 and not op.causal]
COMPILER = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]


def call_loop(pointer, shape, operands, steps):
    """Call the inner loop as NumPy would."""
    addresses = (ctypes.c_void_p * len(operands))(*(a.ctypes.data for a in operands))
    loop = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(pointer.loop_address)
    dimensions = (ctypes.c_ssize_t * len(shape))(*shape)
    loop(addresses, dimensions, (ctypes.c_ssize_t * len(steps))(*steps), pointer.loop_data)


@DTYPES
@pytest.mark.parametrize("op", ops.ELEMENTWISE)
def test_scalars_and_loops_give_the_bits_of_the_library(op, dtype):
    case = next(c for c in reversed(ops.all_cases()) if c.op == op)
    x = ops.mixed(dtype, 60)
    parameters = [np.full(1, p, dtype) for p in case.rounded(dtype)]
    for direction in case.directions:
        f = ops.function(op, direction)
        pointer = fa.pointer(op, dtype, direction)
        arrays = [np.linspace(-2, 2, x.size).astype(dtype), x][-len(DIRECTIONS[direction].arrays) :]
        exact = np.stack(ops.results(f(*arrays, *(p[0] for p in parameters))))
        found = np.empty_like(exact)
        operands = [*arrays, *parameters, *found]
        steps = [dtype.itemsize * (a.size > 1) for a in operands]
        call_loop(pointer, [x.size], operands, steps)
        ops.assert_same_bits(found, exact, direction)

        assert pointer.arguments[len(arrays) :] == tuple(p.name for p in case.record.parameters)
        scalar = pointer.as_ctypes()
        constants = [float(p[0]) for p in parameters]
        for k, values in enumerate(zip(*arrays, strict=True)):
            if len(exact) == 1:
                found[0, k] = scalar(*values, *constants)
            else:
                number = ctypes.c_float if dtype == np.float32 else ctypes.c_double
                pair = number(), number()
                scalar(*values, *constants, *pair)
                found[:, k] = [p.value for p in pair]
        ops.assert_same_bits(found, exact, direction)


@pytest.mark.parametrize("dtype", ops.HALVES, ids=str)
def test_half_dtypes_have_a_loop_only(dtype):
    pointer = fa.pointer("swish", dtype.name)
    assert pointer.address is pointer.signature is None
    x = ops.mixed(dtype, 70)
    y, beta = np.empty_like(x), np.full(1, 1.5, np.float32)
    call_loop(pointer, [x.size], [x, beta, y], [2, 0, 2])
    ops.assert_same_bits(y, fa.swish(x, np.float32(1.5)))
    with pytest.raises(ValueError, match="has no scalar function, only a loop"):
        pointer.as_ctypes()


@pytest.mark.parametrize("op", LOOPS, ids=lambda op: op.name)
def test_loops_over_rows(op):
    x = np.random.default_rng(0).normal(size=(9, 31)).astype(np.float32)
    pointer = fa.pointer(op.name, "float32")
    exact = fa.maxout(x, 1)[:, 0] if op.groups else getattr(fa, op.name)(x)
    found = np.empty_like(exact)
    steps = [x.strides[0], found.strides[0], x.strides[1], *found.strides[1:]]
    call_loop(pointer, list(x.shape), [x, found], steps)
    ops.assert_same_bits(found, exact)


def test_directions_of_row_ops():
    assert fa.pointer("softmax", "float32", "backward").arguments == ("dy", "x")
    assert fa.pointer("logsumexp", "float32").address is None


def test_signatures():
    assert fa.pointer("silu", "float64").signature == "double (double, double)"
    assert fa.pointer("relu", "float32", "backward").signature == "float (float, float)"
    both = fa.pointer("relu", "float64", "value_and_grad")
    assert both.signature == "void (double, double *, double *)"
    assert fa.pointer("swiglu", "float64").arguments == ("a", "b", "beta")
    assert fa.pointer("swiglu", "float64").as_ctypes()(2.0, 3.0, 1.0) == fa.swiglu(2.0, 3.0)
    assert fa.pointer("relu", "float64") is fa.pointer("relu", np.float64)


def test_errors():
    with pytest.raises(KeyError, match="no op named 'swich'; did you mean"):
        fa.pointer("swich", "float64")
    with pytest.raises(ValueError, match=r"dtype must be float16, .* got 'int32'"):
        fa.pointer("swish", "int32")
    with pytest.raises(ValueError, match="swish has no direction 'backward_from_output'; it has"):
        fa.pointer("swish", "float64", "backward_from_output")
    with pytest.raises(ValueError, match="causal_softmax has no direction 'forward'; it has no po"):
        fa.pointer("causal_softmax", "float64")
    with pytest.raises(ValueError, match="softmax has no direction 'grad'"):
        fa.pointer("softmax", "float64", "grad")


def test_scipy_integrates_and_filters():
    integrate = pytest.importorskip("scipy.integrate")
    ndimage = pytest.importorskip("scipy.ndimage")
    slope = fa.pointer("sigmoid", "float64", "grad")
    area, _ = integrate.quad(slope.for_integration(), -3, 5)
    assert area == pytest.approx(fa.sigmoid(5.0) - fa.sigmoid(-3.0), rel=1e-12)
    slope = fa.pointer("elu", "float64", "grad")
    area, _ = integrate.quad(slope.for_integration(alpha=0.25), -4, 0)
    assert area == pytest.approx(-fa.elu(-4.0, 0.25), rel=1e-12)

    image = np.random.default_rng(0).normal(0, 3, (20, 30))
    mapped = ndimage.generic_filter(image, fa.pointer("swish", "float64").for_filter(beta=2), 3)
    ops.assert_same_bits(mapped, fa.swish(image, 2))
    soft = ndimage.generic_filter(image, fa.pointer("logsumexp", "float64").for_filter(), 3)
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3))
    ops.assert_same_bits(soft[1:-1, 1:-1], fa.logsumexp(windows, (2, 3)))


def test_prototypes_are_not_shared_with_other_libraries():
    """`ctypes.pythonapi` is one for the process: no argument types are left there, and those that
    another library sets there do not reach the calls of this one."""
    code = """
        import ctypes
        api = ctypes.pythonapi
        used = [api.PyCapsule_New, api.PyCapsule_GetPointer, api.Py_IncRef]
        before = [(f.argtypes, f.restype) for f in used]
        destructor = ctypes.CFUNCTYPE(None, ctypes.py_object)
        import fastact as fa
        fa.sigmoid(1.0)
        for_scipy = fa.pointer("sigmoid", "float64").for_integration
        try:
            for_scipy()
        except ImportError:
            pass
        print(before == [(f.argtypes, f.restype) for f in used])
        for f in used:
            f.argtypes = [destructor] * 3
        try:
            for_scipy()
        except ImportError:
            pass
        fa.pointer("tanh", "float64", "grad").as_ctypes()(1.0)
        from fastact.interop.pointers import capsule
        print(type(capsule(1, b"name")).__name__)
    """
    assert children.run(code).split() == ["True", "PyCapsule"]


def test_scipy_forms_say_what_they_cannot():
    pytest.importorskip("scipy")
    with pytest.raises(ValueError, match="SciPy calls functions of one float64; elu"):
        fa.pointer("elu", "float32").for_integration()
    with pytest.raises(ValueError, match="functions of one float64"):
        fa.pointer("elu", "float64", "backward").for_filter()
    with pytest.raises(TypeError, match="elu has no parameter beta"):
        fa.pointer("elu", "float64").for_integration(beta=1.0)
    with pytest.raises(ValueError, match="alpha must be finite, got nan"):
        fa.pointer("elu", "float64").for_integration(alpha=np.nan)


def test_a_later_process_needs_no_numba():
    code = """
        import sys, fastact as fa
        assert fa.pointer("swish", "float64").as_ctypes()(2.0, 1.0) == fa.swish(2.0)
        print("numba" in sys.modules)
    """
    children.run(code)
    assert children.run(code).strip() == "False"


@pytest.mark.parametrize(
    ("example", "modules"), [("embed_cython", ("Cython", "setuptools")), ("embed_c", ("cffi",))]
)
def test_examples(example, modules):
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no C compiler: {COMPILER}")
    script = children.ROOT / "examples" / f"{example}.py"
    done = subprocess.run(
        [sys.executable, script], env=children.environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
