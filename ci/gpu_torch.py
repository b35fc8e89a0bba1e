"""fastact.torch on the card, for ci/gpu.py: steps against the CPU's, PyTorch's checks, times."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import samples
import torch
from adapters import TORCH

import fastact.torch as ft
from fastact.interop.second import SECOND
from fastact.interop.torch.operators import ROWS_TWICE

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
Case = tuple[str, Callable[..., torch.Tensor], list[torch.Tensor], bool]


def called(name: str, *numbers: Any, **options: Any) -> Callable[..., torch.Tensor]:
    def call(*tensors: torch.Tensor) -> torch.Tensor:
        # a weight is an option; it lies with the logits
        moved = {
            n: v.to(tensors[0]) if isinstance(v, torch.Tensor) else v for n, v in options.items()
        }
        made: torch.Tensor = getattr(ft, name)(*tensors, *numbers, **moved)
        return made

    return call


def cases() -> Iterator[Case]:
    """(name, function, float64 tensors, whether it has a second derivative), ids in no gradient."""
    for op in samples.ELEMENTWISE:
        for given in ((), samples.other_parameters(op)):
            x = torch.tensor(samples.smooth_points(op, 60, given or op.record.defaults))
            yield op.name, called(op.name, *given), [x.reshape(12, 5)], op.name in SECOND
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 7, 5, generator=generator, dtype=torch.float64)
    for rows in samples.ROWWISE:
        for dim in (0, -1):
            yield rows.name, called(rows.name, dim), [x], rows.name in ROWS_TWICE
    for fused, arrays, numbers in samples.FUSED:
        yield fused.name, called(fused.name, *numbers), list(map(torch.tensor, arrays)), True
    for loss, logits, target, options in samples.LOSSES:
        named = {"dim" if n == "axis" else n: v for n, v in options.items()}
        named |= {n: torch.tensor(v.copy()) for n, v in named.items() if n.endswith("weight")}
        tensors = [torch.tensor(logits), torch.tensor(target)]
        yield loss.name, called(loss.name, **named), tensors, True


def placed(tensors: list[torch.Tensor], device: str, dtype: torch.dtype) -> list[torch.Tensor]:
    """Tensors on a device, the floating ones as leaves of a dtype."""
    return [
        t.to(device, dtype).requires_grad_() if t.is_floating_point() else t.to(device)
        for t in tensors
    ]


def step(f: Any, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """What f gives, and the gradients of its leaves."""
    y = f(*tensors)
    dy = torch.linspace(-1, 1, y.numel(), device=y.device).reshape(y.shape).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, [t for t in tensors if t.requires_grad], dy)]


def strided(tensor: torch.Tensor) -> torch.Tensor:
    """The same values, in another order in memory."""
    return tensor.detach().mT.contiguous().mT if tensor.dim() > 1 else tensor.detach()


def close(got: list[torch.Tensor], right: list[torch.Tensor], ulp: float = 32.0) -> None:
    for mine, exact in zip(got, right, strict=True):
        tolerance = ulp * torch.finfo(exact.dtype).eps
        torch.testing.assert_close(mine.cpu(), exact.cpu(), rtol=tolerance, atol=tolerance)


def against_the_cpu(case: Case, device: str) -> None:
    """A step in every dtype, of contiguous and of other tensors."""
    _, f, tensors, _ = case
    for dtype in DTYPES:
        right = step(f, placed(tensors, "cpu", dtype))
        for layout in (list, lambda ts: list(map(strided, ts))):
            close(step(f, placed(layout(tensors), device, dtype)), right)


def gradcheck(case: Case, device: str) -> None:
    _, f, tensors, twice = case
    leaves = placed(tensors, device, torch.float64)
    torch.autograd.gradcheck(f, leaves)
    if twice:
        torch.autograd.gradgradcheck(f, leaves)


def opcheck(case: Case, device: str) -> None:
    name, _, tensors, _ = case
    operator = getattr(torch.ops.fastact, name, None)
    arguments = operator and operator.default._schema.arguments
    if not operator or len(arguments) > len(tensors) + sum(
        a.has_default_value() for a in arguments
    ):
        return  # losses, and ops whose numbers have to be given: as steps only
    torch.library.opcheck(operator.default, placed(tensors, device, torch.float32))


def compiled(case: Case, device: str) -> None:
    """One graph, by PyTorch's default backend."""
    _, f, tensors, _ = case
    torch._dynamo.reset()
    made = torch.compile(lambda *t: f(*(2 * v if v.is_floating_point() else v for v in t)))
    leaves = placed(tensors, device, torch.float32)
    twice = [2 * t.detach() if t.requires_grad else t for t in leaves]
    right = step(f, [t.requires_grad_(t.is_floating_point()) for t in twice])
    close(step(made, leaves), [right[0], *(2 * g for g in right[1:])])


def autocast(case: Case, device: str) -> None:
    """In a model whose matrices are multiplied in bfloat16."""
    name, f, tensors, _ = case
    if len(tensors) > 1 or name == "logit":
        return
    width = tensors[0].shape[-1]
    layer = torch.nn.Linear(width, width, device=device)
    with torch.autocast(device, torch.bfloat16):
        y = f(layer(tensors[0].to(device, torch.float32)))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()


CHECKS: tuple[Callable[[Case, str], None], ...] = (
    against_the_cpu,
    gradcheck,
    opcheck,
    autocast,
    compiled,
)
COMPILED = ("swish", "softmax", "logsumexp", "swiglu", "causal_softmax", "softmax_cross_entropy")


def checks(device: str = "cuda") -> Iterator[tuple[str, Callable[[], None]]]:
    """Everything that is checked, by name; what is wrong raises."""
    yield "an accelerated model", partial(check_model, device)
    for run in CHECKS:
        for case in cases():
            if run is not compiled or case[0] in COMPILED:
                yield f"fastact.torch.{case[0]}, {run.__name__}", partial(run, case, device)


def check_model(device: str) -> None:
    """A model and its accelerated twin learn the same."""

    def learnt(accelerate: bool) -> torch.Tensor:
        torch.manual_seed(0)
        layers = [torch.nn.Linear(8, 32), torch.nn.PReLU(32), torch.nn.Linear(32, 32)]
        model = torch.nn.Sequential(*layers, torch.nn.GLU(), torch.nn.GELU()).to(device)
        loss: Any = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
        if accelerate:
            ft.accelerate(model)
            loss = ft.accelerate(loss).module
        x, labels = torch.randn(64, 8).to(device), torch.arange(64).to(device) % 16
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(20):
            optimizer.zero_grad()
            value = loss(model(x), labels)
            value.backward()
            optimizer.step()
        return value.detach().cpu()

    torch.testing.assert_close(learnt(True), learnt(False), rtol=1e-4, atol=1e-5)


def step_of(f: Any, x: torch.Tensor, _: int) -> Any:
    y = f(x)
    return torch.autograd.grad(y, x, y.detach())


def timings(
    seconds: Callable[[Callable[[int], Any]], float], device: str = "cuda"
) -> Iterator[Callable[[], Any]]:
    """Steps forward and backward beside PyTorch's own."""

    def time_step(name: str, peer: Any, dtype: torch.dtype) -> Any:
        x = torch.randn(1 << 24, device=device, dtype=dtype, requires_grad=True)
        mine, theirs = (seconds(partial(step_of, f, x)) for f in (getattr(ft, name), peer))
        kind = str(dtype).removeprefix("torch.")
        print(f"step of {name:16} {kind:9} {mine * 1e6:9.1f} us  {theirs / mine:5.2f} x torch")
        return {"op": f"step of {name}", "dtype": kind, "seconds": mine, "torch": theirs}

    for dtype in (torch.float32, torch.bfloat16):
        for name, peer in TORCH.items():
            yield partial(time_step, name, peer, dtype)


if __name__ == "__main__":
    for _name, _run in checks(*sys.argv[1:]):
        print(_name)
        _run()
