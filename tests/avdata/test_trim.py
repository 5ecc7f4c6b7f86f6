"""trim on content: which frame, which sample, in what place, whatever the file is like."""

from __future__ import annotations

import hashlib
import io
import signal
import tarfile
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from avdata.clip import Clip, Status
from avdata.config import TrimSettings
from avdata.media import decode as decode_module
from avdata.media import mp4
from avdata.steps.trim import TrimStep
from avdata.tables import to_arrow
from tests.media_factory import bar_code, click_track, make_video, noise_track, read_bar_code
from tests.trim_runner import Trimmed, fetched

RATE_HZ = 16000


def shown_at(time_s: float, times_s: list[float]) -> int:
    """Return the number of the frame on screen at a time: the last one not after it."""
    return max(k for k, t in enumerate(times_s) if t <= time_s + 1e-9)


# --- which frame, which sample -----------------------------------------------------------------


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "libsvtav1"])
@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_frames_are_the_ones_on_screen(tmp_path: Path, codec: str, decoder: str) -> None:
    """Off key frames, off the frame grid; both decoders, also where decord must hand over."""
    path = make_video(tmp_path / "v.mkv", fps=25, video_codec=codec, sound=click_track(4, RATE_HZ))
    out = Trimmed(
        tmp_path / "run",
        [fetched(path, start_ms=1010, end_ms=3010)],
        frames_per_clip=5,
        decoder=decoder,
    )
    clip = out.row("clip")
    asked_s = [1.01 + 0.4 * (i + 0.5) for i in range(5)]
    expected = [shown_at(t, [k / 25 for k in range(100)]) for t in asked_s]
    assert out.codes(clip) == expected
    assert out.times_s(clip) == pytest.approx([k / 25 - 1.01 for k in expected], abs=1e-3)
    assert out.leftovers == []


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_variable_frame_rate_goes_by_timestamps(tmp_path: Path, decoder: str) -> None:
    times_s = [0, 0.1, 0.5, 0.53, 1.2, 2.5, 2.6, 3.9]
    path = make_video(tmp_path / "v.mp4", times_s=times_s, b_frames=0)
    clips = [fetched(path, start_ms=0, end_ms=3900)]
    out = Trimmed(tmp_path / "run", clips, frame_rate_hz=4, decoder=decoder)
    expected = [shown_at(k / 4, times_s) for k in range(16)]
    assert out.codes(out.rows[0]) == expected
    assert out.times_s(out.rows[0]) == pytest.approx([times_s[k] for k in expected], abs=1e-4)


def test_two_frames_a_second(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", fps=2, seconds=6)
    out = Trimmed(tmp_path / "run", [fetched(path, start_ms=900, end_ms=5900)], frame_rate_hz=5)
    assert out.codes(out.rows[0]) == [
        shown_at(0.9 + k / 5, [n / 2 for n in range(12)]) for k in range(25)
    ]


def test_the_first_frame_of_a_window_on_the_grid_is_its_own(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", fps=30, seconds=4)
    clips = [fetched(path, key=f"k{s}", start_ms=s, end_ms=s + 1000) for s in (0, 100, 1000, 2900)]
    out = Trimmed(tmp_path / "run", clips, frame_rate_hz=1)
    assert [out.codes(row) for row in out.rows] == [[0], [3], [30], [87]]
    assert all(out.times_s(row) == [0.0] for row in out.rows)


def test_not_decoding_unwanted_pictures_changes_nothing(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Skipping pictures nothing refers to must give the bytes of a full decode, on real H.264."""
    folder = shared_data / "video"
    paths = sorted([*folder.glob("vggsound/*.mp4"), *folder.glob("vas/*.mp4")])[::3]
    clips = [fetched(path, key=f"k{i}") for i, path in enumerate(paths)]
    settings: dict[str, Any] = {"mode": "windows", "window_s": 2, "frames_per_clip": 3}
    skipping = Trimmed(tmp_path / "a", clips, **settings, threads=1)
    monkeypatch.setattr("avdata.media.pictures.PictureTrack._is_wanted", lambda *_: True)
    whole = Trimmed(tmp_path / "b", clips, **settings, threads=1)
    assert skipping.tar == whole.tar
    assert sum(row.media is not None for row in whole.rows) > 20


@pytest.mark.parametrize(
    ("stored_hz", "wanted_hz"), [(16000, 16000), (44100, 44100), (48000, 48000)]
)
def test_sound_is_exact_to_the_sample(tmp_path: Path, stored_hz: int, wanted_hz: int) -> None:
    """Uncompressed noise at the pipeline's rate comes back sample by sample."""
    noise = noise_track(4, stored_hz)
    path = make_video(
        tmp_path / "v.mkv", sound=noise, sound_rate_hz=stored_hz, sound_codec="pcm_s16le"
    )
    starts = (0, 1, 333, 1010, 2000)
    clips = [fetched(path, key=f"k{s}", start_ms=s, end_ms=s + 1501) for s in starts]
    out = Trimmed(tmp_path / "run", clips, sample_rate_hz=wanted_hz, audio_format="wav")
    for start_ms, row in zip(starts, out.rows, strict=True):
        begin = round(start_ms * wanted_hz / 1000)
        expected = noise[0, begin : begin + round(1501 * wanted_hz / 1000)]
        np.testing.assert_array_equal(out.sound(row), expected)


@pytest.mark.parametrize("stored_hz", [8000, 22050, 44100, 48000])
@pytest.mark.parametrize("wanted_hz", [16000, 44100])
def test_clicks_stay_where_they_were(tmp_path: Path, stored_hz: int, wanted_hz: int) -> None:
    """Resampling and AAC spread a click, but do not move its peak."""
    path = make_video(tmp_path / "v.mp4", sound=click_track(4, stored_hz, channels=2),
                      sound_rate_hz=stored_hz)  # fmt: skip
    out = Trimmed(
        tmp_path / "run", [fetched(path, start_ms=1250, end_ms=3250)], sample_rate_hz=wanted_hz
    )
    sound = np.abs(out.sound(out.rows[0]).astype(int))
    assert sound.size == 2 * wanted_hz
    for click_s in (0.25, 0.75, 1.25, 1.75):  # every 0.5 s of the source
        near = round((click_s - 0.1) * wanted_hz)
        peak = near + int(np.argmax(sound[near : near + round(0.2 * wanted_hz)]))
        assert abs(peak - round(click_s * wanted_hz)) <= max(1, wanted_hz // stored_hz)


def test_stereo_becomes_the_mean(tmp_path: Path) -> None:
    left, right = noise_track(2, RATE_HZ, seed=1)[0], noise_track(2, RATE_HZ, seed=2)[0]
    path = make_video(
        tmp_path / "v.mkv", seconds=2, sound=np.stack([left, right]), sound_codec="pcm_s16le"
    )
    out = Trimmed(tmp_path / "run", [fetched(path, start_ms=0, end_ms=2000)])
    mean = (left.astype(int) + right) / 2
    assert np.abs(out.sound(out.rows[0]) - mean).max() <= 1


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_far_windows_are_reached_by_jumping(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two windows far apart in two minutes: exact, and the minutes between are not decoded."""
    pushed: list[float] = []
    push = decode_module.SoundTrack.push

    def counted(self: Any, packet: Any) -> Any:
        pushed.append(float(packet.duration * packet.time_base))
        return push(self, packet)

    monkeypatch.setattr(decode_module.SoundTrack, "push", counted)
    seconds, fps = 120, 10
    path = make_video(tmp_path / f"v.{suffix}", seconds=seconds, fps=fps, gop=70, width_px=160,
                      height_px=90, sound=click_track(seconds, RATE_HZ))  # fmt: skip
    # MPEG-TS has no way to hide the encoder's 1024 samples of delay: its time starts with them.
    delay_s = 1024 / RATE_HZ if suffix == "ts" else 0.0
    starts = (110_000, 1000, 69_990)
    clips = [fetched(path, key=f"k{s}", start_ms=s, end_ms=s + 2000) for s in starts]
    out = Trimmed(tmp_path / "run", clips, frames_per_clip=4)
    for start_ms, row in zip(starts, out.rows, strict=True):
        asked_s = [start_ms / 1000 + (i + 0.5) / 2 for i in range(4)]
        times_s = [k / fps + delay_s for k in range(seconds * fps)]
        assert out.codes(row) == [shown_at(t, times_s) for t in asked_s]
        clicks = np.flatnonzero(np.abs(out.sound(row).astype(int)) > 8000) / RATE_HZ
        first_s = (delay_s - start_ms / 1000) % 0.5
        assert clicks == pytest.approx(first_s + 0.5 * np.arange(len(clicks)), abs=1e-4)
        assert len(clicks) == 4
    assert sum(pushed) < 60


def test_a_key_frame_may_be_far_before_the_window(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", seconds=80, fps=5, gop=1000, width_px=160, height_px=90)
    clips = [fetched(path, key="late", start_ms=70_000, end_ms=72_000)]
    out = Trimmed(tmp_path / "run", clips, frame_rate_hz=2)
    assert out.codes(out.rows[0]) == [350, 352, 355, 357]


# --- what the picture looks like ---------------------------------------------------------------


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize("turn_deg", [0, 90, 180, 270])
def test_pictures_stand_upright(tmp_path: Path, turn_deg: int, decoder: str) -> None:
    path = make_video(
        tmp_path / "v.mp4", seconds=1, rotation_deg=turn_deg, width_px=318, height_px=182
    )
    settings: dict[str, Any] = {"width_px": None, "height_px": None, "frames_per_clip": 2}
    clips = [fetched(path, start_ms=0, end_ms=1000)]
    out = Trimmed(tmp_path / "run", clips, decoder=decoder, **settings)
    assert out.codes(out.rows[0]) == [6, 18]
    assert out.rows[0].media is not None
    size = (out.rows[0].media.width_px, out.rows[0].media.height_px)
    assert size == ((182, 318) if turn_deg % 180 else (318, 182))


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(512, 512), (224, 224), (101, 77), (64, 200)])
def test_fit(tmp_path: Path, fit: str, size: tuple[int, int]) -> None:
    """Compared with an independent rendering by Pillow of the same picture."""
    path = make_video(tmp_path / "v.mp4", seconds=0.4, width_px=320, height_px=180, gop=1)
    settings: dict[str, Any] = {"width_px": size[0], "height_px": size[1], "fit": fit}
    clips = [fetched(path, start_ms=0, end_ms=400)]
    out = Trimmed(tmp_path / "run", clips, frame_rate_hz=25, **settings)
    row = out.rows[0]
    assert row.media is not None
    number = 9
    image = out.picture(row, row.media.frames[number])
    bars = Image.fromarray(bar_code(number, 320, 180))
    fitted = {"squash": Image.Image.resize, "crop": ImageOps.fit, "pad": ImageOps.pad}[fit]
    expected = np.asarray(fitted(bars, size))
    assert np.abs(image.astype(int) - expected).mean() < 6


def test_colours_survive(tmp_path: Path) -> None:
    """The way without RGB gives the colours that went in."""
    path = tmp_path / "c.mp4"
    patches = np.zeros((180, 320, 3), np.uint8)
    colours = [(200, 40, 40), (40, 180, 60), (50, 60, 210), (230, 220, 40)]
    for index, colour in enumerate(colours):
        patches[:, 80 * index : 80 * (index + 1)] = colour
    with av.open(str(path), "w") as target:
        stream: Any = target.add_stream("libx264", rate=10, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for _ in range(10):
            target.mux(stream.encode(av.VideoFrame.from_ndarray(patches, "rgb24")))
        target.mux(stream.encode(None))
    out = Trimmed(tmp_path / "run", [fetched(path, start_ms=0, end_ms=1000)], frames_per_clip=1)
    media = out.rows[0].media
    assert media is not None
    image = out.picture(out.rows[0], media.frames[0])
    for index, colour in enumerate(colours):
        x = 64 + 128 * index
        assert np.abs(image[200:300, x - 20 : x + 20].mean((0, 1)) - colour).max() < 6


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    """A 4:3 pixel makes a 320-pixel row 427 wide; cropping 180x180 keeps the middle of that."""
    path = make_video(tmp_path / "v.mp4", seconds=0.4, pixel_aspect=Fraction(4, 3), gop=1)
    settings: dict[str, Any] = {"width_px": 427, "height_px": None, "fit": "pad"}
    out = Trimmed(
        tmp_path / "run", [fetched(path, start_ms=0, end_ms=400)], frames_per_clip=1, **settings
    )
    assert out.codes(out.rows[0]) == [5]
    assert out.rows[0].media is not None
    image = out.picture(out.rows[0], out.rows[0].media.frames[0])
    assert image.shape == (180, 427, 3)


# --- streams that are missing, short, late -----------------------------------------------------


def test_without_sound_or_without_picture(tmp_path: Path) -> None:
    clips = [
        fetched(make_video(tmp_path / "v.mp4"), "mute", start_ms=0, end_ms=2000),
        fetched(
            make_video(tmp_path / "a.mp4", video_codec=None, sound=click_track(4, RATE_HZ)),
            "blind",
            start_ms=0,
            end_ms=2000,
        ),
    ]
    out = Trimmed(tmp_path / "run", clips)
    mute, blind = out.row("mute"), out.row("blind")
    assert out.sound(mute).size == 0
    assert len(out.codes(mute)) == 8
    assert out.sound(blind).size == 2 * RATE_HZ
    assert blind.media is not None
    assert blind.media.frames == ()


def test_sound_that_starts_late_stays_in_place(tmp_path: Path) -> None:
    noise = noise_track(3, RATE_HZ)
    path = make_video(tmp_path / "v.mkv", sound=noise, sound_starts_s=0.9, sound_codec="pcm_s16le")
    clip = fetched(path, start_ms=700, end_ms=3700)
    out = Trimmed(tmp_path / "run", [clip])
    sound = out.sound(out.rows[0])
    gap = round(0.2 * RATE_HZ)
    assert not sound[:gap].any()
    np.testing.assert_array_equal(sound[gap:], noise[0, : 3 * RATE_HZ - gap])


def test_a_source_that_begins_late_as_a_whole_begins_at_zero(tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "v.mkv", sound=click_track(4, RATE_HZ), sound_codec="pcm_s16le",
        sound_starts_s=7.0, video_starts_s=7.0,
    )  # fmt: skip
    clip = fetched(path, start_ms=1000, end_ms=2000)
    out = Trimmed(tmp_path / "run", [clip], frames_per_clip=2)
    assert out.codes(out.rows[0]) == [31, 43]
    assert np.flatnonzero(out.sound(out.rows[0]) > 8000).tolist() == [0, 8000]


def test_sound_shorter_than_the_picture(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mkv", sound=noise_track(2.9, RATE_HZ), sound_codec="pcm_s16le")
    clips = [
        fetched(path, "whole", start_ms=1000, end_ms=2000),
        fetched(path, "nearly", start_ms=2000, end_ms=3000),
        fetched(path, "partly", start_ms=2500, end_ms=3500),
        fetched(path, "silent", start_ms=3000, end_ms=4000),
    ]
    failing = Trimmed(tmp_path / "a", clips, frames_per_clip=2)
    assert [r.reason for r in failing.rows] == ["", "", "too_short", "too_short"]
    assert "0.600 s of sound are missing" in failing.row("partly").detail
    nearly = failing.sound(failing.row("nearly"))
    assert np.count_nonzero(nearly[: round(0.9 * RATE_HZ)]) > 0.89 * RATE_HZ
    assert not nearly[round(0.9 * RATE_HZ) + 1 :].any()
    keeping = Trimmed(tmp_path / "b", clips, frames_per_clip=2, short_clips="keep")
    assert [r.reason for r in keeping.rows] == ["", "", "", "too_short"]
    assert keeping.sound(keeping.row("partly")).size == RATE_HZ


def test_picture_shorter_than_the_sound(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mkv", seconds=2, sound=click_track(4, RATE_HZ))
    clips = [fetched(path, f"k{s}", start_ms=s, end_ms=s + 1000) for s in (1000, 1500, 3000)]
    failing = Trimmed(tmp_path / "a", clips, frames_per_clip=4)
    assert [r.reason for r in failing.rows] == ["", "too_short", "too_short"]
    assert "of 4 frames are missing" in failing.rows[1].detail
    keeping = Trimmed(tmp_path / "b", clips, frames_per_clip=4, short_clips="keep")
    assert [r.reason for r in keeping.rows] == ["", "", "too_short"]


def test_windows_past_the_end(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", sound=click_track(4, RATE_HZ))
    clips = [
        fetched(path, "good", start_ms=0, end_ms=2000),
        fetched(path, "empty", start_ms=1000, end_ms=1000),
        fetched(path, "past", start_ms=5000, end_ms=6000),
        fetched(path, "short", start_ms=3000, end_ms=6000),
        fetched(path, "nearly", start_ms=2000, end_ms=4200),
    ]
    out = Trimmed(tmp_path / "a", clips)
    assert [(r.key, r.reason) for r in out.rows] == [
        ("good", ""),
        ("empty", "empty"),
        ("past", "window_past_end"),
        ("short", "too_short"),
        ("nearly", ""),
    ]
    assert all(r.detail for r in out.rows if r.reason)
    assert out.sound(out.row("nearly")).size == round(2.2 * RATE_HZ)
    kept = Trimmed(tmp_path / "b", clips, short_clips="keep").row("short")
    assert (kept.start_ms, kept.end_ms, kept.status) == (3000, 4000, Status.ACTIVE)
    assert kept.media is not None
    assert kept.media.n_samples == RATE_HZ


def test_one_damaged_place_costs_only_its_window(tmp_path: Path) -> None:
    """Zeros in the middle of the data: the windows before and after are whole and exact."""
    path = make_video(
        tmp_path / "v.mp4", seconds=8, gop=25, sound=noise_track(8, RATE_HZ),
        options={"movflags": "+faststart"},
    )  # fmt: skip
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)
    out = Trimmed(tmp_path / "run", [fetched(path)], mode="windows", window_s=1, frames_per_clip=2)
    status = [row.status for row in out.rows[1:]]
    assert len(status) == 8
    assert 1 <= status.count(Status.FAILED) <= 2
    assert {row.reason for row in out.rows if row.status is Status.FAILED} == {"corrupt"}
    for second, row in enumerate(out.rows[1:]):
        if row.status is Status.ACTIVE:
            assert out.codes(row) == [25 * second + 6, 25 * second + 18]


def test_a_truncated_file_keeps_what_is_whole(tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "v.mp4", seconds=8, gop=25, sound=noise_track(8, RATE_HZ),
        options={"movflags": "+faststart"},
    )  # fmt: skip
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 5 // 8])
    out = Trimmed(tmp_path / "run", [fetched(path)], mode="windows", window_s=1, frames_per_clip=2)
    assert [row.reason for row in out.rows[1:4]] == ["", "", ""]
    assert [row.reason for row in out.rows[-2:]] == ["corrupt", "corrupt"]
    assert "cut off" in out.rows[-1].detail


# --- rows ----------------------------------------------------------------------------------------


def test_parents_stay_and_children_follow(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", sound=click_track(4, RATE_HZ))
    other = Clip(key="gone", url="u", source_id="s", status=Status.FAILED, reason="not_found")
    waiting = Clip(key="nofile", url="u", source_id="s")
    clips = [
        other,
        fetched(path, "a", labels=("rain",)),
        waiting,
        fetched(path, "b", start_ms=2000),
    ]
    out = Trimmed(tmp_path / "run", clips, mode="windows", window_s=2, frames_per_clip=1)
    assert [(r.key, str(r.status)) for r in out.rows] == [
        ("gone", "failed"),
        ("a", "expanded"),
        ("a-00000000", "active"),
        ("a-00002000", "active"),
        ("nofile", "failed"),
        ("b", "expanded"),
        ("b-00002000", "active"),
    ]
    assert out.rows[0] is other
    assert out.row("nofile").reason == "not_fetched"
    child = out.row("a-00002000")
    assert (child.start_ms, child.end_ms, child.labels) == (2000, 4000, ("rain",))
    assert child.step == "trim"
    to_arrow(out.rows)


def test_events(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", sound=click_track(4, RATE_HZ))
    clip = fetched(path, "hit", events_ms=(500, 2500, 3900))
    out = Trimmed(tmp_path / "run", [clip], mode="events", window_s=1, event_offset_s=-0.25)
    assert [(r.key, r.reason) for r in out.rows] == [
        ("hit", ""),
        ("hit-00000250", ""),
        ("hit-00002250", ""),
        ("hit-00003650", "too_short"),
    ]
    first = out.row("hit-00000250")
    assert first.events_ms == (500,)
    assert np.flatnonzero(out.sound(first) > 8000).tolist() == [4000, 12000]


def test_the_tar_is_a_plain_tar(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", sound=click_track(4, RATE_HZ))
    out = Trimmed(
        tmp_path / "run", [fetched(path, "k" * 150, start_ms=0, end_ms=1000)], frames_per_clip=2
    )
    with tarfile.open(fileobj=io.BytesIO(out.tar)) as archive:
        names = [member.name.removeprefix("k" * 150) for member in archive]
    assert names == ["/sound.flac", "/000.jpg", "/001.jpg"]


def test_bytes_do_not_depend_on_threads(tmp_path: Path) -> None:
    clips = []
    for number, gop in enumerate((10, 25, 250)):
        path = make_video(tmp_path / f"{number}.mp4", gop=gop, sound=noise_track(4, 44100, 2),
                          sound_rate_hz=44100)  # fmt: skip
        clips.append(fetched(path, f"k{number}"))
    digests = set()
    for index, (threads, decoder_threads) in enumerate([(1, 1), (2, 1), (3, 2), (1, 0)]):
        out = Trimmed(tmp_path / f"run{index}", clips, mode="windows", window_s=1,
                      threads=threads, decoder_threads=decoder_threads)  # fmt: skip
        digests.add(hashlib.sha256(out.tar).hexdigest())
        assert sum(row.media is not None for row in out.rows) == 12
    assert len(digests) == 1


def test_the_fingerprint_knows_what_matters() -> None:
    def fingerprint(**settings: Any) -> dict[str, Any]:
        return TrimStep(TrimSettings(**settings)).fingerprint()

    assert fingerprint(threads=3, decoder_threads=2) == fingerprint()
    assert fingerprint(jpeg_quality=50) != fingerprint()


def test_a_bug_in_one_source_stops_the_part_and_leaves_no_thread(tmp_path: Path) -> None:
    """Only ClipError becomes a row; a file that vanished is no fault of the clip."""
    paths = [make_video(tmp_path / f"{i}.mp4", sound=click_track(4, RATE_HZ)) for i in range(4)]
    clips = [fetched(path, f"k{i}") for i, path in enumerate(paths)]
    paths[1].unlink()
    with pytest.raises(FileNotFoundError):
        Trimmed(tmp_path / "run", clips, mode="windows", window_s=1, threads=2)


def test_a_decoder_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_module, "DEADLINE_S", -1e6)
    path = make_video(tmp_path / "v.mp4", sound=click_track(4, RATE_HZ))
    out = Trimmed(tmp_path / "run", [fetched(path, start_ms=0, end_ms=1000)])
    assert out.rows[0].reason == "timeout"


def test_two_rows_of_one_window_are_both_cut(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", sound=click_track(4, RATE_HZ))
    clips = [fetched(path, key, start_ms=500, end_ms=2500) for key in ("a", "b")]
    out = Trimmed(tmp_path / "run", clips)
    assert out.codes(out.row("a")) == out.codes(out.row("b"))


def test_a_file_that_changed_since_it_was_probed(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", sound=click_track(4, RATE_HZ))
    clip = fetched(path, start_ms=0, end_ms=1000)
    path.write_bytes(b"<html>")
    out = Trimmed(tmp_path / "run", [clip])
    assert out.rows[0].reason == "not_media"


# --- mp4 -----------------------------------------------------------------------------------------


def frames_of(data: bytes) -> list[tuple[int, float]]:
    """Return bar code and time of every frame of an mp4."""
    with av.open(io.BytesIO(data)) as opened:
        return [
            (read_bar_code(frame.to_ndarray(format="rgb24")), float(frame.time or 0))
            for frame in opened.decode(video=0)
        ]


@pytest.mark.parametrize("binary", ["path", "wheel"])
@pytest.mark.parametrize("turn_deg", [0, 90])
def test_mp4_is_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, binary: str, turn_deg: int
) -> None:
    """Starts and ends off the key frames: every frame of the window and no other, in place."""
    import imageio_ffmpeg

    if binary == "wheel":
        monkeypatch.setattr(mp4, "ffmpeg_binary", imageio_ffmpeg.get_ffmpeg_exe)
    path = make_video(tmp_path / "v.mp4", rotation_deg=turn_deg, sound=click_track(4, RATE_HZ))
    out = Trimmed(tmp_path / "run", [fetched(path, start_ms=1010, end_ms=3010)], video=True)
    data = out.video(out.rows[0])
    frames = frames_of(data)
    assert [code for code, _ in frames] == list(range(25, 76))
    expected_s = [max(0.0, k / 25 - 1.01) for k in range(25, 76)]
    assert [t for _, t in frames] == pytest.approx(expected_s, abs=1e-4)
    with av.open(io.BytesIO(data)) as opened:
        assert opened.streams.audio[0].codec_context.name == "aac"
        sound = np.concatenate([f.to_ndarray()[0] for f in opened.decode(audio=0)])
    peaks = np.flatnonzero(np.abs(sound) > 0.4)
    assert peaks.tolist() == [7840, 15840, 23840, 31840]
    assert out.leftovers == []


def test_mp4_keeps_a_variable_frame_rate(tmp_path: Path) -> None:
    times_s = [0, 0.1, 0.5, 0.53, 1.2, 2.5, 2.6, 3.9]
    path = make_video(tmp_path / "v.mp4", times_s=times_s, b_frames=0)
    out = Trimmed(tmp_path / "run", [fetched(path, start_ms=400, end_ms=2600)], video=True)
    frames = frames_of(out.video(out.rows[0]))
    assert [code for code, _ in frames] == [1, 2, 3, 4, 5]
    assert [t for _, t in frames] == pytest.approx([0, 0.1, 0.13, 0.8, 2.1], abs=1e-4)


def test_mp4_bytes_are_reproducible(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", sound=click_track(4, RATE_HZ))
    clips = [fetched(path)]
    runs = [
        Trimmed(tmp_path / f"run{i}", clips, mode="windows", window_s=2, hop_s=1, video=True)
        for i in range(2)
    ]
    assert runs[0].tar == runs[1].tar
    for row, following in pairwise(runs[0].rows[1:]):  # each overlaps the next by half
        codes = {code for code, _ in frames_of(runs[0].video(row))}
        later = {code for code, _ in frames_of(runs[0].video(following))}
        assert len(codes & later) >= 24


@pytest.mark.parametrize("after_s", [0.1, 0.15, 0.2, 0.25, 0.3, 0.35])
def test_ctrl_c_is_not_lost_while_an_mp4_is_written(tmp_path: Path, after_s: float) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    path = make_video(tmp_path / "v.mp4", seconds=8, width_px=1280, height_px=720)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, after_s)
        with pytest.raises(KeyboardInterrupt):
            Trimmed(tmp_path / "run", [fetched(path)], window_s=8, threads=1, video=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_full_disk_is_told_apart_from_a_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(tmp_path / "v.mp4")
    (tmp_path / "disk.mp4").symlink_to("/dev/full")
    monkeypatch.setattr(mp4.uuid, "uuid4", lambda: SimpleNamespace(hex="../../disk"))
    with pytest.raises(OSError, match="No space left"):
        Trimmed(tmp_path / "run", [fetched(path)], window_s=4, video=True)


def test_real_clips(shared_data: Path, tmp_path: Path) -> None:
    paths = sorted((shared_data / "video").glob("*/*"))
    clips = [fetched(path, f"k{i}") for i, path in enumerate(paths)]
    out = Trimmed(tmp_path / "run", clips, short_clips="keep", window_s=3)
    for row in out.rows:
        if "corrupted" in row.url:
            assert row.reason == "corrupt"
            continue
        assert row.status is Status.ACTIVE, (row.url, row.detail)
        assert row.media is not None
        assert len(row.media.frames) == 8
        assert all(np.diff(out.times_s(row)) >= 0)
        out.picture(row, row.media.frames[-1])
        if row.source is not None and row.source.audio_codec:
            assert out.sound(row).any() or "silent" in row.url
