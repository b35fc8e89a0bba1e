"""On a machine with a GPU: `check` compares every op with the CPU, `bench FILE` times them.

Arrays are PyTorch's: it is there to be compared with anyway.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

import fastact as fa
from fastact.activations.record import Activation
from fastact.registry import RECORDS, ROW_OPS
from fastact.runtime.functions import directions_of

DTYPES = ("float16", "bfloat16", "float32", "float64")
SIZES = (1 << 20, 1 << 24, 1 << 26)
ROWS = ((1 << 17, 128), (1 << 14, 1024), (1 << 9, 32768), (4, 1 << 22))
REPEATS = 50
SETS = 4  # inputs taken in turns, so that no run finds its own in the cache


def forms() -> Iterator[tuple[Any, Any, Any]]:
    """(record, direction, public function) of every elementwise op."""
    for record in RECORDS.values():
        for direction in directions_of(record):
            if not direction.results:
                yield record, direction, getattr(fa, record.name + direction.suffix)


def host(x: torch.Tensor) -> np.ndarray:
    """A tensor as a NumPy array; bfloat16 by its bits."""
    if x.dtype == torch.bfloat16:
        import ml_dtypes

        return x.cpu().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return x.cpu().numpy()


def tensor(dtype: str, *shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator(device="cuda").manual_seed(seed)
    x = torch.randn(*shape, device="cuda", generator=generator, dtype=torch.float64) * 4
    return x.to(getattr(torch, dtype))


def several(outcome: Any) -> tuple[Any, ...]:
    return outcome if isinstance(outcome, tuple) else (outcome,)


def same_bits(got: Any, expected: Any) -> bool:
    return all(
        np.array_equal(host(g).view(np.uint8), np.asarray(e).view(np.uint8))
        or np.array_equal(host(g).astype(float), np.asarray(e).astype(float), equal_nan=True)
        for g, e in zip(several(got), several(expected), strict=True)
    )


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda x: x,
    "unaligned": lambda x: x.flatten()[1:],
    "transposed": lambda x: x.t(),
    "every second": lambda x: x[:, ::2],
    "broadcast": lambda x: x[:1].expand(*x.shape),
}


def check() -> None:
    """Every elementwise form bit by bit, row ops within a few units in the last place."""
    wrong = 0
    for _, direction, function in forms():
        for dtype in DTYPES:
            for name, layout in LAYOUTS.items():
                arrays = [
                    layout(tensor(dtype, 257, 130, seed=k)) for k in range(len(direction.arrays))
                ]
                with np.errstate(all="ignore"):
                    expected = function(*map(host, arrays))
                if not same_bits(function(*arrays), expected):
                    wrong += 1
                    print(f"WRONG {function.__name__} {dtype} {name}")
    for op in ROW_OPS:
        wrong += check_rows(op)
    wrong += check_against_oracle()
    print("all right" if not wrong else f"{wrong} cases are wrong")
    sys.exit(bool(wrong))


def on_gpu(op: Any) -> bool:
    """Whether a row op takes arrays on a GPU."""
    return not (op.start is not None or op.causal or op.groups) and hasattr(fa, op.name)


def check_rows(op: Any) -> int:
    if op.per_row or "y" in op.inputs or not on_gpu(op):
        return 0
    wrong, function = 0, getattr(fa, op.name)
    for dtype in DTYPES:
        for shape in ((1000, 10), (300, 1000), (33, 5000), (3, 200_000)):
            for axis in (-1, 0):
                x = [tensor(dtype, *shape, seed=k) for k in range(len(op.inputs))]
                got = host(function(*x, axis=axis)).astype(float)
                right = np.asarray(function(*map(host, x), axis=axis)).astype(float)
                eps = float(torch.finfo(getattr(torch, dtype)).eps)
                scale = np.maximum(np.abs(right), np.abs(right).max() * 1e-3)
                if not np.all(np.abs(got - right) <= 8 * eps * scale):
                    wrong += 1
                    print(f"WRONG {op.name} {dtype} {shape} axis {axis}")
    return wrong


def check_against_oracle() -> int:
    """Forward and derivative against mpmath, as the default tests do on the CPU."""
    import ops
    import ulp

    wrong = 0
    for case in ops.all_cases():
        if not isinstance(RECORDS[case.op], Activation):
            continue
        for dtype in ops.NATIVE:
            x = ops.inputs(case, dtype, 500)
            device = torch.from_numpy(np.array(x)).cuda()
            got = host(ops.function(case.op, "forward")(device, *case.parameters))
            errors = ulp.ulp_errors(got, ops.exact(case, dtype, "forward", x))
            bound = case.record.accuracy[dtype.name].forward
            if errors.max() > bound:
                wrong += 1
                print(f"WRONG {case} {dtype}: {errors.max():.3g} ulp, stated {bound}")
    return wrong


def seconds(call: Callable[[int], Any]) -> float:
    """Median time of a call by events on the device; the argument says which inputs to take."""
    for k in range(SETS):
        call(k)
    torch.cuda.synchronize()
    times = []
    for k in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call(k % SETS)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return float(np.median(times))


def row(name: str, dtype: str, shape: Any, mine: float, theirs: float | None, copy: float) -> Any:
    ratio = theirs / mine if theirs else None
    print(f"{name:28} {dtype:9} {shape!s:18} {mine * 1e6:9.1f} us  "
          f"{copy / mine:5.2f} of copy  {f'{ratio:5.2f} x torch' if ratio else ''}")  # fmt: skip
    return {"op": name, "dtype": dtype, "shape": shape, "seconds": mine, "torch": theirs,
            "copy": copy}  # fmt: skip


def time_elementwise(record: Any, direction: Any, function: Any, dtype: str, size: int) -> Any:
    """One form beside a copy of as many bytes, and beside PyTorch where it has one."""
    count = len(direction.arrays)
    sets = [[tensor(dtype, size, seed=k + 9 * j) for k in range(count)] for j in range(SETS)]
    outs = [torch.empty_like(s[0]) for s in sets]
    mine = seconds(lambda k: function(*sets[k], out=outs[k]))
    copy = seconds(lambda k: outs[k].copy_(sets[k][0])) * (count + 1) / 2
    theirs, form = None, getattr(record, "torch", "")
    if direction.name == "forward" and form:
        scope = {"torch": torch, "F": torch.nn.functional}
        scope |= {p.name: p.default for p in record.parameters}
        code = compile(form, record.name, "eval")
        theirs = seconds(lambda k: eval(code, scope | {"x": sets[k][0], "out": outs[k]}))
    return row(record.name + direction.suffix, dtype, size, mine, theirs, copy)


def time_rows(op: Any, dtype: str, shape: tuple[int, int]) -> Any:
    """One row op of x, the same way."""
    function, code = getattr(fa, op.name), compile(op.torch, op.name, "eval")
    xs = [tensor(dtype, *shape, seed=j) for j in range(SETS)]
    outs = [torch.empty_like(x) for x in xs]
    mine = seconds(lambda k: function(xs[k]))
    copy = seconds(lambda k: outs[k].copy_(xs[k]))
    theirs = seconds(lambda k: eval(code, {"torch": torch, "x": xs[k]}))
    return row(op.name, dtype, shape, mine, theirs, copy)


def bench(path: str) -> None:
    """Time per call beside PyTorch's and beside a copy that moves as many bytes."""
    results = []
    for record, direction, function in forms():
        if direction.name in ("forward", "backward") and len(direction.outputs) == 1:
            for dtype in DTYPES:
                for size in SIZES:
                    results.append(time_elementwise(record, direction, function, dtype, size))
    for op in ROW_OPS:
        if op.torch and op.inputs == ("x",) and on_gpu(op):
            results += [time_rows(op, dtype, shape) for dtype in DTYPES for shape in ROWS]
    x = tensor("float32", 16)
    out = torch.empty_like(x)
    results.append({"launch_us": launch_overhead(lambda: fa.sigmoid(x, out=out))})
    print(f"a call on 16 elements takes {results[-1]['launch_us']:.1f} us of the host")
    with open(path, "w") as file:
        json.dump({"device": torch.cuda.get_device_name(), "results": results}, file, indent=1)


def launch_overhead(call: Callable[[], Any], repeats: int = 1000) -> float:
    """Microseconds that a call keeps the host, its kernel not waited for."""
    import time

    for _ in range(10):
        call()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    taken = time.perf_counter() - start
    torch.cuda.synchronize()
    return taken / repeats * 1e6


if __name__ == "__main__":
    if not torch.cuda.is_available():
        sys.exit("PyTorch finds no GPU")
    if sys.argv[1] == "check":
        check()
    else:
        bench(sys.argv[2])
