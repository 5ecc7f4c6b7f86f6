"""What no plan leads to any more goes when asked; what is in use never does."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from avdata.cli.app import app
from avdata.errors import LockedError, StoreError
from avdata.run.pipeline import run
from avdata.run.progress import Progress
from avdata.run.prune import prune
from avdata.store import Store
from tests.avdata.test_rerun import copy, digests, done, go, pipeline, rows, videos

__all__ = ["copy", "done", "videos"]  # fixtures


def sizes(found: dict[str, dict[str, int]]) -> dict[str, int]:
    return {name: len(paths) for name, paths in found.items() if paths}


def test_a_fresh_run_has_nothing_to_prune(copy: Path) -> None:
    before = digests(copy, "**/*")
    assert sizes(prune(str(copy), media=True, delete=True)) == {}
    assert digests(copy, "**/*") == before


def test_the_work_of_other_settings_goes_and_the_run_is_as_it_was(
    videos: Path, done: Path, copy: Path
) -> None:
    go(pipeline(videos, copy, steps={"trim": {"frames_per_clip": 3}}))
    go(pipeline(videos, copy))
    before = digests(copy, "**/*")
    found = prune(str(copy))
    assert digests(copy, "**/*") == before  # it only told
    # Four parts: a table, a record and a tar of trim, a table and a record of what follows.
    assert sizes(found) == {"trim": 12, "tag": 8, "select": 8}
    told = {path: size for paths in found.values() for path, size in paths.items()}
    assert all((copy / path).stat().st_size == size for path, size in told.items())
    assert prune(str(copy), delete=True) == found
    everything = ("work/*/*.parquet", "work/*/*.tar", "parts/*", "media/*/*", "shards/**/*")
    assert digests(copy, *everything) == digests(done, *everything)
    times = {path: path.stat().st_mtime_ns for path in (copy / "work").rglob("*.*")}
    go(pipeline(videos, copy))
    assert {path: path.stat().st_mtime_ns for path in (copy / "work").rglob("*.*")} == times


def test_rows_that_are_listed_no_more(videos: Path, done: Path, copy: Path) -> None:
    shorter = videos / "shorter.csv"
    shorter.write_text("\n".join((videos / "m.csv").read_text().splitlines()[:5]) + "\n")
    go(pipeline(videos, copy, manifest=str(shorter)))
    assert sizes(prune(str(copy)))["parts"] == 2
    kept = digests(copy, "media/*/*")
    prune(str(copy), delete=True)
    assert digests(copy, "media/*/*") == kept  # what was fetched stays unless it is asked for
    assert sizes(prune(str(copy), media=True, delete=True)) == {"media": 4}
    assert len(rows(copy)) == 4
    assert len(list((copy / "work/trim").glob("*.tar"))) == 2
    before = digests(copy, "shards/*")
    go(pipeline(videos, copy, manifest=str(shorter)))
    assert digests(copy, "shards/*") == before


def test_what_an_interrupted_run_has_done_stays(videos: Path, copy: Path) -> None:
    changed = pipeline(videos, copy, steps={"trim": {"frames_per_clip": 3}})

    class StoppedError(Exception):
        pass

    class Stopping:
        threads_per_job = 1

        def map(self, function: object, jobs: object) -> object:
            yield function(next(iter(jobs)))  # type: ignore[operator, call-overload]
            raise StoppedError

    with pytest.raises(StoppedError):
        run(changed, Stopping(), Progress(Console(file=io.StringIO())))
    assert len(list((copy / "work/trim").glob("*.tar"))) == 4 + 1
    found = prune(str(copy), delete=True)
    # The old tars are named by the tables that are still those of the run before.
    assert not [path for path in found["trim"] if path.endswith(".tar")]
    go(changed)
    assert len(list((copy / "work/trim").glob("*.tar"))) == 4 + 4
    assert sizes(prune(str(copy), delete=True)) == {"trim": 4}
    assert len(list((copy / "work/trim").glob("*.tar"))) == 4


def test_steps_run_one_by_one_keep_each_others_work(videos: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    source: Path = videos / "m.csv"
    for step in ("fetch", "trim", "tag", "select"):
        go(pipeline(videos, output, manifest=str(source)), last_step=step)
        source = output / f"{step}.parquet"
    found = prune(str(output), media=True, delete=True)
    assert set(sizes(found)) <= {"parts"}
    go(pipeline(videos, output, manifest=str(output / "trim.parquet")))


def test_what_is_not_ours_is_left(copy: Path) -> None:
    others = [copy / "work/trim/notes.txt", copy / "parts/mine.csv", copy / "media/ab/me.mp4"]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
    assert sizes(prune(str(copy), media=True, delete=True)) == {}
    assert all(path.exists() for path in others)


def test_prune_waits_for_nobody_and_guesses_nothing(copy: Path, tmp_path: Path) -> None:
    with Store(str(copy)).lock(), pytest.raises(LockedError):
        prune(str(copy))
    (copy / "work/recipes.json").unlink()
    with pytest.raises(StoreError, match="does not say what its last run used; run the pipeline"):
        prune(str(copy))
    with pytest.raises(StoreError, match="is no run folder"):
        prune(str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_the_command_tells_first(videos: Path, copy: Path) -> None:
    go(pipeline(videos, copy, steps={"select": {"top_k": 2}}))
    before = len(list((copy / "work/select").iterdir()))
    told = CliRunner().invoke(app, ["prune", str(copy)])
    assert told.exit_code == 0, told.exception
    assert "--delete" in told.output
    assert len(list((copy / "work/select").iterdir())) == before
    gone = CliRunner().invoke(app, ["prune", str(copy), "--delete"])
    assert "removed" in gone.output
    assert len(list((copy / "work/select").iterdir())) == before // 2
    assert "nothing is superseded" in CliRunner().invoke(app, ["prune", str(copy)]).output
    shutil.rmtree(copy / "work/select")
    go(pipeline(videos, copy, steps={"select": {"top_k": 2}}))
