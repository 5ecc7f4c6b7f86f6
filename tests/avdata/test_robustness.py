"""What a user may do to a run, and what strangers may send it: the rest is never harmed."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from avdata.cli.app import app
from avdata.clip import Clip
from avdata.config import Pipeline
from avdata.errors import StoreError
from avdata.run.executors import executor
from avdata.run.pipeline import run
from avdata.run.progress import Progress
from avdata.shards.folder import read_dataset
from avdata.store import Store, sha256_file
from avdata.strict import build
from avdata.tables import iter_clips
from tests.http_server import HttpServer, Reply
from tests.media_factory import make_video, noise_track

STEPS = {
    "fetch": {
        "via": "http",
        "retries": 0,
        "pause_total_s": 0,  # one URL here is always refused
        "stall_timeout_s": 0.5,
        "timeout_s": 20,
        "max_bytes": 1_000_000,
    },
    "trim": {"window_s": 1, "frames_per_clip": 2, "width_px": 48, "height_px": 32},
    "tag": {"taggers": ["loudness", "silence"]},
    "select": {"require": {"loudness_lufs": {"min": -60}}},
}


def pipeline(manifest: Path | str, output: Path | str, **steps: dict[str, object]) -> Pipeline:
    merged = {name: {**STEPS.get(name, {}), **steps.get(name, {})} for name in {*STEPS, *steps}}
    tree = {
        "manifest": str(manifest),
        "output": str(output),
        "report": False,
        "part_clips": 4,
        "steps": merged,
    }
    return build(Pipeline, tree, "test")


def run_inline(settings: Pipeline, **options: object) -> dict[str, object]:
    with executor(workers=0) as where:
        return run(settings, where, Progress(Console(file=io.StringIO())), **options)


def rows(output: Path, table: str = "select") -> dict[str, Clip]:
    return {clip.key: clip for clip in iter_clips(Store(str(output)), f"{table}.parquet")}


def shard_bytes(output: Path) -> dict[str, str]:
    return {p.name: sha256_file(p) for p in (output / "shards").iterdir() if p.is_file()}


def make(path: Path, sound: np.ndarray | None, **video: object) -> Path:
    return make_video(
        path, seconds=2, fps=10, gop=10, width_px=48, height_px=32, sound=sound, **video
    )


# --- everything that can be wrong with a row, at once -----------------------------------------

HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
ODD_NAMES = ["-i.mp4", "--help.mp4", "ü 雨 'x' \"y\".mp4", "%03d $(id);&.mp4", "a?b#c.mp4"]
GOOD = {f"odd-{i}": "accepted" for i in range(len(ODD_NAMES))} | {
    "good": "accepted",
    "extra": "accepted",
    "twin": "accepted",
    "local": "accepted",
    "past-a-bad-window": "accepted",
}
BAD = {
    "gone": "failed fetch not_found",
    "broken": "failed fetch server_error",
    "busy": "failed fetch rate_limited",
    "cut-off": "failed fetch incomplete",
    "stuck": "failed fetch stalled",
    "endless": "failed fetch too_large",
    "page": "failed fetch not_media",
    "noise": "failed fetch not_media",
    "empty": "failed fetch empty",
    "halved": "failed fetch corrupt",
    "mute": "failed fetch no_audio",
    "sound-only": "failed fetch no_video",
    "away": "failed fetch forbidden_protocol",
    "playlist": "failed fetch not_media",
    "no-file": "failed fetch not_found",
    "late": "failed trim window_past_end",
    "long": "failed trim too_short",
    "silent": "rejected select below_min",
}
REFUSED = {
    "bad_key": ["a/b", "..", "a.b", "-a", "a\0b", "k" * 161],
    "bad_url": ["file:///etc/passwd", "concat:a|b", "subfile:,,start,0,end,0,,:/etc/passwd", " "],
}


def serve_faults(server: HttpServer, folder: Path) -> dict[str, str]:
    """Return the address of each row of BAD that a server is needed for."""
    noise = noise_track(2, 16000)
    good = make(folder / "good.mp4", noise)
    make(folder / "silent.mp4", np.zeros_like(noise))
    make(folder / "mute.mp4", None)
    make(folder / "sound-only.m4a", noise, video_codec=None)
    data = good.read_bytes()
    replies = {
        "broken": Reply(status=500),
        "busy": Reply(status=429),
        "cut-off": Reply(data, drop_after=1000),
        "stuck": Reply(data, stall_after=1000),
        "endless": Reply(bytes(65536), endless=True),
        "page": Reply(b"<html><title>Sign in</title></html>", type="text/html"),
        "noise": Reply(bytes(range(256)) * 40),
        "empty": Reply(b""),
        "halved": Reply(data[: len(data) // 2]),
        "away": Reply(status=302, headers={"Location": "file:///etc/passwd"}),
        "playlist": Reply(HLS, type="video/mp4"),
    }
    urls = {name: server.add(f"{name}.mp4", reply) for name, reply in replies.items()}
    urls |= {name: server.url(f"{name}.mp4") for name in ("gone", "mute", "silent")}
    return urls | {"sound-only": server.url("sound-only.m4a")}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return the folder of a run over one manifest with every kind of row, and its lines."""
    folder = tmp_path_factory.mktemp("everything")
    with HttpServer(folder) as server:
        urls = serve_faults(server, folder)
        good, data = server.url("good.mp4"), (folder / "good.mp4").read_bytes()
        for number, name in enumerate(ODD_NAMES):
            # Different content, or the shards would take them for one video.
            make(folder / name, noise_track(2, 16000, seed=number + 1))
        (folder / "twin.mp4").write_bytes(data)
        local = make(folder / "- lo cal.mp4", noise_track(2, 16000, seed=99))
        lines = [
            f"good,{good},0,1000,,",
            f"late,{good},5000,6000,,",
            f"long,{good},1500,9000,,",
            f"past-a-bad-window,{good},1000,2000,,",
            f"twin,{server.url('twin.mp4')},0,1000,,",
            f"local,{local.name},0,1000,,",
            f"no-file,{local.name}.gone,0,1000,,",
            f"extra,{good},500,1500,mine,",
            *(f"odd-{i},{server.url(name)},0,1000,," for i, name in enumerate(ODD_NAMES)),
            *(f"{name},{url},0,1000,," for name, url in urls.items()),
            f"good,{good},1000,2000,,",  # the key again
            *(f"{key},{good},0,1000,," for key in REFUSED["bad_key"]),
            *(f'u{i},"{url}",0,1000,,' for i, url in enumerate(REFUSED["bad_url"])),
            f"short,{good},0,1000",
            f"backwards,{good},2000,1000,,",
            f"no-length,{good},1000,1000,,",
            f"number,{good},soon,1000,,",
            f"latin,{good},0,1000,\xe9,",
            f"fat,{good},0,1000,{'x' * 10_000_000},",
        ]
        manifest = folder / "m.csv"
        text = "\n".join(["key,url,start_ms,end_ms,colour,labels", *lines, ""])
        manifest.write_bytes(text.encode("latin-1", "xmlcharrefreplace"))
        run_inline(pipeline(manifest, folder / "run"))
    return folder / "run", lines


def test_each_bad_row_has_its_reason_and_the_good_ones_are_made(
    everything: tuple[Path, list[str]],
) -> None:
    output, lines = everything
    found = rows(output)
    assert len(found) == len(lines)
    named = {key: f"{c.status} {c.step} {c.reason}" for key, c in found.items() if key in BAD}
    assert named == BAD
    assert {key: str(found[key].status) for key in GOOD} == GOOD
    refused = [c for c in found.values() if c.step == "manifest"]
    assert Counter(c.reason for c in refused) == {
        "bad_key": len(REFUSED["bad_key"]),
        "bad_url": len(REFUSED["bad_url"]),
        "duplicate_key": 1,
        "bad_row": 6,
    }
    assert all(c.detail.startswith("line ") for c in refused)


def test_only_good_rows_are_packed_and_nothing_of_the_bad_ones_stays(
    everything: tuple[Path, list[str]],
) -> None:
    output, _ = everything
    dataset = read_dataset(Store(str(output / "shards")))
    assert (dataset["clips"], dataset["duplicates"]) == (len(GOOD) - 1, 1)  # twin is good again
    archived = [p for p in (output / "media").glob("[!.]*/*") if p.suffix != ".json"]
    # mute and sound-only were fetched too: what is required of them may change.
    assert len(archived) == len(GOOD) - 2 + len(["silent", "mute", "sound-only"])
    unfinished = [p.stat().st_size for p in (output / "media/.partial").glob("*/body")]
    assert unfinished == [1000, 1000]  # cut-off and stuck may be resumed


def test_columns_of_ones_own_travel_into_the_shards(everything: tuple[Path, list[str]]) -> None:
    import tarfile

    output, _ = everything
    for shard in (output / "shards").glob("*.tar"):
        with tarfile.open(shard) as tar:
            if "extra.json" in tar.getnames():
                content = tar.extractfile("extra.json")
                assert content is not None
                assert json.loads(content.read())["attributes"] == {"colour": "mine"}
                return
    pytest.fail("the clip is in no shard")


# --- what happens to a run between two calls -----------------------------------------------------


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with three videos and a manifest of two clips each."""
    folder = tmp_path_factory.mktemp("videos")
    lines = ["url,start_ms,end_ms"]
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        make(folder / name, noise_track(2, 16000, seed=ord(name[0])))
        lines += [f"{name},0,1000", f"{name},1000,2000"]
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def done(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "done"
    run_inline(pipeline(videos / "m.csv", output))
    return output


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "copy"))


RECORDS = ["plan.json", "summary.json", "shards/dataset.json", "work/*/*.json"]
DATA = ["*.parquet", "work/trim/*.parquet", "work/*/*.parquet", "work/trim/*.tar", "shards/*.tar"]


@pytest.mark.parametrize(
    ("how", "what"),
    [
        *(("cut off", what) for what in (*RECORDS, *DATA)),
        *(("deleted", what) for what in (*RECORDS, *DATA, "parts/*", "shards/.*/*", "work", "*")),
    ],
)
def test_what_is_damaged_is_made_again(
    videos: Path, done: Path, copy: Path, what: str, how: str
) -> None:
    damaged = sorted(copy.glob(what))
    assert damaged
    for path in damaged:
        if how == "cut off":
            path.write_bytes(path.read_bytes()[:50])
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    run_inline(pipeline(videos / "m.csv", copy))
    assert shard_bytes(copy) == shard_bytes(done)
    assert rows(copy) == rows(done)


def test_lost_sources_are_fetched_again_when_they_are_needed(
    videos: Path, done: Path, copy: Path
) -> None:
    with HttpServer(videos) as server:
        manifest = copy / "m.csv"
        manifest.write_text((videos / "m.csv").read_text().replace("\n", f"\n{server.url()}", 6))
        output = copy / "run"
        run_inline(pipeline(manifest, output))
        before = shard_bytes(output)
        lost = sorted((output / "media").rglob("*.mp4"))[:2]
        for path in lost:
            path.unlink()
        run_inline(pipeline(manifest, output, select={"scorer": "random"}))
        assert len(server.requests) == 3  # media are not needed to choose other frames
        run_inline(pipeline(manifest, output, trim={"frames_per_clip": 3}))
        assert len(server.requests) == 3 + len(lost)
        run_inline(pipeline(manifest, output))
        assert shard_bytes(output) == before
        lost[0].unlink()
        run_inline(pipeline(manifest, output), last_step="fetch")
        assert lost[0].exists()


def test_a_step_that_lacks_its_input_says_what_to_run(copy: Path) -> None:
    for path in (copy / "media").rglob("*.mp4"):
        path.write_bytes(b"another")
    changed = pipeline(copy / "fetch.parquet", copy, trim={"frames_per_clip": 3})
    with pytest.raises(StoreError, match="is not there any more as it was fetched; fetch again"):
        run_inline(changed, last_step="trim")
    for path in copy.glob("work/trim/*.tar"):
        path.unlink()
    changed = pipeline(copy / "trim.parquet", copy, tag={"taggers": ["brightness"]})
    with pytest.raises(StoreError, match=r"\.tar, which trim wrote, is gone; run trim again"):
        run_inline(changed, last_step="tag")


def test_a_local_file_that_was_replaced_is_taken_anew(videos: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(videos, tmp_path / "videos"))
    settings = pipeline(folder / "m.csv", tmp_path / "run")
    run_inline(settings)
    before = rows(tmp_path / "run")
    os.replace(make(tmp_path / "new.mp4", noise_track(2, 16000, seed=5)), folder / "b.mp4")
    run_inline(settings)
    after = rows(tmp_path / "run")
    changed = {Path(c.url).name for key, c in after.items() if c.source != before[key].source}
    assert changed == {"b.mp4"}


def test_a_local_file_that_was_missing_is_taken_when_asked(videos: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(videos, tmp_path / "videos"))
    (folder / "b.mp4").rename(tmp_path / "b.mp4")
    settings = pipeline(folder / "m.csv", tmp_path / "run")
    assert run_inline(settings)["steps"][0]["retryable"] == 2
    (tmp_path / "b.mp4").rename(folder / "b.mp4")
    for options, reasons in (({}, {"", "not_found"}), ({"retry_failed": True}, {""})):
        run_inline(settings, **options)
        assert {clip.reason for clip in rows(tmp_path / "run").values()} == reasons


def test_rows_may_come_and_go(videos: Path, done: Path, copy: Path) -> None:
    header, *lines = (videos / "m.csv").read_text().splitlines()
    manifest = videos / "edited.csv"
    for kept in (lines[2:], lines[:1] + lines[4:], lines):
        manifest.write_text("\n".join([header, *kept]) + "\n")
        summary = run_inline(pipeline(manifest, copy))
        assert summary["shards"]["clips"] == len(kept) == len(rows(copy))
    assert shard_bytes(copy) == shard_bytes(done)


def test_going_on_from_a_table_forgets_what_came_after_it(copy: Path) -> None:
    changed = pipeline(copy / "fetch.parquet", copy, trim={"frames_per_clip": 3})
    summary = run_inline(changed, last_step="trim")
    assert [step["name"] for step in summary["steps"]] == ["fetch", "trim"]
    assert "shards" not in summary


# --- from where a command is given ---------------------------------------------------------------


def test_relative_paths_from_any_folder(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def avdata(*arguments: str) -> None:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.exception

    shutil.copytree(videos, tmp_path / "in/videos")
    run_inline(pipeline(tmp_path / "in/videos/m.csv", tmp_path / "whole"))
    (tmp_path / "p.yaml").write_text(json.dumps({"part_clips": 4, "steps": STEPS}))
    common = ["--config", str(tmp_path / "p.yaml"), "--set", "report=false"]
    monkeypatch.chdir(tmp_path)
    avdata("fetch", "in/videos/m.csv", "-o", "out/run", *common)
    monkeypatch.chdir(tmp_path / "out")
    for step, table in (("trim", "run/fetch"), ("tag", "./run/trim"), ("select", "run/tag")):
        avdata(step, f"{table}.parquet", *common)
    monkeypatch.chdir(tmp_path / "out/run")
    avdata("shard", "select.parquet", *common)
    assert shard_bytes(tmp_path / "out/run") == shard_bytes(tmp_path / "whole")
    for clip in rows(tmp_path / "out/run").values():
        assert clip.source is not None
        assert clip.media is not None
        assert clip.source.path.startswith("media/")  # a run can be moved
        assert clip.media.path.startswith("work/")
    os.rename(tmp_path / "out/run", tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    avdata("verify", "moved", "--deep")
    avdata("tag", "moved/trim.parquet", "--set", "steps.tag.taggers=[brightness]")


# --- Ctrl-C ---------------------------------------------------------------------------------------


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start a command in a process group of its own, as a shell does."""
    return subprocess.Popen(
        [sys.executable, "-m", "avdata.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def slow(videos: Path) -> Iterator[HttpServer]:
    """A server that gives the videos, but never the end of the last one."""
    with HttpServer(videos) as server:
        server.add("c.mp4", Reply((videos / "c.mp4").read_bytes(), stall_after=1000))
        yield server


@pytest.mark.parametrize("workers", [None, 0, pytest.param(1, marks=pytest.mark.slow)])
def test_ctrl_c_stops_at_once_and_the_same_command_continues(
    videos: Path, slow: HttpServer, tmp_path: Path, workers: int | None
) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text((videos / "m.csv").read_text().replace("\n", f"\n{slow.url()}", 6))
    options = ["--set=steps.fetch.stall_timeout_s=600", "--set=part_clips=1"]
    options += [] if workers is None else ["--workers", workers]
    options += ["--set=steps.trim.window_s=1", "--set=steps.tag.taggers=[]", "--set=report=false"]
    command = ["shard", manifest, "-o", tmp_path / "run", *options]
    process = start(*command)
    deadline = time.monotonic() + 60
    archived = tmp_path / "run/media"
    while len(list(archived.glob("[!.]*/*.json"))) < 2 or slow.hits("c.mp4") == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.endswith("avdata: stopped; the same command continues where it was\n"), errors
    assert "Traceback" not in errors
    slow.add("c.mp4", Reply((videos / "c.mp4").read_bytes()))
    process = start(*command)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert len(rows(tmp_path / "run")) == 6
    assert slow.hits("a.mp4") == slow.hits("b.mp4") == 1
