"""verify: whatever is done to a folder of shards, it is told."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from avdata.config import ShardSettings
from avdata.loader import Loader
from avdata.shards.folder import DATASET_NAME, INDEX_NAME, seal
from avdata.shards.verify import verify
from avdata.store import Store, sha256_file
from tests.shard_factory import Made, pack, tar_of, write_table


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of three clips."""
    store = Store(str(tmp_path_factory.mktemp("verify") / "run"))
    table = write_table(store, "a", [Made(n) for n in range(6)])
    pack(store, [table], ShardSettings(max_clips=3, splits={"train": 1.0}))
    return Path(store.full("shards"))


@pytest.fixture
def shards(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "shards"))


def flip(path: Path, byte: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


def test_whole_shards_have_no_problems(shards: Path) -> None:
    assert verify(str(shards)) == []
    assert verify(str(shards), deep=True) == []
    assert verify(str(shards.parent)) == [], "the run's folder will do"


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "tar deleted": (lambda d: tar_of(d, "train-000001").unlink(), ".tar: missing"),
    "index deleted": (lambda d: (d / INDEX_NAME).unlink(), "index.parquet: missing"),
    "tar cut short": (
        lambda d: tar_of(d).write_bytes(tar_of(d).read_bytes()[:-512]),
        " bytes, ",
    ),
    "tar grown": (
        lambda d: tar_of(d).open("ab").write(b"\0" * 512),
        " bytes, ",
    ),
    "tar added": (
        lambda d: shutil.copy(tar_of(d), d / "train-000002.tar"),
        "train-000002.tar: not part of the dataset",
    ),
    "archive added": (
        lambda d: (d / "evil.tar.gz").write_bytes(b""),
        "evil.tar.gz: not part of the dataset",
    ),
    "folder added": (
        lambda d: shutil.copytree(d / ".done", d / "sub"),
        "sub: not part of the dataset",
    ),
    "text added": (lambda d: (d / "x.txt").touch(), "x.txt: not part of the dataset"),
    "hidden file added": (lambda d: (d / ".x").touch(), ".x: not part of the dataset"),
    "tar beside the records": (
        lambda d: shutil.copy(tar_of(d), d / ".done/train-000000.tar"),
        ".done/train-000000.tar: not part of the dataset",
    ),
    "bit flipped in a tar": (lambda d: flip(tar_of(d), 700), ".tar: changed"),
    "bit flipped in the index": (lambda d: flip(d / INDEX_NAME, 99), "index.parquet: changed"),
    "bit flipped in dataset.json": (lambda d: flip(d / DATASET_NAME, 30), "dataset.json"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_told_and_names_the_file(shards: Path, name: str) -> None:
    damage, told = DAMAGE[name]
    damage(shards)
    problems = verify(str(shards))
    assert any(told in problem for problem in problems), problems
    assert len(problems) == 1


def test_a_renamed_tar_is_missing_and_too_much(shards: Path) -> None:
    tar = tar_of(shards)
    tar.rename(shards / "train-000009.tar")
    assert verify(str(shards)) == [
        "train-000009.tar: not part of the dataset",
        f"{tar.name}: missing",
    ]


def test_two_tars_exchanged_are_both_wrong(shards: Path) -> None:
    one, two = tar_of(shards), tar_of(shards, "train-000001")
    one.rename(shards / "x")
    two.rename(one)
    (shards / "x").rename(two)
    assert [problem.split(":")[0] for problem in verify(str(shards))] == [one.name, two.name]


def test_any_flipped_bit_in_any_file_is_found(shards: Path) -> None:
    rng = random.Random(0)
    for path in sorted(p for p in shards.iterdir() if p.is_file()):
        original = path.read_bytes()
        for _ in range(25):
            flip(path, rng.randrange(len(original)), rng.randrange(8))
            assert verify(str(shards)), path
            path.write_bytes(original)
    assert verify(str(shards)) == []


def test_no_dataset_is_a_problem(tmp_path: Path) -> None:
    assert len(verify(str(tmp_path))) == 1
    assert len(verify(str(tmp_path / "nowhere"))) == 1


def reseal(shards: Path, name: str) -> None:
    """Make the checksums agree with a changed file, as a wrong program would."""
    tree = json.loads((shards / DATASET_NAME).read_bytes())
    facts = tree["index"] if name == INDEX_NAME else tree["files"][name]
    facts |= {"bytes": (shards / name).stat().st_size, "sha256": sha256_file(shards / name)}
    (shards / DATASET_NAME).write_bytes(seal(tree))


def test_an_index_that_does_not_fit_the_tars_is_told(shards: Path) -> None:
    import pyarrow.parquet as pq

    index = pq.read_table(shards / INDEX_NAME)
    rows = index.to_pylist()
    rows[0]["audio_offset"] += 512
    rows.pop()
    pq.write_table(type(index).from_pylist(rows, index.schema), shards / INDEX_NAME)
    reseal(shards, INDEX_NAME)
    problems = verify(str(shards))
    assert problems[0] == "index.parquet: 5 rows, 6 expected"
    assert f"{rows[0]['key']}: no such audio at byte" in problems[1]
    assert f"{rows[0]['key']}: not in the index: {rows[0]['key']}.flac" in problems[2]
    assert "not in the index" in problems[3]
    assert len(problems) == 4


def rename_as_before(shards: Path) -> None:
    """Name the tars without their content, as folders of before have them."""
    import pyarrow.parquet as pq

    index = pq.read_table(shards / INDEX_NAME)
    rows = [{**row, "shard": f"{row['shard'][:-17]}.tar"} for row in index.to_pylist()]
    pq.write_table(type(index).from_pylist(rows, index.schema), shards / INDEX_NAME)
    tree = json.loads((shards / DATASET_NAME).read_bytes())
    for name in list(tree["files"]):
        plain = f"{name[:-17]}.tar"
        tree["files"][plain] = tree["files"].pop(name)
        (shards / name).rename(shards / plain)
    (shards / DATASET_NAME).write_bytes(seal(tree))
    reseal(shards, INDEX_NAME)


def test_folders_with_plain_names_are_read_as_before(shards: Path) -> None:
    before = [batch.image for batch in Loader(shards, batch_size=2)]
    rename_as_before(shards)
    assert sorted(p.name for p in shards.glob("*.tar")) == ["train-000000.tar", "train-000001.tar"]
    assert verify(str(shards), deep=True) == []
    after = [batch.image for batch in Loader(shards, batch_size=2)]
    assert all((one == other).all() for one, other in zip(before, after, strict=True))


def test_deep_finds_what_no_decoder_can_read(shards: Path) -> None:
    import pyarrow.parquet as pq

    rename_as_before(shards)
    row = pq.read_table(shards / INDEX_NAME).to_pylist()[0]
    tar = shards / row["shard"]
    for kind in ("jpg", "audio", "json"):
        data = bytearray(tar.read_bytes())
        data[row[f"{kind}_offset"] : row[f"{kind}_offset"] + row[f"{kind}_bytes"]] = (
            b"?" * row[f"{kind}_bytes"]
        )
        tar.write_bytes(data)
    reseal(shards, row["shard"])
    assert verify(str(shards)) == []
    problems = verify(str(shards), deep=True)
    assert [p.split(": ")[1] for p in problems] == [
        f"{row['key']}.jpg",
        f"{row['key']}.flac",
        f"{row['key']}.json",
    ]
