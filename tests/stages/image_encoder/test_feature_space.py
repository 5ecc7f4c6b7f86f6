"""Which image encoder features belong to: what is written, what is refused, what is warned of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from avdata.errors import SettingsError
from stages.engine.checkpoint import ModelCard, load_weights, read_metadata, save_weights
from stages.engine.errors import CheckpointError
from stages.image_encoder.frozen import FrozenEncoder
from stages.image_encoder.space import FeatureSpace, require_same_encoder, warn_of_other_views
from stages.models import build

SPACE = FeatureSpace(
    weights="a" * 64,
    identity={"model": "image_encoder", "arch": "tiny"},
    view_px=256,
    input_px=224,
    normalisation=(0.5, 0.5, 0.5, 1.0, 1.0, 1.0),
)


def encoder(seed: int = 0) -> FrozenEncoder:
    torch.manual_seed(seed)
    network = build("image_encoder", arch="tiny", width=4).eval()
    identity = {"model": "image_encoder", "arch": "tiny", "width": 4}
    return FrozenEncoder(network=network, identity=identity, input_px=40)


def test_it_tells_encoders_apart_and_nothing_else() -> None:
    one, again, other = (FeatureSpace.of(encoder(seed), 48) for seed in (0, 0, 1))
    assert one == again
    assert (one.view_px, one.input_px) == (48, 40)
    assert one.weights != other.weights
    assert one.view == other.view


def test_it_comes_back_from_a_weights_file(tmp_path: Path) -> None:
    space = FeatureSpace.of(encoder(), 48)
    path = tmp_path / "model.safetensors"
    weights = {"weight": torch.ones(2)}
    save_weights(path, weights, ModelCard(name="any", features=space.record()).metadata(step=3))
    metadata = read_metadata(path)
    assert metadata == load_weights(path)[0] == read_metadata(tmp_path)
    assert FeatureSpace.read(metadata, str(path)) == space


def test_files_without_it_are_unknown() -> None:
    metadata = ModelCard(name="any").metadata()
    assert FeatureSpace.read(metadata, "new") is None
    del metadata["features"]  # as in files from before it was written
    assert FeatureSpace.read(metadata, "old") is None


def test_a_damaged_record(tmp_path: Path) -> None:
    metadata = ModelCard(name="any", features=SPACE.record()).metadata()
    with pytest.raises(CheckpointError, match="it names its features incompletely"):
        FeatureSpace.read({"features": {"weights": "abc"}}, "it")
    with pytest.raises(SettingsError, match="it: features: view_px must be a whole number"):
        FeatureSpace.read({"features": {**metadata["features"], "view_px": "256"}}, "it")


def test_different_encoders_are_refused_by_name_and_digest() -> None:
    other = replace(
        SPACE, weights="b" * 64, identity={"model": "image_encoder", "arch": "resnet50"}
    )
    with pytest.raises(CheckpointError) as refused:
        require_same_encoder({"G.safetensors": SPACE, "A.safetensors": other}, "train again")
    message = str(refused.value)
    assert "G.safetensors: aaaaaaaaaaaaaaaa (model image_encoder, arch tiny)" in message
    assert "A.safetensors: bbbbbbbbbbbbbbbb (model image_encoder, arch resnet50)" in message
    assert message.endswith("; train again")
    require_same_encoder({"G": SPACE, "A": replace(SPACE, view_px=64)}, "")
    require_same_encoder({"G": SPACE}, "")
    require_same_encoder({}, "")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"view_px": 128}, "A: 128 px, then 224 px"),
        ({"input_px": None}, "A: 256 px)"),
        ({"view_px": 224, "input_px": None}, "A: 224 px)"),
    ],
)
def test_other_views_are_warned_of(
    change: dict[str, int | None], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_other_views({"G": SPACE, "A": replace(SPACE, **change)}, "train again")
    (record,) = caplog.records
    message = record.getMessage()
    assert "G: 256 px, then 224 px, " in message
    assert words in message
    assert message.endswith("; train again")


def test_one_view_said_in_two_ways_is_no_other(caplog: pytest.LogCaptureFixture) -> None:
    plain, resampled = (replace(SPACE, view_px=64, input_px=px) for px in (None, 64))
    warn_of_other_views({"G": plain, "A": resampled}, "train again")
    assert not caplog.records
