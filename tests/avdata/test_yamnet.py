"""YAMNet by both backends: the official windows, real sounds, what a missing model says."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from avdata import audio
from avdata.config import YamnetSettings
from avdata.errors import WeightsError
from avdata.measures import class_index, class_names
from avdata.taggers.yamnet import Yamnet
from tests.sample_factory import sample_of, yamnet_path


@pytest.fixture(scope="session")
def model_path(request: pytest.FixtureRequest) -> Path:
    return yamnet_path(request)


@pytest.fixture(scope="session")
def yamnet(model_path: Path) -> Yamnet:
    return Yamnet(YamnetSettings(weights=str(model_path)))


def bare_scores(model_path: Path, windows: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(model_path), num_threads=1)
    interpreter.allocate_tensors()
    rows = []
    for window in windows:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], window)
        interpreter.invoke()
        rows.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.stack(rows)


def read_esc50(shared_data: Path, name: str) -> NDArray[np.float32]:
    samples, rate = soundfile.read(shared_data / "audio/esc50" / name, dtype="float32")
    return audio.resample(samples, rate, 16000)


@pytest.mark.parametrize(
    ("n_samples", "n_windows"),
    [(1, 1), (8000, 1), (15600, 1), (15601, 2), (23280, 2), (48000, 6), (80000, 10), (160000, 20)],
)
def test_windows_are_those_of_the_official_model(
    yamnet: Yamnet, model_path: Path, n_samples: int, n_windows: int
) -> None:
    samples = np.random.default_rng(0).normal(0, 0.05, n_samples).astype(np.float32)
    scores = yamnet.score(samples, 16000)
    assert scores.shape == (n_windows, 521)
    filled = np.concatenate([samples, np.zeros(15600, np.float32)])
    windows = [filled[7680 * i : 7680 * i + 15600] for i in range(n_windows)]
    np.testing.assert_array_equal(scores, bare_scores(model_path, windows))


def test_mean_maximum_and_shares(shared_data: Path, yamnet: Yamnet) -> None:
    sound = read_esc50(shared_data, "4-183992-A-0.wav")
    sample = sample_of(sound)
    scores = yamnet.score(sample.samples, 16000)
    tags = yamnet.tag(sample)
    assert len(tags.class_scores) == len(tags.class_scores_max) == 521
    np.testing.assert_allclose(tags.class_scores, scores.mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(tags.class_scores_max, scores.max(axis=0))
    assert tags.measures == {"speech_share": 0.0, "music_share": 0.0}
    assert [float(np.float32(v)) for v in tags.class_scores] == list(tags.class_scores)


def test_speech_share(shared_data: Path, yamnet: Yamnet) -> None:
    # 0.975 s of speech, then silence: at least the first of 10 windows, at most those it touches.
    pcm = np.fromfile(shared_data / "weights/yamnet/coral_yamnet_test_audio.bin", np.int16)
    sound = np.zeros(80000, np.float32)
    sound[:15600] = audio.to_float(pcm)
    assert 0.1 <= yamnet.tag(sample_of(sound)).measures["speech_share"] <= 0.3


HEARD = {
    "dog": {"Dog", "Bark", "Animal", "Domestic animals, pets"},
    "rooster": {"Chicken, rooster", "Fowl", "Crowing, cock-a-doodle-doo"},
    "chirping_birds": {"Bird", "Bird vocalization, bird call, bird song", "Chirp, tweet"},
    "crickets": {"Cricket", "Insect"},
    "thunderstorm": {"Thunderstorm", "Thunder"},
    "siren": {"Siren", "Emergency vehicle", "Police car (siren)"},
    "sea_waves": {"Ocean", "Waves, surf"},
    "train": {"Train", "Rail transport"},
    "helicopter": {"Helicopter"},
    "engine": {"Engine", "Light engine (high frequency)"},
    "footsteps": {"Walk, footsteps"},
}


@pytest.fixture(scope="session")
def esc50(shared_data: Path) -> dict[str, str]:
    """File name to category, of the sounds whose category has AudioSet classes of its own."""
    with (shared_data / "lists/esc50/esc50.csv").open(newline="") as file:
        rows = {row["filename"]: row["category"] for row in csv.DictReader(file)}
    here = sorted(p.name for p in (shared_data / "audio/esc50").glob("*.wav"))
    return {name: rows[name] for name in here if rows[name] in HEARD}


def test_real_sounds_are_recognised(
    shared_data: Path, yamnet: Yamnet, esc50: dict[str, str]
) -> None:
    hits = 0
    for name, category in esc50.items():
        samples, rate = soundfile.read(shared_data / "audio/esc50" / name, dtype="float32")
        mean = yamnet.score(samples, rate).mean(axis=0)  # resampled from 44.1 kHz
        best = {class_names()[i] for i in mean.argsort()[-5:]}
        hits += bool(best & HEARD[category])
    assert hits >= 0.9 * len(esc50)


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="avdata weights get yamnet"):
        Yamnet(YamnetSettings(weights=str(tmp_path / "no.tflite"))).fingerprint()
    with pytest.raises(WeightsError, match="no SavedModel folder"):
        Yamnet(YamnetSettings(backend="tfhub", weights=str(tmp_path / "no"))).fingerprint()


def test_fingerprint_is_the_models_not_the_paths(model_path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.tflite"
    copy.write_bytes(model_path.read_bytes())
    prints = [
        Yamnet(YamnetSettings(weights=weights, threads=threads)).fingerprint()
        for weights, threads in ((None, 1), (str(model_path), 1), (str(copy), 2))
    ]
    assert prints[0] == prints[1] == prints[2]


def test_a_folder_is_fingerprinted_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables/data").write_bytes(b"1")
    settings = YamnetSettings(backend="tfhub", weights=str(tmp_path))
    first = Yamnet(settings).fingerprint()
    (tmp_path / "variables/data").write_bytes(b"2")
    assert Yamnet(settings).fingerprint() != first


def test_missing_tensorflow_hub_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_hub", None)
    tagger = Yamnet(YamnetSettings(backend="tfhub", weights="https://example.org/never-opened"))
    with pytest.raises(WeightsError, match=r"avdata\[tfhub\]"):
        tagger.score(np.zeros(100, np.float32), 16000)


@pytest.fixture(scope="session")
def hub(shared_data: Path) -> YamnetSettings:
    pytest.importorskip("tensorflow_hub", reason="needs the [tfhub] extra")
    folder = shared_data / "weights/yamnet/yamnet_saved_model"
    return YamnetSettings(backend="tfhub", weights=str(folder))


@pytest.mark.tfhub
@pytest.mark.parametrize("n_samples", [1, 15600, 15601, 80000, 160000])
def test_hub_gives_the_same_windows(yamnet: Yamnet, hub: YamnetSettings, n_samples: int) -> None:
    samples = np.random.default_rng(0).normal(0, 0.05, n_samples).astype(np.float32)
    scores = Yamnet(hub).score(samples, 16000)
    assert scores.shape == yamnet.score(samples, 16000).shape
    assert scores.dtype == np.float32


@pytest.mark.tfhub
def test_hub_batches_change_nothing(shared_data: Path, hub: YamnetSettings) -> None:
    import tensorflow_hub

    sound = read_esc50(shared_data, "4-183992-A-0.wav")
    whole = tensorflow_hub.load(hub.weights)(sound)[0].numpy()
    for batch_size in (1, 3, 128):
        scores = Yamnet(replace(hub, batch_size=batch_size)).score(sound, 16000)
        np.testing.assert_allclose(scores, whole, atol=1e-4)


@pytest.mark.tfhub
def test_both_backends_agree_on_real_sounds(
    shared_data: Path, yamnet: Yamnet, hub: YamnetSettings, esc50: dict[str, str]
) -> None:
    other = Yamnet(hub)
    agreed = 0
    for name in esc50:
        sound = read_esc50(shared_data, name)
        ours, theirs = (y.score(sound, 16000).mean(axis=0) for y in (yamnet, other))
        agreed += ours.argmax() in theirs.argsort()[-5:]
    assert agreed >= 0.85 * len(esc50)


@pytest.mark.tfhub
def test_hub_fills_the_same_columns(shared_data: Path, yamnet: Yamnet, hub: YamnetSettings) -> None:
    sample = sample_of(read_esc50(shared_data, "2-104105-A-19.wav"))
    ours, theirs = yamnet.tag(sample), Yamnet(hub).tag(sample)
    assert set(ours.measures) == set(theirs.measures)
    assert len(theirs.class_scores) == len(theirs.class_scores_max) == 521
    thunder = class_index("Thunderstorm")
    assert theirs.class_scores[thunder] > 0.5 < ours.class_scores[thunder]


@pytest.mark.tfhub
def test_a_handle_that_cannot_be_loaded(hub: YamnetSettings, tmp_path: Path) -> None:
    for handle in ("http://127.0.0.1:9/google/yamnet/1", str(tmp_path)):
        with pytest.raises(WeightsError, match="cannot load"):
            Yamnet(replace(hub, weights=handle)).score(np.zeros(100, np.float32), 16000)


@pytest.mark.tfhub
def test_another_model_is_refused(hub: YamnetSettings, tmp_path: Path) -> None:
    import tensorflow as tf

    class Other(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def __call__(self, waveform: tf.Tensor) -> tuple[tf.Tensor]:
            return (tf.reshape(waveform[:10], [1, 10]),)

    tf.saved_model.save(Other(), str(tmp_path))
    with pytest.raises(WeightsError, match="not YAMNet"):
        Yamnet(replace(hub, weights=str(tmp_path))).score(np.zeros(100, np.float32), 16000)
