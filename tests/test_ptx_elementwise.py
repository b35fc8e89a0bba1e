"""The compiled elementwise kernels, executed: the CPU's bits, the oracle's values, no fault."""

import numpy as np
import ops
import pytest
import ulp

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

import gpu
from gpu import Operand, elementwise, launch, output
from ptx import Misaligned, OutOfBounds

from fastact.activations.directions import DIRECTIONS
from fastact.cuda import kinds

every_dtype = pytest.mark.parametrize("dtype", gpu.DTYPES)
CC = (9, 0)


def cpu(op, direction, arrays, parameters):
    with np.errstate(all="ignore"):
        return ops.results(ops.function(op, direction)(*arrays, *parameters))


def run(op, direction, arrays, parameters, cc=CC, grid=None, perturb=None, **options):
    """The contiguous kernel on arrays; (results, machine)."""
    dtype, n = arrays[0].dtype, arrays[0].size
    kernel = elementwise(op, direction, dtype)
    form, record = DIRECTIONS[direction], kernel.record
    operands = dict(zip(form.arrays, map(Operand, arrays), strict=True))
    outputs = {f"out_{name}": output(n, dtype) for name in form.outputs}
    numbers = {p.name: v for p, v in zip(record.parameters, parameters, strict=True)}
    machine = launch(
        kernel,
        cc,
        operands | outputs,
        numbers | {"size": n},
        grid or kernel.grid(n),
        perturb=perturb,
        **options,
    )
    for out in outputs.values():
        out.check_written()
    return tuple(out.result() for out in outputs.values()), machine


def other_parameters(op):
    """Values that are not the defaults, exact in every dtype."""
    record = gpu.RECORDS[op]
    return tuple(ops.OTHER_VALUES[p.domain][0] for p in record.parameters)


@pytest.mark.parametrize(
    ("op", "direction", "dtype", "cc"),
    gpu.cover(),
    ids=lambda v: gpu.capability(v) if isinstance(v, tuple) else v,
)
def test_every_op(op, direction, dtype, cc):
    """Specials and ordinary values: the bits of the CPU; moved, what must be and no more."""
    dtype = gpu.DTYPES[dtype]
    arrays = ops.operands(direction, ops.mixed(dtype, 1003, seed=sum(cc)))
    parameters = other_parameters(op)
    results, machine = run(op, direction, arrays, parameters, cc)
    ops.assert_same_bits(results, cpu(op, direction, arrays, parameters), f"{op} {direction}")
    traffic = machine.memory.traffic
    n, tail = arrays[0].nbytes, (1003 % (16 // dtype.itemsize)) * dtype.itemsize
    streams = {"load": len(arrays), "store": len(results)}
    for way, count in streams.items():
        assert traffic.pop((way, 16)) == count * (n - tail), "not in sixteen bytes at a time"
        assert traffic.pop((way, dtype.itemsize)) == count * tail
    assert not traffic, "more is moved than the operands"


@pytest.mark.parametrize("op", list(gpu.RECORDS) if gpu.FULL else list(gpu.RECORDS)[::4])
@pytest.mark.parametrize("dtype", [str(d) for d in ops.NATIVE])
def test_against_the_oracle(op, dtype):
    """Forward and derivative against the textbook formula, independent of the CPU's code."""
    dtype = np.dtype(dtype)
    case = ops.Case(op, gpu.RECORDS[op].defaults)
    x = ops.inputs(case, dtype, 64)[::4].copy()
    (y, g), _ = run(op, "value_and_grad", [x], case.parameters)
    bound = case.record.accuracy[dtype.name]
    for values, direction in ((y, "forward"), (g, "grad")):
        allowed = getattr(bound, direction)
        exact = ops.exact(case, dtype, direction, x)
        for at, got, expected in zip(x, values, exact, strict=True):
            # near a zero of f' the error is that of moving x by two units
            near = ulp.neighbours(at, (-2, 2), dtype)
            ends = ops.exact(case, dtype, direction, near)
            error = ulp.ulp_error(got, expected, dtype)
            assert error <= allowed or min(ends) <= ulp.as_exact(got, dtype) <= max(ends), (
                direction,
                at,
                got,
                error,
            )


SIZES = (1, 2, 3, 7, 8, 9, 255, 256, 257, 2047, 2048, 2049, 4099) if gpu.FULL else (1, 7, 9, 2049)


@every_dtype
@pytest.mark.parametrize("op", ["swish"])
def test_sizes_and_grids(op, dtype):
    """Tails of every length; grids smaller and larger than the work."""
    dtype = gpu.DTYPES[dtype]
    parameters = other_parameters(op)
    for n in SIZES:
        arrays = ops.operands("backward", ops.mixed(dtype, n, seed=n))
        expected = cpu(op, "backward", arrays, parameters)
        for grid in ((1, 1, 1), (5, 1, 1)):
            results, _ = run(op, "backward", arrays, parameters, grid=grid)
            ops.assert_same_bits(results, expected, f"{n} elements, grid {grid}")


@every_dtype
def test_nothing_to_do(dtype):
    """Size 0: no access at all."""
    kernel = elementwise("sigmoid", "forward", dtype)
    none = np.zeros(0, gpu.DTYPES[dtype])
    operands = {"x": Operand(none), "out_y": Operand(none, role="out")}
    assert not launch(kernel, CC, operands, {"size": 0}, (1, 1, 1)).memory.traffic


@every_dtype
@pytest.mark.parametrize("alias", ["dy", "x"])
def test_in_place(alias, dtype):
    dtype = gpu.DTYPES[dtype]
    arrays = dict(zip(("dy", "x"), ops.operands("backward", ops.mixed(dtype, 300)), strict=True))
    operands = {k: Operand(v, role="inout" if k == alias else "in") for k, v in arrays.items()}
    kernel = elementwise("sigmoid", "backward", dtype)
    launch(kernel, CC, operands | {"out_dx": operands[alias]}, {"size": 300}, kernel.grid(300))
    expected = cpu("sigmoid", "backward", arrays.values(), ())
    ops.assert_same_bits(operands[alias].result(), expected)


@every_dtype
def test_blocks_in_any_order(dtype):
    dtype = gpu.DTYPES[dtype]
    x = ops.mixed(dtype, 9000)
    expected = cpu("sigmoid", "forward", [x], ())
    blocks = elementwise("sigmoid", "forward", dtype).grid(9000)[0]
    results, _ = run("sigmoid", "forward", [x], (), order=range(blocks)[::-1], together=1)
    ops.assert_same_bits(results, expected)


@pytest.mark.parametrize(
    ("dtype", "dimensions", "index", "size"),
    [
        ("float16", 0, 32, 2**30 - 5),  # the most that 32-bit indices are used for
        ("float64", 1, 32, 2**30 - 1),
        ("float32", 0, 64, 2**33 + 3),
        ("bfloat16", 1, 64, 2**32 + 9),
    ],
)
def test_the_end_of_huge_arrays(dtype, dimensions, index, size):
    """The last blocks of a launch; what lies before their elements exists in name only."""
    dtype = gpu.DTYPES[dtype]
    kernel = elementwise("relu", "forward", dtype, kinds.Layout(dimensions, False, index))
    per_block = kernel.block[0] * (1 if dimensions else kernel.lanes)
    blocks = size // per_block + 1  # the last block is not full
    skipped = (blocks - 2) * per_block
    x = ops.mixed(dtype, size - skipped)
    out = Operand(np.zeros_like(x), role="out", skipped=skipped)
    numbers = {"size": size, "x_stride_0": 1, "out_y_stride_0": 1}
    operands = {"x": Operand(x, skipped=skipped), "out_y": out}
    launch(kernel, CC, operands, numbers, (blocks, 1, 1), order=[blocks - 2, blocks - 1])
    # the elements beyond the last whole vector are the first block's
    done = x.size if dimensions else x.size // kernel.lanes * kernel.lanes
    out.buffer.check_written(np.arange(x.size) < done)
    ops.assert_same_bits(out.result()[:done], cpu("relu", "forward", [x], ())[0][:done])


def test_the_contiguous_kernel_needs_alignment():
    """It is the caller's part to choose the strided kernel for a misaligned array."""
    kernel = elementwise("relu", "forward", "float32")
    operands = {"x": Operand(np.ones(64, np.float32), lead=4), "out_y": output(64, np.float32)}
    with pytest.raises(Misaligned):
        launch(kernel, CC, operands, {"size": 64}, (1, 1, 1))


# -- strided -------------------------------------------------------------------------------------


def views(whole):
    """Views of a three-dimensional array, up to three dimensions each."""
    yield "columns", whole[:, :, 1]
    yield "reversed", whole[::-1, :, ::-1]
    yield "gaps", whole[::2, ::3, ::2]
    yield "transposed", whole.transpose(2, 0, 1)
    yield "one row", whole[1, 2, ::2]
    yield "broadcast", np.broadcast_to(whole[:1, :, :1], (4, *whole.shape[1:2], 5))


def strided(op, direction, arrays, layout, parameters, out, cc=CC, grid=None):
    """The strided kernel: arrays are (whole, view) pairs of one shape, as is `out`."""
    form, record = DIRECTIONS[direction], gpu.RECORDS[op]
    kernel = elementwise(op, direction, out[0].dtype, layout)
    operands = {n: Operand(*pair) for n, pair in zip(form.arrays, arrays, strict=True)}
    (name,) = form.outputs
    operands[f"out_{name}"] = Operand(*out, role="out")
    numbers = {"size": out[1].size}
    for parameter, value in zip(record.parameters, parameters, strict=True):
        if layout.arrays:
            operands[parameter.name] = Operand(*value)
        else:
            numbers[parameter.name] = value
    numbers |= {f"length_{d}": n for d, n in enumerate(out[1].shape)}
    for name, operand in operands.items():
        numbers |= {f"{name}_stride_{d}": s for d, s in enumerate(operand.strides)}
    launch(kernel, cc, operands, numbers, grid or kernel.grid(out[1].size))
    written = operands[f"out_{form.outputs[0]}"]
    written.check_written()
    return written.result()


@every_dtype
@pytest.mark.parametrize(
    "cc", gpu.CAPABILITIES if gpu.FULL else [(7, 5), (10, 0)], ids=gpu.capability
)
@pytest.mark.parametrize("index", [32, 64])
def test_strides(index, cc, dtype):
    """Any layout of the input and of the output, broadcast dy."""
    dtype = gpu.DTYPES[dtype]
    whole = ops.mixed(dtype, 6 * 7 * 8).reshape(6, 7, 8)
    for note, view in views(whole):
        shape = view.shape
        dy = ops.mixed(dtype, shape[-1], seed=1)
        spread = np.broadcast_to(dy, shape)
        expected = cpu("swish", "backward", (spread, view), (1.75,))
        room = np.zeros((*shape[:-1], 2 * shape[-1]), dtype)
        layout = kinds.Layout(view.ndim, False, index)
        got = strided(
            "swish",
            "backward",
            [(dy, spread), (whole, view)],
            layout,
            (1.75,),
            (room, room[..., ::2]),
            cc,
            grid=(2, 1, 1),
        )
        ops.assert_same_bits(got, expected[0], note)


@every_dtype
def test_parameters_as_arrays(dtype):
    """One value per channel, as PReLU learns them; they are of the computing dtype."""
    dtype = gpu.DTYPES[dtype]
    computing = np.dtype(kinds.COMPUTING[str(dtype)])
    x = ops.mixed(dtype, 5 * 33).reshape(5, 33)
    slope = np.linspace(-1, 2, 33).astype(computing)
    spread = np.broadcast_to(slope, x.shape)
    room = np.zeros_like(x)
    layout = kinds.Layout(2, True, 32)
    got = strided("leaky_relu", "forward", [(x, x)], layout, [(slope, spread)], (room, room))
    with np.errstate(all="ignore"):
        wide = x.astype(computing)
        expected = np.where(wide > 0, wide, wide * spread).astype(dtype)
    ops.assert_same_bits(got, expected)


def test_a_stride_too_long_is_seen():
    """The interpreter's bounds are those of the memory, not of the view."""
    x = np.ones(64, np.float32)
    wrong = np.lib.stride_tricks.as_strided(x, (33,), (8,))
    room = np.zeros(33, np.float32)
    with pytest.raises(OutOfBounds):
        strided("relu", "forward", [(x, wrong)], kinds.Layout(1), (), (room, room))
