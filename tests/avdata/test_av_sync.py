"""av_sync on synthetic media whose answer is known, and on real recordings."""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace
from pathlib import Path

import av
import numpy as np
import pytest

from avdata.clip import Clip, Media, Source, Status
from avdata.config import SelectSettings, TrimSettings
from avdata.media import probe
from avdata.scorers.av_sync import motion_energy, onset_strength
from avdata.scorers.transitions import transitions
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
    assert sorted(np.argsort(-onsets)[:2].tolist()) == pytest.approx([50, 170], abs=2)
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
    # Windows of 512 samples reach 1.6 hops of 160 to each side, and the sound is 193.75 hops long.
    expected[:3] = [np.nan] * 3
    expected[193:] = [np.nan]
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


def test_motion_is_change_per_second_whatever_the_gap() -> None:
    # The grey level rises by 60 per second, then stays.
    times_s = np.array([0.0, 0.1, 0.2, 0.7, 1.7, 2.7])
    levels = 40 + np.round(60 * np.minimum(times_s, 1.7)).astype(int)
    pictures = np.stack([plain((v, v, v), 32, 32) for v in levels])
    motion = motion_energy(pictures, np.diff(times_s))
    np.testing.assert_allclose(np.expm1(motion), [60, 60, 60, 60, 0], atol=0.5)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_av_sync_of_still_and_silent_clips_is_zero(factory: ClipFactory, count: int) -> None:
    clip = factory.clip("a", [plain(GREY)] * count, np.arange(count) / 2, np.zeros(3 * RATE_HZ))
    scores = scored(factory, clip, scorer="av_sync")
    assert scores.measures == {"av_sync": 0.0, "av_sync_max": 0.0}
    assert scores.frame_scores.tolist() == [0.0] * count


def test_av_sync_survives_repeated_frames_and_frames_after_the_sound(factory: ClipFactory) -> None:
    pictures = [plain(GREY), plain(GREY), plain(RED), plain(RED)]
    clip = factory.clip("a", pictures, [0.0, 0.0, 0.5, 9.0], clicks([0.5], 1.0))
    assert np.isfinite(scored(factory, clip, scorer="av_sync").frame_scores).all()


def test_frames_of_several_sizes_are_compared(factory: ClipFactory) -> None:
    pictures = [ball(10), plain(GREY, 64, 48), ball(50), plain(GREY, 96, 128)]
    clip = factory.clip("a", pictures, np.arange(4) / 2, clicks([1.0], 2.0))
    assert np.isfinite(scored(factory, clip, scorer="av_sync").frame_scores).all()


# edges


@pytest.mark.parametrize("heard", range(12))
def test_every_frame_wins_where_it_moves_and_sounds(factory: ClipFactory, heard: int) -> None:
    # The ball rests between jumps; one frame's jump is heard, 40 ms after it. What moves between
    # the first two frames belongs to both: that the sound is nearer to the first decides.
    jumps = {3, 6, 9, heard or 1}
    pictures = [ball(10 + 40 * (sum(j <= i for j in jumps) % 2)) for i in range(12)]
    clip = factory.clip("a", pictures, np.arange(12) / 4, clicks([heard / 4 + 0.04], 3.0))
    scores = scored(factory, clip, scorer="av_sync")
    assert scores.frame_scores.argmax() == heard
    assert scores.measures["av_sync_max"] == scores.frame_scores.max() > 1


@pytest.mark.parametrize("sound", ["noise", "tone"])
def test_a_cut_through_a_steady_sound_is_no_onset(sound: str) -> None:
    at = np.arange(2 * RATE_HZ) / RATE_HZ
    noise = np.random.default_rng(3).normal(0, 0.1, len(at))
    heard = noise if sound == "noise" else np.sin(2900 * at)
    onsets = onset_strength(heard.astype(np.float32), RATE_HZ)
    inside = onsets[10:-10].max()
    assert np.nanmax(onsets[:10]) < 1.5 * inside
    assert np.nanmax(onsets[-10:]) < 1.5 * inside


# transitions


def noise_scene(seed: int, level: int) -> np.ndarray:
    """A picture of blocks around a grey level, tinted."""
    rng = np.random.default_rng(seed)
    tint = rng.integers(-60, 60, 3)
    blocks = np.kron(rng.integers(-40, 40, (6, 8, 1)), np.ones((16, 16, 1)))
    return np.clip(level + tint + blocks, 0, 255).astype(np.uint8)


def blend(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    return np.round((1 - share) * a + share * b).astype(np.uint8)


def ramp(a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
    return [blend(a, b, share) for share in (0.2, 0.4, 0.6, 0.8)]


ONE, OTHER, DARK = noise_scene(1, 190), noise_scene(2, 70), np.zeros((96, 128, 3), np.uint8)
SHOWN = {
    "a dissolve": ([ONE] * 6 + ramp(ONE, OTHER) + [OTHER] * 6, 6, 9),
    "a dissolve of one frame": ([ONE] * 8 + [blend(ONE, OTHER, 0.5)] + [OTHER] * 7, 8, 8),
    "a fade to black": ([ONE] * 6 + ramp(ONE, DARK) + [DARK] * 6, 6, 9),
    "a fade from white": ([DARK + 255] * 6 + ramp(DARK + 255, ONE) + [ONE] * 6, 6, 9),
    "a dissolve of plain colours": (
        [plain(RED)] * 6 + ramp(plain(RED), plain(GREY)) + [plain(GREY)] * 6,
        6,
        9,
    ),
    "a scene of one frame": ([ONE] * 8 + [noise_scene(3, 130)] + [OTHER] * 7, 8, 8),
}  # pictures, and the first and last frame inside the transition


@pytest.mark.parametrize(("pictures", "first", "last"), SHOWN.values(), ids=SHOWN)
def test_frames_inside_a_transition_are_turned_down_though_it_is_heard(
    factory: ClipFactory, pictures: list[np.ndarray], first: int, last: int
) -> None:
    # A bang in the middle of the transition, which is all that changes but for a small object.
    pictures = [picture.copy() for picture in pictures]
    for i in (2, 3, 13):
        pictures[i][40:60, 40:60] = 255 - pictures[i][40:60, 40:60]
    times_s = np.arange(len(pictures)) / 8
    clip = factory.clip("a", pictures, times_s, clicks([times_s[last] - 0.02], 2.0))
    scores = scored(factory, clip, scorer="av_sync")
    assert scores.pickable is not None
    assert np.flatnonzero(~scores.pickable).tolist() == list(range(first, last + 1))
    settings = SelectSettings(scorer="av_sync", top_k=16)
    (chosen,) = SelectStep(settings).run([clip], factory.part())
    assert chosen.selection is not None
    assert not set(chosen.selection.picks) & set(range(first, last + 1))


def test_a_cut_is_no_motion_and_both_its_frames_stay(factory: ClipFactory) -> None:
    # A cut that is heard against a bounce that is heard less: the cut does not move.
    pictures = [ONE.copy() for _ in range(8)] + [OTHER.copy() for _ in range(8)]
    pictures[12][40:60, 40:60] = 250
    clip = factory.clip("a", pictures, np.arange(16) / 8, clicks([1.0, 1.5], 2.0))
    scores = scored(factory, clip, scorer="av_sync")
    assert scores.pickable is not None
    assert scores.pickable.all()
    assert scores.frame_scores.argmax() == 12


@pytest.mark.parametrize("length", [1, 3])
def test_a_flash_of_light_is_no_cut(factory: ClipFactory, length: int) -> None:
    bright = np.minimum(OTHER.astype(int) + 130, 255).astype(np.uint8)
    pictures = [bright if 6 <= i < 6 + length else OTHER for i in range(16)]
    clip = factory.clip("a", pictures, np.arange(16) / 8, clicks([0.75], 2.0))
    scores = scored(factory, clip, scorer="av_sync")
    assert scores.frame_scores.argmax() == 6
    assert scores.pickable is not None
    assert scores.pickable.all()


def test_nothing_but_a_dissolve_is_still_selected_from(factory: ClipFactory) -> None:
    pictures = [blend(ONE, OTHER, s / 7) for s in range(8)]
    clip = factory.clip("a", pictures, np.arange(8) / 8, clicks([0.5], 1.0))
    scores = scored(factory, clip, scorer="av_sync")
    assert scores.pickable is None
    assert scores.measures == {"av_sync": 0.0, "av_sync_max": 0.0}


def test_what_moves_steadily_does_not_dissolve() -> None:
    """A ball that rolls, and a camera that pans over blocks: by half a ball, and by a block."""
    rolling = np.stack([np.roll(ball(30), 12 * i, axis=1) for i in range(10)])
    panning = np.stack([np.roll(ONE, 16 * i, axis=1) for i in range(8)])
    for pictures in (rolling, panning):
        assert not transitions(pictures[:, ::3, ::3], np.arange(len(pictures)) / 8).any()


# real recordings


@pytest.mark.slow
def test_real_clips_hold_few_transitions(shared_data: Path) -> None:
    """Unedited recordings, at 8 frames a second: hardly a step is taken for a dissolve."""
    folder = shared_data / "video"
    videos = [*(folder / "vas").glob("*.mp4"), *(folder / "greatest_hits").glob("*.mp4")]
    shares = []
    for path in sorted(videos)[:4]:
        with av.open(str(path)) as container:
            every = max(1, round(float(container.streams.video[0].average_rate or 25) / 8))
            decoded = list(container.decode(video=0))[::every]
        shown = np.stack([f.to_ndarray(width=40, height=32, format="rgb24") for f in decoded])
        shares.append(transitions(shown, np.arange(len(shown)) / 8).mean())
    assert np.median(shares) == 0
    assert np.mean(shares) < 0.05


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
