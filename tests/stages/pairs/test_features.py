"""The feature cache: order, names that follow the content, resuming, ranks; against plain loops."""

from __future__ import annotations

import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from avdata.config import ShardSettings
from avdata.errors import ShardError, WeightsError
from avdata.frames import normalise
from avdata.loader import Loader
from avdata.shards.views import View
from avdata.store import Store
from stages.engine.checkpoint import ModelCard, save_weights
from stages.engine.errors import CheckpointError
from stages.image_encoder.frozen import FrozenEncoder, load_image_encoder
from stages.models import build
from stages.pairs import computed as module
from stages.pairs.clips import Clips, read_clips
from stages.pairs.features import Features, cached_features, features_digest
from tests.shard_factory import Made, pack, picture, write_table
from tests.stages.losses.processes import run_in_processes

VIEW = View(only="image", image_size_px=16)


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


def compute(folder: Path, shards: Path, network: nn.Module | None = None, **how: Any) -> Features:
    encoder, clips = FrozenEncoder(network=network or Counting()), read_clips(str(shards), "train")
    return cached_features(folder, clips, encoder, image_size_px=16, batch_size=3, **how)


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
    assert found.values.dtype == np.float32
    np.testing.assert_allclose(found.values, in_a_loop(shards, Counting()), atol=1e-5)
    assert found.mirrored is None
    assert isinstance(found.values, np.memmap)


def test_mirror_images_have_features_of_their_own(tmp_path: Path, shards: Path) -> None:
    plain = compute(tmp_path, shards)
    network = Counting()
    found = compute(tmp_path, shards, network, mirrored=True)
    assert found.mirrored is not None
    assert network.seen == 22  # the plain ones are there already
    assert found.digest == plain.digest
    np.testing.assert_allclose(found.values, in_a_loop(shards, network), atol=1e-5)
    np.testing.assert_allclose(found.mirrored, in_a_loop(shards, network, True), atol=1e-5)


def test_several_frames_of_a_clip_have_rows_of_their_own(tmp_path: Path, shards: Path) -> None:
    clips = read_clips(str(shards), "train", frames="picked").where([False, *[True] * 5])
    network = Counting()
    how: dict[str, Any] = {"image_size_px": 32, "batch_size": 3}
    found = cached_features(tmp_path, clips, FrozenEncoder(network=network), **how)
    assert found.keys == [key for key in clips.keys for _ in range(2)]
    made = [Made(int(key[4:])) for key in clips.keys]
    pictures = np.stack([picture(m, frame) for m in made for frame in m.picks])
    expected = network(torch.from_numpy(normalise(pictures))).detach().numpy()
    np.testing.assert_allclose(found.values, expected, atol=0.05)  # JPEG


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
    assert [p.name for p in tmp_path.glob("[!.]*")] == [f"{found.digest}.npy"]


def test_killed_while_joining_it_joins_again(
    tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "_join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compute(tmp_path, shards)
    network = Counting()
    found = compute(tmp_path, shards, network)
    assert network.seen == 0
    np.testing.assert_allclose(found.values, in_a_loop(shards, network), atol=1e-5)


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_digest_follows_what_features_depend_on(tmp_path: Path, shards: Path) -> None:
    base = FrozenEncoder(network=Counting(), identity={"model": "counting"})

    def name(
        encoder: FrozenEncoder = base,
        clips: Clips | None = None,
        image_size_px: int = 16,
        **how: Any,
    ) -> str:
        clips = clips or train
        return features_digest(clips, encoder, image_size_px=image_size_px, **how)

    train = read_clips(str(shards), "train")
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
        name(clips=read_clips(str(tmp_path), "train")),
        name(clips=read_clips(str(shards), "test")),
        name(clips=read_clips(str(shards), "train", frames="picked")),
        name(clips=train.where(key != "clip0003" for key in train.keys)),
        name(image_size_px=17),
        name(mirrored=True),
    ]
    assert len(set(names)) == len(names)
    assert name(replace(base, network=Counting())) == names[0]
    elsewhere = read_clips(str(moved), "train")
    assert name(clips=elsewhere) == names[0]  # the content counts, not the place


def test_what_cannot_be_used_is_refused(tmp_path: Path, shards: Path) -> None:
    broken = Counting()
    nn.init.constant_(broken.scale, float("nan"))
    with pytest.raises(WeightsError, match="features of train are not finite"):
        compute(tmp_path, shards, broken)
    damaged = shutil.copytree(shards, tmp_path / "damaged")
    for tar in damaged.glob("shards/*.tar"):
        tar.write_bytes(b"?" * tar.stat().st_size)
    with pytest.raises(ShardError, match=r"cannot decode clip\d+: .*avdata verify"):
        compute(tmp_path, damaged)
    assert not list(tmp_path.glob("*.npy"))


def test_a_console_shows_how_far_it_is(tmp_path: Path, shards: Path) -> None:
    said = StringIO()
    compute(tmp_path, shards, console=Console(file=said))
    assert said.getvalue().splitlines() == ["features of train 22/22  0:00 left"]


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
        torch.testing.assert_close(encoder.features(pictures), alone(pictures))
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
        found = encoder.features(torch.randn(1, 3, 48, 48))
    assert found.shape == (1, 2048)
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
