"""What several tests need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# before torch is imported: tests run side by side, and threads that wait for a processor make small networks crawl
os.environ.setdefault("OMP_NUM_THREADS", "1")

# the machine may be busy, so no example has a deadline; and a failure on one machine is a failure on all
settings.register_profile("automl", deadline=None, derandomize=True, database=None)
settings.load_profile("automl")

TESTS = Path(__file__).parent
CASES = TESTS / "data" / "cases"


@pytest.fixture(scope="session")
def cases() -> Path:
    """The input files of the cases that users of other tools tripped over."""
    return CASES


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of published benchmark tables: AUTOML_DATA, or shared/data beside the checkout."""
    folder = Path(os.environ.get("AUTOML_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no benchmark tables in {folder}: set AUTOML_DATA")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the core, by whose branches the coverage is counted."""
    for item in items:
        if item.path.parent == TESTS:
            item.add_marker("core")
