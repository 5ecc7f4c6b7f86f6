"""Mid-frame, random and published moments, and what all scorers share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avdata.config import SelectSettings
from avdata.errors import ClipError, Reason, SettingsError
from avdata.scorers import make_scorer
from tests.clip_factory import RATE_HZ, ClipFactory, plain, scored
from tests.localizer_factory import export_localizer

GREY = (90, 90, 90)


@pytest.fixture
def factory(tmp_path: Path) -> ClipFactory:
    return ClipFactory(tmp_path / "run")


# mid and random


def test_mid_is_the_frame_nearest_to_the_middle_by_time_not_by_count(factory: ClipFactory) -> None:
    times_s = [0.0, 0.1, 0.2, 0.3, 1.9, 3.9]
    clip = factory.clip("a", [plain(GREY)] * 6, times_s, np.zeros(4 * RATE_HZ))
    scores = scored(factory, clip, scorer="mid")
    assert scores.frame_scores.argmax() == 4
    np.testing.assert_allclose(scores.frame_scores, [-2.0, -1.9, -1.8, -1.7, -0.1, -1.9])


@pytest.mark.parametrize(("window", "middle"), [({"start_ms": 5000, "end_ms": 13000}, 3), ({}, 2)])
def test_mid_needs_no_sound(factory: ClipFactory, window: dict[str, int], middle: int) -> None:
    clip = factory.clip("a", [plain(GREY)] * 4, [0.0, 1.0, 2.0, 3.9], None, **window)
    assert scored(factory, clip, scorer="mid").frame_scores.argmax() == middle


def test_random_depends_on_seed_and_key_alone(factory: ClipFactory) -> None:
    a = factory.clip("a", [plain(GREY)] * 20, np.arange(20) / 10, None)
    b = factory.clip("b", [plain(GREY)] * 20, np.arange(20) / 10, None)
    first = scored(factory, a, seed=1, scorer="random").frame_scores
    assert np.array_equal(first, scored(factory, a, seed=1, scorer="random").frame_scores)
    assert not np.array_equal(first, scored(factory, a, seed=2, scorer="random").frame_scores)
    assert not np.array_equal(first, scored(factory, b, seed=1, scorer="random").frame_scores)
    assert first.min() >= 0
    assert first.max() < 1


# all of them


@pytest.mark.parametrize("scorer", ["av_sync", "localizer"])
def test_no_sound_is_said_so(factory: ClipFactory, scorer: str, tmp_path: Path) -> None:
    clip = factory.clip("a", [plain(GREY)] * 3, [0.0, 1.0, 2.0], None)
    model = str(export_localizer(tmp_path / "tiny.onnx"))
    with pytest.raises(ClipError) as caught:
        scored(factory, clip, scorer=scorer, localizer=model)
    assert caught.value.reason is Reason.NO_AUDIO


@pytest.mark.parametrize("scorer", ["mid", "random", "av_sync", "localizer", "moments"])
def test_no_frames_is_said_so(factory: ClipFactory, scorer: str, tmp_path: Path) -> None:
    window = {"source_id": "a", "start_ms": 0, "end_ms": 1000}
    clip = factory.clip("a", [], [], np.zeros(RATE_HZ), **window)
    model = str(export_localizer(tmp_path / "tiny.onnx"))
    (tmp_path / "m.json").write_text('{"a_0_1000": [1]}')
    with pytest.raises(ClipError) as caught:
        scored(factory, clip, scorer=scorer, localizer=model, moments=str(tmp_path / "m.json"))
    assert caught.value.reason is Reason.NO_VIDEO


# moments


def moments_file(tmp_path: Path, tree: Any) -> str:
    (tmp_path / "moments.json").write_text(json.dumps(tree))
    return str(tmp_path / "moments.json")


LISTED = {"source_id": "9fhhMaXTraI", "start_ms": 44000, "end_ms": 54000}


def test_moments_are_times_even_below_10_fps(factory: ClipFactory, tmp_path: Path) -> None:
    times_s = np.arange(50) / 5  # 5 fps: frame 20 is at 4.0 s, frame 23 at 4.6 s, 24 at 4.8 s
    clip = factory.clip("a", [plain(GREY)] * 50, times_s, None, **LISTED)
    moments = moments_file(tmp_path, {"9fhhMaXTraI_44000_54000": [47, 46, 40, 99]})
    scores = scored(factory, clip, scorer="moments", moments=moments)
    # 4.7 s lies between two frames: the earlier one, which moment 46 hits exactly.
    assert scores.frame_scores[[23, 20, 49]].tolist() == [1.0, 0.5, 0.25]
    assert np.flatnonzero(scores.pickable).tolist() == [20, 23, 49]
    assert scores.measures["moment_offset_s"] == pytest.approx(0.1)


def test_a_moment_half_way_between_frames_is_the_earlier(
    factory: ClipFactory, tmp_path: Path
) -> None:
    times_s = np.arange(75) / 7.5  # 1.4 s lies half way between frames 10 and 11
    clip = factory.clip("a", [plain(GREY)] * 75, times_s, None, **LISTED)
    moments = moments_file(tmp_path, {"9fhhMaXTraI_44000_54000": [14]})
    assert scored(factory, clip, scorer="moments", moments=moments).frame_scores.argmax() == 10


def test_moments_reads_the_published_list_of_boxes_and_moments(
    factory: ClipFactory, tmp_path: Path
) -> None:
    clip = factory.clip("a", [plain(GREY)] * 100, np.arange(100) / 10, None, **LISTED)
    published = [{"9fhhMaXTraI_44000_54000": [3, 4, 90, 90]}, {"9fhhMaXTraI_44000_54000": [47, 9]}]
    scores = scored(factory, clip, scorer="moments", moments=moments_file(tmp_path, published))
    assert scores.frame_scores.argmax() == 47
    assert np.flatnonzero(scores.pickable).tolist() == [9, 47]


@pytest.mark.parametrize(
    "found_as",
    [
        {"end_ms": 50600},  # kept short by trim: 6.6 s
        {"start_ms": 0, "end_ms": 6600, "attributes": {"source_start_ms": "44000"}},
        {"source_id": "9fhhMaXTraI_44000_54000", "start_ms": 0, "end_ms": 6600},  # cut before
        {"source_id": "9fhhMaXTraI_44000_54000", "start_ms": None, "end_ms": None},
    ],
)
def test_moments_of_shortened_and_ready_cut_clips(
    factory: ClipFactory, tmp_path: Path, found_as: dict[str, Any]
) -> None:
    clip = factory.clip("a", [plain(GREY)] * 66, np.arange(66) / 10, None, **LISTED | found_as)
    moments = moments_file(tmp_path, {"9fhhMaXTraI_44000_54000": [12, 30, 66]})
    scores = scored(factory, clip, scorer="moments", moments=moments)
    assert scores.frame_scores.argmax() == 12
    late = moments_file(tmp_path, {"9fhhMaXTraI_44000_54000": [90, 30, 67]})
    if found_as["end_ms"]:
        scores = scored(factory, clip, scorer="moments", moments=late)
        assert np.flatnonzero(scores.pickable).tolist() == [30]


def test_a_clip_whose_moments_all_lie_past_its_end_is_not_listed(
    factory: ClipFactory, tmp_path: Path
) -> None:
    clip = factory.clip("a", [plain(GREY)], [0.0], None, **LISTED | {"end_ms": 46000})
    moments = moments_file(tmp_path, {"9fhhMaXTraI_44000_54000": [90, 31]})
    with pytest.raises(ClipError, match="past the clip's end at 46000 ms") as caught:
        scored(factory, clip, scorer="moments", moments=moments)
    assert caught.value.reason is Reason.NOT_LISTED


def test_clips_without_moments_are_not_listed(factory: ClipFactory, tmp_path: Path) -> None:
    clip = factory.clip("a", [plain(GREY)], [0.0], None, **{**LISTED, "start_ms": 45000})
    with pytest.raises(ClipError, match="9fhhMaXTraI_45000_54000") as caught:
        scored(factory, clip, scorer="moments", moments=moments_file(tmp_path, {"x_0_1": [0]}))
    assert caught.value.reason is Reason.NOT_LISTED


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ("[1, 2, 3]", "must map"),
        ('{"a_0_1": ["x"]}', "a_0_1"),
        ('{"a_0_1": [-3]}', "-3"),
        ('{"a_0_1": 3}', "a_0_1"),
    ],
)
def test_bad_moments_files_are_explained(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "moments.json").write_text(text)
    with pytest.raises(SettingsError, match=says):
        make_scorer(SelectSettings(scorer="moments", moments=str(tmp_path / "moments.json")))


@pytest.mark.parametrize("scorer", ["moments", "localizer"])
def test_missing_files_are_explained(scorer: str) -> None:
    with pytest.raises(SettingsError, match=f"select.{scorer}"):
        make_scorer(SelectSettings(scorer=scorer))
    with pytest.raises(SettingsError, match=r"/nowhere/file.*No such file"):
        make_scorer(SelectSettings(scorer=scorer, **{scorer: "/nowhere/file"}))
