"""av_sync on synthetic media whose answer is known, and on real recordings."""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from avdata.clip import Clip, Media, Source, Status
from avdata.config import SelectSettings, TrimSettings
from avdata.media import probe
from avdata.media_tar import TarReader
from avdata.scorers.av_sync import motion_energy, onset_strength
from avdata.scorers.base import ScoredClip
from avdata.steps.base import PartContext
from avdata.steps.select import SelectStep
from avdata.steps.trim import TrimStep
from avdata.store import Store
from tests.clip_factory import RATE_HZ, ClipFactory, clicks, plain, scored

RED, GREY = (220, 20, 20), (90, 90, 90)


@pytest.fixture
def factory(tmp_path: Path) -> ClipFactory:
    return ClipFactory(tmp_path / "run")


def ball(y: int) -> np.ndarray:
    """A white ball of 24 px on grey; y is its top."""
    picture = np.full((96, 128, 3), 60, np.uint8)
    picture[y : y + 24, 50:74] = 250
    return picture


@pytest.mark.parametrize("rate_hz", [16000, 44100])
def test_onsets_rise_where_the_clicks_are_and_not_where_they_end(rate_hz: int) -> None:
    onsets = onset_strength(clicks([0.5, 1.7], 3.0, rate_hz).astype(np.float32), rate_hz)
    assert len(onsets) == 301
    assert sorted(np.argsort(onsets)[-2:].tolist()) == pytest.approx([50, 170], abs=2)
    assert onsets[60:160].max() < onsets[45:55].max() / 5


def test_onsets_follow_their_equation() -> None:
    sound = np.random.default_rng(1).normal(0, 0.1, 31_000).astype(np.float32)
    window = np.hanning(512)
    levels = []
    for n in range(194):
        padded = np.concatenate([np.zeros(256), sound.astype(float), np.zeros(512)])
        piece = padded[n * 160 : n * 160 + 512] * window / window.sum()
        levels.append(np.log(1 + 100 * np.abs(np.fft.rfft(piece))))
    expected = [0.0] + [np.mean(np.clip(b - a, 0, None)) for a, b in itertools.pairwise(levels)]
    np.testing.assert_allclose(onset_strength(sound, RATE_HZ), expected, rtol=1e-3, atol=1e-6)


def test_long_sound_is_worked_in_blocks_without_a_seam() -> None:
    sound = np.random.default_rng(2).normal(0, 0.1, 25 * RATE_HZ).astype(np.float32)
    whole = onset_strength(sound, RATE_HZ)
    later = onset_strength(sound[5 * RATE_HZ :], RATE_HZ)
    np.testing.assert_allclose(whole[503:], later[3:], rtol=1e-5, atol=1e-7)


def test_av_sync_finds_the_flash_that_clicks(factory: ClipFactory) -> None:
    # Flashes at 1.0, 2.0 and 3.0 s; only that at 2.0 s is heard, and a click at 2.5 s has no flash.
    times_s = np.arange(40) / 10
    pictures = [plain((230, 230, 230) if i in (10, 20, 30) else GREY) for i in range(40)]
    clip = factory.clip("a", pictures, times_s, clicks([2.0, 2.5], 4.0))
    scores = scored(factory, clip, scorer="av_sync")
    assert scores.frame_scores.argmax() == 20
    assert scores.frame_scores.shape == (40,)


def test_av_sync_prefers_the_bounce_with_sound_and_measures_agreement(
    factory: ClipFactory,
) -> None:
    # The ball jumps at 10 known frames; once with a click at each jump, once half way between.
    times_s = np.arange(60) / 10
    jumps = [5, 9, 16, 20, 27, 31, 38, 44, 50, 55]
    pictures = [ball(10 + 40 * (sum(j <= i for j in jumps) % 2)) for i in range(60)]
    together = factory.clip("a", pictures, times_s, clicks([j / 10 for j in jumps], 6.0))
    between = factory.clip("b", pictures, times_s, clicks([j / 10 + 0.2 for j in jumps], 6.0))
    scores = scored(factory, together, scorer="av_sync")
    assert set(np.argsort(scores.frame_scores)[-10:].tolist()) == set(jumps)
    assert scores.measures["av_sync"] > 0.8
    assert scored(factory, between, scorer="av_sync").measures["av_sync"] < 0.2


def test_motion_is_change_per_second_whatever_the_gap(factory: ClipFactory) -> None:
    # The grey level rises by 60 per second, then stays.
    times_s = np.array([0.0, 0.1, 0.2, 0.7, 1.7, 2.7])
    levels = 40 + np.round(60 * np.minimum(times_s, 1.7)).astype(int)
    clip = factory.clip("a", [plain((v, v, v)) for v in levels], times_s, np.zeros(16000))
    with TarReader(factory.part().store) as reader:
        motion = motion_energy(ScoredClip(clip, reader, 0), np.diff(times_s))
    np.testing.assert_allclose(np.expm1(motion), [60, 60, 60, 60, 0], atol=0.5)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_av_sync_of_still_and_silent_clips_is_zero(factory: ClipFactory, count: int) -> None:
    clip = factory.clip("a", [plain(GREY)] * count, np.arange(count) / 2, np.zeros(3 * RATE_HZ))
    scores = scored(factory, clip, scorer="av_sync")
    assert scores.measures == {"av_sync": 0.0}
    assert scores.frame_scores.tolist() == [0.0] * count


def test_av_sync_survives_repeated_frames_and_frames_after_the_sound(factory: ClipFactory) -> None:
    pictures = [plain(GREY), plain(GREY), plain(RED), plain(RED)]
    clip = factory.clip("a", pictures, [0.0, 0.0, 0.5, 9.0], clicks([0.5], 1.0))
    assert np.isfinite(scored(factory, clip, scorer="av_sync").frame_scores).all()


# real recordings


@pytest.mark.slow
def test_real_clips_agree_with_their_own_sound_more_than_with_others(
    shared_data: Path, tmp_path: Path
) -> None:
    """Drums, dogs, fireworks, struck objects: through trim, then select with av_sync."""
    videos = sorted(
        [
            *(shared_data / "video/vas").glob("*.mp4"),
            *(shared_data / "video/greatest_hits").glob("*.mp4"),
        ]
    )
    sources = [
        Clip(key=f"c{i}", url=str(path), source_id=path.stem, source=probed(path))
        for i, path in enumerate(videos)
    ]
    store = Store(str(tmp_path))
    part = PartContext(store, "media.tar", tmp_path, seed=0)
    trim = TrimSettings(
        frames_per_clip=None, frame_rate_hz=10.0, short_clips="keep", width_px=128, height_px=96
    )
    clips = TrimStep(trim).run(sources, part)
    part.finish()
    step = SelectStep(SelectSettings(scorer="av_sync", top_k=3))

    chosen = step.run(clips, part)
    assert len(chosen) >= 8
    for clip in chosen:
        assert clip.status is Status.ACCEPTED, clip.detail
        assert clip.media is not None
        assert clip.selection is not None
        assert len(clip.selection.frame_scores) == len(clip.media.frames)
        assert len(set(clip.selection.picks)) == 3

    swapped = []
    for shift in (1, 2, 3):
        others = clips[shift:] + clips[:shift]
        pairs = [replace(a, media=with_sound_of(b, a)) for a, b in zip(clips, others, strict=True)]
        swapped += step.run(pairs, part)
    assert agreement(chosen) > agreement(swapped) + 0.05


def probed(path: Path) -> Source:
    return Source(path=str(path), sha256="", bytes=path.stat().st_size, **asdict(probe(path)))


def agreement(clips: list[Clip]) -> float:
    return float(np.mean([clip.measures["av_sync"] for clip in clips]))


def with_sound_of(other: Clip, clip: Clip) -> Media:
    assert clip.media is not None
    assert other.media is not None
    return replace(clip.media, audio=other.media.audio, n_samples=other.media.n_samples)
