"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Timings are never assertions: shared machines are noisy.
settings.register_profile("avdata", deadline=None)
settings.load_profile("avdata")

SHARED_DATA = Path(
    os.environ.get("AVDATA_TEST_DATA", Path(__file__).resolve().parents[1] / "../shared/data")
)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips, sounds and lists; tests that need it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real test data at {SHARED_DATA} (set AVDATA_TEST_DATA)")
    return SHARED_DATA.resolve()
