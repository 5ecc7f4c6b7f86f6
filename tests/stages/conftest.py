"""What all tests of the training half share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Tiny networks are slower on several threads, and sums then depend on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _still_one_thread() -> Iterator[None]:
    """Lightning Fabric changes their number where a distributed strategy is asked for."""
    yield
    torch.set_num_threads(1)
