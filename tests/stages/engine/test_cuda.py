"""What CUDA changes: precision, resuming, compiled models, NCCL. Skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import torch
import torch.nn.functional as F

from stages.engine import checkpoint
from stages.engine.fabric import make_fabric
from stages.engine.settings import TrainSettings
from tests.stages.toy_runs import curve, folder_of, run_here, run_program, same, weights

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
CUDA = "train.device=cuda"
PLAIN = (CUDA, "noise=0", "dropout=0", "batch_norm=false")
"""Without noise, which each device draws in its own way, and without batch norm, before which a
bias has no gradient but rounding."""


@pytest.fixture(autouse=True)
def _flags() -> Iterator[None]:
    """Choose algorithms that add up in one order; precision is set for the whole process."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.deterministic = False
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_fp32_is_exact_in_products_and_convolutions(precision: Literal["fp32", "tf32"]) -> None:
    """Beside float64: float32 has 24 bits of mantissa, TF32 has 11 (from Ampere on)."""
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this GPU has no TF32")
    make_fabric(TrainSettings(precision=precision, device="cuda"))
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(8, 64, 32, 32, generator=rng, dtype=torch.float64)
    kernel = torch.randn(64, 64, 3, 3, generator=rng, dtype=torch.float64)
    matrix = torch.randn(512, 512, generator=rng, dtype=torch.float64)
    pairs = {
        "convolution": (
            F.conv2d(x.float().cuda(), kernel.float().cuda()),
            F.conv2d(x.float().double(), kernel.float().double()),
        ),
        "product": (
            matrix.float().cuda() @ matrix.float().cuda(),
            matrix.float().double() @ matrix.float().double(),
        ),
    }
    for name, (found, expected) in pairs.items():
        error = (found.cpu().double() - expected).norm() / expected.norm()
        assert (error < 1e-5) == (precision == "fp32"), f"{name}: {error:.1e}"


def test_it_learns_what_the_cpu_learns(pipeline: Path) -> None:
    here = curve(run_here(pipeline, *PLAIN[1:]))
    there = curve(run_here(pipeline, *PLAIN, fresh=True))
    for left, right in zip(here, there, strict=True):
        assert left == pytest.approx(right, rel=1e-3)


def test_bf16_is_near_fp32(pipeline: Path) -> None:
    exact = curve(run_here(pipeline, *PLAIN))
    rounded = curve(run_here(pipeline, *PLAIN, "train.precision=bf16", fresh=True))
    losses = [[line["loss"] for line in lines] for lines in (exact, rounded)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert all(w.dtype != torch.bfloat16 for w in weights(folder_of(pipeline)).values())


def test_resumed_it_ends_with_the_same_bits(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise and dropout are drawn on the GPU, whose generators a checkpoint has to keep."""
    options = (CUDA, "train.ema_decay=0.9", "train.accumulate=2")
    whole = tmp_path / "whole"
    run_here(pipeline, *options, f"output={whole}")
    monkeypatch.setenv("TOY_TERMINATED_AT", "5")
    with pytest.raises(SystemExit, match="143"):
        run_here(pipeline, *options)
    monkeypatch.delenv("TOY_TERMINATED_AT")
    folder = run_here(pipeline, *options)
    undisturbed = whole / "stages" / "train_toy"
    assert [line["loss"] for line in curve(folder)] == [line["loss"] for line in curve(undisturbed)]
    assert same(weights(folder), weights(undisturbed))
    last = "checkpoints/step-00000008"
    states = [checkpoint.read_state(f / last)["rng"] for f in (folder, undisturbed)]
    assert "cuda" in states[0][0]
    assert same(*states)


@pytest.mark.slow
def test_compiled_learns_the_same(pipeline: Path) -> None:
    options = (*PLAIN, "train.steps=4")
    run_here(pipeline, *options, f"output={pipeline.parent / 'eager'}")
    eager = curve(pipeline.parent / "eager" / "stages" / "train_toy")
    done = run_program(pipeline, *options, "train.compile=true", gpu=True)
    assert done.returncode == 0, done.stderr
    for left, right in zip(eager, curve(folder_of(pipeline)), strict=True):
        assert left == pytest.approx(right, rel=1e-3)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_one_rank_over_nccl(strategy: str, pipeline: Path) -> None:
    alone = pipeline.parent / "alone"
    run_here(pipeline, *PLAIN, f"output={alone}")
    done = run_program(pipeline, *PLAIN, f"train.strategy={strategy}", processes=1, gpu=True)
    assert done.returncode == 0, done.stderr
    expected = curve(alone / "stages" / "train_toy")
    for left, right in zip(curve(folder_of(pipeline)), expected, strict=True):
        assert left == pytest.approx(right, rel=1e-3)


def test_a_shared_forward_pass_over_nccl(pipeline: Path, shards: Path) -> None:
    """Micro-batches drawn beforehand, whose gradients are exchanged after the last."""
    text = pipeline.read_text().replace("train_toy:", f"train_toy:\n    content_shards: {shards}")
    pipeline.write_text(text)
    done = run_program(
        *(pipeline, CUDA, "train.accumulate=2"),
        module="tests.stages.toy_style",
        processes=1,
        gpu=True,
    )
    assert done.returncode == 0, done.stderr
    assert (folder_of(pipeline) / "complete.json").exists()
