"""Classes of clips: labels, YAMNet's tags where there are none, and what cannot be learnt."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from avdata.errors import SettingsError, ShardError
from stages.pairs.classes import Classes, read_classes
from tests.stages.sources_in_view import make_run


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_run(tmp_path_factory.mktemp("labelled") / "run", train=5, test=2))


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Clips without labels: YAMNet hears "Speech" where the pitch is low, else "Silence"."""
    folder = tmp_path_factory.mktemp("tagged") / "run"
    return str(make_run(folder, train=5, test=2, labels=False))


@pytest.fixture(scope="module")
def nameless(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("nameless") / "run"
    return str(make_run(folder, train=2, test=1, labels=False, tags=False))


def test_labels_are_taken_where_there_are_any(labelled: str) -> None:
    classes = read_classes(labelled)
    assert (classes.names, classes.source) == (("high", "low"), "labels")
    assert [classes.of_clip[f"clip{n:03d}"] for n in range(7)] == [(1,), (0,)] * 3 + [(1,)]


def test_tags_are_taken_where_there_are_no_labels_or_if_asked(labelled: str, tagged: str) -> None:
    for classes in (read_classes(tagged), read_classes(labelled, source="yamnet")):
        assert (classes.names, classes.source) == (("Silence", "Speech"), "yamnet")
        assert [classes.of_clip[f"clip{n:03d}"] for n in range(7)] == [(1,), (0,)] * 3 + [(1,)]


def test_targets_share_one_among_the_classes_of_a_clip() -> None:
    classes = Classes(("a", "b", "c"), "labels", {"x": (0, 2), "y": (), "z": (1,)})
    expected = torch.tensor([[0.5, 0, 0.5], [0, 0, 0], [0, 1, 0]])
    assert torch.equal(classes.targets(["x", "y", "z"]), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_clips": 3}, r"has 1 class\(es\) of at least 3 clips by its labels .*'low': 3"),
        ({"min_clips": 4}, r"has 0 class\(es\) of at least 4 clips"),
        ({"source": "yamnet", "min_score": 0.7}, "no clip has a YAMNet tag that scores 0.7"),
        ({"split": "dev"}, "no clip of split dev .* has labels, and no clip has a YAMNet tag"),
    ],
)
def test_fewer_than_two_classes_are_refused(labelled: str, settings: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_classes(labelled, **settings)


def test_clips_without_any_name_are_refused(nameless: str, tagged: str) -> None:
    with pytest.raises(SettingsError, match=r"give labels in the manifest, or name yamnet in"):
        read_classes(nameless)
    with pytest.raises(SettingsError, match=r"has labels; .*or learn from YAMNet's tags"):
        read_classes(tagged, source="labels")


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 2000,
        b"[]",
        b"{}",
        b'{"tags": [1]}',
        b'{"tags": [{"name": 1, "score": 0.5}]}',
        b'{"tags": [{"name": "a", "score": "x"}, {"name": "b", "score": []}]}',
        b'{"tags": [{"name": "a", "score": NaN}]}',
    ],
)
def test_tags_that_avdata_did_not_write_are_one_error(
    tagged: str, tmp_path: Path, text: bytes
) -> None:
    copy = Path(shutil.copytree(tagged, tmp_path / "run"))
    row = pq.read_table(copy / "shards" / "index.parquet").to_pylist()[0]
    with (copy / "shards" / row["shard"]).open("r+b") as file:
        file.seek(row["json_offset"])
        file.write(text[: row["json_bytes"]].ljust(row["json_bytes"]))
    with pytest.raises(
        ShardError, match=r"the JSON of a clip in .* pack the shards again"
    ) as error:
        read_classes(str(copy))
    assert str(error.value).isprintable()
