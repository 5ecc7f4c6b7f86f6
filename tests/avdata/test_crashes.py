"""A bug, or a decoder that takes its process down, costs the source it met and nothing else."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from avdata.cli.app import app
from avdata.clip import Clip
from avdata.config import Pipeline
from avdata.errors import RunError
from avdata.run.child import ProcessDiedError, in_child
from avdata.run.executors import InlineExecutor, executor
from avdata.run.jobs import Crash
from avdata.run.pipeline import run
from avdata.run.progress import Progress
from avdata.store import Store, sha256_file
from avdata.strict import build
from avdata.tables import iter_clips
from tests.media_factory import make_video, noise_track

STEPS = {
    "trim": {"window_s": 1, "frames_per_clip": 2, "width_px": 48, "height_px": 32, "threads": 1},
    "tag": {"taggers": ["loudness"]},
}
HOOK = """
import os
import avdata.media.decode as decode

cut_source = decode.cut_source

def deadly(path, *rest):
    with open(path, "rb") as file:
        if b"DEADLY" in file.read():
            os.abort()
    return cut_source(path, *rest)

decode.cut_source = deadly
"""
"""What a new interpreter runs at its start: cutting a file with this mark in it is its death."""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of two clips each; the bytes of b.mp4 end with the mark."""
    folder = tmp_path_factory.mktemp("videos")
    lines = ["url,start_ms,end_ms,key"]
    for name in "abc":
        video = folder / f"{name}.mp4"
        make_video(
            video, seconds=2, fps=10, width_px=48, height_px=32,
            sound=noise_track(2, 16000, seed=ord(name)),
        )  # fmt: skip
        lines += [f"{name}.mp4,0,1000,{name}0", f"{name}.mp4,1000,2000,{name}1"]
    with (folder / "b.mp4").open("ab") as file:
        file.write(b"\0\0\0\x0efreeDEADLY")
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def deadly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make b.mp4 kill every process started from now on that cuts it."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook/sitecustomize.py").write_text(HOOK)
    root = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'hook'}{os.pathsep}{root}")


def pipeline(videos: Path, output: Path, part_clips: int = 6, **more: object) -> Pipeline:
    tree = {"manifest": str(videos / "m.csv"), "output": str(output), "part_clips": part_clips}
    return build(Pipeline, {**tree, "steps": STEPS, "report": False, **more}, "test")


def go(settings: Pipeline, **options: object) -> dict[str, object]:
    return run(settings, InlineExecutor(), Progress(Console(file=io.StringIO())), **options)


def rows(output: Path, table: str = "select") -> dict[str, Clip]:
    return {clip.key: clip for clip in iter_clips(Store(str(output)), f"{table}.parquet")}


def shard_bytes(output: Path) -> dict[str, str]:
    return {p.name: sha256_file(p) for p in (output / "shards").iterdir() if p.is_file()}


# --- a process that dies --------------------------------------------------------------------------


def check_one_row_each(output: Path) -> None:
    found = rows(output)
    assert {key: (str(c.status), c.step, c.reason) for key, c in found.items()} == {
        **dict.fromkeys(("a0", "a1", "c0", "c1"), ("accepted", "select", "")),
        **dict.fromkeys(("b0", "b1"), ("failed", "trim", "decoder_crash")),
    }
    assert found["b0"].detail == "the process that worked on it was killed by SIGABRT"
    assert sorted(json.loads((output / "shards/dataset.json").read_text())["files"])
    assert not list(output.rglob("*.begun"))
    assert not list(output.rglob(".tmp-*"))


def test_a_process_that_died_of_a_file_costs_its_rows_at_the_next_run(
    videos: Path, tmp_path: Path, deadly: None
) -> None:
    """The executor that works in the run's own process cannot save it; but the next run knows."""
    script = tmp_path / "own_process.py"
    script.write_text(
        "import sys\n"
        "from rich.console import Console\n"
        "from avdata.config import load_pipeline\n"
        "from avdata.run import run\n"
        "from avdata.run.executors import InlineExecutor\n"
        "from avdata.run.progress import Progress\n"
        "run(load_pipeline(sys.argv[1]), InlineExecutor(), Progress(Console()))\n"
    )
    output = tmp_path / "run"
    settings = {"manifest": str(videos / "m.csv"), "output": str(output), "steps": STEPS}
    (tmp_path / "p.yaml").write_text(json.dumps({**settings, "part_clips": 6, "report": False}))
    command = [sys.executable, str(script), str(tmp_path / "p.yaml")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGABRT
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    check_one_row_each(output)


class Dying:
    """An executor whose workers die of the jobs of one part, as a pool tells it."""

    threads_per_job = 1

    def __init__(self) -> None:
        self.deaths = 0

    def map(self, function: object, jobs: object) -> Iterator[object]:
        for job in jobs:
            try:
                yield in_child(function, job)
            except ProcessDiedError as error:
                self.deaths += 1
                yield Crash(job, repr(error), "", died=True)


@pytest.mark.parametrize("part_clips", [pytest.param(1, marks=pytest.mark.slow), 6])
def test_a_worker_that_died_is_replaced_and_the_file_becomes_rows(
    videos: Path, tmp_path: Path, deadly: None, part_clips: int
) -> None:
    where = Dying()
    settings = pipeline(videos, tmp_path / "run", part_clips)
    run(settings, where, Progress(Console(file=io.StringIO())))
    check_one_row_each(tmp_path / "run")
    assert where.deaths == 1
    # It is settled: the next run neither dies nor works.
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run/work").rglob("*")}
    run(settings, where, Progress(Console(file=io.StringIO())))
    assert where.deaths == 1
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run/work").rglob("*")} == before


def test_the_default_replaces_what_died_and_ends_with_all_the_rest(
    videos: Path, tmp_path: Path, deadly: None
) -> None:
    output = tmp_path / "run"
    settings = {"manifest": str(videos / "m.csv"), "output": str(output), "steps": STEPS}
    (tmp_path / "p.yaml").write_text(json.dumps({**settings, "report": False}))
    command = [sys.executable, "-m", "avdata.cli", "run", str(tmp_path / "p.yaml")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    check_one_row_each(output)


@pytest.mark.slow
def test_a_cluster_loses_a_worker_and_ends_with_all_the_rest(
    videos: Path, tmp_path: Path, deadly: None
) -> None:
    with executor(workers=2) as where:
        run(pipeline(videos, tmp_path / "run"), where, Progress(Console(file=io.StringIO())))
    check_one_row_each(tmp_path / "run")


@pytest.mark.slow
def test_what_died_is_tried_again_when_asked(
    videos: Path, tmp_path: Path, deadly: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = pipeline(videos, tmp_path / "run")
    run(settings, Dying(), Progress(Console(file=io.StringIO())))
    before = shard_bytes(tmp_path / "run")
    go(settings, retry_failed=True)  # it dies again, in a child process
    check_one_row_each(tmp_path / "run")
    assert shard_bytes(tmp_path / "run") == before
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))  # a new decoder
    go(settings)
    check_one_row_each(tmp_path / "run")
    go(settings, retry_failed=True)
    assert {str(c.status) for c in rows(tmp_path / "run").values()} == {"accepted"}
    go(pipeline(videos, tmp_path / "undisturbed"))
    assert shard_bytes(tmp_path / "run") == shard_bytes(tmp_path / "undisturbed")


# --- children -------------------------------------------------------------------------------------


def hang(path: str) -> None:
    import time

    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


def divide(number: int) -> float:
    return 1 / number


def die(code: int) -> None:
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


def test_a_child_answers_raises_or_dies() -> None:
    assert in_child(divide, 4) == 0.25
    with pytest.raises(ZeroDivisionError) as error:
        in_child(divide, 0)
    assert "in divide" in "".join(error.value.__notes__)
    with pytest.raises(ProcessDiedError, match="ended with exit code 3"):
        in_child(die, 3)
    with pytest.raises(ProcessDiedError, match=r"killed by SIGKILL; .* out of memory"):
        in_child(die, -9)


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    import time

    pid_file = tmp_path / "pid"
    code = (
        "import sys; from avdata.run.child import in_child\n"
        "from tests.avdata.test_crashes import hang\n"
        "in_child(hang, sys.argv[1])"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(pid_file)], cwd=root, env=environment
    )
    deadline = time.monotonic() + 60
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    child = int(pid_file.read_text())
    parent.kill()
    parent.wait()
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


# --- a bug ----------------------------------------------------------------------------------------


@pytest.fixture
def bug(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Make trim fail by a bug wherever it meets b.mp4."""
    from avdata.steps.trim import TrimStep

    original = TrimStep.run

    def broken(self: TrimStep, clips: object, part: object) -> object:
        if any(clip.url.endswith("/b.mp4") for clip in clips):
            raise KeyError("a bug")
        return original(self, clips, part)

    with monkeypatch.context() as patch:
        patch.setattr(TrimStep, "run", broken)
        yield patch


def test_a_bug_costs_its_source_and_says_so(
    videos: Path, tmp_path: Path, bug: pytest.MonkeyPatch
) -> None:
    settings = pipeline(videos, tmp_path / "run")
    told = r"1 source \(2 rows\) crashed, first: .*/b\.mp4 in trim: KeyError\('a bug'\)"
    with pytest.raises(RunError, match=told):
        go(settings)
    assert not (tmp_path / "run/shards").exists()
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert (summary["crashed"]["rows"], summary["crashed"]["sources"]) == (2, 1)
    assert [step["crashed"] for step in summary["steps"]] == [0, 2, 2, 2]
    found = rows(tmp_path / "run")
    assert {key for key, clip in found.items() if clip.reason == "crashed"} == {"b0", "b1"}
    assert sum(str(clip.status) == "accepted" for clip in found.values()) == 4
    # Without the bug the run goes on and ends as if nothing had been.
    bug.undo()
    go(settings)
    go(pipeline(videos, tmp_path / "undisturbed"))
    assert shard_bytes(tmp_path / "run") == shard_bytes(tmp_path / "undisturbed")


def test_a_rerun_tries_only_what_crashed(
    videos: Path, tmp_path: Path, bug: pytest.MonkeyPatch
) -> None:
    settings = pipeline(videos, tmp_path / "run")
    for _ in range(2):
        with pytest.raises(RunError, match="crashed"):
            go(settings)
        times = {p: p.stat().st_mtime_ns for p in (tmp_path / "run/work").rglob("*.*")}
        before = locals().get("before", times)
    assert times == before


def avdata(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    return (0 if result.exit_code == 0 else 1), str(result.exception or "")


def test_shards_of_the_rest_are_packed_only_when_allowed(
    videos: Path, tmp_path: Path, bug: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunError):
        go(pipeline(videos, tmp_path / "run"))
    table = tmp_path / "run/select.parquet"
    code, error = avdata("shard", table, "--set", "report=false")
    assert code == 1
    assert "1 source (2 rows) crashed" in error
    assert "--allow-crashed packs shards of the rest" in error
    assert not (tmp_path / "run/shards/dataset.json").exists()
    assert avdata("shard", table, "--allow-crashed") == (0, "")
    dataset = json.loads((tmp_path / "run/shards/dataset.json").read_text())
    assert dataset["clips"] == 4
    assert dataset["crashed"]["rows"] == 2
    assert dataset["crashed"]["examples"][0].endswith("/b.mp4 in trim: KeyError('a bug')")
    page = (tmp_path / "run/report.html").read_text()
    assert "2 rows of 1 source crashed" in page
    summary = go(pipeline(videos, tmp_path / "other"), allow_crashed=True)
    assert summary["shards"]["clips"] == 4
    # A table of another folder says it too.
    with pytest.raises(RunError, match="1 source"):
        go(pipeline(videos, tmp_path / "third", manifest=str(table)))


def test_a_part_that_crashes_whatever_is_left_of_it_is_told_in_rows(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import avdata.run.part as part

    def broken(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(part, "make", broken)
        with pytest.raises(RunError, match=r"3 sources \(6 rows\) crashed, .* MemoryError"):
            go(pipeline(videos, tmp_path / "run"))
    assert {clip.reason for clip in rows(tmp_path / "run").values()} == {"crashed"}
    go(pipeline(videos, tmp_path / "run"))
    assert {str(clip.status) for clip in rows(tmp_path / "run").values()} == {"accepted"}


def test_what_is_too_much_only_together_is_done_one_by_one(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from avdata.steps.trim import TrimStep

    original = TrimStep.run

    def greedy(self: TrimStep, clips: list[Clip], part: object) -> object:
        if len({clip.url for clip in clips}) > 1 and self.settings.threads != 1:
            raise MemoryError
        return original(self, clips, part)

    monkeypatch.setattr(TrimStep, "run", greedy)
    steps = {**STEPS, "trim": {**STEPS["trim"], "threads": 2}}
    go(pipeline(videos, tmp_path / "run", steps=steps))
    assert {str(clip.status) for clip in rows(tmp_path / "run").values()} == {"accepted"}
