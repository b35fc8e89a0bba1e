"""On a machine with a GPU: `check` compares every op with the CPU, `bench FILE` times them.

A row of the bench has the time of a call, the share of the copy bandwidth of the card that it
reaches, moving what must be moved, and PyTorch's time over it; the goals are summed up at the end.

Arrays are PyTorch's: it is there to be compared with anyway.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import gpu_torch
import numpy as np
import torch

import fastact as fa
from fastact.activations.record import Activation
from fastact.registry import PAIRED, RECORDS, ROW_OPS
from fastact.runtime.functions import directions_of

DTYPES = ("float16", "bfloat16", "float32", "float64")
SIZES = (1 << 20, 1 << 24, 1 << 26)
ROWS = ((1 << 17, 128), (1 << 14, 1024), (1 << 9, 32768), (4, 1 << 22))
REPEATS = 50
SETS = 4  # inputs taken in turns, so that no run finds its own in the cache


def forms() -> Iterator[tuple[Any, Any, Any]]:
    """(record, direction, public function) of every elementwise op."""
    for record in (*RECORDS.values(), *PAIRED.values()):
        if record.name == "glu":  # of one array: among the calls
            continue
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
    """Every elementwise form bit by bit, row ops within a few units in the last place; calls that
    need more than one kernel; the oracle; fastact.torch.
    """
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
    wrong += check_calls() + check_labels() + check_against_oracle() + gpu_torch.check()
    print("all right" if not wrong else f"{wrong} cases are wrong")
    sys.exit(bool(wrong))


def plain(op: Any) -> bool:
    """Whether a row op takes an axis alone; the others are among the calls."""
    return not (op.causal or op.groups)


def check_rows(op: Any) -> int:
    if op.per_row or "y" in op.inputs or not plain(op):
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
                if op.absolute:  # errors are in units of the largest entry that there can be
                    scale = np.maximum(scale, 1.0)
                if not np.all(np.abs(got - right) <= 8 * eps * scale):
                    wrong += 1
                    print(f"WRONG {op.name} {dtype} {shape} axis {axis}")
    return wrong


def on_device(value: Any) -> Any:
    """A NumPy array as a tensor on the GPU; anything else as it is."""
    if not isinstance(value, np.ndarray | np.generic):
        return value
    array = np.array(value)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).cuda().view(torch.bfloat16)
    return torch.from_numpy(array).cuda()


def check_calls() -> int:
    """Losses, gradients of parameters, conversions, several axes, limits, groups, rounds;

    on arrays of the GPU, and on arrays of the host that go there and back.
    """
    from gpu_calls import CALLS, compare, expected, made

    def there(call: Any) -> Any:
        return map(host, made(call, on_device))

    def and_back(call: Any) -> Any:
        with fa.use_target("cuda"):
            return map(np.asarray, made(call))

    wrong = 0
    for name, call in CALLS.items():
        for way in (there, and_back):
            try:
                for got, right in zip(way(call), expected(call), strict=True):
                    compare(call, got, right)
            except Exception as error:
                wrong += 1
                print(f"WRONG {call.function}: {name} {way.__name__}: "
                      f"{type(error).__name__} {error}")  # fmt: skip
    return wrong + check_large()


def check_large() -> int:
    """Host arrays that take many pieces, their copies overlapping."""
    x = host(tensor("float32", 20_000, 1000))
    labels = np.random.default_rng(0).integers(0, 1000, 20_000)
    calls: tuple[Callable[[], Any], ...] = (
        lambda: fa.gelu(x),
        lambda: fa.softmax(x, axis=0),
        lambda: fa.softmax_cross_entropy_value_and_grad(x, labels),
        lambda: fa.swish_backward(x, x, wrt=("x", "beta")),
    )
    wrong = 0
    for k, call in enumerate(calls):
        with fa.use_target("cuda"):
            found = several(call())
        for got, right in zip(found, several(call()), strict=True):
            if not np.allclose(got, right, rtol=1e-5, atol=1e-6 * np.abs(right).max()):
                wrong += 1
                print(f"WRONG large call {k}")
    return wrong


def check_labels() -> int:
    """Labels out of range read nothing that is not there, and say so."""
    x, labels = tensor("float32", 64, 100), torch.arange(64, device="cuda")
    labels[3], labels[5] = 100, -1
    options = {"reduction": "none"}
    losses, gradient = fa.softmax_cross_entropy_value_and_grad(x, labels, **options)
    torch.cuda.synchronize()
    bad = torch.isnan(losses) & torch.isnan(gradient).all(1)
    if bad.nonzero().flatten().tolist() == [3, 5]:
        return 0
    print("WRONG labels out of range")
    return 1


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
        code = compile(form, record.name, "eval")
        scope = {"torch": torch, "F": torch.nn.functional}
        scope |= {p.name: p.default for p in record.parameters}

        def peer(k: int) -> Any:
            operands = dict(zip(direction.arrays, sets[k], strict=True))
            return eval(code, scope | operands | {"out": outs[k]})

        theirs = seconds(peer)
    return row(record.name + direction.suffix, dtype, size, mine, theirs, copy)


def time_rows(op: Any, dtype: str, shape: tuple[int, int]) -> Any:
    """One row op beside PyTorch's, eager and compiled, and a copy of as many bytes."""
    function, code = getattr(fa, op.name), compile(op.torch, op.name, "eval")
    sets = [[tensor(dtype, *shape, seed=k + 9 * j) for k in range(len(op.inputs))]
            for j in range(SETS)]  # fmt: skip
    outs = [torch.empty_like(s[0]) for s in sets]
    scope = {"torch": torch, "F": torch.nn.functional}

    def peer(k: int) -> Any:
        return eval(code, scope | dict(zip(op.inputs, sets[k], strict=True)))

    mine = seconds(lambda k: function(*sets[k]))
    copy = seconds(lambda k: outs[k].copy_(sets[k][0])) * (len(op.inputs) + 1) / 2
    found = row(op.name, dtype, shape, mine, seconds(peer), copy)
    if op.name == "softmax":
        fused = torch.compile(lambda x: torch.softmax(x, -1))  # a kernel that Triton fuses
        try:
            found["triton"] = seconds(lambda k: fused(sets[k][0]))
        except Exception as error:
            print(f"no fused softmax to compare with: {type(error).__name__}")
    return found


def time_losses(dtype: str, shape: tuple[int, int]) -> list[Any]:
    """Loss and gradient in one call, beside PyTorch's forward and backward pass."""
    functional = torch.nn.functional
    xs = [tensor(dtype, *shape, seed=j).requires_grad_() for j in range(SETS)]
    plain = [x.detach() for x in xs]
    copies = [torch.empty_like(x) for x in plain]
    ids = torch.randint(shape[1], shape[:1], device="cuda")
    targets = (tensor(dtype, *shape) > 0).to(plain[0].dtype)
    copy = seconds(lambda k: copies[k].copy_(plain[k]))

    def ours(loss: Any, second: Any) -> Callable[[int], Any]:
        return lambda k: loss(plain[k], second)

    def theirs(loss: Any, second: Any) -> Callable[[int], Any]:
        return lambda k: torch.autograd.grad(loss(xs[k], second), xs[k])

    # reads and writes in units of the copy's
    cases = (
        (fa.softmax_cross_entropy_value_and_grad, functional.cross_entropy, ids, 1.0),
        (
            fa.sigmoid_cross_entropy_value_and_grad,
            functional.binary_cross_entropy_with_logits,
            targets,
            1.5,
        ),
    )
    found = []
    for loss, peer, second, share in cases:
        times = seconds(ours(loss, second)), seconds(theirs(peer, second))
        found.append(row(loss.__name__, dtype, shape, *times, copy * share))
    return found


def bench(path: str) -> None:
    """Time per call beside PyTorch's and beside a copy that moves as many bytes."""
    results = []
    for record, direction, function in forms():
        if direction.name in ("forward", "backward") and len(direction.outputs) == 1:
            for dtype in DTYPES:
                for size in SIZES:
                    results.append(time_elementwise(record, direction, function, dtype, size))
    for op in ROW_OPS:
        if op.torch and not op.per_row and plain(op):
            results += [time_rows(op, dtype, shape) for dtype in DTYPES for shape in ROWS]
    for dtype in DTYPES:
        for shape in ROWS:
            results += time_losses(dtype, shape)
    summary(results)
    results += gpu_torch.bench(seconds)
    x = tensor("float32", 16)
    out = torch.empty_like(x)
    results.append({"launch_us": launch_overhead(lambda: fa.sigmoid(x, out=out))})
    print(f"a call on 16 elements takes {results[-1]['launch_us']:.1f} us of the host")
    results.append(time_host())
    with open(path, "w") as file:
        json.dump({"device": torch.cuda.get_device_name(), "results": results}, file, indent=1)


def time_host(size: int = 1 << 26) -> Any:
    """A host array there and back: beside plain copies of page-locked memory, one after another."""
    x = np.random.default_rng(0).normal(0, 3, size).astype(np.float32)
    pinned = torch.from_numpy(x).pin_memory()
    back = torch.empty_like(pinned).pin_memory()

    def copies() -> None:
        back.copy_(pinned.cuda(non_blocking=True))

    def best(call: Callable[[], Any]) -> float:
        taken = []
        for _ in range(5):
            start = time.perf_counter()
            call()
            torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
        return min(taken)

    out = np.empty_like(x)
    with fa.use_target("cuda"):
        mine = best(lambda: fa.sigmoid(x, out=out))
    plain = best(copies)
    print(f"host array, 256 MiB: {mine * 1e3:.1f} ms; copies alone {plain * 1e3:.1f} ms")
    return {"op": "sigmoid of a host array", "seconds": mine, "copies": plain}


def summary(results: list[Any]) -> None:
    """The goals, how often each is met, and by how much it is missed most."""
    large = [r for r in results if isinstance(r["shape"], int) and r["shape"] >= 1 << 24]
    peers = [r for r in results if r["torch"]]
    wide = [r for r in peers if not isinstance(r["shape"], int)]
    goals = (
        ("0.9 of the copy from 16 Mi elements", large, lambda r: r["copy"] / r["seconds"], 0.9),
        ("1.0 x torch", peers, lambda r: r["torch"] / r["seconds"], 1.0),
        ("1.5 x torch, rows and losses", wide, lambda r: r["torch"] / r["seconds"], 1.5),
    )
    for name, chosen, ratio, goal in goals:
        worst = min(chosen, key=ratio)
        met = sum(ratio(r) >= goal for r in chosen)
        print(f"{name}: {met} of {len(chosen)}; least {ratio(worst):.2f}, {worst['op']} "
              f"{worst['dtype']} {worst['shape']}")  # fmt: skip


def launch_overhead(call: Callable[[], Any], repeats: int = 1000) -> float:
    """Microseconds that a call keeps the host, its kernel not waited for."""
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
