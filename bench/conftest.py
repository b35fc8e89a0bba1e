"""What `pytest bench/` measures: a quick subset, or with --full everything."""

from __future__ import annotations

import pytest

from fastact.activations.directions import DIRECTIONS
from fastact.measure import copying, operands
from fastact.measure.cases import DTYPES, SIZES, Case, grid
from fastact.measure.catalogue import operations
from fastact.measure.providers import taking_part

QUICK = {"directions": ("forward",), "dtypes": ("float32",), "sizes": (16 << 10,)}
FULL = {"directions": tuple(DIRECTIONS), "dtypes": DTYPES, "sizes": SIZES}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="all directions, dtypes and sizes")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """The project's settings disable benchmarks, for the tests; here they are the purpose."""
    config.option.benchmark_disable = False


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    chosen = FULL if metafunc.config.getoption("--full") else QUICK
    cases = grid(operations(), **chosen)
    pairs = [(case, name) for case in cases for name in taking_part(case)]
    metafunc.parametrize(("case", "provider"), pairs, ids=[identity(*pair) for pair in pairs])


def identity(case: Case, provider: str) -> str:
    """op-direction-dtype-shape-provider, with the axis where there is one."""
    shape = "x".join(map(str, case.shape)) + ("" if case.axis is None else f"@{case.axis}")
    return f"{case.op}-{case.direction}-{case.dtype}-{shape}-{provider}"


@pytest.fixture(autouse=True)
def _give_memory_back(case: Case):
    yield
    if case.bytes > 1 << 26:
        operands.forget()
        copying.forget()
