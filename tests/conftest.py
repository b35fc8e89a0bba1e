"""One private object store for the session: kernels compile once, child processes reuse them."""

import os
import shutil
import tempfile

import pytest
from hypothesis import settings

settings.register_profile("fastact", deadline=None, derandomize=True, database=None)
settings.load_profile("fastact")

STORE = tempfile.mkdtemp(prefix="fastact-tests-")
os.environ["FASTACT_CACHE_DIR"] = STORE


@pytest.fixture(scope="session", autouse=True)
def store():
    yield STORE
    shutil.rmtree(STORE, ignore_errors=True)
