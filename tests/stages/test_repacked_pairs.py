"""Pairs and features of shards that are packed again meanwhile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avdata.errors import ShardError
from avdata.shards.views import View
from avdata.store import Store
from stages.pairs.clips import PairReader, read_clips
from stages.pairs.features import Features
from stages.sound2scene.instances import open_instances
from tests.repacked import AGAIN, SETTINGS, Read, copy_parts, count
from tests.shard_factory import pack


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "run"))


@pytest.mark.parametrize("way", ["another seed", "one more clip"])
def test_an_open_reader_of_pairs_never_mixes_up_clips(store: Store, way: str) -> None:
    tables = copy_parts(store, store)
    pack(store, tables[:1], SETTINGS)
    clips = read_clips(store.root, "train")
    reader = PairReader(clips, n_samples=4000, seed=0, view=View())

    def read(row: int) -> Read:
        pairs = reader(np.array([row]), None)
        assert pairs.image is not None
        return Read(pairs.keys[0], pairs.image[0], pairs.sound[0])

    assert count(range(4), read) == (4, 0)
    AGAIN[way](store, tables)
    right, refused = count(range(64), read)
    assert right + refused == 64
    assert refused > 0


def test_pictures_of_other_shards_than_the_features_are_refused(
    store: Store, tmp_path: Path
) -> None:
    tables = copy_parts(store, store)
    pack(store, tables[:1], SETTINGS)
    clips = read_clips(store.root, "train")
    values = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    features = Features(clips.keys, values, None, "f", clips.dataset)
    cpu = torch.device("cpu")
    whole = open_instances(
        tmp_path / "a", store.root, "train", features, size_px=8, k=2, device=cpu
    )
    assert len(whole) == 64
    AGAIN["another seed"](store, tables)
    with pytest.raises(ShardError, match="packed again since the features were read"):
        open_instances(tmp_path / "b", store.root, "train", features, size_px=8, k=2, device=cpu)
