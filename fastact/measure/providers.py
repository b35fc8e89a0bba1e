"""Who computes an operation: one table, from a provider's name to the work it does for a case.

Every provider gets the same inputs and, where its interface allows it, the same preallocated
result. What it runs is the expression that the operation's record gives for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

import fastact as fa
from fastact.measure import expressions, operands
from fastact.measure.cases import Case
from fastact.measure.catalogue import arguments_of, function_of, parameters_of, takes_axis
from fastact.measure.copying import copier
from fastact.measure.threads import torch_threads
from fastact.measure.work import Work, names_in

# A case and the name of an operand -> the operand.
Lookup = Callable[[Case, str], Any]


@dataclass(frozen=True)
class Provider:
    """One competitor: its title in tables, and how it gets from a case to work.

    `build` returns None where the provider has no form of the operation. `cores` says in which
    comparisons it takes part: of single threads ("one"), of all cores ("all"), "both", or "none",
    if its errors are measured and not its times.
    """

    title: str
    build: Callable[[Case, Lookup], Work | None]
    cores: str = "both"


def assemble(case: Case, expression: str, lookup: Lookup, **names: Any) -> Work | None:
    """The work of an expression: its operands, the op's parameters, and further names."""
    if not expression:
        return None
    wanted = names_in(expression)
    if "scipy" in wanted:
        if not find_spec("scipy"):
            return None
        import scipy.special

        names["scipy"] = scipy
    parameters = parameters_of(case.op)
    used = {n: lookup(case, n) for n in wanted if n in operands.NAMES and n not in parameters}
    return Work(expression, parameters | names | used)


def naive_numpy(case: Case, lookup: Lookup) -> Work | None:
    expression = expressions.naive(case.op, case.direction)
    return assemble(case, expressions.with_out(expression, np=np), lookup, np=np)


def stable_numpy(case: Case, lookup: Lookup) -> Work | None:
    expression = expressions.stable(case.op, case.direction)
    return assemble(case, expressions.with_out(expression, np=np), lookup, np=np)


def scipy(case: Case, lookup: Lookup) -> Work | None:
    """SciPy computes half types in double precision: they are left out."""
    form = expressions.scipy(case.op, case.direction)
    if not form or case.dtype not in ("float32", "float64") or not find_spec("scipy"):
        return None
    import scipy.special

    return assemble(case, expressions.with_out(form, scipy=scipy), lookup, np=np)


def tensor(lookup: Lookup, case: Case, name: str) -> Any:
    """An operand as a tensor on the same memory."""
    import torch

    value = lookup(case, name)
    if name == "axis":
        return value
    if name == "leaf":
        return tensor(lookup, case, "logits").detach().requires_grad_()
    if case.dtype == "bfloat16" and name != "labels":
        return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(value)


def torch(
    case: Case,
    lookup: Lookup,
    all_cores: bool = False,
    form_of: Callable[[str, str], str] = expressions.torch,
) -> Work | None:
    form = form_of(case.op, case.direction)
    if not form or not find_spec("torch"):
        return None
    import torch

    work = assemble(case, form, partial(tensor, lookup), torch=torch, F=torch.nn.functional)
    return work and work.under(partial(torch_threads, all_cores))


def jax(case: Case, lookup: Lookup) -> Work | None:
    """JAX as it is set up by default, in double precision where it is asked for."""
    form = expressions.jax(case.op, case.direction)
    if not form or case.dtype not in ("float32", "float64") or not find_spec("jax"):
        return None
    import jax

    precision = partial(jax.enable_x64, case.dtype == "float64")
    with precision():
        to_jax = lambda case, name: jax.numpy.asarray(lookup(case, name))  # noqa: E731
        work = assemble(case, form, to_jax, jax=jax, jnp=jax.numpy)
    return work and work.under(precision)


def fastact(case: Case, lookup: Lookup, target: str) -> Work | None:
    function = function_of(case.op, case.direction)
    if function is None:
        return None
    arguments = list(arguments_of(case.op, case.direction))
    if case.axis is not None and takes_axis(case.op):
        arguments.append("axis=axis")
    outs = case.results
    if outs:
        arguments.append(f"out={outs[0]}" if len(outs) == 1 else f"out=({', '.join(outs)})")
    work = assemble(case, f"f({', '.join(arguments)})", lookup, f=function)
    return work and work.under(partial(fa.use_target, target))


def copy(case: Case, lookup: Lookup) -> Work:
    threads = fa.get_num_threads() if case.all_cores else 1
    return Work("copy()", {"copy": copier(case.bytes, threads)})


PROVIDERS: dict[str, Provider] = {
    "fastact_serial": Provider("fastact", partial(fastact, target="serial")),
    "fastact_parallel": Provider("fastact", partial(fastact, target="parallel")),
    "numpy": Provider("NumPy", naive_numpy),
    "numpy_stable": Provider("NumPy stable", stable_numpy),
    "scipy": Provider("SciPy", scipy),
    "torch_serial": Provider("torch", partial(torch, all_cores=False), "one"),
    "torch_parallel": Provider("torch", partial(torch, all_cores=True), "all"),
    "torch_autograd": Provider(
        "torch autograd", partial(torch, form_of=expressions.torch_autograd), "none"
    ),
    "jax": Provider("JAX", jax, "none"),
    "copy": Provider("copy", copy),
}


def taking_part(case: Case) -> tuple[str, ...]:
    """The names of the providers that a case is measured with."""
    cores = ("both", "all" if case.all_cores else "one")
    return tuple(name for name, provider in PROVIDERS.items() if provider.cores in cores)


def works_of(case: Case) -> dict[str, Work]:
    """The work of each provider that has the case, by the provider's name."""
    built = {name: PROVIDERS[name].build(case, operands.operand) for name in taking_part(case)}
    return {name: work for name, work in built.items() if work is not None}
