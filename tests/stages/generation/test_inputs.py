"""Sounds and pictures from files and clips, and what is said about those that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avdata.errors import ShardError
from stages.generation.inputs import (
    InputError,
    Picture,
    Sound,
    read_input,
    read_picture,
    read_sound,
)
from tests.media_factory import bar_code, make_video
from tests.shard_factory import Made, sound
from tests.stages.tiny_scenes import RATE_HZ, make_run, tone, write_picture, write_sound


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_run(tmp_path_factory.mktemp("run")))


def pitch_hz(samples: np.ndarray, rate_hz: int = RATE_HZ) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * rate_hz / len(samples))


def test_a_sound_file_keeps_its_level_and_is_cut(tmp_path: Path) -> None:
    samples = tone(1000, seconds=2.0, level=0.1)
    found = read_sound(str(write_sound(tmp_path / "bird.wav", samples)), RATE_HZ, 1.5)
    assert (found.name, found.rate_hz, found.duration_s) == ("bird", RATE_HZ, 1.5)
    np.testing.assert_allclose(found.samples, samples[: len(found.samples)], atol=1 / 32768)


def test_another_rate_is_resampled(tmp_path: Path) -> None:
    t = np.arange(44_100) / 44_100
    stereo = np.stack([0.5 * np.sin(2 * np.pi * 3000 * t)] * 2, axis=1).astype(np.float32)
    found = read_sound(str(write_sound(tmp_path / "a.flac", stereo, 44_100)), RATE_HZ, 5.0)
    assert found.duration_s == pytest.approx(1.0, abs=0.002)
    assert pitch_hz(found.samples) == pytest.approx(3000, abs=2)
    assert np.abs(found.samples[2000:-2000]).max() == pytest.approx(0.5, abs=0.01)


def test_the_sound_of_a_video_from_a_moment_on(tmp_path: Path) -> None:
    pitches = np.concatenate([tone(500, 1.0), tone(2000, 1.0)])
    track = (pitches * 32767).astype(np.int16)[None]
    video = make_video(tmp_path / "v.mp4", seconds=2, width_px=64, height_px=48, sound=track)
    first, second = (read_sound(str(video), RATE_HZ, 0.8, start_s=s) for s in (0.1, 1.1))
    assert pitch_hz(first.samples) == pytest.approx(500, abs=5)
    assert pitch_hz(second.samples) == pytest.approx(2000, abs=5)


def test_a_clip_of_a_run(run: str) -> None:
    found = read_sound("clip0001", 8000, 10.0, run)
    np.testing.assert_array_equal(found.samples * 32768, sound(Made(1)))
    later = read_sound("clip0001", 8000, 0.1, run, start_s=0.2)
    np.testing.assert_array_equal(later.samples * 32768, sound(Made(1))[1600:2400])
    assert read_sound("clip0001", RATE_HZ, 10.0, run).samples.shape == (8000,)


def test_frames_of_a_clip(run: str) -> None:
    best, first, second = (read_picture(f"clip0001{n}", run).image for n in ("", ":0", ":1"))
    np.testing.assert_array_equal(best, first)
    # Frame k of a made clip has the blue 80 k; frame 1 is its best one, frame 0 the next.
    assert best[..., 2].mean() == pytest.approx(80, abs=3)
    assert second[..., 2].mean() == pytest.approx(0, abs=3)


def test_kinds_of_input(tmp_path: Path, run: str) -> None:
    picture = str(write_picture(tmp_path / "a.png"))
    heard = str(write_sound(tmp_path / "a.wav", tone(440)))
    kinds = {
        picture: Picture,
        heard: Sound,
        f"sound:{heard}": Sound,
        "clip0000": Sound,
        "image:clip0000": Picture,
    }
    for where, kind in kinds.items():
        assert isinstance(read_input(where, lambda: (RATE_HZ, 1.0), run), kind), where
    assert read_picture(picture).image.shape == (24, 40, 3)


def test_sounds_that_cannot_be_used(tmp_path: Path, run: str) -> None:
    silent = write_sound(tmp_path / "silent.wav", np.zeros(8000, np.float32))
    mute = make_video(tmp_path / "mute.mp4", seconds=1, width_px=64, height_px=48)
    text = tmp_path / "notes.wav"
    text.write_text("no sound at all, but long enough to be looked at")
    empty = tmp_path / "empty.wav"
    empty.touch()
    said = {
        str(silent): "silent from 0 s to 0.5 s",
        str(mute): "has no sound, only pictures",
        str(text): "not a media file",
        str(empty): "no bytes",
        "nowhere.wav": "there is no file nowhere.wav",
        "clip9999": "no clip of this key",
    }
    for where, message in said.items():
        with pytest.raises(InputError, match=message):
            read_sound(where, RATE_HZ, 1.0, run)
    with pytest.raises(InputError, match="give the run"):
        read_sound("clip0000", RATE_HZ, 1.0)
    with pytest.raises(InputError, match="no usable sound"):
        read_sound(str(silent), RATE_HZ, 1.0, start_s=9.0)
    with pytest.raises(InputError, match="no sound from 9 s on"):
        read_sound("clip0000", RATE_HZ, 1.0, run, start_s=9.0)
    with pytest.raises(ShardError, match=r"no dataset\.json"):
        read_sound("clip0000", RATE_HZ, 1.0, str(tmp_path))


def test_pictures_that_cannot_be_used(tmp_path: Path, run: str) -> None:
    heard = write_sound(tmp_path / "a.wav", tone(440))
    with pytest.raises(InputError, match="not a readable image"):
        read_picture(str(heard))
    with pytest.raises(InputError, match="2 stored frames"):
        read_picture("clip0000:7", run)
    with pytest.raises(InputError, match="no file nowhere"):
        read_picture("nowhere.png", run)


def test_bar_codes_are_told_apart(tmp_path: Path) -> None:
    """A picture keeps its pixels: no resizing, no turning."""
    from PIL import Image

    image = bar_code(1234, 64, 16)
    Image.fromarray(image).save(tmp_path / "code.png")
    np.testing.assert_array_equal(read_picture(str(tmp_path / "code.png")).image, image)
