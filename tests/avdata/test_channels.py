"""Sound of any number of channels, in any order: mono comes out, and the process lives."""

from __future__ import annotations

import gc
import multiprocessing
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from avdata.clip import Status
from avdata.media import ffmpeg_binary, probe
from tests.channel_factory import OWN_ORDERS, SECONDS, in_own_order, noise, write
from tests.trim_runner import Trimmed, fetched


def mono_by_ffmpeg(path: Path) -> NDArray[np.int16]:
    command = [ffmpeg_binary(), "-v", "error", "-i", str(path), "-ac", "1", "-f", "s16le", "-"]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, "<i2")


def sound_of(path: Path, folder: Path) -> NDArray[np.int16]:
    clips = [fetched(path, start_ms=0, end_ms=SECONDS * 1000)]
    out = Trimmed(folder, clips, frames_per_clip=2)
    assert out.rows[0].status is Status.ACTIVE, out.rows[0].detail
    return out.sound(out.rows[0])


def many_times(path: Path, folder: Path, result: Path) -> None:
    for number in range(8):
        samples = sound_of(path, folder / str(number))
        gc.collect()
    np.save(result, samples)


@pytest.mark.parametrize("layout", OWN_ORDERS)
def test_channels_in_an_order_of_their_own(tmp_path: Path, layout: str) -> None:
    """In a process of its own, because what is wrong shows as the death of the process."""
    path, result = in_own_order(tmp_path, layout), tmp_path / "mono.npy"
    process = multiprocessing.get_context("fork").Process(
        target=many_times, args=(path, tmp_path, result)
    )
    process.start()
    process.join(timeout=120)
    assert process.exitcode == 0
    expected = mono_by_ffmpeg(path)
    np.testing.assert_allclose(np.load(result), expected, atol=1)
    assert expected.std() > 1000


@pytest.mark.parametrize("channels", [9, 18, 20, 32, 37, 64, 65, 255])
@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
def test_channels_without_a_place_become_their_mean(
    tmp_path: Path, channels: int, suffix: str
) -> None:
    samples = noise(channels)
    path = write(tmp_path / f"many{suffix}", samples)
    assert probe(path).audio_channels == channels
    sound = sound_of(path, tmp_path / "run")
    np.testing.assert_allclose(sound, samples.mean(axis=1), atol=1)


def test_channels_in_planes_of_their_own(tmp_path: Path) -> None:
    samples = noise(20)
    path = write(tmp_path / "many.mkv", samples, codec="wavpack")  # decoded to one plane a channel
    np.testing.assert_allclose(sound_of(path, tmp_path / "run"), samples.mean(axis=1), atol=1)


def test_more_channels_than_can_be_mixed_are_a_row_with_a_reason(tmp_path: Path) -> None:
    path = write(tmp_path / "many.mkv", noise(70), codec="libopus -mapping_family 255")
    row = Trimmed(tmp_path / "run", [fetched(path, start_ms=0, end_ms=1000)]).rows[0]
    assert row.reason == "corrupt"
    assert "70 channels" in row.detail
