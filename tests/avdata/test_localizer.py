"""The localizer on a tiny model with a known answer, and the contract of its file."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from avdata.audio.spec import AudioSpec
from avdata.audio.spectrograms import features
from avdata.config import SelectSettings
from avdata.errors import SettingsError
from avdata.media_tar import TarReader
from avdata.scorers import make_scorer
from avdata.scorers.base import ScoredClip
from avdata.scorers.localizer import Model, iter_patches
from avdata.shards.views import View, view_image
from tests.clip_factory import RATE_HZ, ClipFactory, clicks, plain, scored
from tests.localizer_factory import AUDIO, GRID, METADATA, export_localizer

RED, GREEN, BLUE = (220, 20, 20), (20, 220, 20), (20, 20, 220)


@pytest.fixture
def factory(tmp_path: Path) -> ClipFactory:
    return ClipFactory(tmp_path / "run")


def tone(hz: float, from_s: float, to_s: float, length_s: float) -> np.ndarray:
    t = np.arange(round(length_s * RATE_HZ)) / RATE_HZ
    return 0.3 * np.sin(2 * np.pi * hz * t) * ((t >= from_s) & (t < to_s))


# what the localizer hears


def test_patches_are_centred_on_their_frame_and_silent_outside_the_clip() -> None:
    sound = clicks([1.0], 2.0).astype(np.float32)
    (patches,) = iter_patches(sound, np.array([0.0, 1.0, 1.05, 2.0, 50.0]), AUDIO)
    assert patches.shape == (5, 1, 24, 20)
    energy = patches.mean(axis=(1, 2))
    # Column j is centred on sample 160 j + 256 of 3552; the click's energy follows its start.
    assert energy[1].argmax() in (10, 11)
    assert energy[2].argmax() in (5, 6)
    silence = np.log(1e-6)
    np.testing.assert_allclose(patches[0, 0, :, :8], silence, rtol=1e-6)
    np.testing.assert_allclose(patches[3, 0, :, 12:], silence, rtol=1e-6)
    np.testing.assert_allclose(patches[4], silence, rtol=1e-6)


def test_patches_are_the_front_end_of_the_sound_around_each_frame() -> None:
    sound = np.random.default_rng(4).normal(0, 0.1, 3 * RATE_HZ).astype(np.float32)
    times_s = np.linspace(0.2, 2.8, 70)
    batches = list(iter_patches(sound, times_s, AUDIO))
    assert [len(batch) for batch in batches] == [32, 32, 6]
    for t, patch in zip(times_s, np.concatenate(batches), strict=True):
        start = round(t * RATE_HZ) - 1776
        expected = features(sound[start : start + 3552], AUDIO)
        np.testing.assert_array_equal(patch, expected)


# what the localizer sees


@pytest.mark.parametrize("stored_px", [(200, 150), (64, 64), (40, 30)])
def test_pictures_are_what_the_loader_shows_in_training(
    factory: ClipFactory, tmp_path: Path, stored_px: tuple[int, int]
) -> None:
    # Hard edges everywhere: another filter, or a decoder at a fraction of the size, would show.
    width, height = stored_px
    noise = np.random.default_rng(0).integers(0, 256, (3, height, width, 3)).astype(np.uint8)
    clip = factory.clip("a", list(noise), [0.0, 0.5, 1.0], tone(300, 0, 2, 2))
    file = export_localizer(tmp_path / "tiny.onnx")
    model = Model(file.read_bytes(), str(file))
    with TarReader(factory.part().store) as reader:
        seen = model.pixels(ScoredClip(clip, reader, 0).images())
        assert clip.media is not None
        stored = [reader.read(clip.media.path, frame) for frame in clip.media.frames]
    view = View(image_size_px=METADATA["image_px"])
    loaded = [view_image(data, view, np.random.default_rng(0)) for data in stored]
    expected = (np.stack(loaded) / 255 - METADATA["mean"]) / METADATA["std"]
    np.testing.assert_allclose(seen, expected.transpose(0, 3, 1, 2), atol=1e-6)


# localizer


def test_localizer_picks_the_frame_whose_colour_is_heard(
    factory: ClipFactory, tmp_path: Path
) -> None:
    # Low, then high sound, then silence; each second shows red, green, blue and a dark blue.
    colours = [RED, GREEN, BLUE, (10, 10, 110)] * 3
    times_s = np.arange(12) / 4 + 0.125
    sound = tone(300, 0, 1, 3) + tone(5600, 1, 2, 3)
    clip = factory.clip("a", [plain(c) for c in colours], times_s, sound)
    model = str(export_localizer(tmp_path / "tiny.onnx"))
    scores = scored(factory, clip, scorer="localizer", localizer=model)

    in_low, in_high, in_silence = np.split(scores.frame_scores, 3)
    assert in_low.argmax() == 0
    assert in_high.argmax() == 2
    assert scores.frame_scores.argmax() in (0, 6)
    # The dark blue has half the blue, red and green of the bright one.
    assert in_high[3] == pytest.approx(in_high[2] / 2, rel=0.03)
    np.testing.assert_allclose(in_silence[1:], 0, atol=1e-4)

    # The map is the mean brightness of each cell, in [0, 1].
    assert scores.maps is not None
    assert scores.maps.shape == (12, GRID, GRID)
    np.testing.assert_allclose(scores.maps[0], sum(RED) / 3 / 255, atol=0.01)
    np.testing.assert_allclose(scores.maps[3], 130 / 3 / 255, atol=0.01)


def test_localizer_equals_its_closed_form(factory: ClipFactory, tmp_path: Path) -> None:
    sound = np.random.default_rng(6).normal(0, 0.1, 2 * RATE_HZ)
    times_s = np.linspace(0.3, 1.7, 40)  # more frames than one batch
    rng = np.random.default_rng(7)
    colours = rng.integers(20, 235, (40, 3))
    clip = factory.clip("a", [plain(tuple(c)) for c in colours], times_s, sound)
    metadata = {**METADATA, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.5]}
    model = str(export_localizer(tmp_path / "tiny.onnx", metadata=metadata))
    scores = scored(factory, clip, scorer="localizer", localizer=model)

    expected = []
    for colour, t in zip(colours, times_s, strict=True):
        start = round(t * RATE_HZ) - 1776
        mel = features(sound[start : start + 3552].astype(np.float32), AUDIO) - np.log(1e-6)
        heard = mel.reshape(3, 8, 20).mean(axis=(1, 2))
        seen = (colour / 255 - metadata["mean"]) / metadata["std"]
        expected.append(seen @ heard)
    np.testing.assert_allclose(scores.frame_scores, expected, atol=0.6)  # JPEG rounds colours
    assert np.corrcoef(scores.frame_scores, expected)[0, 1] > 0.9995


def test_localizer_without_map_has_none(factory: ClipFactory, tmp_path: Path) -> None:
    clip = factory.clip("a", [plain(RED)] * 2, [0.0, 0.5], tone(300, 0, 1, 1))
    model = str(export_localizer(tmp_path / "tiny.onnx", outputs=("q_A", "q_V")))
    scores = scored(factory, clip, scorer="localizer", localizer=model)
    assert scores.maps is None
    assert scores.frame_scores.shape == (2,)


def test_localizer_is_pickled_by_its_path_and_known_by_its_content(tmp_path: Path) -> None:
    model = export_localizer(tmp_path / "tiny.onnx")
    scorer = make_scorer(SelectSettings(scorer="localizer", localizer=str(model)))
    again = pickle.loads(pickle.dumps(scorer))
    assert again.fingerprint() == scorer.fingerprint()
    other = export_localizer(tmp_path / "other.onnx", gain=2.0)
    changed = make_scorer(SelectSettings(scorer="localizer", localizer=str(other)))
    assert changed.fingerprint() != scorer.fingerprint()


def test_localizer_refuses_clips_at_another_rate(factory: ClipFactory, tmp_path: Path) -> None:
    clip = factory.clip("a", [plain(RED)], [0.0], np.zeros(44100), rate_hz=44100)
    model = str(export_localizer(tmp_path / "tiny.onnx"))
    with pytest.raises(SettingsError, match=r"16000 Hz.*44100 Hz.*trim\.sample_rate_hz"):
        scored(factory, clip, scorer="localizer", localizer=model)


def test_localizer_that_gives_nan_is_refused(factory: ClipFactory, tmp_path: Path) -> None:
    clip = factory.clip("a", [plain(RED)], [0.0], tone(300, 0, 1, 1))
    model = str(export_localizer(tmp_path / "tiny.onnx", gain=float("inf")))
    with pytest.raises(SettingsError, match="not finite on clip a"):
        scored(factory, clip, scorer="localizer", localizer=model)


def changed_metadata(path: str, value: Any) -> dict[str, Any]:
    """Return the metadata with one entry (`a` or `a.b`) set, or removed for None."""
    tree = copy.deepcopy(METADATA)
    *parents, last = path.split(".")
    node = tree
    for name in parents:
        node = node[name]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return tree


@pytest.mark.parametrize(
    ("faults", "says"),
    [
        ({"outputs": ("q_V", "map")}, "lacks the output q_A; it has q_V, map"),
        ({"flatten_queries": False}, r"gives q_V as float32 \[2, 3, 1, 1\]"),
        ({"heard": 4}, "different lengths, 3 and 4"),
        ({"steps": 8}, "takes exactly 8 steps of frames"),
        ({"image_px": 96}, r"takes frames of shape .*96.*\[T, 3, 64, 64\]"),
        ({"frames_type": TensorProto.UINT8}, r"takes frames as tensor\(uint8\)"),
        ({"opset": 9999}, "onnxruntime .* cannot load"),
        ({"metadata": None}, "no 'avdata.localizer' in its metadata"),
        ({"metadata": "{"}, "not JSON"),
        ({"metadata": [1]}, "must be an object, got list"),
        ({"metadata": changed_metadata("version", 2)}, "version must be 1, got 2"),
        ({"metadata": changed_metadata("version", None)}, "version must be 1, got 0"),
        ({"metadata": changed_metadata("image_px", "64")}, "image_px must be a whole number"),
        ({"metadata": changed_metadata("std", [1.0, 1.0])}, "must hold 3 numbers"),
        ({"metadata": changed_metadata("colour", 1)}, "unknown key 'colour'"),
        ({"metadata": changed_metadata("audio", None)}, "audio: .*sample_rate_hz.* missing"),
        ({"metadata": changed_metadata("audio.hop", None)}, "audio: .*hop missing"),
        ({"metadata": changed_metadata("audio.mel_high_hz", 9000.0)}, "audio: .*mel bands"),
        ({"metadata": changed_metadata("audio.pitch", 1)}, "audio: .*unknown key 'pitch'"),
        ({"metadata": changed_metadata("audio.n_mels", 32)}, r"takes audio of shape .*\[T, 1, 32"),
        ({"metadata": changed_metadata("audio.n_samples", 8352)}, r"\[T, 1, 24, 50\]"),
        ({"metadata": "[" * 100_000}, "not JSON"),
        ({"metadata": '{"version": ' + "9" * 5000 + "}"}, "not JSON"),
        ({"metadata": changed_metadata("image_px", 10**9)}, "image_px must be 1 to 4096"),
        ({"metadata": changed_metadata("mean", [0.0, 0.0, float("nan")])}, "3 numbers"),
        ({"metadata": changed_metadata("std", [1.0, 1.0, float("inf")])}, "3 numbers"),
        ({"metadata": changed_metadata("audio.n_samples", 10**15)}, "n_samples must be a usual"),
        ({"metadata": changed_metadata("audio.sample_rate_hz", -1)}, "must be positive"),
        ({"metadata": changed_metadata("audio.log_offset", float("nan"))}, "log_offset must be"),
        ({"metadata": changed_metadata("audio.n_frames", -5)}, "must be positive"),
        ({"metadata": changed_metadata("audio.resize_px", 10**6)}, "resize_px is at most"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_files_that_break_the_contract_are_refused(
    tmp_path: Path, faults: dict[str, Any], says: str
) -> None:
    model = str(export_localizer(tmp_path / "tiny.onnx", **faults))
    with pytest.raises(SettingsError, match=says) as caught:
        make_scorer(SelectSettings(scorer="localizer", localizer=model))
    assert "tiny.onnx" in str(caught.value)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    for content in (b"<html>not here</html>", bytes(8), b"\x80" * 100, b""):
        (tmp_path / "no.onnx").write_bytes(content)
        with pytest.raises(SettingsError, match=r"no\.onnx"):
            make_scorer(SelectSettings(scorer="localizer", localizer=str(tmp_path / "no.onnx")))


@pytest.mark.parametrize("nested", [False, True])
def test_tensors_in_other_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nested: bool
) -> None:
    """What lies in the folder where a run happens to be started is not read."""
    model = onnx.load(export_localizer(tmp_path / "tiny.onnx"))
    if nested:  # the tensor of an attribute, in a branch
        tensor = next(t for t in model.graph.initializer if t.name == "groups")
        model.graph.initializer.remove(tensor)
        constant = onnx.helper.make_node("Constant", [], ["groups"], value=tensor)
        model.graph.node.insert(0, constant)
    onnx.save(
        model,
        str(tmp_path / "outside.onnx"),
        save_as_external_data=True,
        location="groups.bin",
        size_threshold=0,
        convert_attribute=True,
    )
    assert (tmp_path / "groups.bin").exists()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="keeps tensors in other files"):
        make_scorer(SelectSettings(scorer="localizer", localizer=str(tmp_path / "outside.onnx")))


def test_the_contract_shows_a_valid_description(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/localizer-contract.md").read_text("utf-8")
    description = json.loads(page.split("```json")[1].split("```")[0])
    assert AudioSpec.from_json(json.dumps(description["audio"])).shape == (1, 64, 98)
    # The tiny model takes other pictures, so all that is wrong with this description is their size.
    model = export_localizer(tmp_path / "tiny.onnx", metadata=description)
    with pytest.raises(SettingsError, match=r"takes frames of shape .*\[T, 3, 224, 224\]"):
        make_scorer(SelectSettings(scorer="localizer", localizer=str(model)))
