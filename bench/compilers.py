"""fastact beside what compiles expressions, in cache: JAX (jit) and numexpr.

    pip install jax numexpr
    python bench/compilers.py

One interleaved run over every op that they have; prints how many times longer they take. fastact
and numexpr run on one thread, JAX on its own: what it takes in cache is mostly the way of a call
to those threads, 5 to 60 us from one run to the next.
"""

from __future__ import annotations

from importlib.util import find_spec
from statistics import geometric_mean
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import fastact as fa
from fastact.measure.timing import ROUNDS, Timings
from fastact.measure.work import Work
from fastact.registry import RECORDS

SIZE = 16 << 10


def of_jax(record: Any, x: Any) -> Work | None:
    """The op as a user of JAX writes it, compiled."""
    if not record.jax or not find_spec("jax"):
        return None
    import jax

    scope = record.parameter_values() | {"jax": jax, "jnp": jax.numpy}
    call = jax.jit(eval(f"lambda x: {record.jax}", scope))
    return Work("f(x).block_until_ready()", {"f": call, "x": jax.numpy.asarray(x)})


def of_numexpr(record: Any, x: Any) -> Work | None:
    """The op's NumPy expression, if numexpr knows its functions."""
    if not find_spec("numexpr"):
        return None
    import numexpr

    numexpr.set_num_threads(1)
    names = {"x": x} | {n: np.float32(v) for n, v in record.parameter_values().items()}
    work = Work(
        "evaluate(form, names, out=out, casting='unsafe')",
        {
            "evaluate": numexpr.evaluate,
            "form": record.numpy.replace("np.", ""),
            "names": names,
            "out": np.empty_like(x),
        },
    )
    try:
        work.function()()
    except Exception:  # its parser refuses in many ways
        return None
    return work


def works() -> dict[tuple[str, str], Work]:
    """What to time, by op and library."""
    # in the domains of all ops, logit and log1mexp included
    x = np.random.default_rng(0).uniform(0.01, 0.99, SIZE).astype(np.float32)
    found: dict[tuple[str, str], Work] = {}
    for op, record in RECORDS.items():
        peers = {"JAX": of_jax(record, x), "numexpr": of_numexpr(record, x)}
        known = {(op, name): work for name, work in peers.items() if work}
        if known:
            names = {"f": getattr(fa, op), "x": x, "out": np.empty_like(x)}
            found |= known | {(op, "fastact"): Work("f(x, out=out)", names)}
    return found


def main() -> None:
    fa.set_target("serial")
    timings = Timings(works()).run(ROUNDS)
    table = Table("op", "ns", "JAX", "numexpr", box=None, pad_edge=False)
    ratios: dict[str, list[float]] = {"JAX": [], "numexpr": []}
    for op, name in timings.samples:
        if name != "fastact":
            continue
        row = []
        for peer, own in ratios.items():
            if (op, peer) in timings.samples:
                own.append(timings.ratio((op, peer), (op, name)))
            row.append(f"{own[-1]:.2f}" if (op, peer) in timings.samples else "-")
        table.add_row(op, f"{timings.seconds((op, name)) / SIZE * 1e9:.2f}", *row)
    for word, combine in (("geometric mean", geometric_mean), ("worst", min)):
        table.add_row(word, "", *(f"{combine(own):.2f}" if own else "-" for own in ratios.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
