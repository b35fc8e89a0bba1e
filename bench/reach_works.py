"""The works that reach lines name: a provider's, or one of the expressions given here."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import NamedTuple

import numpy as np

import fastact as fa
from fastact.measure.cases import Case
from fastact.measure.catalogue import record_of
from fastact.measure.operands import operand
from fastact.measure.providers import PROVIDERS, assemble, tensor
from fastact.measure.threads import torch_threads
from fastact.measure.work import Work


class Key(NamedTuple):
    """One thing to time: a provider or a key of EXPRESSIONS on a case, or Python code."""

    who: str
    case: Case | None = None


# Expressions over `op` (a fastact op with all its directions) and the operands.
EXPRESSIONS = {
    "public function": "op.forward(x, out=out)",
    "np.exp": "np.exp(x, out=out)",
    "value_and_grad, multiply": (
        "np.multiply(dy, op.value_and_grad(x, out=(out, out2))[1], out=out2)"
    ),
    "forward, backward": "(op.forward(x, out=out), op.backward(dy, x, out=out2))",
    "gate forward": "op.forward(x, y, out=out)",
    "gate backward": "op.backward(dy, x, y, out=(out, out2))",
    "bias": "op.forward(x, y[0], out=out)",
}
# What PyTorch needs for the same, over tensors; `f` is the activation, `slope` its backward.
TORCH = {
    "torch gate forward": ("torch.mul(x, f(y), out=out)", 1),
    "torch gate backward": ("(torch.mul(dy, f(y), out=out), slope(dy * x, y))", 1),
    "torch bias": ("f(x + y[0])", None),
}
TARGETS = {
    "public function": "auto",
    "value_and_grad, multiply": "serial",
    "forward, backward": "serial",
    "gate forward": "serial",
    "gate backward": "serial",
}


def fresh_process(code: str) -> None:
    """Run code in a new interpreter."""
    subprocess.run([sys.executable, "-c", code], check=True)


def torch_work(key: Key) -> Work | None:
    """PyTorch's way of computing an op of two arrays."""
    import torch

    assert key.case is not None
    inner = record_of(key.case.op).activation.name
    functions = {
        "swish": (torch.nn.functional.silu, torch.ops.aten.silu_backward),
        "gelu": (torch.nn.functional.gelu, torch.ops.aten.gelu_backward),
    }
    f, slope = functions[inner]
    expression, threads = TORCH[key.who]
    work = assemble(key.case, expression, partial(tensor, operand), torch=torch, f=f, slope=slope)
    return work and work.under(partial(torch_threads, threads is None))


def user_loop(case: Case) -> Work | None:
    """A user's loop over the numbers of an array, compiled by Numba."""
    from interop import loop_over

    op = getattr(fa, case.op)
    return assemble(case, "loop(x, out)", operand, loop=loop_over(op, case.direction))


def build(key: Key) -> Work:
    """The work of a key.

    Raises
    ------
    LookupError
        If a provider is not installed or lacks the case.
    """
    if key.case is None:
        return Work("run(code)", {"run": fresh_process, "code": key.who})
    if key.who in PROVIDERS:
        work = PROVIDERS[key.who].build(key.case, operand)
    elif key.who == "loop":
        work = user_loop(key.case)
    elif key.who in TORCH:
        work = torch_work(key)
    else:
        op = record_of(key.case.op)
        work = assemble(key.case, EXPRESSIONS[key.who], operand, np=np, op=op)
        if work is not None and key.who in TARGETS:
            work = work.under(partial(fa.use_target, TARGETS[key.who]))
    if work is None:
        raise LookupError(f"{key.who} cannot compute {key.case}")
    return work
