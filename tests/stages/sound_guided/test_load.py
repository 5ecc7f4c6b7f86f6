"""Parts put together from a run, and what does not belong together."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from avdata.errors import SettingsError, WeightsError
from stages.engine.errors import CheckpointError
from stages.evaluation.settings import Settings
from stages.families import family
from stages.family import Opening
from stages.generation.painter import Ask
from stages.sound_guided.latent_optimisation import RECIPES
from stages.sound_guided.load import load_model, search_of
from stages.stylegan3.generator import Generator as StyleGan3
from tests.stages.sound_guided.tiny import SIDE, tone
from tests.stages.sound_guided.tiny_run import FEW, SPEC, make_run, save_ear
from tests.stages.stylegan3.test_published import published
from tests.stages.text_image.tiny_models import letters_vocabulary, save_clip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("robust") / "run")


def test_a_run_is_all_it_needs(run: Path) -> None:
    model = load_model(run, **FEW, device="cpu")
    assert model.hears == (16_000, 1.0)
    assert model.sources.keys() == {"stylegan2", "sound_clip", "clip"}
    sound = tone(440, spec=SPEC)
    asks = [Ask(key="a", sound=sound), Ask(key="a", text="ocean"), Ask(key="b", sound=sound)]
    made = model.paint(asks, seed=0)
    assert made.shape == (3, SIDE, SIDE, 3)
    # Its parts by name are the same; without a sound encoder, texts guide.
    stages = run / "stages"
    parts = {"stylegan2": stages / "train_stylegan2", "clip": stages / "train_clip"}
    deaf = load_model(None, **parts, **FEW, device="cpu")
    np.testing.assert_array_equal(deaf.paint(asks[1:2], seed=0)[0], made[1])
    with pytest.raises(SettingsError, match="--sound-clip; texts and pictures guide without"):
        deaf.paint(asks[:1], seed=0)
    file = parts["stylegan2"] / "model.safetensors"
    of_file = load_model(None, **parts | {"stylegan2": file}, **FEW, device="cpu")
    np.testing.assert_array_equal(of_file.paint(asks[1:2], seed=0)[0], made[1])
    # The space is that of the sounds where none is named.
    told = load_model(None, stylegan2=parts["stylegan2"], sound_clip=stages / "train_sound_clip")
    assert told.space.name == str(stages / "train_clip")


def test_the_family_opens_it(run: Path) -> None:
    options = {"move_steps": 6, "reg_weight": 0.5, "moved_layers": 2, "psi": None}
    one = family("sound_guided")
    painter = one.open(Opening(run=run, options=options, device="cpu"))
    found = painter.identity()["search"]
    assert (found["steps"], found["reg_weight"], found["layers"], found["psi"]) == (6, 0.5, 2, 0.7)
    heard = painter.sound_encoder.sounds([tone(440, spec=SPEC).samples] * 2)  # type: ignore[attr-defined]
    np.testing.assert_allclose(np.linalg.norm(heard, axis=1), 1, rtol=1e-5)
    texts = Settings(options={"sound_guided": {"move_steps": 6}}).options
    assert texts["sound_guided"] == {"move_steps": 6}
    with pytest.raises(ValueError, match="options: sound_guided has no move_stps; it has recipe"):
        Settings(options={"sound_guided": {"move_stps": 6}})
    with pytest.raises(ValueError, match="options: no family is called 'robust'"):
        Settings(options={"robust": {}})


def test_searches_by_name() -> None:
    assert search_of("stylegan3") == RECIPES["stylegan3"]
    assert search_of("stylegan2", lr=0.1, psi=None).lr == 0.1
    faces = search_of("faces")
    assert (faces.reg_weight, faces.identity_weight) == (0.008, 0.004)
    with pytest.raises(SettingsError, match="no recipe is called 'stylegan4'"):
        search_of("stylegan4")
    with pytest.raises(SettingsError, match="lr must be greater than 0"):
        search_of("stylegan2", lr=-1)


def test_what_is_missing_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"stages\.train_stylegan2` has finished, or --styleg"):
        load_model(None)
    with pytest.raises(CheckpointError, match="has not finished"):
        load_model(tmp_path)
    with pytest.raises(SettingsError, match=r"0\.004, and no network knows faces: give --identity"):
        load_model(run, recipe="faces")
    with pytest.raises(CheckpointError, match="has not finished"):
        load_model(run, sound_clip=tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"no stylegan2; give --stylegan2 what train_stylega"):
        load_model(run, stylegan2=run / "stages" / "train_sound_clip")
    with pytest.raises(WeightsError):
        load_model(run, clip=tmp_path / "nothing")


def test_parts_of_other_spaces_are_refused(run: Path, tmp_path: Path) -> None:
    wide = tmp_path / "wide"
    wide.mkdir()
    save_ear(wide, run / "stages" / "train_clip", dim=24)
    with pytest.raises(CheckpointError, match=r"gives 24 features, the text-image model .* has 16"):
        load_model(run, sound_clip=wide)
    other = tmp_path / "other"
    shutil.copytree(run / "stages" / "train_clip", other)
    vocabulary, merges = letters_vocabulary()
    save_clip(other, vocabulary | {"zz": len(vocabulary)}, [*merges, "z z"])
    with pytest.raises(CheckpointError, match="was aligned to another text-image model"):
        load_model(run, clip=other)


def test_a_space_that_has_gone_names_its_trainer(run: Path, tmp_path: Path) -> None:
    clip, ear = tmp_path / "clip", tmp_path / "ear"
    shutil.copytree(run / "stages" / "train_clip", clip)
    ear.mkdir()
    save_ear(ear, clip)
    shutil.rmtree(clip)
    with pytest.raises(WeightsError, match=r"clip.*finish `python -m stages\.train_clip` in this"):
        load_model(None, stylegan2=run / "stages" / "train_stylegan2", sound_clip=ear)


def test_a_text_that_is_too_long_is_refused(run: Path) -> None:
    model = load_model(run, **FEW, device="cpu")
    with pytest.raises(SettingsError, match="texts are too long"):
        model.told(["rain " * 100])


def test_a_stylegan3_is_moved_by_the_same_program(run: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = StyleGan3(resolution=32, z_dim=8, w_dim=8, base=256, most=8)
    torch.nn.init.normal_(network.synthesis.waves.affine.weight)
    save_file(published(network), tmp_path / "three.safetensors")
    model = load_model(
        run,
        stylegan2=tmp_path / "three.safetensors",
        recipe="stylegan3",
        starts=2,
        move_steps=4,
        device="cpu",
    )
    asks = [Ask(key="x", text="ocean"), Ask(key="y", sound=tone(440, spec=SPEC))]
    before, made = model.before(asks, 0), model.paint(asks, seed=0)
    assert before.shape == made.shape == (2, 32, 32, 3)
    assert (before != made).any(axis=(1, 2, 3)).all()


def test_codes_of_files_are_starts(run: Path, tmp_path: Path) -> None:
    code = torch.randn(2, 6, 8)
    np.save(tmp_path / "codes.npy", code.numpy())
    model = load_model(run, codes=[tmp_path / "codes.npy"], **FEW, device="cpu")
    asks = [Ask(key="x", number=n, text="ocean") for n in range(2)]
    np.testing.assert_array_equal(model.before(asks, 0), model.pictures_of(code))
