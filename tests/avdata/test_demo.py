"""The demo data: same bytes for the same seed, and what the ground truth says is what is there."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from avdata.clip import Status
from avdata.demo import DEFAULT_PORT, KINDS, make_demo
from avdata.demo.encode import encode
from avdata.demo.render import frames
from avdata.demo.sounds import RATE_HZ
from avdata.demo.soundtrack import soundtrack
from avdata.demo.timeline import FPS, Shot, Timeline, make_faulty, make_timeline
from avdata.errors import AvdataError
from avdata.manifest import iter_manifest

KIND_NAMES = sorted(KINDS)
FEW = ("birds", "ocean", "thunderstorm")


def short(timeline: Timeline, duration_s: float = 2.0) -> Timeline:
    """A video of the same kind that is made in a moment: one look at the source."""
    shots = (Shot(0.0, duration_s, "source", False),)
    events = tuple(event for event in timeline.events if event.t_s < duration_s)
    return replace(
        timeline,
        duration_s=duration_s,
        shots=shots,
        sounding=((0.0, duration_s),),
        events=events,
    )


def rms_db(sound: NDArray[np.float32], start_s: float, end_s: float) -> float:
    part = sound[round(start_s * RATE_HZ) : round(end_s * RATE_HZ)].astype(float)
    return float(10 * np.log10(np.mean(part**2) + 1e-12))


def decode(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32], int]:
    """Return all pictures [n, height, width, 3], the mono sound and its rate."""
    with av.open(str(path)) as container:
        pictures = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
        sound = [f.to_ndarray()[0] for f in container.decode(audio=0)]
    return np.stack(pictures), np.concatenate(sound).astype(np.float32), rate


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_timeline_is_decided_by_the_seed(kind: str) -> None:
    assert make_timeline(kind, 0, 5) == make_timeline(kind, 0, 5)
    others = [make_timeline(kind, 1, 5), make_timeline(kind, 0, 6)]
    assert make_timeline(kind, 0, 5).shots not in [other.shots for other in others]


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_timeline_is_whole(kind: str) -> None:
    for seed in range(20):
        timeline = make_timeline(kind, 0, seed)
        assert 20 <= timeline.duration_s <= 40
        edges = [0.0, *(shot.end_s for shot in timeline.shots)]
        assert [shot.start_s for shot in timeline.shots] == edges[:-1]
        assert edges[-1] == timeline.duration_s
        visible_s = sum(end_s - start_s for start_s, end_s in timeline.visible)
        assert 0.3 < visible_s / timeline.duration_s < 0.9  # it also sounds while out of view
        times = [event.t_s for event in timeline.events]
        assert times == sorted(times)
        assert all(any(a <= t < b for a, b in timeline.sounding) for t in times)


@pytest.mark.parametrize("kind", ["snow_steps", "gravel_steps", "birds"])
def test_it_sounds_when_the_truth_says_so(kind: str) -> None:
    timeline = make_timeline(kind, 0, 1)
    sound = soundtrack(timeline)
    (start_s, pause_s), (resumed_s, end_s) = timeline.sounding
    assert resumed_s - pause_s >= 4
    assert rms_db(sound, pause_s, resumed_s) < -60
    for a, b in ((start_s, pause_s), (resumed_s, end_s)):
        assert rms_db(sound, a, b) > -40


@pytest.mark.parametrize("kind", ["snow_steps", "gravel_steps", "birds"])
def test_each_event_is_an_onset(kind: str) -> None:
    timeline = make_timeline(kind, 0, 2)
    sound = soundtrack(timeline)
    rises = [
        rms_db(sound, event.t_s, event.t_s + 0.06) - rms_db(sound, event.t_s - 0.03, event.t_s)
        for event in timeline.events
        if event.t_s > 0.1
    ]
    assert np.median(rises) > 6


def test_thunder_rises_above_the_wind() -> None:
    timeline = make_timeline("thunderstorm", 0, 2)
    sound = soundtrack(timeline)
    times = [event.t_s for event in timeline.events]
    rises = [rms_db(sound, t, t + 0.5) - rms_db(sound, t - 0.5, t) for t in times]
    assert min(rises) > 3


def test_surf_is_loudest_when_a_wave_breaks() -> None:
    timeline = make_timeline("ocean", 0, 3)
    sound = soundtrack(timeline)
    crests = [event.t_s for event in timeline.events if 1 < event.t_s < timeline.duration_s - 1]
    at = np.mean([rms_db(sound, t - 0.3, t + 0.3) for t in crests])
    between = [(a + b) / 2 for a, b in pairwise(crests)]
    assert at > np.mean([rms_db(sound, t - 0.3, t + 0.3) for t in between]) + 4


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_source_is_in_view_when_the_truth_says_so(kind: str) -> None:
    """Frames in visible intervals resemble the first of them more than the cutaways do."""
    timeline = make_timeline(kind, 0, 4)
    small = np.stack([f[::8, ::8].astype(float) for f in frames(timeline)])
    times = np.arange(len(small)) / FPS
    visible = np.zeros(len(small), bool)
    for start_s, end_s in timeline.visible:
        visible |= (times >= start_s) & (times < end_s)
    away = np.zeros(len(small), bool)
    for shot in timeline.shots:
        if shot.view != "source":
            away |= (times >= shot.start_s + 0.5) & (times < shot.end_s)
    assert not (visible & away).any()
    middle = np.median(small[visible], axis=0)
    distance = np.abs(small - middle).mean(axis=(1, 2, 3))
    assert np.median(distance[visible]) * 1.5 < distance[away].min()


def test_kinds_look_different_and_videos_of_one_kind_alike() -> None:
    """The mean colours of the picture's upper and lower half tell the kind of another video."""

    def look(kind: str, number: int) -> NDArray[np.float64]:
        timeline = short(make_timeline(kind, number, 7), 0.5)
        picture = np.mean(list(frames(timeline)), axis=0)
        return np.concatenate([picture[:120].mean((0, 1)), picture[120:].mean((0, 1))])

    first = {kind: look(kind, 0) for kind in KIND_NAMES}
    for kind in KIND_NAMES:
        other = look(kind, 1)
        assert np.abs(other - first[kind]).max() > 0.5  # not the same picture again
        nearest = min(KIND_NAMES, key=lambda k: float(np.linalg.norm(first[k] - other)))
        assert nearest == kind


def test_boots_move_while_walking_and_rest_in_the_pause() -> None:
    timeline = make_timeline("snow_steps", 0, 8)
    looking = replace(timeline, shots=(Shot(0.0, timeline.duration_s, "source", False),))
    small = np.stack([f[::4, ::4].astype(float) for f in frames(looking)])
    motion = np.abs(np.diff(small, axis=0)).mean(axis=(1, 2, 3))
    (_, pause_s), (resumed_s, _) = timeline.sounding
    resting = motion[round((pause_s + 1) * FPS) : round((resumed_s - 0.5) * FPS)]
    walking = motion[: round((pause_s - 1) * FPS)]
    assert np.median(walking) > 3 * np.median(resting)


def test_lightning_comes_with_the_thunder() -> None:
    timeline = make_timeline("thunderstorm", 0, 9)
    looking = replace(timeline, shots=(Shot(0.0, timeline.duration_s, "source", False),))
    light = np.array([f[:120].mean() for f in frames(looking)])
    rises = np.flatnonzero(np.diff(light) > 10) + 1
    for event in timeline.events:
        assert np.abs(rises / FPS - event.t_s).min() <= 2 / FPS


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for timeline in (short(make_timeline("birds", 0, 1), 1.0), make_faulty(1)[1]):
        short_one = replace(timeline, duration_s=1.0, shots=(Shot(0.0, 1.0, "source", False),))
        for name in ("a.mp4", "b.mp4"):
            encode(short_one, tmp_path / name)
        assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_video_is_h264_and_aac_and_in_sync(tmp_path: Path) -> None:
    timeline = short(make_timeline("thunderstorm", 0, 9))
    clap = replace(make_timeline("thunderstorm", 0, 9).events[0], t_s=1.0)
    timeline = replace(timeline, events=(clap,))
    encode(timeline, tmp_path / "-v.mp4")  # a name that could be taken for an option
    with av.open(str(tmp_path / "-v.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.audio[0].codec_context.name == "aac"
    pictures, sound, rate = decode(tmp_path / "-v.mp4")
    assert pictures.shape == (24, 240, 320, 3)
    assert abs(len(sound) / rate - 2.0) < 0.05
    flash = int(np.argmax(np.diff(pictures[:, :120].mean((1, 2, 3))))) + 1
    loud = np.array(
        [np.abs(sound[i : i + rate // 50]).max() for i in range(0, len(sound), rate // 50)]
    )
    bang = int(np.argmax(loud > 1.5 * loud[:47].max()))
    assert flash == 11  # light one frame before the sound at 1 s
    assert 49 <= bang <= 56


def test_unwritable_target_is_explained(tmp_path: Path) -> None:
    with pytest.raises(AvdataError, match=r"(?s)ffmpeg could not write .*No such file"):
        encode(short(make_timeline("ocean", 0, 0)), tmp_path / "absent" / "v.mp4")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the set be three videos of one second each."""
    real = make_timeline
    monkeypatch.setattr("avdata.demo.make.make_timeline", lambda *a: short(real(*a), 1.0))
    monkeypatch.setattr("avdata.demo.make.make_faulty", lambda seed: ())
    monkeypatch.setattr("avdata.demo.make.KINDS", FEW)


@pytest.mark.usefixtures("quick")
def test_make_demo_resumes_and_keeps_what_is_complete(tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    manifest = make_demo(tmp_path, videos_per_kind=1, workers=1, progress=lambda *a: seen.append(a))
    assert [done for done, _, _ in seen] == [1, 2, 3]
    assert {name.rsplit("_", 1)[0] for _, _, name in seen} == set(FEW)
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.glob("*.mp4")}
    listed = manifest.read_bytes()

    (tmp_path / "birds_00.mp4").unlink()
    (tmp_path / "ocean_00.json").write_text("{}")  # of another seed or version
    seen.clear()
    make_demo(tmp_path, videos_per_kind=1, workers=1, progress=lambda *a: seen.append(a))
    assert sorted(name for _, _, name in seen) == ["birds_00", "ocean_00"]
    for name, (mtime, data) in before.items():
        assert (tmp_path / name).read_bytes() == data
        if name not in ("birds_00.mp4", "ocean_00.mp4", "page_00.mp4"):
            assert (tmp_path / name).stat().st_mtime_ns == mtime
    assert manifest.read_bytes() == listed
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.mark.usefixtures("quick")
def test_manifest_reads_and_truth_lies_beside(tmp_path: Path) -> None:
    manifest = make_demo(tmp_path, videos_per_kind=1, workers=1)
    clips = list(iter_manifest(str(manifest)))
    assert all(clip.status is Status.ACTIVE for clip in clips)
    assert len(clips) == len(FEW) + 2
    assert len({clip.source_id for clip in clips}) == len(clips)
    for clip in clips:
        assert clip.url.startswith(f"http://127.0.0.1:{DEFAULT_PORT}/")
        assert clip.dataset == "demo"
        assert clip.licence
        assert clip.attribution == "synthesised by avdata"
        (kind,) = clip.labels
        if clip.key in ("gone_00", "page_00"):
            continue
        truth = json.loads((tmp_path / f"{clip.key}.json").read_text())
        assert truth["kind"] == kind
        assert tuple(truth["yamnet_classes"]) == KINDS[kind].yamnet_classes
        assert clip.events_ms == tuple(round(1000 * e["t_s"]) for e in truth["events"])
    assert not (tmp_path / "gone_00.mp4").exists()


def test_faulty_videos_are_mute_and_still() -> None:
    mute, photo = make_faulty(0)
    assert rms_db(soundtrack(mute), 0, mute.duration_s) < -60
    pictures = frames(photo)
    first = next(pictures)
    assert all(np.array_equal(first, picture) for picture in pictures)
    assert rms_db(soundtrack(photo), 0, photo.duration_s) > -40


@pytest.mark.slow
def test_worker_count_does_not_change_a_byte(tmp_path: Path) -> None:
    """Two processes against one, on the real set; run apart, as processes are spawned."""
    code = (
        "import sys, pathlib; from avdata.demo import make_demo\n"
        "if __name__ == '__main__':\n"
        "    make_demo(pathlib.Path(sys.argv[1]), seed=3, videos_per_kind=1, workers=2)\n"
    )
    script = tmp_path / "make.py"
    script.write_text(code)
    subprocess.run([sys.executable, str(script), str(tmp_path / "two")], check=True)
    names = {p.name for p in (tmp_path / "two").iterdir()}
    for kind in ("snow_steps", "thunderstorm"):
        encode(make_timeline(kind, 0, 3), tmp_path / f"{kind}.mp4")
        again = (tmp_path / f"{kind}.mp4").read_bytes()
        assert (tmp_path / "two" / f"{kind}_00.mp4").read_bytes() == again
    assert len([n for n in names if n.endswith(".json")]) == len(KINDS) + 2


def test_wrong_count_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="videos_per_kind"):
        make_demo(tmp_path, videos_per_kind=0)


# What YAMNet hears


@pytest.fixture(scope="module")
def yamnet(shared_data: Path) -> Callable[[NDArray[np.float32]], list[str]]:
    """The official model, run here without the project's own tagger."""
    from ai_edge_litert.interpreter import Interpreter

    path = shared_data / "weights/yamnet/yamnet_audio_classifier_with_metadata.tflite"
    names = zipfile.ZipFile(path).read("yamnet_label_list.txt").decode().splitlines()
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]

    def top5(sound_16k: NDArray[np.float32]) -> list[str]:
        scores = []
        for start in range(0, len(sound_16k) - 15600 + 1, 7800):
            window = sound_16k[start : start + 15600].astype(np.float32)
            interpreter.set_tensor(given, window)
            interpreter.invoke()
            scores.append(interpreter.get_tensor(result)[0].copy())
        order = np.argsort(-np.mean(scores, axis=0), kind="stable")
        return [names[i] for i in order[:5]]

    return top5


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_yamnet_hears_what_is_meant(
    kind: str, yamnet: Callable[[NDArray[np.float32]], list[str]], shared_data: Path
) -> None:
    """The class meant, or a parent or child of it in AudioSet, is among the five best."""
    from scipy.signal import resample_poly

    meant = KINDS[kind].yamnet_classes[0]
    ontology = json.loads((shared_data / "lists/audioset/ontology.json").read_text())
    by_id = {entry["id"]: entry for entry in ontology}
    (entry,) = [e for e in ontology if e["name"] == meant]
    family = {meant} | {e["name"] for e in ontology if entry["id"] in e["child_ids"]}
    below = list(entry["child_ids"])
    while below:
        child = by_id[below.pop()]
        family.add(child["name"])
        below += child["child_ids"]
    assert set(KINDS[kind].yamnet_classes) <= family
    heard = yamnet(resample_poly(soundtrack(make_timeline(kind, 0, 11)), 160, 441))
    assert family & set(heard), heard
