"""Whole runs on real videos: nothing is lost or done twice, and the bytes are always the same."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from avdata.config import Pipeline
from avdata.run.executors import executor
from avdata.run.pipeline import run
from avdata.run.progress import Progress
from avdata.store import Store, sha256_file
from avdata.strict import build
from avdata.tables import iter_clips
from tests.http_server import HttpServer, Reply
from tests.media_factory import make_video, noise_track

STEPS = {
    "fetch": {"via": "http", "retries": 1, "backoff_s": 0.01, "stall_timeout_s": 2},
    "trim": {"window_s": 1, "frames_per_clip": 4, "width_px": 96, "height_px": 64},
    "tag": {"taggers": ["loudness", "silence", "stillness"]},
    "select": {"scorer": "av_sync", "top_k": 2, "require": {"loudness_lufs": {"min": -60}}},
    "shard": {"max_clips": 5},
}
SETTINGS = {"seed": 7, "report": False, "steps": STEPS}


def make(folder: Path, name: str, seed: int, seconds: float = 3.0) -> None:
    make_video(
        folder / name,
        seconds=seconds,
        fps=10,
        width_px=96,
        height_px=64,
        sound=noise_track(seconds, 16000, seed=seed),
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    folder = tmp_path_factory.mktemp("videos")
    for i in range(8):
        make(folder, f"v{i}.mp4", i)
    make_video(folder / "mute.mp4", seconds=3, fps=10, width_px=96, height_px=64, sound=None)
    shutil.copy(folder / "v0.mp4", folder / "same-as-v0.mp4")
    with HttpServer(folder) as running:
        running.add("/gone.mp4", Reply(status=404))
        running.add("/page.mp4", Reply(body=b"<html><title>Sign in</title></html>"))
        yield running


@pytest.fixture(scope="module")
def manifest(server: HttpServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 8 good videos of 2 clips each, and one row for each thing that can go wrong."""
    rows = ["url,start_ms,end_ms,key,labels"]
    for i in range(8):
        for start in (0, 1500):
            rows.append(f"{server.url(f'v{i}.mp4')},{start},{start + 1000},,kind {i % 3}")
    rows += [
        f"{server.url('gone.mp4')},0,1000,gone,",
        f"{server.url('page.mp4')},0,1000,page,",
        f"{server.url('mute.mp4')},0,1000,mute,",
        f"{server.url('v1.mp4')},9000,10000,late,",
        f"{server.url('v1.mp4')},1000,500,backwards,",
        f"{server.url('v1.mp4')},0,1000,../escape,",
        f"{server.url('same-as-v0.mp4')},0,1000,twin,",
        "file:///etc/passwd,0,1000,local,",
    ]
    path = tmp_path_factory.mktemp("manifest") / "m.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def pipeline(manifest: Path, output: Path | str, **steps: dict[str, object]) -> Pipeline:
    tree = {**SETTINGS, "manifest": str(manifest), "output": str(output)}
    built = build(Pipeline, tree, "test")
    for step, changes in steps.items():
        section = replace(getattr(built.steps, step), **changes)
        built = replace(built, steps=replace(built.steps, **{step: section}))
    return built


def run_inline(settings: Pipeline, **options: object) -> dict[str, object]:
    with executor(workers=0) as where:
        return run(settings, where, Progress(Console(file=io.StringIO())), **options)


def shard_bytes(folder: Path) -> dict[str, str]:
    """Return name and SHA-256 of everything a user gets from shard."""
    return {
        path.name: sha256_file(path)
        for path in sorted((folder / "shards").iterdir())
        if path.is_file()
    }


@pytest.fixture(scope="module")
def done(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an undisturbed run."""
    output = tmp_path_factory.mktemp("runs") / "done"
    run_inline(pipeline(manifest, output))
    return output


def test_every_row_of_the_manifest_has_an_outcome(done: Path, server: HttpServer) -> None:
    rows = list(iter_clips(Store(str(done)), "select.parquet"))
    assert len(rows) == 24
    assert len({row.key for row in rows}) == 24
    counts = Counter(str(row.status) for row in rows)
    assert counts == {"accepted": 17, "failed": 7}
    reasons = {row.reason: row.step for row in rows if row.reason}
    assert reasons == {
        "not_found": "fetch",
        "not_media": "fetch",
        "no_audio": "fetch",
        "window_past_end": "trim",
        "bad_row": "manifest",
        "bad_key": "manifest",
        "bad_url": "manifest",
    }


def test_counts_reconcile_at_every_step(done: Path) -> None:
    summary = json.loads((done / "summary.json").read_text())
    assert summary["manifest_rows"] == 24
    assert summary["bad_rows"] == 3
    rows = 24
    for step in summary["steps"]:
        assert step["rows_in"] == rows
        assert sum(step["by_status"].values()) == step["rows_out"]
        table = list(iter_clips(Store(str(done)), f"{step['name']}.parquet"))
        assert Counter(str(row.status) for row in table) == step["by_status"]
        rows = step["rows_out"]
    # The twin of v0 has v0's bytes under another name: it is shown, and packed once.
    assert (summary["shards"]["clips"], summary["shards"]["duplicates"]) == (16, 1)


def test_each_source_is_downloaded_once(done: Path, server: HttpServer) -> None:
    assert server.hits("/v0.mp4") == 1


def test_a_second_run_computes_nothing(done: Path, manifest: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (done / "work").rglob("*") if p.is_file()}
    shards = shard_bytes(done)
    run_inline(pipeline(manifest, done))
    after = {p: p.stat().st_mtime_ns for p in (done / "work").rglob("*") if p.is_file()}
    assert after == before
    assert shard_bytes(done) == shards


def test_a_threshold_never_decodes_video_again(done: Path, manifest: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(done, copy)
    trimmed = sorted(os.listdir(copy / "work/trim"))
    changed = pipeline(manifest, copy, select={"top_k": 1, "scorer": "mid"})
    run_inline(changed)
    assert sorted(os.listdir(copy / "work/trim")) == trimmed
    assert len(os.listdir(copy / "work/select")) > len(os.listdir(done / "work/select"))
    assert shard_bytes(copy) != shard_bytes(done)
    # And back: everything is still there, and the bytes are the old ones.
    run_inline(pipeline(manifest, copy))
    assert shard_bytes(copy) == shard_bytes(done)


def test_a_row_put_on_top_is_fetched_and_nothing_is_stored_twice(
    done: Path, manifest: Path, server: HttpServer, tmp_path: Path
) -> None:
    folder = server.folder
    assert folder is not None
    make(folder, "fresh.mp4", 99)
    copy = tmp_path / "run"
    shutil.copytree(done, copy)
    header, *rows = manifest.read_text().splitlines()
    longer = tmp_path / "longer.csv"
    longer.write_text("\n".join([header, f"{server.url('fresh.mp4')},0,1000,fresh,", *rows]))
    hits = server.hits("/v0.mp4")
    run_inline(pipeline(longer, copy))
    keys = [row.key for row in iter_clips(Store(str(copy)), "select.parquet")]
    assert len(keys) == len(set(keys)) == 25
    assert "fresh" in keys
    assert server.hits("/v0.mp4") == hits


def test_what_failed_for_a_passing_reason_is_tried_again_only_when_asked(
    server: HttpServer, tmp_path: Path
) -> None:
    folder = server.folder
    assert folder is not None
    body = (folder / "v2.mp4").read_bytes()
    server.add("/flaky.mp4", [Reply(status=503)] * 2 + [Reply(body=body)])
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"url,start_ms,end_ms\n{server.url('flaky.mp4')},0,1000\n")
    settings = pipeline(manifest, tmp_path / "run", fetch={"retries": 0})
    for options, status in (({}, "failed"), ({}, "failed"), ({"retry_failed": True}, "failed")):
        run_inline(settings, **options)
        (row,) = iter_clips(Store(str(tmp_path / "run")), "select.parquet")
        assert (str(row.status), row.reason) == (status, "server_error")
    assert server.hits("/flaky.mp4") == 2
    run_inline(settings, retry_failed=True)
    (row,) = iter_clips(Store(str(tmp_path / "run")), "select.parquet")
    assert str(row.status) == "accepted"


def test_the_classes_of_class_scores_are_named_beside_the_tables(done: Path) -> None:
    names = json.loads((done / "classes.json").read_text())
    assert len(names) == 521
    # as in the class map that Google published with YAMNet
    places = {0: "Speech", 132: "Music", 283: "Rain", 494: "Silence", 520: "Field recording"}
    assert {place: names[place] for place in places} == places


def test_each_step_works_alone_on_the_table_of_the_one_before(
    done: Path, manifest: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    source: Path = manifest
    for step in ("fetch", "trim", "tag", "select", "shard"):
        run_inline(pipeline(source, output), last_step=step)
        source = output / f"{step}.parquet"
    assert shard_bytes(output) == shard_bytes(done)


def test_a_step_takes_a_table_from_another_folder(done: Path, tmp_path: Path) -> None:
    run_inline(pipeline(done / "trim.parquet", tmp_path / "elsewhere"))
    assert shard_bytes(tmp_path / "elsewhere").keys() == shard_bytes(done).keys()


@pytest.mark.parametrize(
    "workers", [None, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 4))]
)
def test_the_bytes_do_not_depend_on_the_workers(
    done: Path, manifest: Path, tmp_path: Path, workers: int | None
) -> None:
    with executor(workers=workers) as where:
        run(pipeline(manifest, tmp_path / "run"), where, Progress(Console(file=io.StringIO())))
    assert shard_bytes(tmp_path / "run") == shard_bytes(done)


def test_a_rerun_on_all_cores_does_nothing_twice(
    done: Path, manifest: Path, server: HttpServer, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(done, copy)
    before = {p: p.stat().st_mtime_ns for p in (copy / "work").rglob("*") if p.is_file()}
    hits = len(server.requests)
    for path in sorted((copy / "media").rglob("*.mp4"))[:2]:
        path.unlink()  # needed no more: trim is done
    with executor() as where:
        run(pipeline(manifest, copy), where, Progress(Console(file=io.StringIO())))
    after = {p: p.stat().st_mtime_ns for p in (copy / "work").rglob("*") if p.is_file()}
    assert after == before
    assert len(server.requests) == hits
    assert shard_bytes(copy) == shard_bytes(done)


def start(settings_file: Path, output: Path, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "avdata.cli",
            "run",
            str(settings_file),
            "-o",
            str(output),
            *options,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def settings_file(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import yaml

    path = tmp_path_factory.mktemp("settings") / "p.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "manifest": str(manifest)}))
    return path


@pytest.mark.slow
def test_kill_at_any_moment_and_run_again(done: Path, settings_file: Path, tmp_path: Path) -> None:
    undisturbed = time.monotonic()
    start(settings_file, tmp_path / "whole").wait()
    undisturbed = time.monotonic() - undisturbed
    moments = random.Random(20)
    killed = 0
    output = tmp_path / "killed"
    for _ in range(12):
        process = start(settings_file, output)
        try:
            process.wait(timeout=moments.uniform(0.1, 1.0) * undisturbed)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
        if moments.random() < 0.3:  # now and then from the beginning
            if process.returncode == 0:
                assert shard_bytes(output) == shard_bytes(done)
            shutil.rmtree(output, ignore_errors=True)
    assert killed >= 4
    assert start(settings_file, output).wait() == 0
    assert shard_bytes(output) == shard_bytes(done)
    leftovers = list(output.rglob(".tmp-*"))
    assert leftovers == []


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_costs_only_its_part(
    done: Path, manifest: Path, tmp_path: Path
) -> None:
    from distributed import Client, LocalCluster

    from avdata.run.cluster import DaskExecutor

    output = tmp_path / "run"
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        where = DaskExecutor(client)

        class Killing:
            """Passes outcomes on, and kills a worker process after the third."""

            threads_per_job = 1

            def map(self, function: object, jobs: object) -> Iterator[object]:
                for count, outcome in enumerate(where.map(function, jobs)):
                    if count == 2:
                        worker = next(iter(cluster.workers.values()))
                        os.kill(worker.pid, signal.SIGKILL)
                    yield outcome

        run(pipeline(manifest, output), Killing(), Progress(Console(file=io.StringIO())))
    assert shard_bytes(output) == shard_bytes(done)


def test_two_runs_into_one_folder_at_once(settings_file: Path, tmp_path: Path) -> None:
    with Store(str(tmp_path)).lock():
        second = subprocess.run(
            [
                sys.executable,
                "-m",
                "avdata.cli",
                "run",
                str(settings_file),
                "-o",
                str(tmp_path),
            ],
            capture_output=True,
            text=True,
        )
    assert second.returncode == 2
    assert "another avdata run works in" in second.stderr
