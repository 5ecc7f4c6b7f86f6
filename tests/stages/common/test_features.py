"""The feature cache: order, names that follow the content, resuming, ranks; against plain loops."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from avdata.config import ShardSettings
from avdata.errors import ShardError
from avdata.frames import normalise
from avdata.loader import Loader
from avdata.store import Store
from avdata.views import View
from stages.common import features as module
from stages.common.checkpoint import ModelCard, save_weights
from stages.common.errors import CheckpointError
from stages.common.features import Features, cached_features, features_digest
from stages.common.frozen_encoder import Encoder, load_image_encoder
from stages.models import build
from tests.shard_factory import Made, pack, write_table
from tests.stages.losses.processes import run_in_processes

VIEW = View(image_size_px=16)


class Counting(nn.Module):
    """Shares of the picture's left and right halves; counts, and may stop, as if killed."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.seen, self.stop_after = 0, stop_after

    def forward(self, x: Tensor) -> Tensor:
        if self.stop_after is not None and self.seen >= self.stop_after:
            raise KeyboardInterrupt
        self.seen += len(x)
        left, right = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
        return self.scale * torch.cat([left.mean(dim=(2, 3)), right.std(dim=(2, 3))], dim=1)


def compute(
    folder: Path, shards: Path, network: nn.Module | None = None, mirrored: bool = False
) -> Features:
    encoder = Encoder(network=network or Counting())
    return cached_features(
        folder, shards, "train", encoder, view=VIEW, mirrored=mirrored, batch_size=3
    )


def in_a_loop(shards: Path, network: nn.Module, mirrored: bool = False) -> np.ndarray:
    """The features one picture at a time, normalised by the data half's own function."""
    rows = []
    for batch in Loader(shards, "train", batch_size=1, shuffle=False, workers=0, view=VIEW):
        picture = batch.image[:, :, ::-1] if mirrored else batch.image
        with torch.no_grad():
            rows.append(network(torch.from_numpy(normalise(picture))).numpy())
    return np.concatenate(rows)


@pytest.mark.parametrize("part_rows", [5, 4096])
def test_equals_a_loop_in_the_order_of_the_index(
    tmp_path: Path, shards: Path, part_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_ROWS", part_rows)
    found = compute(tmp_path, shards)
    index = pq.read_table(shards / "shards/index.parquet", filters=[("split", "=", "train")])
    assert found.keys == index.column("key").to_pylist()
    assert found.labels == index.column("labels").to_pylist()
    assert found.values.dtype == np.float32
    np.testing.assert_allclose(found.values, in_a_loop(shards, Counting()), atol=1e-5)
    assert found.mirrored is None
    assert isinstance(found.values, np.memmap)


def test_mirror_images_have_features_of_their_own(tmp_path: Path, shards: Path) -> None:
    found = compute(tmp_path, shards, mirrored=True)
    assert found.mirrored is not None
    network = Counting()
    np.testing.assert_allclose(found.values, in_a_loop(shards, network), atol=1e-5)
    np.testing.assert_allclose(found.mirrored, in_a_loop(shards, network, True), atol=1e-5)


def test_what_is_there_is_not_computed_again(tmp_path: Path, shards: Path) -> None:
    first, again = Counting(), Counting()
    compute(tmp_path, shards, first)
    compute(tmp_path, shards, again)
    assert (first.seen, again.seen) == (22, 0)


def test_killed_it_goes_on_and_loses_no_finished_part(
    tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_ROWS", 5)
    with pytest.raises(KeyboardInterrupt):
        compute(tmp_path, shards, Counting(stop_after=12))  # in the third of five parts
    network = Counting()
    found = compute(tmp_path, shards, network)
    assert network.seen == 12  # 22 clips, less two parts of 5
    np.testing.assert_allclose(found.values, in_a_loop(shards, network), atol=1e-5)
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith(".")) == [
        found.digest
    ]


def test_killed_while_joining_it_joins_again(
    tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compute(tmp_path, shards)
    network = Counting()
    found = compute(tmp_path, shards, network)
    assert network.seen == 0
    np.testing.assert_allclose(found.values, in_a_loop(shards, network), atol=1e-5)


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_digest_follows_what_features_depend_on(tmp_path: Path, shards: Path) -> None:
    base = Encoder(network=Counting(), identity={"model": "counting"})

    def name(encoder: Encoder = base, folder: Path = shards, split: str = "train", **how) -> str:  # type: ignore[no-untyped-def]
        return features_digest(folder, split, encoder, **{"view": VIEW, **how})

    other_weights = Counting()
    nn.init.constant_(other_weights.scale, 1.0001)
    store = Store(str(tmp_path))
    clips = [Made(n, split="train" if n < 22 else "test") for n in range(30)]
    pack(store, [write_table(store, "part", clips)], ShardSettings(splits={"train": 1.0}))
    moved = tmp_path / "moved"
    shutil.copytree(shards, moved)
    names = [
        name(),
        name(replace(base, network=other_weights)),
        name(replace(base, identity={"model": "counting", "width": 2})),
        name(replace(base, input_px=8)),
        name(replace(base, std=(1.0, 1.0, 1.0))),
        name(folder=tmp_path),
        name(split="test"),
        name(view=View(image_size_px=17)),
        name(mirrored=True),
    ]
    assert len(set(names)) == len(names)
    assert name(replace(base, network=Counting())) == names[0]
    assert name(folder=moved) == names[0]  # the content counts, not the place


@pytest.mark.parametrize("view", [View(flip=True), View(frame="random")])
def test_a_view_with_chance_is_refused(tmp_path: Path, shards: Path, view: View) -> None:
    with pytest.raises(ValueError, match="without chance"):
        cached_features(tmp_path, shards, "train", Encoder(network=Counting()), view=view)


def test_unknown_split_and_features_that_are_not_finite(tmp_path: Path, shards: Path) -> None:
    with pytest.raises(ShardError, match="no clips in split 'nowhere'"):
        cached_features(tmp_path, shards, "nowhere", Encoder(network=Counting()), view=VIEW)
    broken = Counting()
    nn.init.constant_(broken.scale, float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        compute(tmp_path, shards, broken)


def test_progress_ends_at_all_pictures(tmp_path: Path, shards: Path) -> None:
    told: list[tuple[int, int]] = []
    cached_features(
        tmp_path,
        shards,
        "train",
        Encoder(network=Counting()),
        view=VIEW,
        batch_size=8,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(8, 22), (16, 22), (22, 22)]


@pytest.mark.slow
def test_two_ranks_share_the_work(
    tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(shards, tmp_path / "made")
    monkeypatch.chdir(tmp_path)
    ranks = run_in_processes(in_this_folder, 2, tmp_path)
    expected = in_a_loop(shards, Counting())
    for rank in ranks:
        np.testing.assert_allclose(rank["values"], expected, atol=1e-5)
        assert 0 < rank["seen"].item() < 22
    assert sum(rank["seen"].item() for rank in ranks) == 22


def in_this_folder(rank: int, world_size: int) -> dict[str, Tensor]:
    module.PART_ROWS = 5
    network = Counting()
    found = compute(Path("cache"), Path("made"), network)
    return {"values": torch.from_numpy(np.array(found.values)), "seen": torch.tensor(network.seen)}


def test_image_encoder_is_taken_out_of_swav(tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = {"arch": "tiny", "width": 4, "embed_dim": 8, "n_prototypes": 5}
    swav = build("swav", **settings)
    file = tmp_path / "model.safetensors"
    card = ModelCard(name="swav", settings=settings)
    save_weights(file, swav.state_dict(), card.metadata())
    pictures = torch.randn(2, 3, 32, 32)
    encoder = load_image_encoder(tmp_path)
    alone = swav.get_submodule("encoder").eval()
    with torch.no_grad():
        torch.testing.assert_close(encoder.features(pictures)[:, 0], alone(pictures))
    assert encoder.identity == {"model": "image_encoder", "arch": "tiny", "width": 4}
    plain = tmp_path / "plain.safetensors"
    card = ModelCard(name="image_encoder", settings={"arch": "tiny", "width": 4})
    save_weights(plain, alone.state_dict(), card.metadata())
    assert load_image_encoder(plain).fingerprint() == encoder.fingerprint()


def test_published_resnet50_in_torchs_format(tmp_path: Path) -> None:
    torch.manual_seed(0)
    swav = build("swav", arch="resnet50", hidden_dim=16, embed_dim=8, n_prototypes=5)
    published = {
        f"module.{name.removeprefix('encoder.trunk.')}": value
        for name, value in swav.state_dict().items()
    }
    torch.save({"state_dict": published}, tmp_path / "swav.pth.tar")
    encoder = load_image_encoder(tmp_path / "swav.pth.tar", input_px=32)
    with torch.no_grad():
        found = encoder.features(torch.randn(1, 3, 48, 48), mirrored=True)
    assert found.shape == (1, 2, 2048)
    alone = swav.get_submodule("encoder")
    assert all(
        torch.equal(value, encoder.network.state_dict()[name])
        for name, value in alone.state_dict().items()
    )


def test_another_model_is_refused(tmp_path: Path) -> None:
    settings = {"arch": "tiny", "out_dim": 8}
    audio = build("audio_encoder", **settings)
    file = tmp_path / "model.safetensors"
    card = ModelCard(name="audio_encoder", settings=settings)
    save_weights(file, audio.state_dict(), card.metadata())
    with pytest.raises(CheckpointError, match="'audio_encoder'; an image encoder or swav"):
        load_image_encoder(file)
