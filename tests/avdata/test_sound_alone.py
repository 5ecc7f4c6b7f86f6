"""Sounds without pictures, from files of many kinds to shards, and what reads and shows these."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import numpy as np
import pandas
import pytest
import soundfile
from rich.console import Console
from typer.testing import CliRunner

from avdata.cli.app import app
from avdata.config import Pipeline, load_pipeline
from avdata.errors import SettingsError, ShardError
from avdata.loader import Loader
from avdata.media.container import ffmpeg_binary
from avdata.run.executors import executor
from avdata.run.pipeline import run
from avdata.run.progress import Progress
from avdata.shards.verify import verify
from avdata.shards.views import View
from avdata.store import Store
from avdata.tables import iter_clips
from stages.pairs.clips import NoClipsError, PairReader, read_clips
from tests.media_factory import make_video, noise_track

RATE_HZ = 22_050
KINDS = {  # as sounds come: what ffmpeg is told, and the length in seconds
    "pcm24.wav": (["-c:a", "pcm_s24le", "-ar", "96000", "-ac", "2"], 1.5),
    "pcm8.wav": (["-c:a", "pcm_u8", "-ar", "8000"], 1.5),
    "float.wav": (["-c:a", "pcm_f32le", "-ar", "192000"], 0.6),
    "adpcm.wav": (["-c:a", "adpcm_ms", "-ar", "44100"], 1.5),
    "short.wav": (["-c:a", "pcm_s16le"], 0.06),
    "lossless.flac": (["-c:a", "flac"], 1.5),
    "vorbis.ogg": (["-c:a", "libvorbis", "-ac", "2"], 1.5),
    "layer3.mp3": (["-c:a", "libmp3lame"], 1.5),
}
SETTINGS = {
    "fetch": {"require_video": False},
    "trim": {"sample_rate_hz": RATE_HZ, "frames_per_clip": None},
    "tag": {"taggers": ["loudness", "silence", "stillness", "scenes", "brightness"]},
    "select": {"scorer": "none"},
    "shard": {"splits": {"fold1": 0.5, "fold2": 0.5}, "drop_duplicates": False},
}


def make_sound(path: Path, words: list[str], seconds: float) -> None:
    tone = f"sine=frequency=440:duration={seconds}:sample_rate=48000"
    command = [ffmpeg_binary(), "-loglevel", "error", "-y", "-f", "lavfi", "-i", tone]
    subprocess.run([*command, *words, str(path)], check=True)


def pipeline_of(folder: Path, manifest: str, *words: str) -> Pipeline:
    tree = {"name": "sounds", "manifest": manifest, "output": str(folder / "run")}
    file = folder / "sounds.yaml"
    file.write_text(json.dumps({**tree, "steps": SETTINGS}))
    return load_pipeline(file, list(words))


def execute(pipeline: Pipeline) -> None:
    with executor(workers=0) as one:
        run(pipeline, one, Progress(Console(file=io.StringIO())))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of eight sounds and one video that has none, half of them in each fold."""
    folder = tmp_path_factory.mktemp("sounds")
    rows = ["key,url,split,labels"]
    for n, (name, (words, seconds)) in enumerate(KINDS.items()):
        make_sound(folder / name, words, seconds)
        rows.append(f"{Path(name).stem},{name},fold{n % 2 + 1},tone")
    make_video(folder / "mute.mp4", seconds=1, fps=10, sound=None)
    rows.append("mute,mute.mp4,fold1,nothing")
    (folder / "list.csv").write_text("\n".join(rows))
    execute(pipeline_of(folder, str(folder / "list.csv"), "steps.fetch.require_audio=false"))
    return folder / "run"


def test_every_kind_of_sound_is_packed(packed: Path) -> None:
    index = pandas.read_parquet(packed / "shards/index.parquet").set_index("key")
    assert set(index.index) == {Path(name).stem for name in KINDS}
    for name, (_, seconds) in KINDS.items():
        row = index.loc[Path(name).stem]
        assert abs(row.n_samples / RATE_HZ - seconds) < 0.06  # an MP3 ends with its frame
        assert row.loudness_lufs > -30
    assert set(index.scorer) == {"none"}
    assert index.jpg_offset.isna().all()
    assert not index.frames.str.len().any()
    assert "brightness" not in index  # nothing to measure it on
    (mute,) = [c for c in iter_clips(Store(str(packed)), "select.parquet") if c.reason]
    assert (mute.key, mute.step, mute.reason) == ("mute", "trim", "no_audio")


def test_what_is_heard_is_what_was_there(packed: Path) -> None:
    clips = read_clips(str(packed), ["fold1", "fold2"], frames="none")
    reader = PairReader(clips, n_samples=RATE_HZ, seed=0)
    pairs = reader(np.arange(len(clips)), None)
    assert pairs.image is None
    assert pairs.frame_rows.shape == (0,)
    for key, sound in zip(pairs.keys, pairs.sound, strict=True):
        if key in ("short", "adpcm"):
            continue
        spectrum = np.abs(np.fft.rfft(sound[RATE_HZ // 4 : RATE_HZ // 2] * np.hanning(5513)[:5513]))
        assert np.argmax(spectrum) * RATE_HZ / 5513 == pytest.approx(440, abs=4), key


def test_the_shards_say_that_they_hold_sound_alone(packed: Path) -> None:
    dataset = json.loads((packed / "shards/dataset.json").read_text())
    assert dataset["pictures"] == 0
    assert (dataset["width_px"], dataset["height_px"]) == (0, 0)
    assert "the shards hold sound alone: no clip has a picture that was picked" in dataset["notes"]
    page = (packed / "report.html").read_text()
    assert "sound alone" in page
    assert "of sound." in page
    assert "sight and sound" not in page.lower()
    assert "picked moments" not in page
    assert verify(str(packed), deep=True) == []


def test_readers_without_pictures(packed: Path) -> None:
    with pytest.raises(ShardError, match=r'4 clips of fold1 have no picture.*View\(only="audio"\)'):
        Loader(packed, "fold1", batch_size=2)
    batches = list(Loader(packed, "fold2", batch_size=4, view=View(only="audio", audio_s=1.0)))
    assert [batch.audio.shape for batch in batches] == [(4, RATE_HZ)]
    assert batches[0].image.size == 0


def test_folds_one_by_one_and_together(packed: Path) -> None:
    one, two = (read_clips(str(packed), f"fold{n}", frames="none") for n in (1, 2))
    both = read_clips(str(packed), ["fold1", "fold2"], frames="none")
    assert sorted(both.keys) == sorted(one.keys + two.keys)
    assert (one.split, both.split) == ("fold1", "fold1+fold2")
    assert both.frames == [[]] * len(both)
    with pytest.raises(NoClipsError, match=r"no clips in split 'fold3'; it has \{'fold1': 4"):
        read_clips(str(packed), ["fold1", "fold3"], frames="none")
    with pytest.raises(ShardError, match="have no picture"):
        read_clips(str(packed), "fold1")


def test_the_command_line_shows_and_draws_it(packed: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    done = CliRunner().invoke(app, ["show", str(packed), "lossless", "--image", str(sheet)])
    assert done.exit_code == 0, done.output
    assert sheet.stat().st_size > 10_000
    for words in (["show", str(packed)], ["report", str(packed)], ["verify", str(packed)]):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output


def test_packed_again_it_is_the_same_and_pictures_may_be_left_out(tmp_path: Path) -> None:
    """Videos packed as sound alone; then, with a picture each, by another scorer."""
    for n in range(2):
        sound = noise_track(1, RATE_HZ, seed=n)
        make_video(tmp_path / f"{n}.mp4", seconds=1, fps=10, sound=sound)
    make_video(tmp_path / "mute.mp4", seconds=1, fps=10, sound=None)
    listed = "url,split\n0.mp4,fold1\n1.mp4,fold2\nmute.mp4,fold1\n"
    (tmp_path / "list.csv").write_text(listed)
    words = [str(tmp_path / "list.csv"), "steps.trim.frames_per_clip=2"]
    words += ["steps.fetch.require_audio=false"]
    alone = pipeline_of(tmp_path, *words)
    shards = tmp_path / "run/shards"
    execute(alone)
    first = json.loads((shards / "dataset.json").read_text())
    assert (first["clips"], first["pictures"]) == (2, 0)
    (mute,) = [c for c in iter_clips(Store(alone.output), "select.parquet") if c.reason]
    assert (mute.status, mute.reason) == ("rejected", "no_audio")
    execute(alone)
    assert json.loads((shards / "dataset.json").read_text())["digest"] == first["digest"]
    execute(pipeline_of(tmp_path, *words, "steps.select.scorer=mid"))
    seen = json.loads((shards / "dataset.json").read_text())
    assert (seen["clips"], seen["pictures"]) == (3, 3)
    assert not any("sound alone" in note for note in seen["notes"])
    assert verify(str(tmp_path / "run"), deep=True) == []


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE_HZ), RATE_HZ)
    (tmp_path / "list.csv").write_text("url\na.wav\n")
    manifest = str(tmp_path / "list.csv")
    with pytest.raises(SettingsError, match=r"steps\.shard\.frames: all packs pictures"):
        pipeline_of(tmp_path, manifest, "steps.shard.frames=all")
    execute(pipeline_of(tmp_path, manifest, "steps.fetch.require_video=true"))
    (clip,) = iter_clips(Store(str(tmp_path / "run")), "fetch.parquet")
    assert (clip.reason, clip.detail) == ("no_video", "only sound in it (pcm_s16le)")
    page = (tmp_path / "run/report.html").read_text()
    assert "steps.select.scorer: none" in page
    execute(pipeline_of(tmp_path, manifest, "steps.select.scorer=mid"))
    (clip,) = iter_clips(Store(str(tmp_path / "run")), "select.parquet")
    assert (clip.status, clip.reason) == ("rejected", "no_video")
