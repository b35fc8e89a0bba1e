"""One private object store for the session: kernels compile once, child processes reuse them."""

import os
import shutil
import tempfile

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("fastact", deadline=None, derandomize=True, database=None)
settings.load_profile("fastact")

# The workers of a run in parallel inherit the store of the process that started them.
WORKER = "PYTEST_XDIST_WORKER" in os.environ
STORE = os.environ["FASTACT_CACHE_DIR"] if WORKER else tempfile.mkdtemp(prefix="fastact-tests-")
os.environ["FASTACT_CACHE_DIR"] = STORE


def pytest_runtest_setup(item):
    """A GPU gives the bits of processors without tables: test_tabulated.py compares them."""
    from tabulated import BESIDE_A_GPU, looks_up

    if item.path.name in BESIDE_A_GPU and looks_up(item):
        from fastact.compile.tabulated import tables_in_registers

        if tables_in_registers():
            pytest.skip("this processor looks tables up in registers")


@pytest.fixture(autouse=True)
def process_settings():
    """A test that leaves the process changed makes others fail, some time and on some worker."""
    import fastact as fa

    def settings_now():
        return fa.get_target(), fa.get_num_threads(), np.geterr()

    before = settings_now()
    yield
    assert settings_now() == before, "this test leaves the process with other settings"


@pytest.fixture(scope="session")
def store():
    return STORE


def pytest_unconfigure():
    if not WORKER:
        shutil.rmtree(STORE, ignore_errors=True)
