"""On a machine with a GPU: `cases START STEP` compares every op with the CPU, as ci/lane.py asks it

to; `first` makes one call and shows what goes wrong with it; `bench FILE SECONDS` times the ops.

A row of the bench has the time of a call, the share of the copy bandwidth of the card that it
reaches, moving what must be moved, and PyTorch's time over it; the goals are summed up at the end.

Arrays are PyTorch's: it is there to be compared with anyway.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
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
    def raw(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array).view(np.uint8)

    return all(
        np.array_equal(raw(host(g)), raw(np.asarray(e)))
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


Case = tuple[str, Callable[[], None]]


def every_case() -> Iterator[Case]:
    """Everything that is checked, by name; what is wrong raises. The most telling come first."""
    yield from calls()
    yield "host arrays in many pieces", check_large
    yield "labels out of range", check_labels
    yield "a stream of its own", check_stream
    for dtype in DTYPES[::-1]:
        yield from ((f"{op.name} {dtype}", partial(check_rows, op, dtype)) for op in ROW_OPS)
    for dtype in DTYPES[::-1]:
        for _, direction, function in forms():
            yield (
                f"{function.__name__} {dtype}",
                partial(check_elementwise, direction, function, dtype),
            )
    yield from gpu_torch.checks()
    yield from oracle()


def cases(start: str, step: str) -> None:
    """Do every step-th case, and say what came of it. A card that has failed is left."""
    for index, (name, run) in enumerate(every_case()):
        if index < int(start) or (index - int(start)) % int(step):
            continue
        print("begin", index, name, flush=True)
        begun, message = time.perf_counter(), ""
        try:
            run()
            torch.cuda.synchronize()
        except Exception as error:
            message = f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"
        print(f"end {index} {time.perf_counter() - begun:.2f} {message}", flush=True)
        if message:
            try:
                torch.cuda.synchronize()
            except RuntimeError:  # no call of this process can succeed any more
                sys.exit(3)


def first() -> None:
    """One call of each kind, small, in full view."""
    x = torch.linspace(-4, 4, 9, device="cuda")
    labels = torch.arange(3, device="cuda")
    for call in (
        lambda: fa.sigmoid(x),
        lambda: fa.softmax(x.reshape(3, 3)),
        lambda: fa.softmax(torch.zeros(2, 1 << 17, device="cuda"))[:, :2],
        lambda: fa.softmax_cross_entropy_value_and_grad(x.reshape(3, 3), labels),
        lambda: fa.prelu_backward(x, x, x[:1]),
    ):
        print(call())
    with fa.use_target("cuda"):
        print(fa.gelu(np.linspace(-4, 4, 9)))


def check_elementwise(direction: Any, function: Any, dtype: str) -> None:
    """Bit by bit, in every layout."""
    wrong = []
    for name, layout in LAYOUTS.items():
        arrays = [layout(tensor(dtype, 257, 130, seed=k)) for k in range(len(direction.arrays))]
        with np.errstate(all="ignore"):
            expected = function(*map(host, arrays))
        if not same_bits(function(*arrays), expected):
            wrong.append(name)
    assert not wrong, f"other bits than the CPU's: {', '.join(wrong)}"


def plain(op: Any) -> bool:
    """Whether a row op takes an axis alone; the others are among the calls."""
    return not (op.causal or op.groups)


def check_rows(op: Any, dtype: str) -> None:
    """Within a few units in the last place; those with operands of other kinds are calls."""
    if op.per_row or "y" in op.inputs or not plain(op):
        return
    wrong, function = [], getattr(fa, op.name)
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
                wrong.append(f"{shape} along {axis}")
    assert not wrong, "; ".join(wrong)


def on_device(value: Any) -> Any:
    """A NumPy array as a tensor on the GPU; anything else as it is."""
    if not isinstance(value, np.ndarray | np.generic):
        return value
    array = np.array(value)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).cuda().view(torch.bfloat16)
    return torch.from_numpy(array).cuda()


def calls() -> Iterator[Case]:
    """Losses, gradients of parameters, conversions, broadcast operands, several axes, limits,

    groups, rounds; on arrays of the GPU, and on arrays of the host that go there and back.
    """
    from gpu_calls import CALLS, compare, expected, made

    def there(call: Any) -> Any:
        return map(host, made(call, on_device))

    def and_back(call: Any) -> Any:
        with fa.use_target("cuda"):
            return map(np.asarray, made(call))

    def check(call: Any, way: Callable[[Any], Any]) -> None:
        for got, right in zip(way(call), expected(call), strict=True):
            compare(call, got, right)

    for way in (there, and_back):
        for name, call in CALLS.items():
            yield f"{call.function}: {name}, {way.__name__}", partial(check, call, way)


def check_large() -> None:
    """Host arrays that take many pieces, their copies overlapping."""
    x = host(tensor("float32", 20_000, 1000))
    labels = np.random.default_rng(0).integers(0, 1000, 20_000)
    calls: tuple[Callable[[], Any], ...] = (
        lambda: fa.gelu(x),
        lambda: fa.softmax(x, axis=0),
        lambda: fa.softmax_cross_entropy_value_and_grad(x, labels),
        lambda: fa.swish_backward(x, x, wrt=("x", "beta")),
    )
    for k, call in enumerate(calls):
        with fa.use_target("cuda"):
            found = several(call())
        for got, right in zip(found, several(call()), strict=True):
            assert np.allclose(got, right, rtol=1e-5, atol=1e-6 * np.abs(right).max()), k


def check_labels() -> None:
    """Labels out of range read nothing that is not there, and say so."""
    x, labels = tensor("float32", 64, 100), torch.arange(64, device="cuda")
    labels[3], labels[5] = 100, -1
    options = {"reduction": "none"}
    losses, gradient = fa.softmax_cross_entropy_value_and_grad(x, labels, **options)
    torch.cuda.synchronize()
    bad = torch.isnan(losses) & torch.isnan(gradient).all(1)
    assert bad.nonzero().flatten().tolist() == [3, 5]


def check_stream() -> None:
    """A call waits for what its own stream was given before, and for nothing else; memory that is
    given back meanwhile is not overwritten.
    """
    right = float(torch.softmax(torch.arange(1 << 18, device="cuda") / 1e4, 0).max())
    for _ in range(20):
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.cuda._sleep(2_000_000)  # cycles, about a millisecond
            x = torch.arange(1 << 18, device="cuda") / 1e4
            y = fa.softmax(fa.identity(fa.identity(x)), axis=0)
            del x
            torch.full((1 << 18,), torch.nan, device="cuda")
            found = float(y.max())
        assert abs(found - right) <= 1e-5 * right, (found, right)


def oracle() -> Iterator[Case]:
    """Forward against mpmath, as the default tests do on the CPU."""
    import ops

    for case in ops.all_cases():
        if isinstance(RECORDS[case.op], Activation):
            for dtype in ops.NATIVE:
                yield f"oracle of {case} {dtype}", partial(check_against_oracle, case, dtype)


def check_against_oracle(case: Any, dtype: Any) -> None:
    import ops
    import ulp

    x = ops.inputs(case, dtype, 500)
    got = host(ops.function(case.op, "forward")(on_device(x), *case.parameters))
    errors = ulp.ulp_errors(got, ops.exact(case, dtype, "forward", x))
    bound = case.record.accuracy[dtype.name].forward
    assert errors.max() <= bound, f"{errors.max():.3g} ulp, stated {bound}"


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
    return row(op.name, dtype, shape, mine, seconds(peer), copy)


def time_fused(dtype: str, shape: tuple[int, int]) -> Any:
    """softmax beside a kernel that Triton fuses."""
    x = [tensor(dtype, *shape, seed=j) for j in range(SETS)]
    out = torch.empty_like(x[0])
    torch._dynamo.reset()
    fused = torch.compile(lambda x: torch.softmax(x, -1))
    mine = seconds(lambda k: fa.softmax(x[k]))
    copy = seconds(lambda k: out.copy_(x[k]))
    return row("softmax beside Triton", dtype, shape, mine, seconds(lambda k: fused(x[k])), copy)


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


def timings() -> Iterator[Callable[[], Any]]:
    """Everything that is timed, the most telling first."""
    yield time_launch
    yield time_host
    for dtype in ("float32", "bfloat16", "float16", "float64"):
        for shape in ROWS:
            yield partial(time_losses, dtype, shape)
            for op in ROW_OPS:
                if op.torch and not op.per_row and plain(op):
                    yield partial(time_rows, op, dtype, shape)
    timed = [f for f in forms() if len(f[1].outputs) == 1]
    for size in (SIZES[1], SIZES[2], SIZES[0]):
        for dtype in ("float32", "bfloat16", "float16", "float64"):
            for name in ("forward", "backward"):
                for record, direction, function in timed:
                    if direction.name == name:
                        yield partial(time_elementwise, record, direction, function, dtype, size)
    yield from gpu_torch.timings(seconds)
    for dtype in ("float32", "bfloat16"):
        yield from (partial(time_fused, dtype, shape) for shape in ROWS)


def bench(path: str, limit: str = "1e9") -> None:
    """Time per call beside PyTorch's and beside a copy that moves as many bytes.

    What fails is told and left out; what there is no time for is counted.
    """
    end = time.monotonic() + float(limit)
    results: list[Any] = []
    left, written = 0, 0.0

    def write() -> None:
        device = torch.cuda.get_device_name()
        with open(path, "w") as file:
            json.dump({"device": device, "not timed": left, "results": results}, file, indent=1)

    for run in timings():
        if time.monotonic() > end:
            left += 1
            continue
        try:
            found = run()
        except Exception as error:
            print(f"NOT TIMED {run}: {type(error).__name__}: {error}")
            left += 1
            continue
        results += found if isinstance(found, list) else [found]
        if time.monotonic() - written > 20:
            write()
            written = time.monotonic()
    write()
    summary([r for r in results if "copy" in r])
    if left:
        print(f"{left} timings are missing: no time was left for them, or they failed")


def time_launch() -> list[Any]:
    """What calls keep the host for, their kernels not waited for."""
    x, labels = tensor("float32", 16, 16), torch.arange(16, device="cuda")
    out = torch.empty_like(x)
    calls: dict[str, Callable[[], Any]] = {
        "torch.sigmoid(x, out=out)": lambda: torch.sigmoid(x, out=out),
        "sigmoid(x, out=out)": lambda: fa.sigmoid(x, out=out),
        "sigmoid(x)": lambda: fa.sigmoid(x),
        "leaky_relu(x, 0.1)": lambda: fa.leaky_relu(x, 0.1),
        "softmax(x)": lambda: fa.softmax(x),
        "softmax_cross_entropy(x, labels)": lambda: fa.softmax_cross_entropy(x, labels),
    }
    found = [{"op": name, "launch_us": launch_overhead(call)} for name, call in calls.items()]
    for one in found:
        print(f"{one['op']:36} keeps the host for {one['launch_us']:.1f} us")
    return found


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
        if not chosen:
            continue
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
    {"first": first, "cases": cases, "bench": bench}[sys.argv[1]](*sys.argv[2:])
