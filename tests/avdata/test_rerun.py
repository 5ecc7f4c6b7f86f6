"""What a rerun does over and what it keeps: checksums, seeds, settings, starts that fail."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from avdata.cli.app import app
from avdata.clip import Clip
from avdata.config import Pipeline
from avdata.errors import StoreError
from avdata.run.executors import InlineExecutor, executor
from avdata.run.pipeline import run
from avdata.run.progress import Progress
from avdata.store import Store, sha256_file
from avdata.strict import build
from avdata.tables import iter_clips
from tests.media_factory import make_video, noise_track

STEPS = {
    "trim": {"window_s": 1, "frames_per_clip": 4, "width_px": 48, "height_px": 32},
    "tag": {"taggers": ["loudness"]},
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four short videos of two clips each, and their manifest: a part for each, see part_clips."""
    folder = tmp_path_factory.mktemp("videos")
    lines = ["url,start_ms,end_ms,key"]
    for i in range(4):
        make_video(
            folder / f"v{i}.mp4", seconds=2, fps=10, width_px=48, height_px=32,
            sound=noise_track(2, 16000, seed=i),
        )  # fmt: skip
        lines += [f"v{i}.mp4,0,1000,a{i}", f"v{i}.mp4,1000,2000,b{i}"]
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    return folder


def pipeline(videos: Path, output: Path | str, **more: object) -> Pipeline:
    steps = {**STEPS, **more.pop("steps", {})}  # type: ignore[dict-item]
    tree = {"manifest": str(videos / "m.csv"), "output": str(output), "part_clips": 2}
    return build(Pipeline, {**tree, "seed": 7, "report": False, **more, "steps": steps}, "test")


def go(settings: Pipeline, **options: object) -> dict[str, object]:
    return run(settings, InlineExecutor(), Progress(Console(file=io.StringIO())), **options)


@pytest.fixture(scope="module")
def done(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "done"
    go(pipeline(videos, output))
    return output


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "copy"))


def rows(output: Path, table: str = "select") -> dict[str, Clip]:
    return {clip.key: clip for clip in iter_clips(Store(str(output)), f"{table}.parquet")}


def digests(output: Path, *patterns: str) -> dict[str, str]:
    paths = (path for pattern in patterns for path in output.glob(pattern) if path.is_file())
    return {str(path.relative_to(output)): sha256_file(path) for path in paths}


def splits(output: Path) -> dict[str, int]:
    told = json.loads((output / "shards/dataset.json").read_text())["splits"]
    return {name: split["clips"] for name, split in told.items()}


# --- checksums ------------------------------------------------------------------------------------

TABLES = ["work/*/*.parquet", "work/*/*.json", "parts/*.parquet", "plan.json"]


def flip(path: Path) -> None:
    """Change one byte in the middle to another printable one."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("what", TABLES)
def test_a_flipped_byte_in_a_table_or_record_is_found_and_repaired(
    videos: Path, done: Path, copy: Path, what: str
) -> None:
    flipped = sorted(copy.glob(what))
    assert flipped
    for path in flipped:
        flip(path)
    go(pipeline(videos, copy))
    lasting = ("parts/*", "plan.json", "work/*/*.parquet", "work/*/*.tar", "*.parquet", "shards/*")
    assert digests(copy, *lasting) == digests(done, *lasting)


@pytest.mark.parametrize("what", ["work/trim/*.tar", "media/*/*.mp4", "shards/*.tar"])
def test_a_flipped_byte_in_media_is_found_when_asked(
    videos: Path, done: Path, copy: Path, what: str
) -> None:
    for path in copy.glob(what):
        path.write_bytes(path.read_bytes())  # a link to the user's own file no more
        flip(path)
    spoilt = digests(copy, what)
    go(pipeline(videos, copy))
    assert digests(copy, what) == spoilt
    go(pipeline(videos, copy), deep=True)
    assert digests(copy, what) == digests(done, what)
    assert rows(copy) == rows(done)


@pytest.mark.parametrize("how", ["flipped", "cut off", "of an older version"])
def test_what_stands_beside_a_fetched_file_is_not_believed_blindly(
    videos: Path, done: Path, copy: Path, how: str
) -> None:
    for path in copy.glob("media/*/*.json"):
        text = path.read_text()
        assert '"duration_ms": 2' in text
        tree = json.loads(text)
        changed = {
            "flipped": text.replace('"duration_ms": 2', '"duration_ms": 3'),
            "cut off": text[:40],
            "of an older version": json.dumps({name: tree[name] for name in ("url", "source")}),
        }
        path.write_text(changed[how])
    shutil.rmtree(copy / "work/fetch")
    go(pipeline(videos, copy))
    assert rows(copy) == rows(done)
    if how != "of an older version":
        assert digests(copy, "media/*/*.json") == digests(done, "media/*/*.json")


def test_media_of_another_run_are_never_repaired(done: Path, copy: Path, tmp_path: Path) -> None:
    for path in copy.glob("media/*/*.mp4"):
        path.write_bytes(path.read_bytes())
        flip(path)
    spoilt = digests(copy, "media/*/*.mp4")
    settings = pipeline(copy, tmp_path / "other", manifest=str(copy / "fetch.parquet"))
    with pytest.raises(StoreError, match=r"\.mp4 is not there any more as it was fetched"):
        go(settings, deep=True)
    assert digests(copy, "media/*/*.mp4") == spoilt


# --- seeds ----------------------------------------------------------------------------------------


def test_another_seed_decodes_and_measures_nothing_again(
    videos: Path, done: Path, copy: Path
) -> None:
    work = ("work/*/*",)
    go(pipeline(videos, copy, seed=8))
    assert digests(copy, *work) == digests(done, *work)
    assert digests(copy, "shards/*.tar") != digests(done, "shards/*.tar")


def test_another_seed_draws_other_frames_where_frames_are_drawn(videos: Path, copy: Path) -> None:
    picks = []
    for seed in (1, 2):
        random = {"select": {"scorer": "random"}}
        go(pipeline(videos, copy, seed=seed, steps=random))
        picks.append([clip.selection and clip.selection.picks for clip in rows(copy).values()])
    assert picks[0] != picks[1]
    assert len(list((copy / "work/trim").glob("*.tar"))) == 4


# --- a step alone ---------------------------------------------------------------------------------


def avdata(*arguments: str | Path) -> None:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.exception or result.output


@pytest.fixture(scope="module")
def set_apart(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose settings and seed are not the defaults."""
    output = tmp_path_factory.mktemp("runs") / "apart"
    shard = {"shard": {"splits": {"train": 0.5, "held_out": 0.5}}}
    go(pipeline(videos, output, seed=3, name="apart", steps=shard, stages={"evaluate": {}}))
    return output


def test_a_step_alone_keeps_the_settings_and_the_seed_of_its_run(
    set_apart: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(set_apart, tmp_path / "copy"))
    shards = digests(copy, "shards/*")
    assert set(splits(copy)) == {"train", "held_out"}
    shutil.rmtree(copy / "shards")
    avdata("shard", copy / "select.parquet", "--set", "report=false")
    assert digests(copy, "shards/*") == shards
    before, after = (json.loads((f / "summary.json").read_text()) for f in (set_apart, copy))
    for name in ("name", "seed", "settings", "manifest", "manifest_rows", "bad_rows", "stages"):
        assert after[name] == before[name], name


def test_what_is_said_beside_wins_over_the_settings_of_the_run(
    set_apart: Path, videos: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(set_apart, tmp_path / "copy"))
    table = copy / "select.parquet"
    report = "--set=report=false"
    avdata("shard", table, "--seed", "4", report)
    assert json.loads((copy / "summary.json").read_text())["seed"] == 4
    avdata("shard", table, report, "--set", "steps.shard.splits={train: 1, held_out: 0}")
    summary = json.loads((copy / "summary.json").read_text())
    assert summary["settings"]["trim"]["frames_per_clip"] == 4
    assert splits(copy) == {"train": 8, "held_out": 0}
    (tmp_path / "p.yaml").write_text("seed: 5")
    avdata("shard", table, "--config", tmp_path / "p.yaml", report)
    summary = json.loads((copy / "summary.json").read_text())
    assert (summary["seed"], summary["settings"]["trim"]["frames_per_clip"]) == (5, 8)
    # In a folder without a run there is nothing to take over.
    shutil.copy(videos / "m.csv", copy)
    avdata("fetch", copy / "m.csv", "-o", tmp_path / "new", report)
    assert json.loads((tmp_path / "new/summary.json").read_text())["seed"] == 0


def test_a_damaged_summary_is_no_reason_to_take_the_defaults(copy: Path) -> None:
    (copy / "summary.json").write_text('{"seed": 7, "settings": {')
    result = CliRunner().invoke(app, ["shard", str(copy / "select.parquet")])
    assert isinstance(result.exception, StoreError)
    assert "summary.json is damaged" in str(result.exception)


# --- other programs in the same folder ------------------------------------------------------------


def test_a_run_leaves_an_unfinished_checkpoint_alone(videos: Path, copy: Path) -> None:
    beside = copy / "stages/train_localizer/checkpoints/.tmp-17-0123abcd-step-00000100"
    beside.mkdir(parents=True)
    (beside / "state.pt").write_bytes(b"half")
    left = copy / "work/trim/.tmp-17-0123abcd-left.tar"
    left.write_bytes(b"half")
    go(pipeline(videos, copy))
    assert (beside / "state.pt").read_bytes() == b"half"
    assert not left.exists()


# --- starts that fail -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "manifest"),
    [
        ("", "gone.csv"),
        ("", "empty.csv"),
        ("steps: {select: {scorer: localizer, localizer: gone.onnx}}", "good.csv"),
        ("steps: {fetch: {cookies_file: gone.txt}}", "good.csv"),
        ("steps: {tag: {taggers: [nonsense]}}", "good.csv"),
    ],
)
def test_a_start_that_fails_leaves_no_folder(tmp_path: Path, settings: str, manifest: str) -> None:
    (tmp_path / "empty.csv").write_text("url\n")
    (tmp_path / "good.csv").write_text("url\nhttp://127.0.0.1:9/a.mp4\n")
    (tmp_path / "p.yaml").write_text(f"manifest: {manifest}\n{settings}\n")
    command = [sys.executable, "-m", "avdata.cli", "run", "p.yaml", "-o", "runs/new"]
    failed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert failed.returncode == 2, failed.stderr
    assert not (tmp_path / "runs").exists()


def test_a_start_that_fails_takes_nothing_from_a_run_that_is_there(
    copy: Path, videos: Path
) -> None:
    before = digests(copy, "**/*")
    from avdata.errors import AvdataError

    with pytest.raises(AvdataError):
        go(pipeline(videos, copy, manifest=str(videos / "gone.csv")))
    broken = {"select": {"scorer": "localizer", "localizer": "gone.onnx"}}
    with pytest.raises(AvdataError):
        go(pipeline(videos, copy, steps=broken))
    assert digests(copy, "**/*") == before


# --- workers in folders of their own --------------------------------------------------------------


def moments_of(videos: Path, path: Path) -> None:
    keys = [f"v{i}_{start}_{start + 1000}" for i in range(4) for start in (0, 1000)]
    path.write_text(json.dumps({key: [2] for key in keys}))


@pytest.mark.slow
def test_relative_paths_hold_for_workers_in_other_folders(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import LocalCluster

    work = Path(shutil.copytree(videos, tmp_path / "work"))
    moments_of(videos, work / "moments.json")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        monkeypatch.chdir(work)
        select = {"select": {"scorer": "moments", "moments": "moments.json"}}
        settings = pipeline(videos, "run", manifest="m.csv", steps=select)
        with executor(scheduler=cluster.scheduler_address) as where:
            summary = run(settings, where, Progress(Console(file=io.StringIO())))
    assert summary["crashed"]["rows"] == 0
    assert (work / "run/shards/dataset.json").exists()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_worker_that_cannot_see_the_output_says_so(videos: Path, tmp_path: Path) -> None:
    class Elsewhere(InlineExecutor):
        """Does what a worker does on a machine without this disk."""

        def map(self, function: object, jobs: object) -> object:
            shutil.move(tmp_path / "run/parts", tmp_path / "parts")
            return super().map(function, jobs)

    with pytest.raises(StoreError, match=r"cannot see .*/run/parts/.*every worker must reach"):
        run(pipeline(videos, tmp_path / "run"), Elsewhere(), Progress(Console(file=io.StringIO())))
