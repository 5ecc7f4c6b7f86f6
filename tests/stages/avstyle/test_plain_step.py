"""The trainer's step, with its shared passes, against the step as it is usually written."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks.bench_avstyle import LOSSES, PEER, measure
from benchmarks.bench_loader import make_clips, pack


@pytest.mark.slow
def test_losses_equal_those_of_a_pass_for_each_picture(tmp_path: Path) -> None:
    """The second step's too, which see whether the first one taught the same."""
    pack(tmp_path, make_clips(4, "flac"), "flac")
    options = argparse.Namespace(side=32, width=8, batch=2, steps=1)
    plain, ours, half = (
        measure(name, str(tmp_path), options)["losses"]
        for name in (PEER, "ours, fp32", "ours, bf16")
    )
    assert len(plain) == len(ours) == 2
    assert abs(plain[1]["g_gan"] / plain[0]["g_gan"] - 1) > 0.1  # the first step changed much
    for name in LOSSES:
        assert ours[0][name] == pytest.approx(plain[0][name], rel=1e-5), name
        # Adam moves a weight as far by a gradient of mere rounding as by any other.
        assert ours[1][name] == pytest.approx(plain[1][name], rel=5e-3), name
        assert half[0][name] == pytest.approx(plain[0][name], rel=0.02), name
