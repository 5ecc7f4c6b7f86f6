"""The localizer: what it computes, learns and exports, and that `select` picks with it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from avdata import frames
from avdata.audio.spec import LOCALIZER
from avdata.clip import Status
from avdata.config import SelectSettings
from avdata.scorers.localizer import iter_patches
from avdata.steps.select import SelectStep
from stages.localizer.model import Localizer, export_onnx
from stages.nn.frontend import Frontend
from tests.clip_factory import ClipFactory
from tests.stages.nn.published_checkpoints import randomised

AUDIO = replace(LOCALIZER, name="localizer_half", n_samples=8000)
IMAGE_PX = 64


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tiny(**settings) -> Localizer:
    torch.manual_seed(0)
    return randomised(Localizer(n_classes=3, arch="tiny", embed_dim=16, **settings))


def inputs(steps: int) -> tuple[Tensor, Tensor]:
    return noise(steps, 3, IMAGE_PX, IMAGE_PX), noise(steps, *AUDIO.shape, seed=1)


# what it computes


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["attention", "average"])
def test_outputs_are_cosines_of_unit_vectors(pooling: str) -> None:
    model = tiny(pooling=pooling)
    pictures, audio = inputs(5)
    found = model(pictures, audio)
    assert found.map.shape == (5, 8, 8)
    for q in (found.q_v, found.q_a):
        assert q.shape == (5, 16)
        torch.testing.assert_close(q.norm(dim=1), torch.ones(5))
    v = model.see(pictures)
    at = F.cosine_similarity(v[2, :, 3, 6], found.q_a[2], dim=0)
    torch.testing.assert_close(found.map[2, 3, 6], at)
    # q_V of one step, by loops over the places.
    weights = [1.0] * 64
    if pooling == "attention":
        weights = [math.exp(c / 0.1) for c in found.map[1].flatten().tolist()]
    pooled = sum(w * place for w, place in zip(weights, v[1].flatten(1).T, strict=True))
    torch.testing.assert_close(found.q_v[1], F.normalize(pooled, dim=0))


@torch.no_grad()
def test_attention_finds_the_best_place_better_than_the_average() -> None:
    pictures, audio = inputs(6)
    model = tiny()
    attended = model(pictures, audio)
    model.pooling = "average"
    averaged = model(pictures, audio)
    assert ((attended.q_v * attended.q_a).sum(1) >= (averaged.q_v * averaged.q_a).sum(1)).all()


@torch.no_grad()
def test_logits_are_a_shared_cosine_classifier_with_a_smooth_maximum() -> None:
    model = tiny(scale=20.0, temperature=0.2)
    model.bias.copy_(torch.tensor([0.5, -1.0, 0.0]))
    pictures, audio = inputs(2)
    found = model(pictures, audio)
    for k, (w, b) in enumerate(zip(model.classes, model.bias, strict=True)):
        cosine = F.cosine_similarity(found.q_a, w[None])
        torch.testing.assert_close(found.logits_a[:, k], 20 * cosine + b)
        places = F.cosine_similarity(model.see(pictures), w[None, :, None, None]).double()
        smooth = 0.2 * (places / 0.2).exp().mean(dim=(1, 2)).log()
        assert (places.mean(dim=(1, 2)) < smooth).all()
        assert (smooth < places.amax(dim=(1, 2))).all()
        expected = (20 * smooth + b).float()
        torch.testing.assert_close(found.logits_v[:, k], expected, rtol=1e-4, atol=1e-4)


def test_scale_follows_the_number_of_classes() -> None:
    with torch.device("meta"):
        scales = {n: Localizer(n_classes=n, arch="tiny").scale for n in (1, 3, 309)}
    assert scales == {1: 4, 3: 4, 309: pytest.approx(1.41421356 * 5.7300998)}


@torch.no_grad()
def test_the_picture_is_classified_without_the_sound_and_steps_do_not_meet() -> None:
    model = tiny()
    pictures, audio = inputs(4)
    found = model(pictures, audio)
    other = model(pictures, audio.flip(0))
    torch.testing.assert_close(found.logits_v, other.logits_v)
    assert not torch.allclose(found.map, other.map)
    alone = model(pictures[1:2], audio[1:2])
    for whole, part in zip(found, alone, strict=True):
        torch.testing.assert_close(whole[1:2], part, rtol=1e-4, atol=1e-5)


def test_resnet18_at_its_size() -> None:
    model = Localizer(n_classes=309).eval()
    with torch.no_grad():
        found = model(noise(1, 3, 224, 224), noise(1, *LOCALIZER.shape))
    assert found.map.shape == (1, 14, 14)
    assert found.q_v.shape == (1, 512)
    # Two trunks (one with a stem of one channel), two projections, classes, one batch norm.
    trunks = 11_176_512 + 11_170_240
    assert sum(p.numel() for p in model.parameters()) == (
        trunks + 2 * (512 * 512 + 512) + 309 * 513 + 2
    )


# learning


def tones_and_patches(rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, np.ndarray]:
    """A patch of colour k somewhere in each of 12 grey pictures, and a tone of pitch k.

    Returns pictures, log mel patches, k [12], and rows and columns of the patches' centres [12, 2].
    """
    labels = np.arange(12) % 3
    pictures = rng.integers(90, 130, (12, IMAGE_PX, IMAGE_PX, 3), np.uint8)
    centres = rng.integers(8, IMAGE_PX - 8, (12, 2))
    t = np.arange(AUDIO.n_samples) / AUDIO.sample_rate_hz
    sound = rng.normal(0, 0.01, (12, len(t)))
    for step, k in enumerate(labels):
        row, column = centres[step]
        pictures[step, row - 8 : row + 8, column - 8 : column + 8] = np.eye(3)[k] * 220
        sound[step] += 0.3 * np.sin(2 * np.pi * (300, 1200, 4000)[k] * t)
    audio = Frontend(AUDIO)(torch.from_numpy(sound.astype(np.float32)))
    return torch.from_numpy(frames.normalise(pictures)), audio, torch.from_numpy(labels), centres


@pytest.mark.slow
def test_trained_by_classification_alone_it_matches_and_localises() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = Localizer(n_classes=3, arch="tiny", embed_dim=32)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(40):
        pictures, audio, labels, _ = tones_and_patches(rng)
        found = model(pictures, audio)
        loss = F.cross_entropy(found.logits_v, labels) + F.cross_entropy(found.logits_a, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1
    assert losses[-1] < 0.1

    pictures, audio, labels, centres = tones_and_patches(rng)
    model.eval()
    with torch.no_grad():
        # Step 12 p + a shows picture p with sound a: C tells what belongs together.
        every = model(pictures.repeat_interleave(12, dim=0), audio.repeat(12, 1, 1, 1))
        C = (every.q_v * every.q_a).sum(dim=1).view(12, 12)
        same = labels[:, None] == labels[None]
        assert C[same].min() > C[~same].max() + 0.3
        # The map is highest nearer to its own patch than to those of other pictures.
        highest = model(pictures, audio).map.flatten(1).argmax(dim=1).numpy()
    at = np.stack([highest // 8, highest % 8], axis=1) * 8 + 4
    off_px = np.abs(at[:, None] - centres[None]).max(axis=2)
    own = np.eye(12, dtype=bool)
    assert off_px[own].mean() < 0.75 * off_px[~own].mean()


# export


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Localizer, Path]:
    model = tiny().train()
    path = tmp_path_factory.mktemp("models") / "localizer.onnx"
    assert export_onnx(model, AUDIO, path, image_px=IMAGE_PX) == path
    assert model.training  # left as it was found
    assert [p.name for p in path.parent.iterdir()] == ["localizer.onnx"]
    return model.eval(), path


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 5, 32])
def test_exported_file_gives_the_models_own_outputs(
    exported: tuple[Localizer, Path], steps: int
) -> None:
    model, path = exported
    pictures, audio = inputs(steps)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {"frames": pictures.numpy(), "audio": audio.numpy()}
    found = session.run(["q_V", "q_A", "map"], feed)
    expected = model(pictures, audio)
    for got, name in zip(found, ("q_v", "q_a", "map"), strict=True):
        np.testing.assert_allclose(got, getattr(expected, name), atol=1e-4)


@torch.no_grad()
def test_select_picks_with_the_exported_file(
    exported: tuple[Localizer, Path], tmp_path: Path
) -> None:
    model, path = exported
    rng = np.random.default_rng(3)
    # Smooth pictures of the model's own size, which JPEG changes little and nothing resizes.
    pictures = [
        frames.squash(rng.integers(0, 255, (3, 3, 3), np.uint8), IMAGE_PX, IMAGE_PX)
        for _ in range(6)
    ]
    sound = rng.normal(0, 0.1, 48000) * np.linspace(0, 1, 48000)
    times_s = np.linspace(0.25, 2.75, 6)
    factory = ClipFactory(tmp_path / "run")
    clip = factory.clip("a", pictures, times_s, sound)
    settings = SelectSettings(scorer="localizer", localizer=str(path), top_k=2)
    (out,) = SelectStep(settings).run([clip], factory.part())

    assert out.status is Status.ACCEPTED
    assert out.selection is not None
    stored = np.stack([frames.decode_jpeg(frames.encode_jpeg(p, 92)) for p in pictures])
    heard = (np.int16(np.round(sound * 32767)) / 32768).astype(np.float32)
    (patches,) = iter_patches(heard, times_s, AUDIO)
    expected = model(torch.from_numpy(frames.normalise(stored)), torch.from_numpy(patches))
    C = (expected.q_v * expected.q_a).sum(dim=1)
    np.testing.assert_allclose(out.selection.frame_scores, C, atol=1e-4)
    assert out.selection.picks == tuple(C.argsort(descending=True)[:2].tolist())
    assert (out.selection.map_height, out.selection.map_width) == (8, 8)
    for pick, kept in zip(out.selection.picks, out.selection.maps, strict=True):
        np.testing.assert_allclose(kept, expected.map[pick].flatten(), atol=1e-4)
