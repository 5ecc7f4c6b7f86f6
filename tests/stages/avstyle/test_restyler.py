"""The restyler: shapes, volume, silence, what is looked at once; and where it is loaded from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from avdata.audio.spec import AVSTYLE, SOUND2SCENE
from avdata.audio.spectrograms import spectrogram
from avdata.errors import SettingsError
from avdata.frames import squash
from avdata.media import probe
from stages import generate
from stages.avstyle.load import load_model
from stages.avstyle.restyler import Restyler
from stages.engine.checkpoint import ModelCard, save_weights
from stages.engine.errors import CheckpointError
from stages.generation.inputs import Picture, Sound
from stages.generation.painter import Ask
from tests.media_factory import make_video
from tests.stages.avstyle.tiny_restyler import (
    DIM,
    GENERATOR,
    SIDE_PX,
    make_run,
    make_training,
    random_generator,
)
from tests.stages.tiny_scenes import RATE_HZ, tone, write_picture, write_sound


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("avstyle") / "run")


@pytest.fixture
def model(run: Path) -> Restyler:
    return load_model(run, device="cpu")


def noise(height: int, width: int, seed: int = 0) -> Picture:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Picture(f"noise {seed}", image)


def sound(hz: float = 440, **changes: Any) -> Sound:
    return Sound("tone", tone(hz, **changes), RATE_HZ)


def by_hand(model: Restyler, image: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """Numpy's front-end, then the whole generator at once."""
    seen = torch.from_numpy(spectrogram(fitted, AVSTYLE))[None]
    x = torch.tensor(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        y = model.generator(x, model.ear(seen))[0]
    return np.asarray((y.permute(1, 2, 0).double() + 1) * 127.5)


def test_a_picture_is_restyled_at_its_own_shape(model: Restyler) -> None:
    """3 s of a short tone, its peak at 1 / 1.1, then 6.02 dB louder; 30 × 50 at 32 × 52."""
    picture, short = noise(30, 50), tone(440, 0.7, 0.05)
    found = model.restyle(picture, Sound("a", short, RATE_HZ), gain_db=6.0206)
    tiled = np.tile(short, 5)[:48_000]
    fitted = 2 * tiled / (1.1 * np.abs(tiled).max())
    expected = by_hand(model, squash(picture.image, 52, 32), fitted.astype(np.float32))
    assert found.shape == (32, 52, 3)
    assert np.abs(found - expected).max() <= 1
    assert found.std() > 5


@pytest.mark.parametrize(
    ("height", "width", "shape"),
    [
        (1, 1, (32, 32)),
        (480, 640, (32, 44)),
        (640, 480, (44, 32)),
        (3, 4000, (32, 128)),
        (4000, 3, (128, 32)),
    ],
)
def test_pictures_of_any_size(
    model: Restyler, height: int, width: int, shape: tuple[int, int]
) -> None:
    assert model.restyle(noise(height, width), sound()).shape == (*shape, 3)


def test_volume_is_heard_and_the_recordings_own_level_is_not(model: Restyler) -> None:
    picture = noise(32, 32)
    quiet, loud = (Sound("a", gain * tone(440, 3.0, 0.2), RATE_HZ) for gain in (0.01, 1.0))
    same = model.restyle(picture, loud)
    assert np.abs(model.restyle(picture, quiet).astype(int) - same).max() <= 1
    apart = [
        np.abs(model.restyle(picture, loud, gain_db=gain_db).astype(int) - same).mean()
        for gain_db in (-40, -10, 0)
    ]
    assert apart[0] > apart[1] > apart[2] == 0


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(48_000, np.float32),
        np.zeros(0, np.float32),
        np.sign(tone(300, 3.0)),  # clipped throughout
        np.float32([1e-30]),
        tone(300, 20.0),
    ],
    ids=["silent", "empty", "clipped", "one sample", "long"],
)
def test_any_sound_gives_a_picture(model: Restyler, samples: np.ndarray) -> None:
    style = model.style([Sound("a", samples, RATE_HZ)])
    assert style.isfinite().all()
    assert model.restyle(noise(32, 32), Sound("a", samples, RATE_HZ)).shape == (32, 32, 3)


def test_asks_are_painted_square_and_shared_parts_computed_once(
    model: Restyler, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(
        type(model.generator.content),
        "forward",
        lambda self, x: (seen.append(len(x)), self.read(x).features)[1],
    )
    pictures = [noise(20, 40, 1), noise(40, 20, 2)]
    sounds = [sound(300), sound(3000)]
    asks = [Ask(key=f"{n}", picture=p, sound=s) for n, p in enumerate(pictures) for s in sounds]
    found = model.paint(asks, seed=0)
    assert found.shape == (4, SIDE_PX, SIDE_PX, 3)
    assert seen == [2]
    assert np.abs(model.paint(asks[::-1], seed=1)[::-1].astype(int) - found).max() <= 1
    fitted = asks[3].sound
    assert fitted is not None
    peak = np.abs(np.tile(fitted.samples, 6)).max()
    tiled = (np.tile(fitted.samples, 6) / (1.1 * peak)).astype(np.float32)
    expected = by_hand(model, squash(pictures[1].image, SIDE_PX, SIDE_PX), tiled)
    assert np.abs(found[3] - expected).max() <= 1
    for lacking in (Ask(key="a", sound=sounds[0]), Ask(key="a", picture=pictures[0])):
        with pytest.raises(SettingsError, match="it needs both"):
            model.paint([lacking], seed=0)


def test_the_sounds_features_are_what_the_generator_is_told(model: Restyler) -> None:
    waves = [tone(300), tone(3000, 3.0)]
    named = [Sound("a", wave, RATE_HZ) for wave in waves]
    encoder = model.sound_encoder
    np.testing.assert_allclose(encoder.sounds(waves), model.style(named), atol=1e-6)
    assert encoder.dim == DIM
    assert model.sources["sound_encoder"]["sha256"] == encoder.fingerprint()["weights"]


def test_parts_of_a_training_belong_together(run: Path, tmp_path: Path) -> None:
    folder = run / "stages" / "train_avstyle"
    files = load_model(
        style_generator=folder / "generator.safetensors",
        sound_encoder=folder / "sound_encoder.safetensors",
        device="cpu",
    )
    whole = load_model(style_generator=folder, device="cpu")
    assert files.identity() == whole.identity() == load_model(run, device="cpu").identity()
    assert whole.resolution_px == SIDE_PX  # as the training's settings say
    assert load_model(run, size_px=64, device="cpu").restyle(noise(9, 9), sound()).shape[0] == 64
    other = make_training(tmp_path / "other", sound_dim=12)
    with pytest.raises(
        SettingsError, match="vectors of 12 numbers, the generator was trained on 8"
    ):
        load_model(run, sound_encoder=other / "sound_encoder.safetensors", device="cpu")


def test_what_cannot_be_loaded(run: Path, tmp_path: Path) -> None:
    folder = run / "stages" / "train_avstyle"
    generator, ear = (folder / f"{n}.safetensors" for n in ("generator", "sound_encoder"))
    wrong: dict[str, tuple[dict[str, Any], type[Exception]]] = {
        "nothing to restyle with": ({}, SettingsError),
        "is one file: give --sound-encoder": ({"style_generator": generator}, SettingsError),
        "no style generator; give --style-generator what train_avstyle wrote": (
            {"style_generator": ear, "sound_encoder": ear},
            CheckpointError,
        ),
        "no sound encoder; give --sound-encoder": (
            {"style_generator": generator, "sound_encoder": generator},
            CheckpointError,
        ),
        "has not finished": ({"run": tmp_path}, CheckpointError),
        "must be a multiple of 4, got 30": ({"run": run, "size_px": 30}, SettingsError),
        "trained with the front-end": ({"run": run, "audio": SOUND2SCENE}, SettingsError),
    }
    for message, (given, kind) in wrong.items():
        with pytest.raises(kind, match=message):
            load_model(**given)
    deaf = tmp_path / "deaf.safetensors"
    card = ModelCard(name="avstyle_generator", settings=GENERATOR | {"enters": "none"})
    save_weights(deaf, random_generator(enters="none").state_dict(), card.metadata())
    with pytest.raises(CheckpointError, match="hears nothing"):
        load_model(style_generator=deaf, sound_encoder=ear)
    # Weights that do not fit what the file says of itself.
    card = ModelCard(name="avstyle_generator", settings=GENERATOR | {"width": 8})
    save_weights(deaf, random_generator().state_dict(), card.metadata())
    with pytest.raises(CheckpointError, match="does not fit the model it names"):
        load_model(style_generator=deaf, sound_encoder=ear)


def call(run: Path, out: Path, *words: str) -> dict[str, Any]:
    generate.main([*words, "--run", str(run), "-o", str(out), "--device", "cpu"])
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    return result


def test_the_command_line(run: Path, model: Restyler, tmp_path: Path) -> None:
    """From files: a turned photograph, a stereo sound at 44.1 kHz; and from clips of the run."""
    exif = Image.Exif()
    exif[0x0112] = 6
    view = tmp_path / "view.jpg"
    Image.fromarray(noise(40, 60).image).save(view, exif=exif, quality=95)
    stereo = np.stack([tone(500, 1.0)] * 2, axis=1)
    rain = write_sound(tmp_path / "rain.wav", stereo, 44_100)
    words = ["sound", str(rain), "clip0001", "--content", str(view), "clip0000:1"]
    rows = call(run, tmp_path / "out", *words)["rows"]
    assert [row["title"] for row in rows] == ["Content", "rain", "clip0001"]
    sizes = [Image.open(tmp_path / "out" / name).size for name in rows[1]["images"]]
    assert sizes == [(32, 48), (32, 32)]  # upright, each at its own shape
    dark, light = str(view), str(write_picture(tmp_path / "b.png"))
    shares = call(run, tmp_path / "blend", "blend", str(rain), "clip0000", "--rows", "3",
                  "--content", dark, light)["rows"]  # fmt: skip
    assert [row.get("shares") for row in shares[1:]] == [[1, 0], [0.5, 0.5], [0, 1]]
    again = call(run, tmp_path / "sweep", "sweep", str(rain), "--content", str(view),
                 "--gains-db", "0")["rows"]  # fmt: skip
    one, other = (Image.open(tmp_path / "out" / rows[1]["images"][0]),
                  Image.open(tmp_path / "sweep" / again[1]["images"][0]))  # fmt: skip
    np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_a_film(run: Path, tmp_path: Path) -> None:
    track = (np.stack([tone(440, 2.0)]) * 20_000).astype(np.int16)
    video = make_video(
        tmp_path / "walk.mp4", seconds=2, fps=5, width_px=96, height_px=64, sound=track
    )
    result = call(run, tmp_path / "out", "film", str(video), "--gains-db", "-20", "0", "20")
    for own in result["films"]:
        made = probe(tmp_path / "out" / own["file"])
        assert (made.width_px, made.height_px) == (48, 32)
        assert 0 <= own["flicker"] <= own["motion_after"] <= 1
    assert [row["title"] for row in result["rows"]] == [
        "Video", "walk, -20 dB", "walk, 0 dB", "walk, +20 dB"
    ]  # fmt: skip
