"""select: thresholds with reasons, picks, and what passes through."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avdata import measures
from avdata.clip import Clip, Status
from avdata.config import Pipeline, Range, SelectSettings
from avdata.errors import SettingsError
from avdata.steps.select import SelectStep, pick, rules_in
from avdata.strict import build
from avdata.tables import read_clips, write_clips
from tests.clip_factory import ClipFactory
from tests.localizer_factory import GRID, export_localizer

GREY = np.full((64, 64, 3), 90, np.uint8)


@pytest.fixture
def factory(tmp_path: Path) -> ClipFactory:
    return ClipFactory(tmp_path / "run")


def plain_clip(factory: ClipFactory, key: str = "a", **fields: Any) -> Clip:
    return factory.clip(key, [GREY] * 5, [0.0, 0.5, 1.0, 1.5, 2.0], np.zeros(32000), **fields)


def select(factory: ClipFactory, clips: list[Clip], seed: int = 0, **settings: Any) -> list[Clip]:
    return SelectStep(SelectSettings(**settings)).run(clips, factory.part(seed))


# thresholds


@pytest.mark.parametrize(
    ("rule", "bounds", "value", "reason", "detail"),
    [
        ("require", {"min": -50.0}, -50.0, "", ""),
        ("require", {"min": -50.0, "max": -10.0}, -20.0, "", ""),
        (
            "require",
            {"min": -50.0},
            -58.2,
            "below_min",
            "select.require.loudness_lufs: -58.2 is below the required -50",
        ),
        (
            "require",
            {"min": -50.0, "max": -10.0},
            -3.0,
            "above_max",
            "select.require.loudness_lufs: -3 is above the allowed -10",
        ),
        (
            "require",
            {"min": -50.0},
            None,
            "not_measured",
            "loudness_lufs: not measured on this clip",
        ),
        (
            "require",
            {"min": -50.0},
            float("nan"),
            "not_measured",
            "loudness_lufs: not measured on this clip",
        ),
        ("reject", {"min": -10.0}, -10.1, "", ""),
        ("reject", {"min": -40.0, "max": -30.0}, -41.0, "", ""),
        ("reject", {"min": -40.0, "max": -30.0}, -29.0, "", ""),
        (
            "reject",
            {"min": -10.0},
            -10.0,
            "above_max",
            "select.reject.loudness_lufs: -10 is rejected from -10 on",
        ),
        (
            "reject",
            {"max": -60.0},
            -70.0,
            "below_min",
            "select.reject.loudness_lufs: -70 is rejected up to -60",
        ),
        (
            "reject",
            {"min": -40.0, "max": -30.0},
            -35.0,
            "above_max",
            "select.reject.loudness_lufs: -35 is rejected from -40 to -30",
        ),
        (
            "reject",
            {"max": -60.0},
            None,
            "not_measured",
            "loudness_lufs: not measured on this clip",
        ),
    ],
)
def test_a_threshold_decides_and_says_why(
    factory: ClipFactory,
    rule: str,
    bounds: dict[str, float],
    value: float | None,
    reason: str,
    detail: str,
) -> None:
    measured = {} if value is None else {"loudness_lufs": value}
    clip = plain_clip(factory, measures=measured)
    (out,) = select(factory, [clip], **{rule: {"loudness_lufs": Range(**bounds)}})
    assert out.step == "select"
    assert out.status is (Status.REJECTED if reason else Status.ACCEPTED)
    assert out.reason == reason
    assert detail in out.detail
    assert (out.selection is None) is bool(reason)


def test_yamnet_classes_are_thresholds_too(factory: ClipFactory) -> None:
    names = measures.class_names()
    mean, peak = [0.0] * len(names), [0.0] * len(names)
    mean[names.index("Rain")], peak[names.index("Speech")] = 0.4, 0.9
    clip = plain_clip(factory, class_scores=tuple(mean), class_scores_max=tuple(peak))
    rain = {"yamnet/Rain": Range(min=0.3)}
    assert select(factory, [clip], require=rain)[0].status is Status.ACCEPTED
    (out,) = select(factory, [clip], require=rain, reject={"yamnet_max/Speech": Range(min=0.5)})
    assert out.reason == "above_max"
    assert out.detail == "select.reject.yamnet_max/Speech: 0.9 is rejected from 0.5 on"


def test_all_broken_rules_are_named_and_the_first_gives_the_reason(factory: ClipFactory) -> None:
    clip = plain_clip(factory, measures={"still_share": 1.0, "loudness_lufs": -60.0, "motion": 0.1})
    (out,) = select(
        factory,
        [clip],
        reject={"still_share": Range(min=0.9)},
        require={"motion": Range(min=0.0), "loudness_lufs": Range(min=-50.0)},
    )
    assert out.reason == "below_min"
    assert out.detail == (
        "select.require.loudness_lufs: -60 is below the required -50; "
        "select.reject.still_share: 1 is rejected from 0.9 on"
    )


@pytest.mark.parametrize(
    "name", ["yamnet/Roaring cats (lions, tigers)", "yamnet_max/Whimper (dog)"]
)
def test_the_rules_in_a_detail_are_found_again(factory: ClipFactory, name: str) -> None:
    scores = (0.6,) * len(measures.class_names())
    clip = plain_clip(
        factory, class_scores=scores, class_scores_max=scores, measures={"motion": 0.1}
    )
    (out,) = select(
        factory, [clip], require={"motion": Range(min=0.5)}, reject={name: Range(min=0.5)}
    )
    assert rules_in(out.detail) == ["select.require.motion", f"select.reject.{name}"]
    assert rules_in("") == rules_in("the clip has no sound: select.x") == []


@pytest.mark.parametrize(
    ("settings", "measure"),
    [({"scorer": "av_sync"}, "av_sync_max"), ({"scorer": "localizer"}, "c_max")],
)
def test_the_best_score_is_a_measure_and_can_be_a_threshold(
    factory: ClipFactory, tmp_path: Path, settings: dict[str, Any], measure: str
) -> None:
    # Red, grey and green frames; the tiny localizer hears low sounds as red.
    settings["localizer"] = str(export_localizer(tmp_path / "tiny.onnx"))
    red, green = (np.broadcast_to(np.uint8(c), (64, 64, 3)) for c in ((220, 20, 20), (20, 220, 20)))
    sound = 0.3 * np.sin(2 * np.pi * 300 * np.arange(32000) / 16000)
    clip = factory.clip("a", [red, GREY, red, green], [0.1, 0.6, 1.1, 1.6], sound)
    (out,) = select(factory, [clip], **settings)
    assert out.selection is not None
    best = out.selection.frame_scores[out.selection.picks[0]]
    assert best == max(out.selection.frame_scores)
    assert out.measures[measure] == pytest.approx(best, rel=1e-6)

    (low,) = select(factory, [clip], **settings, require={measure: Range(min=best + 0.1)})
    assert (low.status, low.reason) == (Status.REJECTED, "below_min")
    assert low.detail.startswith(f"select.require.{measure}: {best:.6g} is below")
    (high,) = select(factory, [clip], **settings, reject={measure: Range(min=best - 0.1)})
    assert (high.status, high.reason) == (Status.REJECTED, "above_max")


def test_what_the_scorer_measures_can_be_a_threshold(factory: ClipFactory) -> None:
    pictures = [GREY if i != 20 else GREY + 100 for i in range(40)]
    sound = np.zeros(4 * 16000)
    sound[32000:32400] = np.random.default_rng(0).uniform(-0.5, 0.5, 400)
    clips = [
        factory.clip("a", pictures, np.arange(40) / 10, sound),
        factory.clip("b", pictures, np.arange(40) / 10, sound[::-1][16000:]),
    ]
    heard, missed = select(factory, clips, scorer="av_sync", require={"av_sync": Range(min=0.4)})
    assert heard.status is Status.ACCEPTED
    assert heard.selection is not None
    assert heard.selection.picks == (20,)
    assert heard.measures["av_sync"] >= 0.4
    assert (missed.status, missed.reason) == (Status.REJECTED, "below_min")
    assert missed.measures["av_sync"] < 0.4


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"require": {"loudnes_lufs": Range(min=0)}}, r"require\.loudnes_lufs.*loudness_lufs"),
        ({"reject": {"yamnet/Rian": Range(min=0)}}, r"reject\.yamnet/Rian.*Rain"),
        (
            {"require": {"av_sync": Range(min=0)}},
            r"measured by steps\.select\.scorer: av_sync alone",
        ),
        (
            {"reject": {"c_max": Range(max=0)}},
            r"reject\.c_max.*steps\.select\.scorer: localizer alone",
        ),
        ({"require": {"motion": Range()}}, r"select\.require\.motion needs min, max or both"),
        ({"require": {"motion": Range(min=2, max=1)}}, "min 2 is above max 1"),
        ({"require": {"motion": Range(min=float("nan"))}}, "not a number"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"min_gap_s": -1.0}, "min_gap_s must be 0 or more, got -1"),
        ({"min_gap_s": float("nan")}, "min_gap_s must be 0 or more"),
    ],
)
def test_wrong_settings_are_explained_at_once(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        SelectStep(SelectSettings(**settings))


# picks


def test_picks_are_best_first_and_of_equals_the_earlier() -> None:
    scores = np.float32([0.1, 0.9, 0.5, 0.9, 0.5])
    times_s = np.arange(5) / 10
    assert pick(scores, times_s, top_k=1) == (1,)
    assert pick(scores, times_s, top_k=4) == (1, 3, 2, 4)
    assert pick(scores, times_s, top_k=99) == (1, 3, 2, 4, 0)
    equal = pick(np.zeros(500, np.float32), np.arange(500.0), top_k=500)
    assert equal == tuple(range(500))


def test_picks_keep_their_distance_when_asked() -> None:
    scores = np.float32([0.0, 0.8, 0.9, 0.7, 0.1, 0.6])
    times_s = np.array([0.0, 1.0, 1.5, 2.5, 2.6, 9.0])
    assert pick(scores, times_s, top_k=3, min_gap_s=1.0) == (2, 3, 5)
    assert pick(scores, times_s, top_k=9, min_gap_s=1.0) == (2, 3, 5, 0)


def test_frames_that_may_not_be_picked_are_not() -> None:
    allowed = np.array([True, False, True])
    assert pick(np.float32([1, 2, 3]), np.arange(3.0), top_k=3, pickable=allowed) == (2, 0)


def test_moments_fill_no_gap_with_frames_that_are_not_listed(
    factory: ClipFactory, tmp_path: Path
) -> None:
    (tmp_path / "m.json").write_text(json.dumps({"a_1000_3000": [19, 11]}))
    listed = plain_clip(factory, source_id="a", start_ms=1000, end_ms=3000)
    other = plain_clip(factory, source_id="a", start_ms=0, end_ms=2000)
    first, second = select(
        factory, [listed, other], scorer="moments", moments=str(tmp_path / "m.json"), top_k=5
    )
    assert first.selection is not None
    assert first.selection.picks == (4, 2)
    assert first.selection.frame_scores == (0.0, 0.0, 0.5, 0.0, 1.0)
    assert (second.status, second.reason) == (Status.REJECTED, "not_listed")
    assert "a_0_2000" in second.detail


def test_maps_are_kept_for_the_picks_alone(factory: ClipFactory, tmp_path: Path) -> None:
    levels = [40, 160, 80, 200]
    pictures = [np.full((64, 64, 3), level, np.uint8) for level in levels]
    rng = np.random.default_rng(1)
    clip = factory.clip("a", pictures, [0.25, 0.75, 1.25, 1.75], rng.normal(0, 0.1, 32000))
    model = str(export_localizer(tmp_path / "tiny.onnx"))
    (out,) = select(factory, [clip], scorer="localizer", localizer=model, top_k=2)
    selection = out.selection
    assert selection is not None
    assert selection.scorer == "localizer"
    assert len(selection.frame_scores) == 4
    assert selection.picks == (3, 1)
    assert (selection.map_height, selection.map_width) == (GRID, GRID)
    np.testing.assert_allclose(selection.maps[0], 200 / 255, atol=0.01)
    np.testing.assert_allclose(selection.maps[1], 160 / 255, atol=0.01)
    assert [len(values) for values in selection.maps] == [GRID * GRID] * 2


# what passes through, and what goes wrong


def test_rows_that_are_not_active_pass_through_in_place(factory: ClipFactory) -> None:
    rows = [plain_clip(factory, key) for key in "abcd"]
    failed = replace(rows[1], status=Status.FAILED, reason="not_found", step="fetch", media=None)
    expanded = replace(rows[2], status=Status.EXPANDED, step="trim", media=None)
    out = select(factory, [rows[0], failed, expanded, rows[3]])
    assert [clip.key for clip in out] == ["a", "b", "c", "d"]
    assert out[1] is failed
    assert out[2] is expanded
    assert out[0].status is out[3].status is Status.ACCEPTED


@pytest.mark.parametrize(
    ("scorer", "images", "sound", "reason"),
    [
        ("av_sync", 3, None, "no_audio"),
        ("localizer", 3, None, "no_audio"),
        ("mid", 3, None, ""),
        ("random", 3, None, ""),
        ("mid", 0, np.zeros(16000), "no_video"),
        ("random", 0, np.zeros(16000), "no_video"),
        ("av_sync", 0, np.zeros(16000), "no_video"),
        ("localizer", 0, np.zeros(16000), "no_video"),
    ],
)
def test_clips_that_lack_what_a_scorer_needs_are_rejected(
    factory: ClipFactory,
    tmp_path: Path,
    scorer: str,
    images: int,
    sound: np.ndarray | None,
    reason: str,
) -> None:
    clip = factory.clip("a", [GREY] * images, np.arange(images) / 2, sound)
    model = str(export_localizer(tmp_path / "tiny.onnx"))
    (out,) = select(factory, [clip], scorer=scorer, localizer=model)
    assert out.status is (Status.REJECTED if reason else Status.ACCEPTED)
    assert out.reason == reason
    assert bool(out.detail) is bool(reason)


def test_a_clip_without_media_says_what_to_run(factory: ClipFactory) -> None:
    (out,) = select(factory, [replace(plain_clip(factory), media=None)])
    assert (out.status, out.reason) == (Status.REJECTED, "no_video")
    assert "run trim" in out.detail


def test_one_unreadable_picture_fails_its_clip_and_no_other(factory: ClipFactory) -> None:
    good, bad = plain_clip(factory, "a"), plain_clip(factory, "b")
    assert bad.media is not None
    frames = (*bad.media.frames[:4], replace(bad.media.frames[4], bytes=100))
    bad = replace(bad, media=replace(bad.media, frames=frames))
    out = select(factory, [bad, good], scorer="av_sync")
    assert (out[0].status, out[0].reason) == (Status.FAILED, "corrupt")
    assert out[1].status is Status.ACCEPTED


@pytest.mark.parametrize("scorer", ["mid", "random", "av_sync", "localizer"])
def test_neighbours_order_and_the_table_change_nothing(
    factory: ClipFactory, tmp_path: Path, scorer: str
) -> None:
    rng = np.random.default_rng(3)
    clips = [
        factory.clip(
            key,
            rng.integers(0, 255, (9, 64, 64, 3), np.uint8),
            np.arange(9) / 4,
            rng.normal(0, 0.1, 40000),
        )
        for key in "abc"
    ]
    settings: dict[str, Any] = {
        "scorer": scorer,
        "localizer": str(export_localizer(tmp_path / "tiny.onnx")),
        "top_k": 3,
    }
    together = select(factory, clips, **settings)
    alone = [select(factory, [clip], **settings)[0] for clip in reversed(clips)]
    assert together == alone[::-1]

    write_clips(Path(factory.store.root) / "select.parquet", together)
    assert read_clips(factory.store, "select.parquet") == together


# what the output depends on


def test_fingerprint_knows_files_by_content_not_by_path(tmp_path: Path) -> None:
    def fingerprint(name: str, **options: Any) -> dict[str, Any]:
        model = str(export_localizer(tmp_path / name, **options))
        return SelectStep(SelectSettings(scorer="localizer", localizer=model)).fingerprint()

    assert fingerprint("a.onnx") == fingerprint("b.onnx")
    assert fingerprint("a.onnx") != fingerprint("c.onnx", gain=2.0)
    json.dumps(fingerprint("a.onnx"))


def test_fingerprint_changes_with_a_threshold() -> None:
    strict = SelectStep(SelectSettings(require={"motion": Range(min=0.2)}))
    loose = SelectStep(SelectSettings(require={"motion": Range(min=0.1)}))
    assert strict.fingerprint() != loose.fingerprint()


def test_thresholds_come_from_a_pipeline_file() -> None:
    tree = {
        "steps": {
            "select": {
                "require": {"loudness_lufs": {"min": -50}},
                "reject": {"yamnet/Speech": {"min": 0.5}},
                "top_k": 2,
                "min_gap_s": 1,
            }
        }
    }
    settings = build(Pipeline, tree, "test.yaml").steps.select
    assert settings.require == {"loudness_lufs": Range(min=-50.0)}
    assert settings.reject == {"yamnet/Speech": Range(min=0.5)}
    assert SelectStep(settings).fingerprint()["min_gap_s"] == 1.0
