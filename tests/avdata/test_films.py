"""Whole films: every picture upright at its own time, and sound put under new ones."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avdata.errors import ClipError, Reason
from avdata.media import probe
from avdata.media.films import FilmWriter, pictures_of, sound_of, still, write_film
from tests.media_factory import make_video, noise_track, read_bar_code


def shown(path: Path) -> list[tuple[float, np.ndarray]]:
    with pictures_of(path) as pictures:
        return [(float(picture.time_s), picture.image) for picture in pictures]


@pytest.mark.parametrize("rotation_deg", [0, 90, 180, 270])
def test_every_picture_is_upright_and_in_order(tmp_path: Path, rotation_deg: int) -> None:
    times_s = [0.0, 0.2, 0.25, 0.7]
    video = make_video(tmp_path / "v.mp4", times_s=times_s, rotation_deg=rotation_deg)
    found = shown(video)
    assert [time_s for time_s, _ in found] == pytest.approx(times_s, abs=1e-3)
    assert [read_bar_code(image) for _, image in found] == [0, 1, 2, 3]


def test_pixels_become_square_and_late_pictures_stay_late(tmp_path: Path) -> None:
    video = make_video(
        tmp_path / "v.mp4",
        seconds=0.4,
        pixel_aspect=Fraction(2),
        sound=noise_track(2, 16_000),
        video_starts_s=0.5,
    )
    found = shown(video)
    assert found[0][1].shape == (180, 640, 3)
    # Encoded sound begins up to one block before its first sample.
    assert found[0][0] == pytest.approx(0.5, abs=0.07)


def test_sound_keeps_its_place_and_fills_where_asked(tmp_path: Path) -> None:
    sound = noise_track(1, 16_000, channels=2)
    source = make_video(tmp_path / "v.mkv", seconds=1, sound=sound, sound_codec="pcm_s16le")
    writer = FilmWriter(tmp_path)
    for n in range(20):
        writer.add(np.full((32, 48, 3), 10 * n, np.uint8), Fraction(n, 10))
    film = writer.finish()
    levels = {}
    for fill_s in (None, 2.0):
        write_film(tmp_path / "out.mp4", film, source, gain_db=-20, fill_s=fill_s)
        found = probe(tmp_path / "out.mp4")
        assert (found.width_px, found.height_px, found.audio_channels) == (48, 32, 2)
        heard = sound_of(tmp_path / "out.mp4", 16_000).astype(float)
        levels[fill_s] = [np.abs(heard[a * 16_000 :][2000:12_000]).sum() / 10_000 for a in (0, 1)]
    quiet = np.abs(sound_of(source, 16_000).astype(float)).mean() / 10
    assert levels[2.0] == pytest.approx([quiet, quiet], rel=0.1)  # it starts over
    assert levels[None][0] == pytest.approx(quiet, rel=0.1)
    assert levels[None][1] < 1
    brightness = [image.mean() for _, image in shown(tmp_path / "out.mp4")]
    assert brightness == pytest.approx([10 * n for n in range(20)], abs=3)


def test_too_loud_is_cut_at_full_scale(tmp_path: Path) -> None:
    source = make_video(
        tmp_path / "v.mkv", seconds=1, sound=noise_track(1, 16_000), sound_codec="pcm_s16le"
    )
    writer = FilmWriter(tmp_path)
    writer.add(np.zeros((16, 16, 3), np.uint8), Fraction(0))
    write_film(tmp_path / "out.mp4", writer.finish(), source, gain_db=40)
    heard = sound_of(tmp_path / "out.mp4", 16_000)[4000:12_000].astype(float) / 32768
    assert 0.7 < np.sqrt(np.square(heard).mean()) <= 1  # a square wave, not one folded over


def test_what_films_cannot_be_made_of(tmp_path: Path) -> None:
    mute = make_video(tmp_path / "mute.mp4", seconds=0.2)
    heard = make_video(
        tmp_path / "a.mka", video_codec=None, sound=noise_track(1, 16_000), sound_codec="pcm_s16le"
    )
    with pytest.raises(ClipError) as silent:
        sound_of(mute, 16_000)
    assert silent.value.reason is Reason.NO_AUDIO
    with pytest.raises(ClipError) as blind:
        shown(heard)
    assert blind.value.reason is Reason.NO_VIDEO
    with pytest.raises(ValueError, match="at least one picture"):
        FilmWriter(tmp_path).finish()
    mute.write_bytes(mute.read_bytes()[:600])
    with pytest.raises(ClipError):
        shown(mute)


def test_a_still_is_that_of_the_middle(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", seconds=4, sound=noise_track(4, 16_000))
    image = still(video, 1.0, 2.0)
    assert image is not None
    assert read_bar_code(image) == 50  # at 2 s, 25 a second
    late = still(video, 3.0, 10.0)
    assert late is not None
    assert 75 <= read_bar_code(late) < 100
    assert still(video, 60.0, 2.0) is None
    text = tmp_path / "notes.mp4"
    text.write_text("nothing to look at, though long enough")
    assert still(text, 0.0, 1.0) is None
