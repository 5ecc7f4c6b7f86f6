"""The pipelines of sound-guided manipulation, on real sounds and on videos made here."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pytest
import soundfile
from rich.console import Console
from typer.testing import CliRunner

from avdata import weights
from avdata.audio.spec import SOUND_GUIDED
from avdata.cli.manifest import app
from avdata.config import Pipeline, load_pipeline
from avdata.loader import Loader
from avdata.manifest import iter_manifest
from avdata.run.executors import executor
from avdata.run.pipeline import run
from avdata.run.progress import Progress
from avdata.shards.views import View
from avdata.strict import build
from avdata.tables import write_clips
from stages.ablate import Settings as Ablations
from stages.evaluate import Settings as Evaluation
from stages.evaluate import evaluate
from stages.pairs.clips import read_clips
from stages.sound_guided.ablations import GRID
from stages.sound_guided.sound_encoder import audio_spec
from stages.train_sound_clip import Settings, front_end
from tests.media_factory import make_video, noise_track
from tests.stages.sound_guided import tiny_run

ROOT = Path(__file__).resolve().parents[2]
RATE_HZ = 44_100


def manifest(*words: str) -> None:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output


def pipeline_of(name: str, listed: Path, output: Path, *words: str) -> Pipeline:
    """The committed pipeline, with nothing changed but sizes and places."""
    changes = [f"manifest={listed}", f"output={output}", "steps.fetch.sleep_s=0"]
    return load_pipeline(ROOT / f"pipelines/{name}.yaml", [*changes, *words])


def executed(pipeline: Pipeline) -> pandas.DataFrame:
    with executor(workers=0) as one:
        run(pipeline, one, Progress(Console(file=io.StringIO())))
    return pandas.read_parquet(Path(pipeline.output) / "shards/index.parquet")


def test_esc50_of_real_sounds(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "ESC-50-master"
    (archive / "audio").mkdir(parents=True)
    (archive / "meta").mkdir()
    real = sorted((shared_data / "audio/esc50").glob("*-*.wav"))
    chosen = real[:5] + real[-1:]
    for path in chosen:
        (archive / "audio" / path.name).symlink_to(path.resolve())
    official = (shared_data / "lists/esc50/esc50.csv").read_text()
    (archive / "meta/esc50.csv").write_text(official)
    listed = tmp_path / "esc50.csv"
    manifest("import", "esc50", str(archive / "meta/esc50.csv"), "-o", str(listed))
    pipeline = pipeline_of("soundguided_esc50", listed, tmp_path / "run")
    index = executed(pipeline)
    # The first field of a name is its fold, the last its class.
    folds = {f"esc50-{path.stem}": f"fold{path.name[0]}" for path in chosen}
    assert len(set(folds.values())) > 1
    assert dict(zip(index.key, index.split, strict=True)) == folds
    assert set(index.n_samples) == {5 * RATE_HZ}
    rows = (line.split(",") for line in official.splitlines())
    category = {f"esc50-{row[0][:-4]}": (row[3],) for row in rows}
    for key, labels in zip(index.key, index.labels, strict=True):
        assert tuple(labels) == category[key]
    there = sorted(set(folds.values()))
    together = read_clips(str(tmp_path / "run"), there, frames="none")
    assert sorted(together.keys) == sorted(folds)

    # A sound encoder that has learnt nothing names the classes, in the folds that are there.
    monkeypatch.setattr(tiny_run, "SPEC", audio_spec(duration_s=1, sample_rate_hz=RATE_HZ))
    trained = tiny_run.make_run(tmp_path / "trained") / "stages"
    tree: dict[str, Any] = pipeline.stages["evaluate"]
    parts = {part: str(trained / f"train_{part}") for part in ("sound_clip", "clip")}
    sounds = {**tree["sounds"], "folds": there, "probe": False}  # no class is in two folds
    settings = {**tree, "parts": parts, "sounds": sounds}
    found = evaluate(pipeline, build(Evaluation, settings, "esc50")).results["sounds"]
    assert found["splits"] == Counter(folds.values())
    assert found["classes"] == sorted({category[key][0] for key in folds})
    named = found["listeners"]["sound_guided"]["figures"]["zero_shot"]
    assert set(named["by_fold"]) == set(there)
    assert 0 <= named["value"] <= 1


def test_vggsound_of_real_clips(tmp_path: Path, shared_data: Path) -> None:
    official, copy = shared_data / "lists/vggsound/hche11_test.csv", tmp_path / "copy"
    copy.mkdir()
    for path in (shared_data / "video/vggsound").glob("*_*0000.mp4"):
        (copy / path.name).symlink_to(path.resolve())
    listed = tmp_path / "vggsound.parquet"
    manifest("import", "vggsound", str(official), "-o", str(listed), "--option", f"media={copy}")
    sizes = ("steps.trim.width_px=64", "steps.trim.height_px=64")
    index = executed(pipeline_of("soundguided_vggsound", listed, tmp_path / "run", *sizes))
    assert len(index) > 1
    label_of = {  # of id_000030.mp4,label
        line[:11]: line.partition(",")[2].strip('"') for line in official.read_text().splitlines()
    }
    for _, row in index.iterrows():
        assert tuple(row.labels) == (label_of[row.source_id],)
        assert (row.split, row.n_samples, row.sample_rate_hz) == ("test", 10 * RATE_HZ, RATE_HZ)
        assert len(row.frames) == 1
        assert 4.5 < row.frames[0]["t_s"] < 5.5


def test_urbansound8k(tmp_path: Path) -> None:
    """Ten folds, of lengths and rates as they come there, two sounds alike in all but the name."""
    top = tmp_path / "UrbanSound8K"
    lines = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    for fold in range(1, 11):
        name = f"{1000 + fold}-3-0-0.wav"
        path = top / f"audio/fold{fold}" / name
        path.parent.mkdir(parents=True)
        rate_hz, seconds = (48_000, 4.0) if fold % 2 else (11_025, 0.3)
        sound = noise_track(seconds, rate_hz, seed=1 if fold in (2, 4) else fold)[0]
        soundfile.write(path, sound, rate_hz, subtype="PCM_24" if fold % 2 else "PCM_16")
        lines.append(f"{name},{1000 + fold},0.0,{seconds},1,{fold},3,dog_bark")
    (top / "metadata").mkdir()
    (top / "metadata/UrbanSound8K.csv").write_text("\n".join(lines))
    official, listed = top / "metadata/UrbanSound8K.csv", tmp_path / "urban.csv"
    manifest("import", "urbansound8k", str(official), "-o", str(listed))
    index = executed(pipeline_of("soundguided_urbansound8k", listed, tmp_path / "run"))
    assert dict(zip(index.source_id, index.split, strict=True)) == {
        str(1000 + fold): f"fold{fold}" for fold in range(1, 11)
    }
    n_samples = index.set_index("split").n_samples
    assert (n_samples["fold1"], n_samples["fold10"]) == (4 * RATE_HZ, 0.3 * RATE_HZ)
    (batch,) = Loader(tmp_path / "run", "fold10", batch_size=1, view=View(only="audio", audio_s=4))
    assert (batch.audio.shape, batch.audio_samples.tolist()) == ((1, 4 * RATE_HZ), [13_230])


def test_audioset_and_vggsound_together(tmp_path: Path) -> None:
    """Two lists as their homes give them, joined; where YouTube would answer, files made here."""
    ids = [f"video0000{n:02d}" for n in range(4)]
    vgg, audioset = tmp_path / "vggsound.csv", tmp_path / "balanced_train_segments.csv"
    vgg.write_text(f'{ids[0]},0,"playing violin, fiddle",train\n{ids[1]},0,rain,test\n')
    audioset.write_text(
        f'# segments\n{ids[2]}, 0.000, 2.000, "/m/06mb1,/m/0jb2l"\n'
        f'{ids[3]}, 0.000, 2.000, "/m/0jb2l"\n'
    )
    names = tmp_path / "class_labels_indices.csv"
    names.write_text(
        'index,mid,display_name\n0,/m/06mb1,"Rain"\n1,/m/0jb2l,"Thunderstorm, far off"\n'
    )
    parts = [tmp_path / "vgg.parquet", tmp_path / "audioset.parquet"]
    manifest("import", "vggsound", str(vgg), "-o", str(parts[0]), "--option", "clip_s=2")
    manifest("import", "audioset_balanced", str(audioset), str(names), "-o", str(parts[1]))
    both = tmp_path / "both.parquet"
    manifest("join", *map(str, parts), "-o", str(both))
    near = []
    for n, row in enumerate(iter_manifest(str(both))):
        assert row.url == f"https://www.youtube.com/watch?v={row.source_id}"
        path = tmp_path / f"{row.source_id}.mp4"
        sound = noise_track(2, RATE_HZ, seed=n) * (row.source_id != ids[3])
        make_video(path, seconds=2, fps=10, sound=sound)
        near.append(replace(row, url=str(path)))
    write_clips(tmp_path / "near.parquet", near)
    sizes = ("steps.trim.width_px=64", "steps.trim.height_px=64")
    joined = pipeline_of(
        "soundguided_audioset", tmp_path / "near.parquet", tmp_path / "run", *sizes
    )
    index = executed(joined).set_index("source_id")
    assert dict(index.split) == {ids[0]: "train", ids[1]: "test", ids[2]: "train"}  # one is silent
    assert [tuple(index.labels[name]) for name in ids[:3]] == [
        ("playing violin, fiddle",),
        ("rain",),
        ("Rain", "Thunderstorm, far off"),
    ]
    assert set(index.dataset) == {"vggsound", "audioset"}
    assert set(index.n_samples) == {2 * RATE_HZ}
    assert Counter(index.frames.str.len()) == {1: 3}
    # VGGSound's own pipeline cuts, sees and hears in the same way.
    alone = pipeline_of("soundguided_vggsound", tmp_path / "near.parquet", tmp_path / "run", *sizes)
    for step in ("fetch", "trim", "tag", "select"):
        assert getattr(alone.steps, step) == getattr(joined.steps, step)


@pytest.mark.parametrize("name", ["vggsound", "audioset", "esc50", "urbansound8k"])
def test_all_hear_at_the_rate_of_the_front_end(name: str) -> None:
    pipeline = load_pipeline(ROOT / f"pipelines/soundguided_{name}.yaml")
    assert pipeline.steps.trim.sample_rate_hz == SOUND_GUIDED.sample_rate_hz


@pytest.mark.parametrize("name", ["vggsound", "audioset"])
def test_the_trainings_are_the_papers(name: str) -> None:
    pipeline = load_pipeline(ROOT / f"pipelines/soundguided_{name}.yaml")
    training = build(Settings, pipeline.stages["train_sound_clip"], name)
    assert (training.train.batch_size, training.train.epochs) == (384, 50)
    assert (training.lr, training.beta1, training.weight_decay) == (1e-3, 0.9, 1e-4)
    assert front_end(training).sample_rate_hz == pipeline.steps.trim.sample_rate_hz
    assert {training.clip, training.init_from} <= set(weights.entries())


@pytest.mark.parametrize(("name", "count"), [("esc50", 5), ("urbansound8k", 10)])
def test_all_official_folds_are_scored(name: str, count: int) -> None:
    pipeline = load_pipeline(ROOT / f"pipelines/soundguided_{name}.yaml")
    settings = build(Evaluation, pipeline.stages["evaluate"], name)
    folds = tuple(f"fold{n + 1}" for n in range(count))
    assert settings.sounds.folds == folds == tuple(pipeline.steps.shard.splits)
    assert settings.sounds.listeners == ("sound_guided",)
    assert not settings.pictures
    training = load_pipeline(ROOT / "pipelines/soundguided_vggsound.yaml")
    assert settings.parts["sound_clip"].startswith(f"runs/{training.name}/")


def test_the_ablations_are_rows_of_the_grid() -> None:
    pipeline = load_pipeline(ROOT / "pipelines/soundguided_vggsound.yaml")
    rows = build(Ablations, pipeline.stages["ablate"], "vggsound").rows
    assert rows is not None
    assert set(GRID.rows) - set(rows) == {"resnet18"}
    settings = build(Evaluation, pipeline.stages["evaluate"], "vggsound")
    sounds = load_pipeline(ROOT / "pipelines/soundguided_esc50.yaml")
    assert settings.shards == f"runs/{sounds.name}"
    assert settings.sounds.folds == tuple(sounds.steps.shard.splits)
