"""The taggers of sound and pictures against known ones, and against ffmpeg's loudness meter."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from imageio_ffmpeg import get_ffmpeg_exe
from numpy.typing import NDArray

from avdata import frames
from avdata.clip import Clip
from avdata.config import TagSettings
from avdata.errors import SettingsError
from avdata.measures import MEASURES
from avdata.taggers import TAGGERS, build_taggers
from avdata.taggers.base import Sample, Tagger
from avdata.taggers.picture import hsv_histogram
from avdata.taggers.sound import loudness_lufs
from tests.sample_factory import sample_of


def tagger(name: str, **settings: float) -> Tagger:
    return build_taggers(TagSettings(taggers=(name,), **settings))[name]


def sine(
    hz: float, seconds: float, rate: int = 16000, amplitude: float = 1.0
) -> NDArray[np.float32]:
    at = np.arange(round(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * hz * at)).astype(np.float32)


def flat(red: int, green: int, blue: int) -> NDArray[np.uint8]:
    return np.full((256, 256, 3), (red, green, blue), np.uint8)


def detailed(seed: int) -> NDArray[np.uint8]:
    """A picture with large patches of many greys, mean about 128."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 256, (16, 16, 1)).astype(np.uint8)
    return np.repeat(np.kron(patches, np.ones((16, 16, 1), np.uint8)), 3, axis=2)


# --- the registry


def test_every_tagger_measures_what_it_names() -> None:
    full = sample_of(sine(440, 1), [detailed(0), detailed(1)])
    explained: set[str] = set()
    for name in TAGGERS:
        if name != "yamnet":
            assert tuple(tagger(name).tag(full).measures) == tagger(name).names
        explained.update(tagger(name).names)
    assert explained == set(MEASURES)


def test_unknown_taggers_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"'loudnes'; known: yamnet, loudness"):
        build_taggers(TagSettings(taggers=("loudnes",)))
    with pytest.raises(SettingsError, match="twice"):
        build_taggers(TagSettings(taggers=("scenes", "scenes")))


@pytest.mark.parametrize("name", [n for n in TAGGERS if n != "yamnet"])
def test_nothing_to_look_at_gives_no_measures(name: str) -> None:
    assert tagger(name).tag(sample_of()).measures == {}
    bare = Sample(Clip(key="k", url="u", source_id="s"), lambda member: b"")
    assert tagger(name).tag(bare).measures == {}


# --- loudness


def test_a_full_scale_sine_is_minus_3_lufs() -> None:
    # BS.1770-4: a 997 Hz full-scale sine in one channel reads -3.01 LKFS.
    for rate in (16000, 44100, 48000):
        assert loudness_lufs(sine(997, 10, rate), rate) == pytest.approx(-3.01, abs=0.1)


@pytest.mark.parametrize(
    "name", ["4-164021-A-1.wav", "2-104105-A-19.wav", "4-117627-A-25.wav", "4-182395-A-0.wav"]
)
def test_loudness_agrees_with_ffmpegs_meter(shared_data: Path, name: str) -> None:
    path = shared_data / "audio/esc50" / name
    command = [get_ffmpeg_exe(), "-nostdin", "-hide_banner", "-i", str(path)]
    command += ["-af", "ebur128", "-f", "null", "-"]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    expected = float(re.findall(r"I:\s+(-?[\d.]+) LUFS", log)[-1])
    samples, rate = soundfile.read(path, dtype="float32")
    assert loudness_lufs(samples, rate) == pytest.approx(expected, abs=0.2)


def test_quieter_by_20_db_is_20_lu_less() -> None:
    loud, quiet = (loudness_lufs(sine(997, 3, amplitude=a), 16000) for a in (0.5, 0.05))
    assert loud - quiet == pytest.approx(20, abs=0.01)


@pytest.mark.parametrize("n", [1, 7, 49, 1000, 6399, 6400, 6401])
def test_clips_shorter_than_a_block_are_one_block(n: int) -> None:
    value = loudness_lufs(sine(997, 1)[:n], 16000)
    assert -70 <= value <= 5
    if n >= 1000:
        assert value == pytest.approx(-3.01, abs=1)


def test_silence_has_the_floors() -> None:
    measures = tagger("loudness").tag(sample_of(np.zeros(16000, np.float32))).measures
    assert measures == {"loudness_lufs": -70.0, "peak_dbfs": -96.0}
    faint = tagger("loudness").tag(sample_of(sine(997, 1, amplitude=1e-4))).measures
    assert faint["loudness_lufs"] == -70.0


def test_peak() -> None:
    sound = np.zeros(16000, np.float32)
    sound[5] = -0.5
    measures = tagger("loudness").tag(sample_of(sound)).measures
    assert measures["peak_dbfs"] == pytest.approx(20 * np.log10(0.5), abs=1e-3)


# --- silence


def test_silence_share_counts_frames() -> None:
    # 0.25 s of a tone at -43 dBFS RMS in a second: 5 of 20 frames are not silent.
    sound = np.zeros(16000, np.float32)
    sound[4000:8000] = sine(1000, 0.25, amplitude=0.01)
    assert tagger("silence").tag(sample_of(sound)).measures == {"silence_share": 0.75}
    strict = tagger("silence", silence_dbfs=-40.0)
    assert strict.tag(sample_of(sound)).measures == {"silence_share": 1.0}


def test_the_last_frame_may_be_short() -> None:
    sound = np.concatenate([np.zeros(800), np.full(80, 0.5)]).astype(np.float32)
    assert tagger("silence").tag(sample_of(sound)).measures == {"silence_share": 0.5}


# --- pictures


def test_still_pictures() -> None:
    still = tagger("stillness").tag(sample_of(pictures=[detailed(0)] * 4)).measures
    assert still == {"still_share": 1.0, "motion": 0.0}
    half = tagger("stillness").tag(sample_of(pictures=[detailed(0), detailed(0), detailed(1)]))
    assert half.measures["still_share"] == 0.5


def test_motion_is_the_mean_grey_difference() -> None:
    pictures = [flat(100, 100, 100), flat(110, 110, 110), flat(60, 60, 60)]
    measures = tagger("stillness").tag(sample_of(pictures=pictures)).measures
    assert measures["motion"] == pytest.approx((10 + 50) / 2 / 255, abs=1 / 255)
    assert measures["still_share"] == 0


def test_a_still_survives_video_coding(tmp_path: Path) -> None:
    """A photograph coded as video shimmers at key frames; it is still the same picture."""
    import av

    y, x = np.mgrid[0:360, 0:640]
    texture = np.random.default_rng(0).normal(0, 12, (360, 640))
    grey = 128 + 60 * np.sin(x / 40) * np.cos(y / 25) + texture
    picture = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    jpeg = tmp_path / "picture.jpg"
    jpeg.write_bytes(frames.encode_jpeg(picture, 95))
    video = tmp_path / "still.mp4"
    command = [get_ffmpeg_exe(), "-nostdin", "-v", "error", "-loop", "1", "-framerate", "25"]
    command += ["-i", str(jpeg), "-t", "4", "-c:v", "libx264", "-preset", "veryfast"]
    subprocess.run([*command, "-g", "20", "-pix_fmt", "yuv420p", str(video)], check=True)
    with av.open(str(video)) as container:
        decoded = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)][::13]
    assert tagger("stillness").tag(sample_of(pictures=decoded)).measures["still_share"] == 1.0


def test_cuts_are_counted_and_motion_is_not() -> None:
    red, green = flat(200, 30, 30), flat(30, 200, 30)
    moved = np.roll(detailed(0), 64, axis=1)
    measure = tagger("scenes")
    assert measure.tag(sample_of(pictures=[red, red, green, green, red])).measures == {
        "scene_cuts": 2.0
    }
    assert measure.tag(sample_of(pictures=[detailed(0), moved])).measures == {"scene_cuts": 0.0}


def test_hsv_histogram_is_the_share_of_each_colour() -> None:
    picture = np.concatenate([flat(255, 0, 0)[:64], flat(0, 0, 0)[:192]])
    shares = hsv_histogram(picture)
    assert shares.shape == (128,)
    # Pure red: hue bin 0, highest saturation (3), highest value (3); black: all zero.
    assert shares[3 * 4 + 3] == 0.25
    assert shares[0] == 0.75


def test_one_frame_has_brightness_but_no_neighbours() -> None:
    one = sample_of(pictures=[flat(51, 51, 51)])
    assert tagger("brightness").tag(one).measures["brightness"] == pytest.approx(0.2, abs=0.004)
    assert tagger("stillness").tag(one).measures == {}
    assert tagger("scenes").tag(one).measures == {}


def test_frames_of_several_sizes_are_brought_to_the_first() -> None:
    large = np.full((512, 256, 3), 90, np.uint8)
    measures = tagger("stillness").tag(sample_of(pictures=[flat(90, 90, 90), large])).measures
    assert measures["still_share"] == 1.0


def test_brightness_weighs_colours_as_bt601() -> None:
    measured = tagger("brightness").tag(sample_of(pictures=[flat(0, 255, 0)])).measures
    assert measured["brightness"] == pytest.approx(0.587, abs=0.01)
