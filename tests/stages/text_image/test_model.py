"""Frozen text-image models against transformers' own calls, a plain composition, and Pillow."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from torch.nn import functional as F

from avdata.errors import SettingsError, WeightsError
from stages.nn.pictures import as_pictures
from stages.text_image.model import TextImage
from stages.text_image.sight import CLIP_MEAN, CLIP_STD, HALF, Sight
from tests.stages.text_image.tiny_models import (
    letters_vocabulary,
    save_clip,
    save_siglip,
    transformers,
)

KINDS = ["clip", "siglip", "siglip2"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {
        "clip": save_clip(root / "clip", *letters_vocabulary()),
        "siglip": save_siglip(root / "siglip", "siglip"),
        "siglip2": save_siglip(root / "siglip2", "siglip2"),
    }


@pytest.fixture
def loaded(folders: dict[str, Path]) -> dict[str, TextImage]:
    return {kind: TextImage.load(folder) for kind, folder in folders.items()}


def smooth(seed: int, *sizes: tuple[int, int]) -> list[np.ndarray]:
    """Smooth random pictures [H, W, 3], neither black nor white anywhere."""
    found = []
    for i, (height, width) in enumerate(sizes):
        rng = np.random.default_rng([seed, i])
        coarse = torch.from_numpy(rng.random((1, 3, 5, 5)))
        fine = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
        found.append((fine[0].permute(1, 2, 0).numpy() * 200 + 25).round().astype(np.uint8))
    return found


def theirs(kind: str, folder: Path, pixels: torch.Tensor) -> torch.Tensor:
    """Return transformers' own unit features of pixels [B, 3, 64, 64]."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    if kind != "siglip2":
        found = model.get_image_features(pixel_values=pixels)
    else:
        patches = [  # row by row, each [16, 16, 3]
            image[:, y : y + 16, x : x + 16].permute(1, 2, 0).flatten()
            for image in pixels
            for y in range(0, 64, 16)
            for x in range(0, 64, 16)
        ]
        found = model.get_image_features(
            pixel_values=torch.stack(patches).reshape(len(pixels), 16, -1),
            pixel_attention_mask=torch.ones(len(pixels), 16, dtype=torch.int64),
            spatial_shapes=torch.full((len(pixels), 2), 4),
        )
    return F.normalize(getattr(found, "pooler_output", found), dim=-1)


@pytest.mark.parametrize("kind", KINDS)
def test_made_pictures_are_seen_as_a_plain_composition_sees_them(
    kind: str, folders: dict[str, Path], loaded: dict[str, TextImage]
) -> None:
    """Clamp, to [0, 1], antialiased resize, the model's colours; the gradient is the same too."""
    mean, std = (CLIP_MEAN, CLIP_STD) if kind == "clip" else (HALF, HALF)
    mode = "bilinear" if kind == "siglip2" else "bicubic"
    made = torch.randn(3, 3, 100, 100, generator=torch.Generator().manual_seed(0)) * 0.8
    ours, plain = made.clone().requires_grad_(), made.clone().requires_grad_()
    x = (plain.clamp(-1, 1) + 1) / 2
    x = F.interpolate(x, (64, 64), mode=mode, antialias=True)
    x = (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    expected = theirs(kind, folders[kind], x)
    found = loaded[kind].seen(ours)
    assert found.shape == (3, loaded[kind].dim)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    towards = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    (found * towards).sum().backward()
    (expected * towards).sum().backward()
    assert ours.grad is not None
    assert plain.grad is not None
    assert ours.grad.abs().sum() > 0
    assert (ours.grad[made.abs() > 1] == 0).all()  # beyond black and white there is nothing to win
    torch.testing.assert_close(ours.grad, plain.grad, atol=1e-6, rtol=1e-3)
    parameters = list(loaded[kind]._model.parameters())
    assert all(p.grad is None and not p.requires_grad for p in parameters)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(64, 64), (200, 200), (40, 40), (90, 160)])
def test_made_and_stored_pictures_agree(
    kind: str, size: tuple[int, int], loaded: dict[str, TextImage]
) -> None:
    """Within 1.5 / 255 before colours are normalised, and 0.999 in the features' cosine."""
    encoder, (image,) = loaded[kind], smooth(3, size)
    made = as_pictures(image[None], torch.device("cpu"))
    sight = encoder._sight
    apart = sight.made(made)[0] - sight.stored([image])[0]
    assert (apart.abs() * torch.tensor(sight.std).view(3, 1, 1)).max() < 1.5 / 255
    cosine = encoder.seen(made)[0].detach().numpy() @ encoder.pictures([image])[0]
    assert cosine > 0.999


@pytest.mark.parametrize(
    ("kind", "ids"),
    [
        ("siglip", [[3, 4, 5, 6, 1], [8, 1, 0, 0, 0]]),
        ("siglip2", [[11, 6, 7, 8, 5], [10, 9, 0, 0, 0]]),
    ],
)
def test_texts_of_siglip_are_filled_up_and_not_masked(
    kind: str, ids: list[list[int]], folders: dict[str, Path], loaded: dict[str, TextImage]
) -> None:
    """Against token numbers by hand; <pad> is 0."""
    texts = {"siglip": ["A photo of snow", "river"], "siglip2": ["Snow ", "ri"]}[kind]
    full = F.pad(torch.tensor(ids), (0, 16 - 5))
    model = transformers.AutoModel.from_pretrained(folders[kind]).eval()
    found = model.get_text_features(input_ids=full)
    expected = F.normalize(getattr(found, "pooler_output", found), dim=-1)
    np.testing.assert_allclose(loaded[kind].texts(texts), expected.detach(), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_that_are_too_long(kind: str, folders: dict[str, Path]) -> None:
    """They are cut off and named, or refused, as the caller says."""
    long, short = "snow fire " * 60, "snow"
    cutting = TextImage.load(folders[kind])
    first = cutting.texts([long, short, long])
    assert cutting.cut_off([long, short, long]) == [long, long]
    np.testing.assert_allclose(first[0], cutting.texts([long + "river"])[0], atol=1e-6)
    strict = TextImage.load(folders[kind], too_long="error")
    strict.texts([short])
    with pytest.raises(SettingsError, match=r"1 texts are too long.*tokens.*'snow fire"):
        strict.texts([short, long])


def test_clip_vit_b32_has_its_published_size() -> None:
    """ViT-B/32 is what transformers' CLIPConfig says when nothing is set."""
    with torch.device("meta"):
        model = transformers.CLIPModel(transformers.CLIPConfig())
    assert sum(p.numel() for p in model.parameters()) == 151_277_313


def test_what_the_files_say_counts(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(folders["clip"], tmp_path)
    told = {
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [1, 2, 4],
        "resample": 2,
        "do_center_crop": False,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    expected = Sight(64, False, "bilinear", (0.1, 0.2, 0.3), (1.0, 2.0, 4.0))
    encoder = TextImage.load(folder)
    assert encoder._sight == expected
    plain = TextImage.load(folders["clip"])
    assert plain._sight == Sight(64)
    assert encoder.fingerprint() != plain.fingerprint()
    assert plain.fingerprint() == TextImage.load(folders["clip"]).fingerprint()
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": told}))
    assert TextImage.load(folder)._sight == expected
    for wrong in ({"resample": 7}, {"image_mean": [1, 2]}, {"image_std": "red"}):
        (folder / "processor_config.json").write_text(json.dumps({"image_processor": wrong}))
        with pytest.raises(WeightsError, match="picture settings"):
            TextImage.load(folder)


def test_half_precision_files_are_read_in_full(folders: dict[str, Path], tmp_path: Path) -> None:
    model = transformers.CLIPModel.from_pretrained(folders["clip"]).half()
    folder = copied(folders["clip"], tmp_path)
    model.save_pretrained(folder)
    encoder = TextImage.load(folder)
    assert encoder.texts(["snow"]).dtype == np.float32
    assert {p.dtype for p in encoder._model.parameters()} == {torch.float32}


def broken(folder: Path, how: str) -> None:
    """Damage a copied model."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    match how:
        case "unknown kind":
            config["model_type"] = "bert"
        case "deeper":
            config["text_config"]["num_hidden_layers"] = 3
        case "no json":
            (folder / "config.json").write_text("{")
            return
        case "damaged":
            (folder / "model.safetensors").write_bytes(b"no weights")
        case _:
            for name in how.split():
                (folder / name).unlink()
            return
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("config.json", r"config\.json missing"),
        ("model.safetensors", r"model\.safetensors missing"),
        ("vocab.json", r"a tokenizer \(tokenizer\.json, or vocab\.json and merges\.txt\) missing"),
        ("unknown kind", r"of the kind 'bert'.*clip, siglip, siglip2"),
        ("deeper", r"lack 16 parameters of a CLIP"),
        ("damaged", r"cannot read the CLIP"),
        ("no json", r"not readable as JSON"),
    ],
)
def test_a_folder_that_is_no_model_says_what_is_missing(
    how: str, says: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copied(folders["clip"], tmp_path)
    broken(folder, how)
    with pytest.raises(WeightsError, match=says) as caught:
        TextImage.load(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere, which should hold.*does not exist"):
        TextImage.load(tmp_path / "nowhere")


def test_the_hub_is_asked_for_what_its_cache_lacks(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the cache is taken without asking; else the files of one format are brought."""
    asked: list[Any] = []

    def about(name: str, timeout: float) -> Any:
        asked.append(timeout)
        names = ["config.json", "model.safetensors", "pytorch_model.bin"]
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in names])

    def brought(name: str, local_files_only: bool = False, **options: Any) -> str:
        if not local_files_only:
            asked.append(options["allow_patterns"])
        elif not asked and name == "some/new":
            raise LocalEntryNotFoundError("not here")
        return str(folders["clip"] if name != "some/half" or not local_files_only else tmp_path)

    monkeypatch.setattr(huggingface_hub, "model_info", about)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", brought)
    TextImage.load("some/old")
    assert asked == []
    for name in ("some/new", "some/half"):  # not in the cache; there without weights
        asked.clear()
        assert TextImage.load(name).name == name
        assert asked[0] <= 5
        assert "*.safetensors" in asked[1]
        assert "*.bin" not in asked[1]


def copied(folder: Path, to: Path) -> Path:
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to
