"""The time of every provider for every case, one benchmark each.

`pytest bench/` takes a few minutes, `pytest bench/ --full` hours. pytest-benchmark runs one
provider after the other: for ratios, `fastact bench` and `ci/report.py` interleave them.
"""

from __future__ import annotations

from dataclasses import asdict

import pytest

from fastact.measure.cases import Case
from fastact.measure.operands import operand
from fastact.measure.providers import PROVIDERS


@pytest.mark.benchmark(max_time=0.2, min_rounds=5, warmup=True, warmup_iterations=3)
def test_speed(benchmark, case: Case, provider: str) -> None:
    work = PROVIDERS[provider].build(case, operand)
    if work is None:
        pytest.skip(f"{provider} has no {case.op} {case.direction} in {case.dtype}")
    benchmark.group = f"{case.label} {case.direction} {case.dtype} {case.size}"
    benchmark.extra_info.update(asdict(case), provider=provider)
    with work.threads():
        benchmark(work.function())
