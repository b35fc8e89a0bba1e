"""Bad input: an exception that names what was wrong, before anything is written."""

import math

import children
import numpy as np
import ops
import pytest

import fastact as fa
from fastact.activations.directions import DIRECTIONS
from fastact.compile import abi
from fastact.runtime import state

SENTINEL = 7.0
calls = pytest.mark.parametrize(("case", "direction"), ops.directed(ops.default_cases()), ids=str)


def name_of(case, direction):
    return case.op + DIRECTIONS[direction].suffix


def good_arrays(direction, n=3):
    return [np.ones(n) for _ in DIRECTIONS[direction].arrays]


def sentinels(direction, shape=3, dtype=float):
    outs = tuple(np.full(shape, SENTINEL, dtype) for _ in DIRECTIONS[direction].outputs)
    return outs if len(outs) > 1 else outs[0]


def untouched(out):
    return all((o == SENTINEL).all() for o in (out if isinstance(out, tuple) else (out,)))


WRONG = {
    "complex64": np.ones(3, np.complex64),
    "complex128": np.ones(3, complex),
    "object": np.array([1.0, 2.0, 3.0], object),
    "<U3": np.array(["1.0", "2.0", "3.0"]),
    "|S3": np.array([b"1.0", b"2.0", b"3.0"]),
    "datetime64[s]": np.zeros(3, "M8[s]"),
    "timedelta64[s]": np.zeros(3, "m8[s]"),
    "[('a', '<f4')]": np.zeros(3, [("a", "<f4")]),
}


@pytest.mark.parametrize("dtype", WRONG)
@calls
def test_wrong_dtype_is_named(case, direction, dtype):
    for i, argument in enumerate(DIRECTIONS[direction].arrays):
        arrays = good_arrays(direction)
        arrays[i] = WRONG[dtype]
        out = sentinels(direction)
        with pytest.raises(TypeError) as caught:
            ops.function(case.op, direction)(*arrays, out=out)
        message = str(caught.value)
        assert name_of(case, direction) in message
        assert str(np.dtype(WRONG[dtype].dtype)) in message
        assert f" {argument} " in message and "float32" in message
        assert untouched(out)


@pytest.mark.parametrize(
    "value", [1j, "1.0", b"1.0", None, {}, object()], ids=lambda v: type(v).__name__
)
@calls
def test_wrong_scalar_is_named(case, direction, value):
    arrays = [*good_arrays(direction)[:-1], value]
    with pytest.raises(TypeError, match=name_of(case, direction)):
        ops.function(case.op, direction)(*arrays)


@pytest.mark.skipif(
    np.finfo(np.longdouble).nmant == np.finfo(float).nmant, reason="long double is double here"
)
@calls
def test_long_double_is_refused_not_rounded(case, direction):
    arrays = [a.astype(np.longdouble) for a in good_arrays(direction)]
    with pytest.raises(TypeError, match=f"{name_of(case, direction)}.*longdouble|float128"):
        ops.function(case.op, direction)(*arrays)


@calls
def test_shapes_that_do_not_broadcast(case, direction):
    """The message has the op, both shapes, and the name of the one that is too much."""
    name, call = name_of(case, direction), ops.function(case.op, direction)
    arrays, out, wrong = good_arrays(direction), sentinels(direction), sentinels(direction, 4)
    if len(arrays) == 2:
        with pytest.raises(ValueError, match=rf"{name}: .*dy \(2,\), [xy] \(3,\)"):
            call(np.ones(2), np.ones(3), out=out)
    with pytest.raises(ValueError, match=rf"{name}: out .*\(4,\).*\(3,\)"):
        call(*arrays, out=wrong)
    with pytest.raises(ValueError, match=rf"{name}: .*\(3,\).*where \(5,\)"):
        call(*arrays, where=np.ones(5, bool), out=out)
    for i, parameter in enumerate(case.record.parameters):
        values = list(case.parameters)
        values[i] = np.full(4, values[i])
        with pytest.raises(ValueError, match=rf"{name}: .*\(3,\).*{parameter.name} \(4,\)"):
            call(*arrays, *values, out=out)
    assert untouched(out) and untouched(wrong)


@calls
def test_out_larger_than_the_input_is_filled(case, direction):
    """As in NumPy: the input is broadcast to the shape of out."""
    call, arrays = ops.function(case.op, direction), good_arrays(direction)
    out = sentinels(direction, (2, 3))
    call(*arrays, out=out)
    for result, row in zip(ops.results(out), ops.results(call(*arrays)), strict=True):
        ops.assert_same_bits(result, np.stack([row, row]))


@calls
def test_output_that_cannot_be_used(case, direction):
    call, arrays = ops.function(case.op, direction), good_arrays(direction)
    locked = sentinels(direction)
    for o in locked if isinstance(locked, tuple) else (locked,):
        o.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        call(*arrays, out=locked)
    whole = sentinels(direction, dtype=int)
    with pytest.raises(TypeError, match="int64"):
        call(*arrays, out=whole)
    narrow = sentinels(direction, dtype=np.float32)
    with pytest.raises(TypeError, match="float32"):
        call(*arrays, out=narrow, casting="safe")
    with pytest.raises(TypeError):
        call(*arrays, out=[0.0, 0.0, 0.0])
    assert untouched(locked) and untouched(whole) and untouched(narrow)


@calls
def test_wrong_arguments(case, direction):
    call, arrays = ops.function(case.op, direction), good_arrays(direction)
    with pytest.raises(TypeError, match=name_of(case, direction)):
        call()
    with pytest.raises(TypeError, match=name_of(case, direction)):
        call(*arrays, *case.parameters, 1.0)
    with pytest.raises(TypeError, match="approximate"):
        call(*arrays, approximate=True)
    with pytest.raises(ValueError, match="casting"):
        call(*arrays, casting="sometimes")


MEANINGLESS = {
    "finite": (math.nan, math.inf, -math.inf),
    "positive": (math.nan, math.inf, 0.0, -1.0),
    "nonnegative": (math.nan, math.inf, -1.0),
}
parameters = pytest.mark.parametrize(
    ("case", "direction", "index"),
    [
        (case, direction, i)
        for case, direction in ops.directed(ops.default_cases())
        for i in range(len(case.parameters))
    ],
    ids=str,
)


@parameters
def test_meaningless_parameters(case, direction, index):
    parameter = case.record.parameters[index]
    out = sentinels(direction)
    for bad in MEANINGLESS[parameter.domain]:
        for given in (bad, np.float32(bad), np.array([1.0, bad, 1.0])):
            values = list(case.parameters)
            values[index] = given
            with pytest.raises(ValueError) as caught:
                ops.function(case.op, direction)(*good_arrays(direction), *values, out=out)
            message = str(caught.value)
            assert name_of(case, direction) in message and parameter.name in message
            assert "finite" in message and repr(given) in message
    assert untouched(out)


@parameters
def test_parameters_of_a_wrong_type(case, direction, index):
    parameter = case.record.parameters[index]
    out = sentinels(direction)
    for bad in ("big", None, 1j, np.ones(3, complex), [1.0, "a", 2.0], {}):
        values = list(case.parameters)
        values[index] = bad
        with pytest.raises(TypeError) as caught:
            ops.function(case.op, direction)(*good_arrays(direction), *values, out=out)
        assert parameter.name in str(caught.value), bad
    assert untouched(out)


def test_unknown_names():
    with pytest.raises(AttributeError, match="sigmoit"):
        fa.sigmoit  # noqa: B018
    with pytest.raises(KeyError, match="sigmoid"):
        fa.get("sigmoit")
    with pytest.raises(ImportError):
        from fastact import sigmoit  # noqa: F401


def test_tasks_of_others_change_no_target():
    """Those of Dask are serial; they come and go while other threads choose a target."""
    before = fa.get_target()
    task, chosen = state.serial_task(), fa.use_target("parallel")
    with task:
        assert state.STATE[abi.STATE_TARGET] == abi.TARGET_SERIAL
        chosen.__enter__()
        assert fa.get_target() == "parallel"
        assert state.STATE[abi.STATE_TARGET] == abi.TARGET_SERIAL
    assert state.STATE[abi.STATE_TARGET] == abi.TARGET_PARALLEL
    chosen.__exit__(None, None, None)
    assert fa.get_target() == before
    assert state.STATE[abi.STATE_TARGET] == state.TARGETS[before]


def test_blocks_with_a_target_end_in_any_order():
    """Those of several threads overlap; one that ends brings no target back that is over."""
    before = fa.get_target()
    first, second = fa.use_target("serial"), fa.use_target("parallel")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert fa.get_target() == "parallel"
    fa.set_target("serial")
    assert fa.get_target() == "serial"
    second.__exit__(None, None, None)
    assert fa.get_target() == before
    assert state.STATE[abi.STATE_TARGET] == state.TARGETS[before]


def test_targets_and_threads():
    target, threads = fa.get_target(), fa.get_num_threads()
    with pytest.raises(ValueError, match=r"'auto'.*'serial'.*'parallel'.*'fast'"):
        fa.set_target("fast")
    with pytest.raises(ValueError, match="'fast'"), fa.use_target("fast"):
        pass
    for bad in (0, -1, 1.5, "2", None, True, math.nan):
        with pytest.raises((ValueError, TypeError), match=r"\bn\b.*positive integer"):
            fa.set_num_threads(bad)
    assert (fa.get_target(), fa.get_num_threads()) == (target, threads)
    fa.set_num_threads(np.int64(threads))
    with pytest.raises(ZeroDivisionError), fa.use_target("serial"):
        assert fa.get_target() == "serial"
        raise ZeroDivisionError
    assert fa.get_target() == target


@pytest.mark.parametrize(
    ("value", "target"), [(None, "auto"), ("", "auto"), ("serial", "serial"), ("parallel",) * 2]
)
def test_environment_sets_the_target(value, target):
    env = {"FASTACT_TARGET": value}
    assert children.run("import fastact; print(fastact.get_target())", env).strip() == target


def test_wrong_target_in_the_environment_is_named():
    code = """
        try:
            import fastact
        except ValueError as error:
            print(error)
    """
    message = children.run(code, {"FASTACT_TARGET": "fast"})
    assert "FASTACT_TARGET" in message and "'fast'" in message and "'serial'" in message


@pytest.mark.parametrize("op", [c.op for c in ops.default_cases() if c.record.constraint])
def test_parameters_that_contradict_each_other(op):
    for given in (1.5, np.float32(1.5), np.array([0.0, 1.5])):
        with pytest.raises(ValueError, match=rf"{op}: min <= max must hold, got min=.*max=1\.0"):
            getattr(fa, op)(np.ones(2), min=given)
    with pytest.raises(ValueError, match=r"shapes do not broadcast.*min \(3,\)"):
        getattr(fa, op)(np.ones(2), min=np.zeros(3), max=np.ones(2))
    np.testing.assert_array_equal(getattr(fa, op)([-9.0, 9.0], min=2.0, max=2.0), [2.0, 2.0])
