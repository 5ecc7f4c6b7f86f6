"""Into the Wild and The Greatest Hits from a list served here to shards, on videos made here."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import yaml
from numpy.typing import NDArray
from rich.console import Console
from typer.testing import CliRunner

from avdata.cli.manifest import app
from avdata.config import Pipeline, load_pipeline
from avdata.manifest import iter_manifest
from avdata.run.executors import executor
from avdata.run.pipeline import run
from avdata.run.progress import Progress
from avdata.store import Store
from avdata.tables import iter_clips, write_clips
from tests.http_server import HttpServer, Reply
from tests.media_factory import make_video, noise_track
from tests.sample_factory import yamnet_path

ROOT = Path(__file__).resolve().parents[2]
HIKES = [f"hike0000{n:03d}" for n in range(6)]
MUSIC = HIKES[5]


def get(server: HttpServer, name: str, file: str, content: bytes, out: Path, **options: str) -> str:
    """Get a shipped dataset as a user does, its list from the server in the place of its home."""
    tree = yaml.safe_load((ROOT / f"manifests/{name}.yaml").read_text())
    assert file.rpartition(".")[0] in {
        Path(f["name"]).name.rpartition(".")[0] for f in tree["files"]
    }
    server.add(f"/{file}", Reply(content))
    mine = {**tree, "files": [{"name": file, "urls": [server.url(file)]}], "rows": None}
    described = out.with_name(f"{name}.yaml")
    described.write_text(yaml.safe_dump(mine))
    words = ["get", str(described), "-o", str(out)]
    words += [w for key, value in options.items() for w in ("--option", f"{key}={value}")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return str(out)


def settings(name: str, manifest: str, output: Path, request: Any, *words: str) -> Pipeline:
    """The committed pipeline, with nothing changed but sizes, places and who downloads."""
    changes = [
        f"manifest={manifest}",
        f"output={output}",
        "steps.trim.width_px=64",
        "steps.trim.height_px=64",
        "steps.fetch.sleep_s=0",
        f"steps.tag.yamnet.weights={yamnet_path(request)}",
    ]
    return load_pipeline(ROOT / f"pipelines/{name}.yaml", [*changes, *words])


def executed(pipeline: Pipeline) -> pandas.DataFrame:
    with executor(workers=0) as one:
        run(pipeline, one, Progress(Console(file=io.StringIO())))
    return pandas.read_parquet(Path(pipeline.output) / "shards/index.parquet")


def notes(pipeline: Pipeline) -> str:
    return Path(pipeline.output, "report.html").read_text(encoding="utf-8")


def melody(seconds: float, rate_hz: int = 16000) -> NDArray[np.int16]:
    """Return [1, samples]: broken chords of plucked strings, four notes a second."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    sound = np.zeros_like(t)
    for n, start_s in enumerate(np.arange(0, seconds - 0.5, 0.25)):
        chord = (261.6, 220.0, 349.2, 392.0)[n // 3 % 4]
        played = (t >= start_s) & (t < start_s + 0.5)
        u = t[played] - start_s
        pitch_hz = chord * (1, 1.26, 1.5)[n % 3]
        tones = sum(np.sin(2 * np.pi * pitch_hz * k * u) / k for k in range(1, 8))
        sound[played] += tones * np.exp(-4 * u) * np.minimum(1, 200 * u)
    return np.int16(26_000 * sound / np.abs(sound).max())[None]


@pytest.mark.slow
def test_into_the_wild(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    listed = "ID,Duration,Snow,Forest,Rain\n" + "".join(
        f"{name},0.2,{int(n == 1)},1,{int(n == 2)}\n" for n, name in enumerate(HIKES)
    )
    for n, name in enumerate(HIKES):
        sound = melody(12.5) if name == MUSIC else noise_track(12.5, 16000, seed=n)
        make_video(tmp_path / f"{name}.mp4", seconds=12.5, fps=10, sound=sound)
    with HttpServer(tmp_path) as server:
        got = get(server, "into_the_wild", "metadata.csv", listed.encode(), tmp_path / "wild.csv")
        rows = list(iter_manifest(got))
        assert [row.url for row in rows] == [
            f"https://www.youtube.com/watch?v={name}" for name in HIKES
        ]
        assert rows[1].labels == ("snow", "forest")
        # Where YouTube would answer, the server does.
        near = [replace(row, url=server.url(f"{row.source_id}.mp4")) for row in rows]
        write_clips(tmp_path / "near.parquet", near)
        pipeline = settings(
            "into_the_wild", str(tmp_path / "near.parquet"), tmp_path / "run", request
        )
        index = executed(pipeline)
    # Four windows of 3 s in 12.5 s, all eight frames of each, one of five videos for testing.
    assert len(index) == 20
    centres = [3 * (2 * k + 1) / 16 for k in range(8)]
    assert [f["t_s"] for f in index.iloc[0].frames] == pytest.approx(
        centres, abs=0.101
    )  # 10 a second
    assert set(index.n_samples) == {48_000}
    assert Counter(index.split) == {"train": 16, "test": 4}
    assert index.groupby("source_id").split.nunique().max() == 1
    assert all(index.tags.str.len() == 10)
    assert "leak" not in notes(pipeline)
    rejected = [c for c in iter_clips(Store(pipeline.output), "select.parquet") if c.reason]
    assert {(c.source_id, c.reason, c.detail.split(":")[0]) for c in rejected} == {
        (MUSIC, "above_max", "select.reject.music_share")
    }
    assert len(rejected) == 4
    (wet,) = index[index.source_id == HIKES[2]].labels.map(tuple).unique()
    assert wet == ("forest", "rain")
    by_clip = settings(
        "into_the_wild",
        str(tmp_path / "near.parquet"),
        tmp_path / "run",
        request,
        "steps.shard.split_by=clip",
    )
    again = executed(by_clip)
    assert Counter(again.split) == {"train": 16, "test": 4}
    torn = int((again.groupby("source_id").split.nunique() > 1).sum())
    assert torn > 1
    assert f"which is a leak: {torn} of 5 source videos" in notes(by_clip)


def test_greatest_hits(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    names = [f"2015-02-16-16-49-0{n}" for n in range(7)]
    hits = [[0.1, "dirt hit"], [1.0, "wood hit"], [2.0, "leaf scratch"], [3.0, "None None"]]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for n, name in enumerate(names):
            content = json.dumps(hits if name != names[0] else hits[1:2]).encode()
            info = tarfile.TarInfo(f"data/{name}/hit_record.json")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
            sound = noise_track(4, 16000, seed=n)
            make_video(tmp_path / f"{name}_denoised.mp4", seconds=4, fps=10, sound=sound)
    with HttpServer() as server:
        manifest = get(
            server,
            "greatest_hits_outdoor",
            "greatest_hit_meta_info.tar.gz",
            packed.getvalue(),
            tmp_path / "hits.parquet",
            media=f"{tmp_path}/{{name}}_denoised.mp4",
        )
    pipeline = settings("greatest_hits", manifest, tmp_path / "run", request)
    index = executed(pipeline)
    # Of the seven videos one shows wood alone; six have a hit on dirt and a scratch on leaves.
    assert Counter(label for labels in index.labels for label in labels) == {"dirt": 6, "leaf": 6}
    assert names[0] not in set(index.source_id)
    leaf = index[index.labels.map(tuple) == ("leaf",)]
    assert set(zip(leaf.start_ms, leaf.end_ms, strict=True)) == {(1750, 3250)}
    dirt = index[index.labels.map(tuple) == ("dirt",)]
    assert set(zip(dirt.start_ms, dirt.end_ms, strict=True)) == {(0, 1350)}  # what there is of it
    assert set(index.frames.str.len()) == {4}
    assert Counter(index.split) == {"train": 10, "test": 2}  # of six videos 15 %: one
    fetched = iter_clips(Store(pipeline.output), "fetch.parquet")
    assert {clip.source.sha256 for clip in fetched if clip.source} == set(index.source_sha256)
