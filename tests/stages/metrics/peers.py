"""Other people's metrics, imported where they are installed."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import pytest


def torch_fidelity_module(name: str) -> ModuleType:
    """Return one module of torch-fidelity; skips the test where it is not installed."""
    pytest.importorskip("torch")
    from stages.engine import torchaudio_guard

    torchaudio_guard.install()
    pytest.importorskip("torch_fidelity")
    return import_module(f"torch_fidelity.{name}")
