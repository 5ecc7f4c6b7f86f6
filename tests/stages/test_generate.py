"""Every command of the real command line, on a tiny run."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from stages.generate import main
from stages.generation.inputs import read_picture, read_sound
from stages.generation.sounds import fit
from stages.sound2scene.load import load_model
from stages.sound2scene.scene import Sound2Scene
from tests.stages.programs import python
from tests.stages.tiny_scenes import make_run, tone, write_picture, write_sound


@dataclass(frozen=True)
class Workplace:
    folder: Path
    run: Path
    rain: str
    bird: str
    view: str

    def call(self, *words: str, output: str = "out") -> dict[str, Any]:
        """Run a command and return result.json, its pictures' names resolved."""
        folder = self.folder / output
        main([*words, "--run", str(self.run), "-o", str(folder), "--device", "cpu"])
        result: dict[str, Any] = json.loads((folder / "result.json").read_text())
        assert result["command"] == words[0]
        with Image.open(folder / "sheet.png") as sheet:
            assert sheet.width > 300
        for row in result["rows"]:
            row["pixels"] = np.stack([np.asarray(Image.open(folder / n)) for n in row["images"]])
        return result


@pytest.fixture
def place(tmp_path: Path, shared_run: Path) -> Workplace:
    rain = write_sound(tmp_path / "rain.wav", tone(300))
    bird = write_sound(tmp_path / "bird.wav", tone(3000, seconds=0.2))
    view = write_picture(tmp_path / "view.png")
    return Workplace(tmp_path, shared_run, str(rain), str(bird), str(view))


@pytest.fixture(scope="module")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def model(shared_run: Path) -> Sound2Scene:
    return load_model(shared_run, device="cpu")


def heard(model: Sound2Scene, path: str) -> NDArray[np.float32]:
    return fit(read_sound(path, *model.hears), model.spec)


def test_sound(place: Workplace, model: Sound2Scene) -> None:
    result = place.call("sound", place.rain, place.bird, "clip0001", "-n", "3", "--seed", "4")
    assert [row["sound"] for row in result["rows"]] == ["rain", "bird", "clip0001"]
    assert result["options"]["sounds"] == [place.rain, place.bird, "clip0001"]
    assert result["rows"][0]["note"] == "0.5 s"
    assert result["rows"][1]["note"] == "0.2 s, repeated"
    expected = model.generate(read_sound(place.rain, *model.hears), n=3, seed=4)
    np.testing.assert_array_equal(result["rows"][0]["pixels"], expected)


def test_same_seed_same_bytes(place: Workplace) -> None:
    for output in ("first", "second"):
        place.call("sweep", place.rain, "-n", "2", "--gains-db", "-20", "0", output=output)
    files = [sorted((place.folder / name).rglob("*.*")) for name in ("first", "second")]
    assert len(files[0]) == 8  # 4 pictures, sheet, film, section, result
    for one, other in zip(*files, strict=True):
        assert one.read_bytes() == other.read_bytes(), one


def test_a_title_of_one_s_own(place: Workplace) -> None:
    place.call("sound", place.rain, "-n", "1", "--title", "Rain & more")
    written = (place.folder / "out/section.html").read_text(encoding="utf-8")
    assert written.startswith("<h2>Rain &amp; more</h2>")


def test_image(place: Workplace, model: Sound2Scene) -> None:
    result = place.call("image", place.view, "clip0001:0", "-n", "2")
    assert [row["image"] for row in result["rows"]] == ["view", "clip0001:0"]
    expected = model.generate(image=read_picture(place.view), n=2)
    np.testing.assert_array_equal(result["rows"][0]["pixels"], expected)


def test_mix(place: Workplace, model: Sound2Scene) -> None:
    words = ["mix", place.rain, place.bird, "--gain-db", "6", "--gain-db", "-6", "-n", "2"]
    rain, bird, both = place.call(*words)["rows"]
    z = model.noise("rain + bird", 2, 0)
    a, b = heard(model, place.rain), heard(model, place.bird)
    gains = np.float32(10**0.3), np.float32(10**-0.3)
    for row, wave in (
        (rain, gains[0] * a),
        (bird, gains[1] * b),
        (both, gains[0] * a + gains[1] * b),
    ):
        expected = model.draw(model.heard([np.clip(wave, -1, 1)])[0], z)
        np.testing.assert_array_equal(row["pixels"], expected)
    assert both["gains_db"] == [6, -6]


def test_sweep_changes_the_gain_alone(place: Workplace, model: Sound2Scene) -> None:
    gains_db = (-40.0, 0.0, 20.0)
    words = [f"{gain:g}" for gain in gains_db]
    rows = place.call("sweep", place.rain, "--gains-db", *words, "-n", "2")["rows"]
    z, wave = model.noise("rain", 2, 0), heard(model, place.rain)
    for row, gain_db in zip(rows, gains_db, strict=True):
        loud = np.clip(np.float32(10 ** (gain_db / 20)) * wave, -1, 1)
        np.testing.assert_array_equal(row["pixels"], model.draw(model.heard([loud])[0], z))
        assert row["gain_db"] == gain_db
    assert [row["title"] for row in rows] == ["rain, -40 dB", "rain, 0 dB", "rain, +20 dB"]
    as_it_is = place.call("sound", place.rain, "-n", "2", output="plain")["rows"][0]
    np.testing.assert_array_equal(rows[1]["pixels"], as_it_is["pixels"])
    assert (rows[0]["pixels"] != rows[1]["pixels"]).any()
    with Image.open(place.folder / "out" / "film.gif") as film:
        assert film.n_frames == 4


@pytest.mark.parametrize("way", ["lerp", "slerp"])
def test_interpolate(place: Workplace, model: Sound2Scene, way: str) -> None:
    words = ["interpolate", place.view, place.rain, "--rows", "3", "--way", way, "-n", "2"]
    rows = place.call(*words)["rows"]
    assert [row["share"] for row in rows] == [0, 0.5, 1]
    z = model.noise("view to rain", 2, 0)
    a = model.latent(read_picture(place.view))
    b = model.heard([heard(model, place.rain)])[0]
    for row, h in zip(rows, (a, (a + b) / (a + b).norm(), b), strict=True):
        apart = row["pixels"].astype(int) - model.draw(h, z)
        assert np.abs(apart).max() <= (1 if row["share"] == 0.5 else 0)


def test_invert(place: Workplace) -> None:
    result = place.call("invert", place.view, "--steps", "30", "--candidates", "4")
    (row,) = result["rows"]
    wanted, made = row["pixels"].astype(float)
    assert len(row["loss"]) == 31
    assert min(row["loss"]) < row["loss"][0]
    mse = np.square((wanted - made) / 255).mean()
    assert row["psnr_db"] == pytest.approx(-10 * np.log10(mse), abs=1e-6)
    shown = Image.open(place.view).resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(wanted, np.asarray(shown, float))


def test_edit(place: Workplace) -> None:
    words = ["--steps", "10", "--candidates", "2"]
    found = place.call("invert", place.view, *words)["rows"][0]["pixels"][1]
    ends = ["--from", place.rain, "--to", place.bird, "--strengths", "0", "1", "-n", "2"]
    rows = place.call("edit", place.view, *ends, *words, output="edit")["rows"]
    assert [row.get("sound") for row in rows] == ["rain", "bird", None]
    start, moved = rows[-1]["pixels"]
    assert np.abs(start.astype(int) - found).max() <= 1
    assert (moved != start).any()
    same = ["--from", place.rain, "--to", place.rain, "--strengths", "0", "3", "-n", "1"]
    start, moved = place.call("edit", place.view, *same, *words, output="same")["rows"][-1][
        "pixels"
    ]
    assert np.abs(start.astype(int) - moved).max() <= 1
    assert (place.folder / "edit" / "film.gif").is_file()


@pytest.mark.parametrize("toward", ["own", "made", "image"])
def test_gradcam(place: Workplace, toward: str) -> None:
    goal = place.view if toward == "image" else toward
    rows = place.call("gradcam", place.rain, place.bird, "--toward", goal, "-n", "2")["rows"]
    assert [row["sound"] for row in rows] == ["rain", "bird"]
    assert all(len(row["images"]) == (3 if toward == "image" else 2) for row in rows)
    if toward == "own":  # what makes up a feature of non-negative numbers is somewhere
        assert all(row["peak"] > 0 for row in rows)


def program(*words: str) -> subprocess.CompletedProcess[str]:
    return python(["-m", "stages.generate", *words])


def test_as_a_program(place: Workplace) -> None:
    done = program("sound", place.rain, "--run", str(place.run), "-o", str(place.folder / "p"))
    assert done.returncode == 0, done.stderr
    assert "4 pictures; look at" in done.stdout
    assert (place.folder / "p" / "sheet.png").is_file()
    failed = program("sound", "nowhere.wav", "--run", str(place.run))
    assert failed.returncode == 2
    assert failed.stderr.startswith("generate: there is no file nowhere.wav")
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mix", "RAIN", "RAIN", "--gain-db", "1"], "2 sounds, but --gain-db was given 1"),
        (["sweep", "RAIN", "--gains-db", "nan"], "must be from -inf to 200"),
        (["sound", "RAIN", "-n", "0"], "must be 1 or more"),
        (["interpolate", "RAIN", "RAIN", "--rows", "1"], "give 2 or more"),
        (["sound", "RAIN", "--generator", "gone.safetensors"], "there is no gone.safetensors"),
        (["invert", "clip0001:9"], "2 stored frames"),
        (["sound", "RAIN", "--family", "sound2sea"], "did you mean sound2scene?"),
    ],
)
def test_mistakes(
    place: Workplace, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as end:
        place.call(*[place.rain if word == "RAIN" else word for word in words])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert not (place.folder / "out").exists()


def test_results_need_a_folder_of_their_own(
    place: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        place.call("sound", place.rain, output="rain.wav")
    assert end.value.code == 2
    assert "rain.wav is in the way" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), 2, "give --device cpu"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_what_ends_it_early_is_said(
    place: Workplace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    code: int,
    message: str,
) -> None:
    def end(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(Sound2Scene, "draw", end)
    with pytest.raises(SystemExit) as ended:
        place.call("sound", place.rain)
    assert ended.value.code == code
    assert message in capsys.readouterr().err
