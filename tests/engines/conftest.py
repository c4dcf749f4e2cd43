"""What the tests of the engines share."""

import os

import pytest

from ntkit.engines.fused import modules


@pytest.fixture(scope="package", autouse=True)
def compiled_modules(tmp_path_factory):
    """A cache of compiled modules that these tests share, and that nobody else sees."""
    before = os.environ.get(modules.FOLDER)
    os.environ[modules.FOLDER] = str(tmp_path_factory.mktemp("fused"))
    modules.load.cache_clear()
    yield
    modules.load.cache_clear()
    if before is None:
        del os.environ[modules.FOLDER]
    else:
        os.environ[modules.FOLDER] = before
