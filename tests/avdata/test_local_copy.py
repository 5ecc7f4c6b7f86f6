"""A copy of VGGSound or AudioSet that one holds: which file is which clip, and what it lacks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from avdata.cli.manifest import app
from avdata.clip import Clip, Status
from avdata.errors import ManifestError, Reason, SettingsError
from avdata.manifest import iter_manifest
from avdata.manifest.importers import import_clips
from avdata.store import Store
from avdata.tables import iter_clips
from tests.media_factory import make_video, noise_track

A, B, C = "aaaaaaaaaaa", "-bbbbbbbbbb", "ccc_ccccccc"


def imported(importer: str, listed: Path, **options: Any) -> list[Clip]:
    return list(import_clips(importer, [listed], options, {"dataset": "d"}, "/base"))


def wrote(path: Path, content: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    lines = (f"{A},30,rain,train", f"{B},1,dog,test", f"{C},125,dog,test")
    return wrote(tmp_path / "vggsound.csv", "\n".join(lines))


@pytest.mark.parametrize(
    "names",
    [
        (f"{A}_000030.mp4", f"{B}_000001.mp4"),
        (f"train/{A}_30000_40000.webm", f"test/{B}_1000_11000.MP4"),
        (f"0/{A}_30_40.mkv", f"1/{B}_1.mp4"),
    ],
)
def test_files_are_found_by_their_names(tmp_path: Path, listed: Path, names: Any) -> None:
    for name in names:
        wrote(tmp_path / "copy" / name)
    first, second, third = imported("vggsound", listed, media=str(tmp_path / "copy"))
    assert [clip.url for clip in (first, second)] == [str(tmp_path / "copy" / n) for n in names]
    # The file begins where the list says the clip does; the official start stays recorded.
    assert [(c.start_ms, c.end_ms) for c in (first, second)] == [(0, 10_000)] * 2
    assert [c.attributes["source_start_ms"] for c in (first, second)] == ["30000", "1000"]
    assert (first.key, first.source_id, first.split) == (f"d-{A}-00030000", A, "train")
    assert (third.status, third.reason) == (Status.FAILED, Reason.NOT_FOUND)
    assert third.detail == f"vggsound.csv:3: no file {C}_000125.* in {tmp_path / 'copy'}"
    assert first.key == imported("vggsound", listed)[0].key  # as if it had been downloaded


def test_sounds_are_taken_where_there_is_no_video(tmp_path: Path, listed: Path) -> None:
    for name in (f"{A}_000030.m4a", f"{A}_000030.mp4", f"{B}_000001.wav"):
        wrote(tmp_path / "copy" / name)
    first, second, _ = imported("vggsound", listed, media=str(tmp_path / "copy"))
    assert [Path(clip.url).name for clip in (first, second)] == [
        f"{A}_000030.mp4",
        f"{B}_000001.wav",
    ]
    pattern = str(tmp_path / "copy/{id}_{start_s:06d}.wav")
    assert Path(imported("vggsound", listed, media=pattern)[1].url).name == f"{B}_000001.wav"


def test_a_pattern_of_ones_own(tmp_path: Path, listed: Path) -> None:
    wrote(tmp_path / "copy/rain/x_aaaaaaaaaaa_30.mp4")
    wrote(tmp_path / "copy/dog/x_aaaaaaaaaaa_30.mp4")  # another label: not this clip
    for ending in ("", ".mp4"):
        media = f"{tmp_path}/copy/{{label}}/x_{{id}}_{{start_s}}{ending}"
        clips = imported("vggsound", listed, media=media)
        assert clips[0].url == str(tmp_path / "copy/rain/x_aaaaaaaaaaa_30.mp4")
        assert [clip.reason for clip in clips[1:]] == [Reason.NOT_FOUND] * 2


@pytest.mark.parametrize(
    ("media", "told"),
    [
        ("copy/{id.__class__}", "must hold {id}"),
        ("copy/{start_s}", "must hold {id}"),
        ("copy/{id}_{when}", "no pattern"),
        ("copy/{id}_{0}", "no pattern"),
        ("copy/{id", "no pattern"),
    ],
)
def test_wrong_patterns(tmp_path: Path, listed: Path, media: str, told: str) -> None:
    wrote(tmp_path / "copy/x.mp4")
    with pytest.raises(SettingsError, match=told):
        imported("vggsound", listed, media=str(tmp_path / media))


def test_folders_that_hold_nothing(tmp_path: Path, listed: Path) -> None:
    with pytest.raises(ManifestError, match="is not a folder"):
        imported("vggsound", listed, media=str(tmp_path / "gone"))
    wrote(tmp_path / "empty/readme.txt")
    with pytest.raises(ManifestError, match="holds no video"):
        imported("vggsound", listed, media=str(tmp_path / "empty"))


def video(path: Path, seconds: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return make_video(path, seconds=seconds, sound=noise_track(seconds, 16000))


def test_a_bare_id_is_a_clip_or_the_whole_video_by_its_length(tmp_path: Path) -> None:
    listed = wrote(
        tmp_path / "eval_segments.csv",
        f'{A}, 3.000, 5.000, "/m/1"\n{B}, 3.000, 5.000, "/m/1"\n{C}, 3.000, 5.500, "/m/1"\n'
        f'{A}, 8.000, 10.000, "/m/1"\n{B}, 0.500, 2.500, "/m/1"\n',
    )
    copy = tmp_path / "copy"
    video(copy / f"{A}.mp4", 2)  # the clip alone
    video(copy / f"{B}.mp4", 8)  # the whole video
    video(copy / f"{C}.mp4", 5)  # neither: a clip of 2.5 s, which ends at 5.5 s
    cut, whole, neither, again, early = imported("audioset", listed, media=str(copy))
    assert (cut.start_ms, cut.end_ms, cut.attributes["source_start_ms"]) == (0, 2000, "3000")
    assert (whole.start_ms, whole.end_ms, whole.attributes) == (3000, 5000, {})
    assert neither.reason == Reason.BAD_ROW
    assert "cut=true or cut=false" in neither.detail
    assert "is the clip of an earlier row" in again.detail
    assert (early.start_ms, early.end_ms) == (500, 2500)
    told = imported("audioset", listed, media=str(copy), cut=False)
    assert [(c.start_ms, c.end_ms) for c in told[:3]] == [(3000, 5000), (3000, 5000), (3000, 5500)]


def test_the_command_says_what_the_copy_lacks(tmp_path: Path, listed: Path) -> None:
    wrote(tmp_path / "copy" / f"{A}_000030.mp4")
    out = tmp_path / "m.csv"
    command = ["import", "vggsound", str(listed), "-o", str(out)]
    done = CliRunner().invoke(app, [*command, "--option", f"media={tmp_path / 'copy'}"])
    assert done.exit_code == 0, done.output
    assert f"not_found: vggsound.csv:2: no file {B}_000001.*" in done.output
    assert f"{out}: 1 rows, 2 bad rows left out (not_found 2)" in done.output
    (clip,) = iter_manifest(str(out))
    assert (clip.key, clip.licence) == (f"vggsound-{A}-00030000", "CC BY 4.0")


def test_the_real_clips_are_found_in_the_official_lists(shared_data: Path, tmp_path: Path) -> None:
    copy, lists = shared_data / "video/vggsound", shared_data / "lists/vggsound"
    found = [
        clip
        for name in ("hche11_test.csv", "specvqgan_vggsound_test.txt")
        for clip in imported("vggsound", lists / name, media=str(copy))
        if clip.status is Status.ACTIVE
    ]
    names = {path.stem for path in copy.glob("*_*.mp4") if len(path.stem) > 17}
    official = (lists / "hche11_test.csv").read_text() + (
        lists / "specvqgan_vggsound_test.txt"
    ).read_text()
    ids = {name[:11] for name in names if name[:11] in official}
    assert {clip.source_id for clip in found} == ids
    assert len(ids) >= 3
    for clip in found:
        start = int(clip.attributes["source_start_ms"])
        stem = Path(clip.url).stem
        assert stem in (f"{clip.source_id}_{start}_{start + 10000}", f"{clip.source_id}_000030")
        assert (clip.start_ms, clip.end_ms) == (0, 10_000)


def test_published_moments_meet_clips_of_a_copy(tmp_path: Path, listed: Path) -> None:
    made = video(tmp_path / "made.mp4", 10)
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(made, copy / f"{A}_000030.mp4")
    out = tmp_path / "m.csv"
    command = ["import", "vggsound", str(listed), "-o", str(out), "--option", f"media={copy}"]
    assert CliRunner().invoke(app, command).exit_code == 0
    (tmp_path / "moments.json").write_text(json.dumps({f"{A}_30000_40000": [47, 3]}))
    (tmp_path / "p.yaml").write_text(
        "manifest: m.csv\noutput: run\n"
        "steps:\n  trim: {frames_per_clip: null, frame_rate_hz: 10, width_px: 64, height_px: 64}\n"
        "  tag: {taggers: []}\n  select: {scorer: moments, moments: moments.json}\n"
    )
    subprocess.run(
        [sys.executable, "-m", "avdata.cli", "run", "p.yaml", "--until", "select"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    (clip,) = iter_clips(Store(str(tmp_path / "run")), "select.parquet")
    assert clip.status is Status.ACCEPTED, clip.detail
    assert clip.selection is not None
    assert clip.selection.picks == (47,)
