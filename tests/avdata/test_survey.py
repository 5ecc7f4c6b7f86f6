"""What a file states about itself is believed as far as its packets go."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from avdata.clip import Status
from avdata.errors import ClipError, Reason
from avdata.media import decord_pictures, probe
from tests.fetching import ffmpeg
from tests.media_factory import make_video, noise_track
from tests.trim_runner import Trimmed, fetched

TIMESCALE = 16  # bytes from the name of an mvhd or mdhd box to its time scale


def slowed(path: Path, boxes: bytes = b"mvhd mdhd") -> Path:
    """Make an mp4 claim that its seconds are hours: one tick a second in all its boxes."""
    data = bytearray(path.read_bytes())
    for box in boxes.split():
        at = data.find(box)
        while at >= 0:
            data[at + TIMESCALE : at + TIMESCALE + 4] = (1).to_bytes(4, "big")
            at = data.find(box, at + 1)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("with_sound", [True, False])
@pytest.mark.parametrize("short_clips", ["fail", "keep"])
def test_a_false_time_scale_makes_few_rows(
    tmp_path: Path, with_sound: bool, short_clips: str
) -> None:
    sound = noise_track(6, 16000) if with_sound else None
    path = slowed(make_video(tmp_path / "v.mp4", seconds=6, fps=10, sound=sound))
    clip = fetched(path)
    out = Trimmed(tmp_path / "windows", [clip], mode="windows", window_s=3, short_clips=short_clips)
    assert len(out.rows) <= 1 + 120 / 3  # 60 pictures, 2 s each at most
    whole = dataclasses.replace(clip, start_ms=0, end_ms=36_000_000)
    kept = Trimmed(tmp_path / "whole", [whole], short_clips="keep", frames_per_clip=None)
    assert all(row.media is None or row.media.n_samples < 121 * 16000 for row in kept.rows)


def test_a_false_time_scale_in_matroska(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mkv", seconds=6, fps=10, sound=noise_track(6, 16000))
    data = path.read_bytes()
    scale = b"\x2a\xd7\xb1\x83" + (1_000_000).to_bytes(3, "big")  # TimestampScale: 1 ms
    assert data.count(scale) == 1
    path.write_bytes(data.replace(scale, scale[:4] + b"\xff\xff\xff"))  # 16.8 ms
    assert probe(path).duration_ms <= 61_000


def test_long_pictures_and_sparse_sound_are_whole(tmp_path: Path) -> None:
    """Five minutes of two pictures with hardly a byte of sound are still five minutes."""
    path = tmp_path / "still.mkv"
    ffmpeg(
        *("-f", "lavfi", "-i", "color=s=64x48:r=1/150:d=300", "-f", "lavfi"),
        *("-i", "anullsrc=r=48000:d=300", "-c:v", "libx264", "-c:a", "libopus", "-b:a", "6k"),
        *("-frame_duration", "60", str(path)),
    )
    assert probe(path).duration_ms == pytest.approx(300_000, abs=2000)


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_u8", "flac", "libmp3lame", "wavpack", "ac3"])
def test_no_codec_is_too_dense(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "sound.mkv"
    silence = ("-f", "lavfi", "-i", "anullsrc=r=44100:d=60")
    ffmpeg(*silence, "-c:a", codec, str(path))
    assert probe(path).duration_ms == pytest.approx(60_000, abs=100)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"<!DOCTYPE html><html>top secret", "an HTML page"),
        (b'{"token": "top secret"}', "JSON"),
        (b"PK\x03\x04top secret", "a ZIP archive"),
        (b"top secret, and more text", "text"),
        (b"\x01\x02\x03top secret" * 9, "other data"),
        (bytes(100), "zeros"),
    ],
)
def test_what_is_not_media_is_named_not_quoted(tmp_path: Path, content: bytes, kind: str) -> None:
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(ClipError) as caught:
        probe(tmp_path / "x.mp4")
    assert caught.value.reason is Reason.NOT_MEDIA
    assert kind in caught.value.detail
    assert "secret" not in caught.value.detail


@pytest.mark.parametrize(
    ("decoder", "url", "opened"),
    [
        ("pyav", "v.mp4", False),
        ("decord", "v.mp4", True),
        ("decord", "https://strangers.org/v.mp4", False),
        ("decord_for_all", "https://strangers.org/v.mp4", True),
    ],
)
def test_decord_opens_no_file_of_strangers_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: str, url: str, opened: bool
) -> None:
    files: list[Path] = []
    original = decord_pictures.DecordFile.open

    def noted(path: Path, threads: int) -> decord_pictures.DecordFile | None:
        files.append(path)
        return original(path, threads)

    monkeypatch.setattr(decord_pictures.DecordFile, "open", noted)
    path = make_video(tmp_path / "v.mp4", sound=noise_track(4, 16000))
    clip = dataclasses.replace(fetched(path, start_ms=0, end_ms=2000), url=url)
    out = Trimmed(tmp_path / "run", [clip], decoder=decoder)
    assert out.rows[0].status is Status.ACTIVE
    assert bool(files) is opened
