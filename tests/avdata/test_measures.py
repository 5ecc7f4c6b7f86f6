"""The vocabulary of measures."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import pytest

from avdata import measures
from avdata.clip import Clip
from avdata.errors import SettingsError

CLIP = Clip(
    key="k",
    url="u",
    source_id="s",
    measures={"loudness_lufs": -20.5},
    class_scores=tuple(i / 1000 for i in range(521)),
    class_scores_max=tuple(i / 521 for i in range(521)),
)


def test_class_names_are_those_inside_the_model(shared_data: Path) -> None:
    model = shared_data / "weights/yamnet/yamnet_audio_classifier_with_metadata.tflite"
    with zipfile.ZipFile(model) as archive:
        labels = archive.read("yamnet_label_list.txt").decode().splitlines()
    assert measures.class_names() == tuple(labels)
    with (shared_data / "lists/audioset/yamnet_class_map.csv").open(newline="") as file:
        published = [row["display_name"] for row in csv.DictReader(file)]
    assert measures.class_names() == tuple(published)


def test_class_index() -> None:
    assert measures.class_index("Speech") == 0
    assert measures.class_index("Music") == 132
    assert len(set(measures.class_names())) == 521


def test_values() -> None:
    rain = measures.class_index("Rain")
    assert measures.value_of(CLIP, "yamnet/Rain") == rain / 1000
    assert measures.value_of(CLIP, "yamnet_max/Rain") == rain / 521
    assert measures.value_of(CLIP, "loudness_lufs") == -20.5


@pytest.mark.parametrize("name", ["motion", "yamnet/Rain", "yamnet_max/Rain"])
def test_what_was_not_measured_is_none(name: str) -> None:
    assert measures.value_of(Clip(key="k", url="u", source_id="s"), name) is None


@pytest.mark.parametrize("name", [*measures.MEASURES, "yamnet/Speech", "yamnet_max/Tick-tock"])
def test_known_names_pass(name: str) -> None:
    measures.check_name(name, "here")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("yamnet/Rian", "did you mean .*Rain"),
        ("yamnet_max/speech", "Speech"),
        ("loudnes_lufs", "did you mean loudness_lufs"),
        ("rms", "known: .*silence_share"),
    ],
)
def test_unknown_names_say_where_and_what_would_be_right(name: str, hint: str) -> None:
    with pytest.raises(SettingsError, match=f"select.require: .*{hint}"):
        measures.check_name(name, "select.require")
