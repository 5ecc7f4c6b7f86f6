"""The tag step on a part: what it measures, what it leaves alone, what it does once."""

from __future__ import annotations

import pickle
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avdata import audio, frames, weights
from avdata.clip import Clip, Frame, Media, Status
from avdata.config import TagSettings, YamnetSettings
from avdata.errors import Reason, WeightsError
from avdata.measures import MEASURES, value_of
from avdata.media_tar import MediaTar
from avdata.steps.base import PartContext
from avdata.steps.tag import TagStep
from avdata.store import Store
from avdata.tables import read_clips, write_clips
from tests.sample_factory import yamnet_path

MEDIA_PATH = "media/part.tar"


def add_clip(
    tar: MediaTar, key: str, pcm: np.ndarray, rate: int, n_frames: int, shade: int = 0
) -> Clip:
    sound = tar.add(f"{key}.flac", audio.encode(pcm, rate, "flac")) if len(pcm) else None
    found = []
    for i in range(n_frames):
        picture = np.full((128, 128, 3), shade + 20 * i, np.uint8)
        member = tar.add(f"{key}.{i}.jpg", frames.encode_jpeg(picture, 92))
        found.append(Frame(0.5 * i, member.offset, member.bytes))
    media = Media(
        path=MEDIA_PATH,
        audio=sound if sound else tar.add(f"{key}.flac", b""),
        audio_format="flac",
        sample_rate_hz=rate,
        n_samples=len(pcm),
        width_px=128,
        height_px=128,
        frames=tuple(found),
    )
    return Clip(key=key, url=f"{key}.mp4", source_id=key, step="trim", media=media)


def seconds_of_noise(seconds: float, rate: int = 16000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(0, 2000, round(seconds * rate)).astype(np.int16)


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> TagSettings:
    return TagSettings(yamnet=YamnetSettings(weights=str(yamnet_path(request))))


WITHOUT_YAMNET = TagSettings(taggers=("loudness", "silence", "stillness", "scenes", "brightness"))


@pytest.fixture
def part(tmp_path: Path) -> PartContext:
    return PartContext(
        store=Store(str(tmp_path / "run")), media_path="unused.tar", scratch=tmp_path, seed=0
    )


def write_media(part: PartContext, tar: MediaTar) -> None:
    tar.close()
    part.store.write_bytes(MEDIA_PATH, tar.path.read_bytes())


@pytest.fixture
def clips(part: PartContext, tmp_path: Path, shared_data: Path) -> list[Clip]:
    dog, rate = soundfile.read(shared_data / "audio/esc50/4-183992-A-0.wav", dtype="int16")
    tar = MediaTar(tmp_path / "made.tar")
    made = [
        add_clip(tar, "dog", dog, rate, n_frames=3),
        add_clip(tar, "noise", seconds_of_noise(2), 16000, n_frames=2, shade=100),
        add_clip(tar, "mute", seconds_of_noise(0), 16000, n_frames=2),
        add_clip(tar, "blind", seconds_of_noise(0.2), 16000, n_frames=0),
    ]
    write_media(part, tar)
    return made


def test_every_measure_of_a_whole_clip(
    settings: TagSettings, part: PartContext, clips: list[Clip]
) -> None:
    dog, noise, mute, blind = TagStep(settings).run(clips, part)
    assert set(dog.measures) == set(noise.measures) == set(MEASURES)
    assert len(dog.class_scores) == len(dog.class_scores_max) == 521
    bark = value_of(dog, "yamnet_max/Dog")
    assert bark is not None
    assert bark > 0.5
    assert all(np.isfinite(list(clip.measures.values())).all() for clip in (dog, noise))
    # Without sound, or without frames, what needs them is missing and the clip goes on.
    assert set(mute.measures) == {"still_share", "motion", "scene_cuts", "brightness"}
    assert mute.class_scores == mute.class_scores_max == ()
    assert set(blind.measures) == {
        "speech_share",
        "music_share",
        "loudness_lufs",
        "peak_dbfs",
        "silence_share",
    }
    for clip in (dog, noise, mute, blind):
        assert (clip.status, clip.step) == (Status.ACTIVE, "tag")


def test_a_table_keeps_every_value(
    settings: TagSettings, part: PartContext, clips: list[Clip], tmp_path: Path
) -> None:
    tagged = TagStep(settings).run(clips, part)
    write_clips(tmp_path / "tag.parquet", tagged)
    assert read_clips(Store(str(tmp_path)), "tag.parquet") == tagged


def test_order_and_company_change_nothing(
    settings: TagSettings, part: PartContext, clips: list[Clip]
) -> None:
    together = TagStep(settings).run(clips, part)
    backwards = TagStep(settings).run(clips[::-1], part)[::-1]
    alone = [TagStep(settings).run([clip], part)[0] for clip in clips]
    with ThreadPoolExecutor(2) as pool:
        threads = list(pool.map(lambda clip: TagStep(settings).run([clip], part)[0], clips))
    assert together == backwards == alone == threads


def test_a_used_step_travels_to_other_processes(
    settings: TagSettings, part: PartContext, clips: list[Clip]
) -> None:
    step = TagStep(settings)
    tagged = step.run(clips, part)
    copy = pickle.loads(pickle.dumps(step))
    assert copy.fingerprint() == step.fingerprint()
    assert copy.run(clips, part) == tagged


def test_each_member_is_decoded_once(
    settings: TagSettings, part: PartContext, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds, pictures = [], []
    decode, decode_jpeg = audio.decode, frames.decode_jpeg
    monkeypatch.setattr(audio, "decode", lambda d: (sounds.append(d), decode(d))[1])
    monkeypatch.setattr(
        frames, "decode_jpeg", lambda d, m=0: (pictures.append(d), decode_jpeg(d, m))[1]
    )
    TagStep(settings).run(clips, part)
    assert len(sounds) == 3
    assert len(pictures) == 3 + 2 + 2


def test_nothing_is_decoded_that_no_tagger_needs(
    part: PartContext, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object) -> None:
        raise AssertionError("decoded without need")

    monkeypatch.setattr(frames, "decode_jpeg", never)
    tagged = TagStep(TagSettings(taggers=("loudness",))).run(clips, part)
    assert set(tagged[0].measures) == {"loudness_lufs", "peak_dbfs"}


def test_other_clips_pass_through_and_keep_their_place(
    part: PartContext, clips: list[Clip]
) -> None:
    done = [
        replace(clips[1], status=status, reason="removed", detail="d")
        for status in (Status.FAILED, Status.REJECTED, Status.EXPANDED, Status.ACCEPTED)
    ]
    mixed = [done[0], clips[0], *done[1:], clips[2]]
    tagged = TagStep(WITHOUT_YAMNET).run(mixed, part)
    assert [c.key for c in tagged] == [c.key for c in mixed]
    for before, after in zip(mixed, tagged, strict=True):
        assert (after is before) == (before.status is not Status.ACTIVE)


def test_earlier_measures_stay(part: PartContext, clips: list[Clip]) -> None:
    before = replace(clips[0], measures={"from_elsewhere": 1.0, "motion": -1.0})
    after = TagStep(WITHOUT_YAMNET).run([before], part)[0]
    assert after.measures["from_elsewhere"] == 1.0
    assert after.measures["motion"] >= 0


def test_damaged_media_fail_alone(part: PartContext, tmp_path: Path) -> None:
    tar = MediaTar(tmp_path / "made.tar")
    good = add_clip(tar, "good", seconds_of_noise(1), 16000, n_frames=2)
    bad_sound = add_clip(tar, "bad-sound", seconds_of_noise(1), 16000, n_frames=2)
    bad_frame = add_clip(tar, "bad-frame", seconds_of_noise(1), 16000, n_frames=2)
    cut_off = add_clip(tar, "cut-off", seconds_of_noise(1), 16000, n_frames=2)
    assert bad_sound.media
    assert bad_frame.media
    assert cut_off.media
    tar.close()
    data = bytearray(tar.path.read_bytes())
    for member in (bad_sound.media.audio, bad_frame.media.frames[1]):
        data[member.offset : member.offset + member.bytes] = bytes(member.bytes)
    del data[cut_off.media.frames[1].offset + 10 :]
    part.store.write_bytes(MEDIA_PATH, bytes(data))
    tagged = TagStep(WITHOUT_YAMNET).run([bad_sound, good, bad_frame, cut_off], part)
    assert [(c.status, c.reason) for c in tagged] == [
        (Status.FAILED, Reason.CORRUPT),
        (Status.ACTIVE, ""),
        (Status.FAILED, Reason.CORRUPT),
        (Status.FAILED, Reason.CORRUPT),
    ]
    assert "ends before" in tagged[3].detail


def test_a_remote_run_is_tagged_alike(part: PartContext, clips: list[Clip]) -> None:
    memory_store = Store(f"memory://tag-{secrets.token_hex(4)}")
    memory_store.write_bytes(MEDIA_PATH, part.store.read_bytes(MEDIA_PATH))
    remote = replace(part, store=memory_store)
    assert TagStep(WITHOUT_YAMNET).run(clips, remote) == TagStep(WITHOUT_YAMNET).run(clips, part)


def test_fingerprint_follows_what_matters() -> None:
    base = TagSettings()
    prints = [
        TagStep(settings).fingerprint()
        for settings in (
            base,
            replace(base, silence_dbfs=-50.0),
            replace(base, still_difference=0.1),
            replace(base, cut_difference=0.1),
            replace(base, taggers=("yamnet",)),
        )
    ]
    assert all(a != b for i, a in enumerate(prints) for b in prints[:i])
    # A threshold of a tagger that is not used changes nothing.
    few = replace(base, taggers=("yamnet",), silence_dbfs=-50.0)
    assert TagStep(few).fingerprint() == prints[4]


def test_missing_weights_stop_the_run(
    part: PartContext, clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreachable = replace(weights.entry("yamnet"), sources=("http://127.0.0.1:9/{file}",))
    monkeypatch.setattr(weights.table, "_registered", {"yamnet": unreachable})
    monkeypatch.setenv("AVDATA_CACHE", str(tmp_path / "empty"))
    never_loaded_before = TagSettings(yamnet=YamnetSettings(threads=2))
    with pytest.raises(WeightsError, match="avdata weights get yamnet"):
        TagStep(never_loaded_before).run(clips, part)
