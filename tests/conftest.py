"""One private object store for the session: kernels compile once, child processes reuse them."""

import os
import shutil
import tempfile

import pytest
from hypothesis import settings

settings.register_profile("fastact", deadline=None, derandomize=True, database=None)
settings.load_profile("fastact")

# The workers of a run in parallel inherit the store of the process that started them.
WORKER = "PYTEST_XDIST_WORKER" in os.environ
STORE = os.environ["FASTACT_CACHE_DIR"] if WORKER else tempfile.mkdtemp(prefix="fastact-tests-")
os.environ["FASTACT_CACHE_DIR"] = STORE


@pytest.fixture(scope="session")
def store():
    return STORE


def pytest_unconfigure():
    if not WORKER:
        shutil.rmtree(STORE, ignore_errors=True)
