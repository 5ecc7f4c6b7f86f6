"""The model as a whole: seeds, batches, what goes in where, and parts that do not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from avdata.audio.spec import SOUND2SCENE
from avdata.config import load_pipeline
from avdata.errors import SettingsError, WeightsError
from avdata.shards.views import View, view_image
from stages.engine.checkpoint import ModelCard
from stages.engine.errors import CheckpointError
from stages.evaluation.painters import Painters
from stages.generation.inputs import InputError, Picture, Sound
from stages.image_encoder.frozen import load_image_encoder
from stages.image_encoder.space import FeatureSpace
from stages.models import build
from stages.nn.sphere import interpolated
from stages.sound2scene.load import load_model
from stages.sound2scene.published_icgan import to_published
from stages.sound2scene.scene import PictureView, Sound2Scene
from tests.stages.nn.published_checkpoints import randomised
from tests.stages.tiny_scenes import (
    DIM,
    ENCODER,
    GENERATOR,
    RATE_HZ,
    SPEC,
    generator,
    make_run,
    save,
    tone,
)

RAIN = Sound("rain", tone(300), RATE_HZ)
BIRD = Sound("bird", tone(3000), RATE_HZ)
VIEW = Picture("view", np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def model(run: Path) -> Sound2Scene:
    return load_model(run, device="cpu")


def test_same_seed_same_pictures_another_seed_others(model: Sound2Scene, run: Path) -> None:
    first = model.generate(RAIN, n=3, seed=5)
    assert first.shape == (3, 32, 32, 3)
    assert first.dtype == np.uint8
    assert first.std() > 10  # else all below would hold of grey pictures
    np.testing.assert_array_equal(load_model(run, device="cpu").generate(RAIN, n=3, seed=5), first)
    assert (model.generate(RAIN, n=3, seed=6) != first).any(axis=(1, 2, 3)).all()
    assert (first[0] != first[1]).any()


def test_more_pictures_begin_with_the_same(model: Sound2Scene) -> None:
    assert torch.equal(model.noise("rain", 7, 0)[:3], model.noise("rain", 3, 0))
    assert not torch.equal(model.noise("rain", 3, 0), model.noise("bird", 3, 0))


def test_the_batch_size_changes_nothing(model: Sound2Scene) -> None:
    """The noise is the picture's own; what remains is the order of float sums."""
    whole = model.generate(RAIN, n=5, batch_size=5).astype(int)
    for size in (1, 2):
        parts = model.generate(RAIN, n=5, batch_size=size)
        assert np.abs(parts - whole).max() <= 1


def test_noise_is_standard_normal_without_truncation(model: Sound2Scene) -> None:
    z = model.noise("rain", 2000, 0).numpy().ravel()
    assert stats.kstest(z, "norm").pvalue > 1e-3
    assert np.abs(z).max() > 3


def test_features_have_unit_norm_and_follow_the_sound(model: Sound2Scene) -> None:
    rain, bird, view = model.hear(RAIN), model.hear(BIRD), model.latent(VIEW)
    for h in (rain, bird, view):
        assert h.shape == (DIM,)
        assert float(h.norm()) == pytest.approx(1, abs=1e-6)
    assert float(rain @ bird) < 0.9999
    assert (model.generate(RAIN, seed=1) != model.generate(BIRD, seed=1)).any()


def test_an_encoder_that_answers_with_zeros(run: Path, tmp_path: Path) -> None:
    dead = build("audio_encoder", **ENCODER, out_dim=DIM)
    torch.nn.init.constant_(dead.get_submodule("head.0").get_parameter("bias"), -1e6)
    card = ModelCard(name="audio_encoder", settings={**ENCODER, "out_dim": DIM}, audio=SPEC)
    path = save(tmp_path / "dead.safetensors", card, dead)
    with pytest.raises(InputError, match="all zeros"):
        load_model(run, audio_encoder=path, device="cpu").generate(RAIN)


def test_what_is_heard_is_the_encoder_on_the_front_end(model: Sound2Scene) -> None:
    from avdata.audio.spectrograms import features

    assert model.audio_encoder is not None
    seen = torch.from_numpy(features(RAIN.samples, SPEC))[None]
    with torch.no_grad():
        z_a = model.audio_encoder(seen)[0]
    torch.testing.assert_close(model.hear(RAIN), z_a / z_a.norm(), rtol=1e-3, atol=1e-4)


def test_pictures_are_seen_as_in_training(model: Sound2Scene, run: Path) -> None:
    assert model.view == PictureView(view_px=48, input_px=40)
    encoder = load_image_encoder(run / "stages" / "train_image_encoder", input_px=40)
    squashed = Image.fromarray(VIEW.image).resize((48, 48), Image.Resampling.BILINEAR)
    z_v = encoder.of_pixels(np.array(squashed)[None], torch.device("cpu"))[0]
    torch.testing.assert_close(model.latent(VIEW), z_v / z_v.norm(), rtol=1e-4, atol=1e-5)


def test_each_side_of_the_view_can_be_chosen_alone(run: Path) -> None:
    for given, view in (
        ({"input_px": 32}, PictureView(view_px=48, input_px=32)),  # the training's view stays
        ({"view_px": 64}, PictureView(view_px=64, input_px=None)),
        ({"view_px": 64, "input_px": 32}, PictureView(view_px=64, input_px=32)),
    ):
        made = load_model(run, device="cpu", **given)
        assert made.view == view
        assert made.image_encoder is not None
        assert made.image_encoder.input_px == view.input_px


def test_a_training_view_squashes_the_same_way(model: Sound2Scene) -> None:
    """The loader's view of a JPEG and `seen` of its pixels lead to one feature."""
    from avdata.frames import decode_jpeg, encode_jpeg

    data = encode_jpeg(VIEW.image, 95)
    seen = view_image(data, View(image_size_px=48), np.random.default_rng(0))
    torch.testing.assert_close(*model.seen([decode_jpeg(data), seen]))


def test_image_and_sound_meet_at_both_ends(model: Sound2Scene) -> None:
    both = {w: model.generate(RAIN, VIEW, sound_weight=w, seed=2) for w in (0.0, 0.5, 1.0)}
    np.testing.assert_array_equal(both[1.0], model.generate(RAIN, seed=2))
    z = model.noise("rain", 4, 2)
    np.testing.assert_array_equal(both[0.0], model.draw(model.latent(VIEW), z))
    middle = model.hear(RAIN) + model.latent(VIEW)
    np.testing.assert_array_equal(both[0.5], model.draw(middle / middle.norm(), z))
    assert interpolated(model.hear(RAIN), model.latent(VIEW), 0.5).shape == (DIM,)
    np.testing.assert_array_equal(
        model.generate(image=VIEW, seed=2),
        model.draw(model.latent(VIEW), model.noise("view", 4, 2)),
    )
    with pytest.raises(ValueError, match="give a sound"):
        model.generate()


def test_features_are_differentiable(model: Sound2Scene) -> None:
    x = torch.zeros(1, 3, 32, 32).uniform_(-1, 1).requires_grad_()
    model.features(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_parts_that_a_run_lacks(run: Path, tmp_path: Path) -> None:
    alone = load_model(generator=run / "stages" / "train_icgan", device="cpu")
    with pytest.raises(SettingsError, match="sounds need an audio encoder"):
        alone.generate(RAIN)
    with pytest.raises(SettingsError, match="pictures need an image encoder"):
        alone.generate(image=VIEW)
    with pytest.raises(CheckpointError, match="has not finished"):
        load_model(tmp_path, device="cpu")
    with pytest.raises(SettingsError, match="nothing to generate with"):
        load_model()
    with pytest.raises(CheckpointError, match="there is no"):
        load_model(run, audio_encoder=tmp_path / "gone.safetensors", device="cpu")


@pytest.mark.parametrize(
    ("part", "stage", "message"),
    [
        ("generator", "train_sound2scene", "holds the model 'audio_encoder', no generator"),
        ("audio_encoder", "train_icgan", "'icgan_generator', no audio encoder"),
        ("image_encoder", "train_icgan", "an image encoder or swav is needed"),
    ],
)
def test_a_checkpoint_of_another_kind(run: Path, part: str, stage: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_model(run, **{"device": "cpu", part: str(run / "stages" / stage)})


def test_parts_of_different_families(run: Path, tmp_path: Path) -> None:
    wide = ModelCard(name="audio_encoder", settings={**ENCODER, "out_dim": 7}, audio=SPEC)
    path = save(tmp_path / "wide.safetensors", wide)
    with pytest.raises(SettingsError, match=r"features of 7 numbers.*trained on 32"):
        load_model(run, audio_encoder=path, device="cpu")
    deaf = ModelCard(name="audio_encoder", settings={**ENCODER, "out_dim": DIM})
    with pytest.raises(CheckpointError, match="through which front-end"):
        load_model(run, audio_encoder=save(tmp_path / "deaf.safetensors", deaf), device="cpu")
    with pytest.raises(SettingsError, match="was trained with the front-end"):
        load_model(run, audio=replace(SPEC, log_offset=1e-6), device="cpu")
    assert load_model(run, audio=SPEC, device="cpu").spec == SPEC


# parts of one image encoder, or not


class Parts:
    """Files of parts that name their features; the networks in them are random."""

    def __init__(self, run: Path, folder: Path) -> None:
        self.folder = folder
        self.eye = run / "stages" / "train_image_encoder"
        torch.manual_seed(9)
        card = ModelCard(name="image_encoder", settings=ENCODER)
        other = build("image_encoder", **ENCODER)
        self.other_eye = save(folder / "other_eye.safetensors", card, other)

    def space(self, eye: Path, view_px: int = 48, input_px: int | None = 40) -> FeatureSpace:
        return FeatureSpace.of(load_image_encoder(eye, input_px=input_px), view_px)

    def generator(self, space: FeatureSpace | None) -> Path:
        card = ModelCard(name="icgan_generator", settings=GENERATOR, features=space)
        return save(self.folder / "G.safetensors", card)

    def audio_encoder(self, space: FeatureSpace | None) -> Path:
        sizes = {**ENCODER, "out_dim": DIM}
        card = ModelCard(name="audio_encoder", settings=sizes, audio=SPEC, features=space)
        return save(self.folder / "A.safetensors", card)


@pytest.fixture
def parts(run: Path, tmp_path: Path) -> Parts:
    """Where parts of the run's image encoder, or of another one, are written."""
    return Parts(run, tmp_path)


def load_parts(**given: Path) -> Sound2Scene:
    return load_model(**given, device="cpu")


def test_parts_of_one_image_encoder(parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
    space = parts.space(parts.eye, view_px=64, input_px=None)
    made = load_parts(
        generator=parts.generator(space),
        audio_encoder=parts.audio_encoder(space),
        image_encoder=parts.eye,
    )
    assert made.view == PictureView(view_px=64, input_px=None)  # from the generator's file alone
    assert not caplog.records


@pytest.mark.parametrize("strange", ["audio_encoder", "image_encoder"])
def test_parts_of_different_image_encoders(parts: Parts, strange: str) -> None:
    """Both files are named and both encoders, so that one can see which to train again."""
    own, other = parts.space(parts.eye), parts.space(parts.other_eye)
    given = {
        "generator": parts.generator(own),
        "audio_encoder": parts.audio_encoder(other if strange == "audio_encoder" else own),
        "image_encoder": parts.other_eye if strange == "image_encoder" else parts.eye,
    }
    with pytest.raises(CheckpointError) as refused:
        load_parts(**given)
    message = str(refused.value)
    for file, space in ((given["generator"], own), (given[strange], other)):
        assert f"{file}: {space.weights[:16]}" in message
    assert "--fresh" in message
    assert "--audio-encoder" in message


def test_without_a_generator_that_tells_the_other_two_are_compared(parts: Parts) -> None:
    generator = parts.generator(None)
    ear = parts.audio_encoder(parts.space(parts.other_eye))
    assert load_parts(generator=generator, audio_encoder=ear).image_encoder is None
    with pytest.raises(CheckpointError, match="different image encoders"):
        load_parts(generator=generator, audio_encoder=ear, image_encoder=parts.eye)


def test_older_files_are_not_checked(run: Path, parts: Parts) -> None:
    ear = parts.audio_encoder(None)
    assert load_model(run, audio_encoder=ear, image_encoder=parts.other_eye, device="cpu").spec


def test_other_views_are_warned_of(parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
    generator = parts.generator(parts.space(parts.eye))
    ear = parts.audio_encoder(parts.space(parts.eye, view_px=96, input_px=None))
    load_parts(generator=generator, audio_encoder=ear, image_encoder=parts.eye)
    (record,) = caplog.records
    assert f"{generator}: 48 px, then 40 px, {ear}: 96 px, {parts.eye}" in record.getMessage()
    assert "stages.train_icgan.encoder_view_px" in record.getMessage()
    caplog.clear()
    load_model(
        generator=generator, image_encoder=parts.eye, view_px=32, input_px=224, device="cpu"
    )  # who chooses a view means it
    assert not caplog.records


def test_evaluation_refuses_them_too(run: Path, parts: Parts, tmp_path: Path) -> None:
    generator = parts.generator(parts.space(parts.eye))
    ear = parts.audio_encoder(parts.space(parts.other_eye))
    file = tmp_path / "evaluated.yaml"
    file.write_text(json.dumps({"name": "evaluated", "output": str(run)}))
    given = {"generator": str(generator), "audio_encoder": str(ear)}
    painters = Painters(str(load_pipeline(file).output), given, "cpu")
    with pytest.raises(CheckpointError, match=r"different image.*stages\.evaluate\.parts"):
        painters.open("sound2scene")


# published checkpoints


def test_a_published_generator_draws_the_same(model: Sound2Scene, tmp_path: Path) -> None:
    torch.save(to_published(generator().state_dict(), "generator"), tmp_path / "G.pth")
    published = load_model(generator=tmp_path / "G.pth", device="cpu")
    z, h = model.noise("rain", 2, 0), model.hear(RAIN)
    np.testing.assert_array_equal(published.draw(h, z), model.draw(h, z))
    assert published.view == PictureView(view_px=256, input_px=224)
    (tmp_path / "broken.pth").write_bytes(b"PK nothing")
    with pytest.raises(WeightsError, match="cannot read"):
        load_model(generator=tmp_path / "broken.pth", device="cpu")


def test_a_published_audio_encoder_hears_as_the_paper_says(tmp_path: Path) -> None:
    network = randomised(build("audio_encoder"))
    names = {"head.0.": "fc.", "trunk.": ""}
    state = {}
    for name, value in network.state_dict().items():
        prefix = next(p for p in names if name.startswith(p))
        state[f"audnet.{names[prefix]}{name.removeprefix(prefix)}"] = value
    torch.save(state, tmp_path / "audio.pth")
    sizes = {**GENERATOR, "feature_dim": 2048}
    path = save(tmp_path / "G.safetensors", ModelCard(name="icgan_generator", settings=sizes))
    model = load_model(generator=path, audio_encoder=tmp_path / "audio.pth", device="cpu")
    assert model.spec == SOUND2SCENE
    assert model.hears == (16_000, 10.0)
    seen = model.spectrogram(np.resize(RAIN.samples, 160_000))
    assert seen.shape == (1, 1, 257, 1004)
    with torch.no_grad():
        z_a = network(seen)[0]
    torch.testing.assert_close(model.hear(RAIN), z_a / z_a.norm())


def test_the_sources_are_digests_of_the_files(model: Sound2Scene, run: Path) -> None:
    import hashlib

    data = (run / "stages" / "train_icgan" / "model.safetensors").read_bytes()
    assert model.sources["generator"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert set(model.sources) == {"generator", "audio_encoder", "image_encoder"}
