"""Real torchaudio and torchvision, imported in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

PROGRAM = """
from stages.engine.torchaudio_guard import install
install()
install()
import torch, torchaudio, torchvision
from torchvision.transforms import v2
tone = torch.sin(torch.arange(16000) * 0.1)
assert torchaudio.functional.resample(tone, 16000, 8000).shape == (8000,)
assert torchaudio.transforms.MelSpectrogram(16000, n_fft=512, n_mels=64)(tone).shape[0] == 64
assert v2.functional.resize(torch.zeros(3, 8, 8), [4, 4]).shape == (3, 4, 4)
assert torchvision.models.resnet18().eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)
print("all works")
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.skipif(torch.version.cuda is not None, reason="torch has CUDA: nothing to guard")
@pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
def test_imports_beside_a_cpu_torch() -> None:
    done = run(PROGRAM)
    assert done.stdout == "all works\n", done.stderr


def test_steps_aside_where_torch_has_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.engine import torchaudio_guard

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    before = list(sys.meta_path)
    torchaudio_guard.install()
    assert sys.meta_path == before


def test_steps_aside_for_builds_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.engine import torchaudio_guard

    monkeypatch.setattr(torchaudio_guard, "version", lambda _: "2.11.0+cpu")
    guard = torchaudio_guard.Guard()
    assert guard.find_spec("torchaudio._extension", None) is None
    assert guard.find_spec("torchvision", None) is None
