"""What the terminal shows of runs, tables, clips and shards."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from avdata.cli.show import show
from avdata.cli.terminal import print_summary
from avdata.clip import Clip, Status
from avdata.errors import AvdataError, StoreError
from avdata.tables import write_clips
from tests.report_factory import FakeRun, make_run, manifest


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    return make_run(tmp_path_factory.mktemp("run"), manifest(11))


def shown(path: str | Path, key: str | None = None, **options: object) -> str:
    out = io.StringIO()
    show(str(path), key, console=Console(file=out, width=200), **options)  # type: ignore[arg-type]
    return out.getvalue()


def lines_with(text: str, *words: str) -> list[str]:
    return [line for line in text.splitlines() if all(w in line.split() for w in words)]


def test_run_shows_each_step_and_split(run: FakeRun) -> None:
    text = shown(run.root)
    accepted = sum(c.status is Status.ACCEPTED for c in run.final)
    assert lines_with(text, "select", str(accepted), "below_min")
    assert lines_with(text, "fetch", "not_found", "2,", "timeout", "1")
    split = run.summary["shards"]["splits"]["train"]
    assert lines_with(text, "train", str(split["clips"]), str(split["sources"]))


def test_run_and_show_print_one_table(run: FakeRun) -> None:
    out = io.StringIO()
    print_summary(json.loads((run.root / "summary.json").read_text()), Console(file=out, width=200))
    after_a_run = out.getvalue().splitlines()
    _title, *rows = shown(run.root).splitlines()
    assert rows[: len(after_a_run)] == after_a_run
    steps = [line.split()[0] for line in after_a_run]
    assert steps[:5] == ["step", "fetch", "trim", "tag", "select"]


def test_a_run_that_was_stopped_shows_the_same_table(run: FakeRun, tmp_path: Path) -> None:
    for table in run.root.glob("*.parquet"):
        shutil.copy(table, tmp_path)
    stopped, whole = shown(tmp_path).splitlines(), shown(run.root).splitlines()
    columns = ["step", "in", "out", "active", "accepted", "rejected", "failed", "expanded", "time"]
    assert stopped[1].split()[:-1] == whole[1].split()[:-1] == columns
    fetch, last = lines_with("\n".join(stopped), "fetch"), lines_with("\n".join(whole), "fetch")
    # The same but for the time, which stands in the summary alone.
    assert fetch[0].split()[:6] == last[0].split()[:6]


def test_table_counts_every_status_and_reason(run: FakeRun) -> None:
    text = shown(run.root / "select.parquet", limit=3)
    counts = Counter((str(c.status), c.step, c.reason) for c in run.final)
    for words, rows in counts.items():
        assert lines_with(text, *filter(None, words), str(rows)), (words, rows, text)
    assert sum(line.startswith("video") for line in text.splitlines()) == 3


def test_table_without_status_is_listed_plainly(run: FakeRun) -> None:
    text = shown(run.root / "shards/index.parquet", limit=2)
    assert text.splitlines()[0].split() == ["key", "split", "shard"]
    assert len(text.splitlines()) == 3


def test_clip_shows_its_whole_record(run: FakeRun) -> None:
    clip = next(c for c in run.final if c.status is Status.ACCEPTED)
    text = shown(run.root, clip.key)
    assert clip.source
    assert clip.media
    assert clip.selection
    for name, value in (
        ("url", clip.url),
        ("source.sha256", clip.source.sha256),
        ("media.n_samples", str(clip.media.n_samples)),
        ("measures.loudness_lufs", f"{clip.measures['loudness_lufs']:.6g}"),
        ("selection.scorer", "localizer"),
    ):
        assert lines_with(text, name, value), name
    best = clip.selection.picks[0]
    assert lines_with(text, str(best), f"{clip.media.frames[best].t_s:.3f}", "pick", "1")


def test_failed_clip_shows_its_reason(run: FakeRun) -> None:
    text = shown(run.root, "video001")
    assert lines_with(text, "reason", "not_found")


def test_contact_sheet_marks_the_pick(run: FakeRun, tmp_path: Path) -> None:
    clip = next(c for c in run.final if c.status is Status.ACCEPTED)
    target = tmp_path / "new/sheet.png"
    shown(run.root, clip.key, image=target)
    with Image.open(target) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape[1] == 1280
    # The line of a picked moment crosses waveform and spectrogram in the accent colour.
    accent = (np.abs(pixels - (138, 42, 131)).max(-1) < 3)[110:480]
    columns = set(np.flatnonzero(accent.all(0)).tolist())
    assert clip.media
    assert clip.selection
    for pick in clip.selection.picks:
        place = 48 + clip.media.frames[pick].t_s / 3.0 * (1280 - 96)
        assert any(abs(place - c) <= 1 for c in columns), (place, columns)


def test_shard_lists_samples_and_one_record(tmp_path: Path) -> None:
    path = tmp_path / "train-000000.tar"
    with tarfile.open(path, "w") as tar:
        for key in ("a", "b"):
            for name, data in (("jpg", b"12345"), ("json", json.dumps({"who": key}).encode())):
                info = tarfile.TarInfo(f"{key}.{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    text = shown(path)
    assert lines_with(text, "a", "jpg", "json")
    assert lines_with(text, "b", "jpg", "json")
    assert "2 samples" in text
    assert '"who": "b"' in shown(path, "b")
    with pytest.raises(AvdataError, match="no sample 'c'"):
        shown(path, "c")


def test_what_is_not_there_is_said(run: FakeRun, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no run folder"):
        shown(tmp_path)
    with pytest.raises(StoreError, match="no table"):
        shown(tmp_path / "x.parquet")
    with pytest.raises(StoreError, match="no shard"):
        shown(tmp_path / "x.tar")
    with pytest.raises(AvdataError, match="no clip 'nobody'"):
        shown(run.root, "nobody")
    with pytest.raises(AvdataError, match="no media"):
        shown(run.root, "video001", image=tmp_path / "x.png")
    with pytest.raises(AvdataError, match="give its key"):
        shown(run.root, image=tmp_path / "x.png")
    bad = tmp_path / "bad.tar"
    bad.write_bytes(b"not a tar" * 200)
    with pytest.raises(AvdataError, match="not a readable shard"):
        shown(bad)
    cut = tmp_path / "fetch.parquet"
    cut.write_bytes((run.root / "fetch.parquet").read_bytes()[:300])
    for path in (cut, tmp_path):
        with pytest.raises(StoreError, match=r"fetch\.parquet is damaged: .*; delete it and rerun"):
            shown(path)


def test_lost_media_are_named(tmp_path: Path) -> None:
    lost = make_run(tmp_path, manifest(11))
    clip = next(c for c in lost.final if c.status is Status.ACCEPTED)
    shutil.rmtree(tmp_path / "work")
    assert "accepted" in shown(lost.root, clip.key)
    with pytest.raises(StoreError, match="which trim wrote, is gone; run trim again"):
        shown(lost.root, clip.key, image=tmp_path / "x.png")


def test_hostile_text_cannot_steer_the_terminal(tmp_path: Path) -> None:
    hostile = "\x1b[31mred\x1b]0;title\x07 [bold]x[/bold] [/]"
    clip = Clip(key="k", url=hostile, source_id=hostile, labels=(hostile,), detail=hostile)
    write_clips(tmp_path / "fetch.parquet", [clip])
    for text in (
        shown(tmp_path),
        shown(tmp_path, "k"),
        shown(tmp_path / "fetch.parquet"),
    ):
        assert "\x1b" not in text
        assert "\x07" not in text
    assert "[bold]x[/bold]" in shown(tmp_path, "k")


def test_summary_prints_every_step_and_crashes(run: FakeRun) -> None:
    out = io.StringIO()
    summary = {
        **run.summary,
        "crashed": {"rows": 3, "sources": 1, "examples": ["http://h/a.mp4 in trim: KeyError()"]},
    }
    print_summary(summary, Console(file=out, width=200))
    for step in summary["steps"]:
        assert lines_with(out.getvalue(), step["name"], str(step["rows_out"]))
    assert "crashed rows, which a rerun tries again: 3" in out.getvalue()
    assert "http://h/a.mp4 in trim: KeyError()" in out.getvalue()
