"""Pairs of sounds and frames: the right ones, in the right order, also on several processes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from avdata.config import ShardSettings
from avdata.errors import SettingsError
from avdata.shards.sampling import epoch_order
from avdata.shards.views import View
from stages.image_encoder.frozen import load_image_encoder
from stages.losses.info_nce import euclidean_info_nce
from stages.models import build
from stages.nn.frontend import Frontend
from stages.pairs.clips import HeldOutPairs, PairReader, PairSource, read_clips
from stages.train_sound2scene import audio_spec
from tests.shard_factory import Made
from tests.stages.losses.processes import run_in_processes
from tests.stages.tones import (
    RATE_HZ,
    TRAIN_CLIPS,
    made_clips,
    pack_clips,
    save_image_encoder,
    stripes,
    tone,
)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 clips to train on, 8 held out: 32 x 32 px, 16 kHz, two picked frames each."""
    folder = tmp_path_factory.mktemp("tones")
    return pack_clips(folder, made_clips(), ShardSettings(max_clips=10), RATE_HZ)


def test_frames_and_sounds_are_those_of_the_clip(shards: Path) -> None:
    clips = read_clips(str(shards), "train", frames="picked")
    reader = PairReader(clips, n_samples=8000, seed=0, view=View())
    seen: dict[str, set[int]] = {}
    for epoch in range(6):
        pairs = reader(np.arange(len(clips)), epoch)
        assert pairs.image is not None
        for key, row, image, sound in zip(
            pairs.keys, pairs.frame_rows, pairs.image, pairs.sound, strict=True
        ):
            made = next(m for m in made_clips() if m.key == key)
            place = int(row - clips.first_frame[clips.keys.index(key)])
            seen.setdefault(key, set()).add(place)
            expected = stripes(made, made.picks[place]).astype(int)
            assert np.abs(image.astype(int) - expected).mean() < 12  # JPEG
            own = tone(made)
            np.testing.assert_array_equal(sound, np.resize(own, 8000))  # shorter ones start over
    assert sum(places == {0, 1} for places in seen.values()) > 0.8 * len(seen)


def test_the_middle_frame_is_no_selection(tmp_path: Path) -> None:
    clips = [Made(n, split="train", n_samples=8000, picks=(0,)) for n in range(4)]
    folder = pack_clips(tmp_path, clips, ShardSettings(frames="all"), RATE_HZ)
    mid = read_clips(str(folder), "train", frames="mid")
    best = read_clips(str(folder), "train", frames="best")
    picture = PairReader(mid, 8000, 0, View())(np.arange(4), None).image
    other = PairReader(best, 8000, 0, View())(np.arange(4), None).image
    assert picture is not None
    assert other is not None
    # Frames lie at 0, 0.1 and 0.2 s; the middle of half a second is nearest to the last.
    assert picture.mean() == pytest.approx(other.mean() + 40, abs=6)
    with pytest.raises(SettingsError, match="frames=picked"):
        read_clips(str(folder), "train", frames="picked")


def test_positions_count_what_was_handed_out(shards: Path) -> None:
    clips = read_clips(str(shards), "train")

    def make() -> PairSource:
        return PairSource(PairReader(clips, 800, 0), batch_size=4, seed=5, workers=2)

    source = make()
    expected = [clips.keys[row] for row in epoch_order(len(clips), 5, 0, shuffle=True)]
    batches = iter(source)
    first = [key for _ in range(3) for key in next(batches).keys]
    state = source.state_dict()
    resumed = make()
    resumed.load_state_dict(state)
    resumed.set_epoch(0)
    assert first + [key for pairs in resumed for key in pairs.keys] == expected


def test_classes_and_held_out_videos(shards: Path) -> None:
    clips = read_clips(str(shards), "train")
    rest, held_out = clips.divided(0.3, seed=1)
    assert {*rest.keys, *held_out.keys} == set(clips.keys)
    assert not {*rest.sources} & {*held_out.sources}
    assert len(held_out) % 4 == 0  # whole videos
    assert 0 < len(held_out) < len(rest)
    rain = clips.with_labels(["rain"])  # of odd clips
    assert len(rain) == TRAIN_CLIPS // 2
    row = clips.keys.index(rain.keys[3])
    assert rain.first_frame[3] == clips.first_frame[row]


def held_out_loss(rank: int, world_size: int) -> dict[str, Tensor]:
    """Return the mean held-out loss of an untrained encoder over batches of eight on all ranks."""
    clips = read_clips(os.environ["PAIRS_SHARDS"], "train")
    encoder = load_image_encoder(os.environ["PAIRS_ENCODER"])
    torch.manual_seed(3)
    model = build("audio_encoder", arch="tiny", width=4, out_dim=32).eval()
    frontend = Frontend(audio_spec(0.5))
    reader = PairReader(clips, 8000, 0, View(image_size_px=32))
    pairs = HeldOutPairs(
        reader, batch_size=8 // world_size, rank=rank, world_size=world_size, workers=1
    )
    losses = []
    with torch.no_grad():
        for pair in pairs:
            assert pair.image is not None
            z_V = encoder.of_pixels(pair.image, torch.device("cpu"))
            losses.append(euclidean_info_nce(model(frontend(torch.from_numpy(pair.sound))), z_V))
    return {"loss": torch.stack(losses).mean(), "batches": torch.tensor(len(losses))}


@pytest.mark.slow
def test_two_processes_contrast_the_whole_batch(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAIRS_SHARDS", str(shards))
    encoder = save_image_encoder(tmp_path / "image.safetensors")
    monkeypatch.setenv("PAIRS_ENCODER", str(encoder))
    alone = held_out_loss(0, 1)
    both = run_in_processes(held_out_loss, 2, tmp_path)
    assert both[0]["batches"] == both[1]["batches"] == alone["batches"] == TRAIN_CLIPS // 8
    mean = (both[0]["loss"] + both[1]["loss"]) / 2
    assert mean.item() == pytest.approx(alone["loss"].item(), abs=1e-6)
