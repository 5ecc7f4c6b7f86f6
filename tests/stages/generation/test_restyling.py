"""The shared commands on a family that restyles: contents in columns, each looked at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from avdata.audio.spec import AVSTYLE
from avdata.media import probe
from avdata.media.films import pictures_of, sound_of
from stages import families, generate
from stages.generation.films import HOP_S, Styles, Track
from stages.generation.inputs import Sound
from stages.generation.sounds import fit, together
from tests.media_factory import make_video
from tests.stages import toy_restyler
from tests.stages.tiny_scenes import RATE_HZ, tone, write_sound

FULL = 1 / 1.1  # the peak of a sound that AVStyle's front-end has normalised


@pytest.fixture(autouse=True)
def lamp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(families.FAMILIES, "lamp", "tests.stages.toy_restyler:FAMILY")


def view(folder: Path, name: str, value: int, size: tuple[int, int] = (30, 20)) -> str:
    path = folder / f"{name}.png"
    Image.new("RGB", size, (value, value, value)).save(path)
    return str(path)


def call(folder: Path, *words: str) -> dict[str, Any]:
    out = folder / "out"
    generate.main([*words, "--family", "lamp", "-o", str(out), "--device", "cpu"])
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    for row in result["rows"]:
        row["light"] = [float(np.asarray(Image.open(out / n)).mean()) for n in row["images"]]
    return result


def test_a_sweep_restyles_every_content_and_looks_at_each_once(tmp_path: Path) -> None:
    rain = str(write_sound(tmp_path / "rain.wav", tone(300, level=0.05)))
    contents = [view(tmp_path, "dark", 10), view(tmp_path, "grey", 60, (9, 400))]
    words = ["sweep", rain, "--gains-db", "silence", "-6.0206", "0", "3"]
    rows = call(tmp_path, *words, "--content", *contents)["rows"]
    assert [row["title"] for row in rows][:2] == ["Content", "rain, silence"]
    for row, gain in zip(rows[1:], (0, 0.5, 1, 10**0.15), strict=True):
        expected = [v + 100 * gain * FULL for v in (10, 60)]  # as loud as it is, never normalised
        assert row["light"] == pytest.approx(expected, abs=0.51)
    assert rows[0]["light"] == [10, 60]
    assert toy_restyler.LAMPS[-1].seen == 2
    with Image.open(tmp_path / "out" / "film.gif") as film:
        assert film.n_frames == 6  # four steps, there and back; not the contents


def test_blending_normalises_each_sound_and_nothing_after(tmp_path: Path) -> None:
    """Two pulses at different moments: the peak of a blend is that of the larger share."""
    spans = {"a": (slice(1000, 1010), 0.01), "b": (slice(30_000, 30_010), 0.9)}
    for name, (span, level) in spans.items():
        wave = np.zeros(48_000)
        wave[span] = level
        soundfile.write(tmp_path / f"{name}.wav", wave, RATE_HZ)
    sounds = [str(tmp_path / f"{name}.wav") for name in spans]
    content = ["--content", view(tmp_path, "dark", 0)]
    rows = call(tmp_path, "blend", *sounds, "--rows", "5", *content)["rows"]
    shares = [row["shares"] for row in rows[1:]]
    assert shares == [[1, 0], [0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [0, 1]]
    lights = [row["light"][0] for row in rows[1:]]
    assert lights == pytest.approx([100 * FULL * max(w) for w in shares], abs=0.6)
    three = call(tmp_path, "blend", *sounds, sounds[0], "--shares", "1", "2", "1", *content)
    assert [row["shares"] for row in three["rows"][1:]] == [
        *([1, 0, 0], [0, 1, 0], [0, 0, 1]),
        [0.25, 0.5, 0.25],
    ]


def test_a_sound_that_is_fitted_is_not_fitted_again() -> None:
    quiet = together([Sound("a", tone(300, level=0.4), RATE_HZ)], [0.1], AVSTYLE)
    assert np.abs(quiet.samples).max() == pytest.approx(0.1 * FULL)
    np.testing.assert_array_equal(fit(quiet, AVSTYLE), quiet.samples)
    loud = together([quiet], [100.0], AVSTYLE)
    assert np.abs(loud.samples).max() == pytest.approx(10 * FULL)  # the front-end does not clip
    with pytest.raises(ValueError, match="fitted to 100 samples"):
        fit(Sound("a", quiet.samples[:100], RATE_HZ, fitted=True), AVSTYLE)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sound", "RAIN"], "Lamp restyles pictures: give --content"),
        (["sound", "RAIN", "--content", "gone.png"], "there is no file gone.png"),
        (["blend", "RAIN", "--content", "VIEW"], "two or more sounds, got 1"),
        (["blend", "RAIN", "RAIN", "--shares", "0", "0", "--content", "VIEW"], "one above 0"),
        (["film", "gone.mp4"], "there is no file gone.mp4"),
        (["film", "RAIN"], "has no pictures, only sound"),
        (["film", "MUTE"], "no usable sound (no_audio): no sound, only pictures (h264); give --by"),
        (["film", "MUTE", "--by", "VIEW"], "no usable sound (not_media)"),
    ],
)
def test_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    files = {
        "RAIN": str(write_sound(tmp_path / "rain.wav", tone(300))),
        "VIEW": view(tmp_path, "view", 9),
        "MUTE": str(make_video(tmp_path / "mute.mp4", seconds=1, width_px=64, height_px=48)),
    }
    with pytest.raises(SystemExit) as end:
        call(tmp_path, *[files.get(word, word) for word in words])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_contents_are_for_families_that_restyle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sound", "x.wav", "--content", "y.png", "--family", "sound2scene"]
    with pytest.raises(SystemExit):
        generate.main([*words, "-o", str(tmp_path / "out")])
    assert "--content: Sound2Scene paints of sounds alone" in capsys.readouterr().err


def test_a_film_at_two_volumes_looks_at_each_picture_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Loud from 4 s on: the lamp follows, smoothly; the soundtrack is turned down with it."""
    track = np.concatenate([tone(440, 4.0, 0.05), tone(440, 4.0, 0.5)])
    video = make_video(
        tmp_path / "walk.mp4",
        seconds=8,
        fps=5,
        width_px=64,
        height_px=48,
        sound=(np.stack([track, track]) * 32767).astype(np.int16),
    )
    result = call(tmp_path, "film", str(video), "--gains-db", "-6.0206", "0", "--smooth-s", "0.4")
    assert toy_restyler.LAMPS[-1].seen == 40  # pictures, not pictures times volumes
    soft, loud = result["films"]
    assert [soft["file"], loud["file"]] == ["film_-6.0206dB.mp4", "film_+0dB.mp4"]
    assert "film_+0dB.mp4: 40 pictures, flicker 0." in capsys.readouterr().out
    original = sound_of(video, RATE_HZ).astype(float)
    for own, gain in ((soft, 0.5), (loud, 1.0)):
        path = tmp_path / "out" / own["file"]
        made = probe(path)
        assert (made.width_px, made.height_px, made.audio_channels) == (24, 16, 2)
        assert made.duration_ms == pytest.approx(8000, abs=120)
        heard = sound_of(path, RATE_HZ).astype(float)
        n = min(len(heard), len(original)) - 4000
        ratio = np.sqrt(np.square(heard[4000:n]).mean() / np.square(original[4000:n]).mean())
        assert ratio == pytest.approx(gain, rel=0.05)
        with pictures_of(path) as pictures:
            shown = list(pictures)
        assert [float(p.time_s) for p in shown] == pytest.approx(
            [k / 5 for k in range(40)], abs=0.01
        )
        # Light per picture, less that of the picture it was: one peak for the whole film.
        with pictures_of(video) as pictures:
            before = [toy_restyler.Lamp().sized(p.image).astype(float) for p in pictures]
        lift = [np.median(p.image - b) for p, b in zip(shown, before, strict=True)]
        share = np.abs(track[:48_000]).max() / np.abs(track).max()
        assert lift[0] == pytest.approx(100 * gain * FULL * share, abs=4)
        assert lift[-1] == pytest.approx(100 * gain * FULL, abs=4)
    strips = result["rows"]
    assert [len(row["images"]) for row in strips] == [6, 6, 6]


def test_a_film_by_another_sound_has_that_sound(tmp_path: Path) -> None:
    times_s = [0.0, 0.1, 0.5, 0.6, 1.4]  # of a variable rate
    video = make_video(
        tmp_path / "mute.mp4", times_s=times_s, width_px=64, height_px=48, rotation_deg=90
    )
    short = write_sound(tmp_path / "bird.wav", tone(2000, 0.5, 0.2))
    result = call(tmp_path, "film", str(video), "--by", str(short))
    path = tmp_path / "out" / result["films"][0]["file"]
    heard = sound_of(path, RATE_HZ)
    assert len(heard) / RATE_HZ == pytest.approx(1.44, abs=0.1)  # the sound starts over
    assert np.abs(heard[-4000:-2000]).max() > 3000
    with pictures_of(path) as pictures:
        assert [float(p.time_s) for p in pictures] == pytest.approx(times_s, abs=0.01)


def test_a_style_is_smoothed_by_a_gaussian_over_time() -> None:
    values = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    times_s = torch.arange(6, dtype=torch.float64) * HOP_S
    moment = 0.47
    weights = np.exp(-((moment - times_s.numpy()) ** 2) / (2 * 0.3**2))
    expected = (weights[:, None] * values.numpy()).sum(0) / weights.sum()
    np.testing.assert_allclose(Styles(times_s, values, 0.3).at([moment])[0], expected, rtol=1e-5)
    torch.testing.assert_close(Styles(times_s, values, 0.0).at([moment])[0], values[2])
    whole = Styles(times_s, values, float("inf"))
    torch.testing.assert_close(whole.at([moment])[0], values.mean(0))
    assert whole.step() == pytest.approx(0, abs=1e-6)
    assert Styles(times_s, values, 0.3).step() < Styles(times_s, values, 0.0).step()


def test_a_track_is_normalised_once_and_heard_around_a_moment(tmp_path: Path) -> None:
    wave = np.linspace(0, 0.5, 10 * RATE_HZ, dtype=np.float32)
    track = Track.read(write_sound(tmp_path / "ramp.wav", wave), AVSTYLE)
    assert len(track.samples) == 10 * RATE_HZ
    middle = track.window(5.0)
    assert len(middle) == 48_000
    assert middle[24_000] == pytest.approx(0.5 * FULL, abs=1e-3)  # not a peak of its own
    np.testing.assert_array_equal(track.window(0.0), track.samples[:48_000])
    np.testing.assert_array_equal(track.window(11.0), track.samples[-48_000:])
    short = Track.read(write_sound(tmp_path / "short.wav", wave[:8000]), AVSTYLE)
    np.testing.assert_array_equal(short.window(0.2)[:8000], short.window(0.2)[8000:16_000])
    silent = Track.read(write_sound(tmp_path / "silent.wav", 0 * wave), AVSTYLE)
    assert not silent.window(1.0).any()
