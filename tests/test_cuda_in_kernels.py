"""fastact inside users' own @cuda.jit code: compiled to PTX, without a GPU."""

import children
import gpu
import numpy as np
import ops
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from numba import cuda
from numba.cuda import types
from ptx import Buffer, Machine

import fastact as fa
from fastact.registry import RECORDS
from fastact.runtime.functions import directions_of

FORMS = [(r, d) for r in RECORDS.values() for d in directions_of(r) if not d.results]
FORMS = FORMS if gpu.FULL else FORMS[::7]  # seven and the number of directions share no factor


def compiled(function, *kinds_of_arguments):
    arguments = types.void(*kinds_of_arguments)
    text, _ = cuda.compile_ptx(function, arguments, cc=(9, 0))
    return text


@pytest.mark.parametrize(("record", "direction"), FORMS, ids=lambda v: v.name)
def test_every_form_in_a_kernel(record, direction):
    """The compiled kernel of a user, executed: the bits that the library gives outside."""
    arrays, outputs = direction.arrays, direction.outputs
    values = "".join(f", {p.name}" for p in record.parameters)
    results = ", ".join(f"out_{o}[i]" for o in outputs)
    head = [*arrays, *(f"out_{o}" for o in outputs), *(p.name for p in record.parameters), "n"]
    text = f"""def kernel({", ".join(head)}):
    i = cuda.grid(1)
    if i < n:
        {results} = f({", ".join(f"{a}[i]" for a in arrays)}{values})
"""
    function = getattr(fa, record.name + direction.suffix)
    scope = {"cuda": cuda, "f": function}
    exec(text, scope)
    pointers = [types.CPointer(types.float32)] * (len(arrays) + len(outputs))
    reals = [types.float32] * len(record.parameters)
    machine = Machine(compiled(scope["kernel"], *pointers, *reals, types.int32))
    given = [np.linspace(-9, 9, 100, dtype=np.float32)[::k] for k in (-1, 1)[: len(arrays)]]
    given = [np.ascontiguousarray(x) for x in given]
    numbers = [np.float32(p.default) for p in record.parameters]
    buffers = [Buffer(np.zeros(100, np.float32), "out") for _ in outputs]
    operands = [Buffer(x) for x in given] + buffers
    machine.launch(1, 128, [*operands, *numbers, np.int32(100)])
    with np.errstate(all="ignore"):
        expected = ops.results(function(*given))
    for buffer, right in zip(buffers, expected, strict=True):
        ops.assert_same_bits(buffer.array, right)


def test_defaults_keywords_and_types():
    def kernel(x, y, n):
        i = cuda.grid(1)
        if i < n:
            y[i] = fa.elu(x[i]) + fa.leaky_relu(x[i], negative_slope=0.25) + fa.swish(i)

    text = compiled(kernel, types.CPointer(types.float32), types.CPointer(types.float64),
                    types.int32)  # fmt: skip
    assert "0f3E800000" in text  # 0.25 in float32
    assert "fma.rn.f64" in text  # of the integer


def test_what_has_no_scalar_form_is_a_typing_error():
    def kernel(x, y):
        y[0] = fa.sigmoid(x)

    from numba.core.errors import TypingError

    with pytest.raises(TypingError):
        compiled(kernel, types.UniTuple(types.float32, 2), types.CPointer(types.float32))


def test_functions_made_before_and_after_numba_cuda():
    children.run("""
        import fastact as fa
        fa.sigmoid
        from numba import cuda
        from numba.cuda import types

        def kernel(x, y):
            y[0] = fa.sigmoid(x[0]) + fa.tanh_grad(x[0])

        pointer = types.CPointer(types.float32)
        text, _ = cuda.compile_ptx(kernel, types.void(pointer, pointer), cc=(8, 0))
        assert "fma.rn.f32" in text and ".f64" not in text
    """)
