"""ESC-50 and UrbanSound8K: their official lists, folds and files; several manifests as one."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from avdata.cli.manifest import app
from avdata.clip import Clip
from avdata.errors import ManifestError, SettingsError
from avdata.manifest import iter_manifest
from avdata.manifest.datasets import import_dataset, load_dataset

ESC = "filename,fold,target,category,esc10,src_file,take\n"
URBAN = "slice_file_name,fsID,start,end,salience,fold,classID,class\n"


def imported(name: str, listed: Path, **options: Any) -> list[Clip]:
    return list(import_dataset(load_dataset(name), [listed], options, "/base"))


def unpacked(folder: Path, place: str, text: str, *sounds: str) -> Path:
    """Lay out an archive: its list, and its sounds without content."""
    listed = folder / place
    listed.parent.mkdir(parents=True)
    listed.write_text(text)
    for sound in sounds:
        path = folder / "audio" / sound
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return listed


def test_esc50(tmp_path: Path) -> None:
    text = f"{ESC}1-100032-A-0.wav,1,0,dog,True,100032,A\n"
    text += "5-9032-A-0.wav,5,36,vacuum_cleaner,False,9032,A\n"
    listed = unpacked(tmp_path, "meta/esc50.csv", text, "1-100032-A-0.wav", "5-9032-A-0.wav")
    dog, cleaner = imported("esc50", listed)
    assert dog.key == "esc50-1-100032-A-0"
    assert dog.url == str(tmp_path / "audio/1-100032-A-0.wav")
    assert (dog.source_id, dog.split, dog.labels) == ("100032", "fold1", ("dog",))
    assert (dog.start_ms, dog.end_ms) == (None, None)
    assert dog.attributes == {"esc10": "true"}
    assert (cleaner.split, cleaner.labels) == ("fold5", ("vacuum_cleaner",))
    # The ten classes of ESC-10 are freer than the rest, says its LICENSE.
    assert (dog.licence, cleaner.licence) == ("CC BY 3.0", "CC BY-NC 3.0")
    assert [c.key for c in imported("esc50", listed, esc10=True)] == [dog.key]


def test_urbansound8k(tmp_path: Path) -> None:
    text = f"{URBAN}100263-2-0-117.wav,100263,58.5,62.5,2,10,2,children_playing\n"
    listed = unpacked(tmp_path, "metadata/UrbanSound8K.csv", text, "fold10/100263-2-0-117.wav")
    (clip,) = imported("urbansound8k", listed)
    assert clip.key == "urbansound8k-100263-2-0-117"
    assert clip.url == str(tmp_path / "audio/fold10/100263-2-0-117.wav")
    assert (clip.source_id, clip.split, clip.labels) == ("100263", "fold10", ("children_playing",))
    assert clip.attributes == {"salience": "background", "source_start_ms": "58500"}


def test_sounds_elsewhere_and_in_another_format(tmp_path: Path) -> None:
    text = f"{ESC}1-1-A-0.wav,1,0,dog,True,1,A\n1-2-A-0.wav,1,0,dog,True,2,A\n"
    listed = unpacked(tmp_path / "lists", "meta/esc50.csv", text)
    with pytest.raises(ManifestError, match=r"no folder .*/lists/audio.*--option media=FOLDER"):
        imported("esc50", listed)
    other = tmp_path / "mine" / "deep"
    other.mkdir(parents=True)
    with pytest.raises(ManifestError, match=r"mine holds no file named \*\.wav \*\.flac"):
        imported("esc50", listed, media=str(tmp_path / "mine"))
    (other / "1-1-A-0.ogg").touch()
    found, lacking = imported("esc50", listed, media=str(tmp_path / "mine"))
    assert found.url == str(other / "1-1-A-0.ogg")
    assert lacking.reason == "not_found"
    assert lacking.detail.startswith("esc50.csv:3: no file 1-2-A-0.wav")


def test_lines_that_are_wrong_cost_their_row(tmp_path: Path) -> None:
    good = "1-1-A-0.wav,1,0,dog,True,1,A"
    bad = ["1-1-A-0.wav,one,0,dog,True,1,A", "1-1-A-0.wav,1,0,dog", '"1-1-A-0.wav,1']
    text = ESC + "\n".join([*bad, good]) + "\n"
    listed = unpacked(tmp_path, "meta/esc50.csv", text, "1-1-A-0.wav")
    clips = imported("esc50", listed)
    assert [c.reason for c in clips] == ["bad_row"] * 3 + [""]
    with pytest.raises(
        ManifestError, match=r"has no column slice_file_name, fsID.*another dataset"
    ):
        imported("urbansound8k", listed)
    with pytest.raises(SettingsError, match="did you mean esc10"):
        imported("esc50", listed, esc1=True)


@pytest.mark.parametrize(
    ("name", "listed", "file", "label", "folds"),
    [
        ("esc50", "esc50.csv", "filename", "category", [400] * 5),
        (
            *("urbansound8k", "UrbanSound8K.csv", "slice_file_name", "class"),
            [873, 888, 925, 990, 936, 823, 838, 806, 816, 837],  # by the dataset's own paper
        ),
    ],
)
def test_the_real_lists(
    tmp_path: Path, shared_data: Path, name: str, listed: str, file: str, label: str, folds: Any
) -> None:
    path = shared_data / "lists" / name / listed
    with path.open(newline="") as official:
        rows = list(csv.DictReader(official))
    for row in rows:
        (tmp_path / row[file]).touch()
    clips = imported(name, path, media=str(tmp_path))
    assert len(clips) == load_dataset(name).rows == len({clip.key for clip in clips})
    assert not [clip.detail for clip in clips if clip.reason]
    split = Counter(clip.split for clip in clips)
    assert [split[f"fold{n + 1}"] for n in range(len(folds))] == folds
    assert [clip.labels for clip in clips] == [(row[label],) for row in rows]
    assert [clip.split for clip in clips] == [f"fold{row['fold']}" for row in rows]


def test_several_manifests_as_one(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    one, two = tmp_path / "one/a.csv", tmp_path / "b.jsonl"
    one.write_text("key,url,labels,mood\na,a.mp4,rain|wind,calm\nb,https://h/b.mp4,,\n")
    two.write_text('{"key": "c", "url": "c.mp4", "split": "test"}\n{"key": "a", "url": "d.mp4"}\n')
    out = tmp_path / "both.parquet"
    words = ["join", str(one), str(two), "-o", str(out)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1  # a row was left out
    assert f"duplicate_key: {two}: key 'a' is taken by a row of an earlier manifest" in done.output
    assert f"{out}: 3 rows, 1 bad rows left out (duplicate_key 1)" in done.output
    a, b, c = iter_manifest(str(out))
    assert (a.url, a.labels, a.attributes) == (
        str(tmp_path / "one/a.mp4"),  # each beside its own manifest
        ("rain", "wind"),
        {"mood": "calm"},
    )
    assert (b.url, c.url, c.split) == ("https://h/b.mp4", str(tmp_path / "c.mp4"), "test")
    assert CliRunner().invoke(app, [*words[:2], "-o", str(out)]).exit_code == 0
