"""Settings are strict, and say what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from avdata.config import Pipeline, Range, load_pipeline
from avdata.errors import SettingsError
from avdata.strict import build, digest, to_tree


def test_an_empty_file_section_takes_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("seed: 3\nsteps:\n  trim:\n")
    pipeline = load_pipeline(path)
    assert pipeline.name == "x"
    assert pipeline.seed == 3
    assert pipeline.steps.trim.sample_rate_hz == 16000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz: {}", "unknown key 'stepz'; did you mean steps?"),
        ("steps: {trim: {window_ms: 3}}", "unknown key 'window_ms'; did you mean window_s?"),
        ("seed: yes", "seed must be a whole number, got True"),
        ("seed: '1'", "seed must be a whole number, got '1'"),
        ("steps: {trim: {fit: stretch}}", "fit must be one of 'squash', 'crop', 'pad'"),
        ("steps: {trim: {window_s: [1]}}", "window_s must be a number, got [1]"),
        ("steps: {tag: {taggers: yamnet}}", "taggers must be a list, got 'yamnet'"),
        ("steps: {select: {require: [1]}}", "require must be a mapping"),
        ("steps: 3", "steps must be a section"),
        ("- a list", "must be a mapping of settings, got list"),
        ("a: [", "is not valid YAML"),
        ("steps: {trim: {fit: pad}, tag: , trim: {fit: crop}}", "trim is given twice"),
        ("seed: 1\nname: x\nseed: 2", "seed is given twice, line 3, column 1"),
        ("part_clips: 0", "part_clips must be 1 or more, got 0"),
        ("steps: {trim: {frame_rate_hz: 1e9}}", "frame_rate_hz must be 0.001 to 1000, got"),
        ("steps: {trim: {window_s: .inf}}", "window_s must be 0.001 to 86400, got inf"),
        ("steps: {trim: {window_s: .nan}}", "window_s must be 0.001 to 86400, got nan"),
        ("steps: {trim: {width_px: 100000000}}", "width_px must be 1 to 16384, got 100000000"),
    ],
)
def test_wrong_settings_name_the_key_and_the_value(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as raised:
        load_pipeline(path)
    assert message in str(raised.value)
    assert "x.yaml" in str(raised.value)


def test_overrides_reach_nested_settings_and_are_strict(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("steps: {trim: {window_s: 3}}")
    pipeline = load_pipeline(
        path, ["steps.trim.window_s=4.5", "steps.select.require.loudness_lufs={min: -50}"]
    )
    assert pipeline.steps.trim.window_s == 4.5
    assert pipeline.steps.select.require == {"loudness_lufs": Range(min=-50.0)}
    assert load_pipeline(path, ["steps.trim.window_s=2e0"]).steps.trim.window_s == 2.0
    with pytest.raises(SettingsError, match="must be a number, got 'two'"):
        load_pipeline(path, ["steps.trim.window_s=two"])
    with pytest.raises(SettingsError, match="key=value"):
        load_pipeline(path, ["steps.trim.window_s"])
    with pytest.raises(SettingsError, match="unknown key"):
        load_pipeline(path, ["steps.trim.nothing=1"])
    with pytest.raises(SettingsError, match="is a value, not a section"):
        load_pipeline(path, ["steps.trim.window_s.x=1"])


NESTED = "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)
BOMB = f"a: &a [x, x, x, x, x, x, x, x, x]\n{NESTED}"  # 9^10 texts, if every alias is written out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: " + "[" * 20_000, "nested too deeply"),
        ("seed: " + "{a: " * 20_000, "nested too deeply"),
        ("seed:\n" + "- " * 20_000 + "x", "nested too deeply"),
        ("seed: " + "- " * 120 + "x", "not valid YAML"),
        (BOMB + "seed: *j", "more than 100000 values"),
        ("seed: &a [*a]", "more than 100000 values"),
        ("seed: " + "9" * 5000, "4300 digits"),
        ("seed: 0x" + "f" * 5000, "fits 64 bits, got a number of 20000 bits"),
        ("seed: " + "9" * 30, "fits 64 bits"),
        ("steps: {trim: {window_s: " + "9" * 400 + "}}", "fits 64 bits"),
        ("name: 2001-99-99", "month must be in 1..12"),
        ('manifest: "a\\0b"', "without NUL"),
        ('name: "\\ud800"', "without NUL and halves of characters"),
        ("seed: !!python/object:os.system x", "could not determine a constructor"),
        ("seed: [" + ", ".join(["1"] * 1000) + "]", "got [1, 1, 1, 1, 1, 1, ...]"),
        ("? [1]\n: 2", "found unhashable key"),
        ("#" * 300_000, "it has 300000 characters"),
    ],
    ids=lambda value: value[:30].split("\n")[0],
)
def test_hostile_settings_are_refused_in_one_short_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    (tmp_path / "good.yaml").write_text("seed: 1")
    with pytest.raises(SettingsError) as raised:
        load_pipeline(path)
    assert message in str(raised.value)
    value = text.partition(": ")[2]
    if text.startswith("seed: ") and "fits" not in message and "got" not in message:
        with pytest.raises(SettingsError, match=re.escape(message)):
            load_pipeline(tmp_path / "good.yaml", [f"seed={value}"])
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300 + len(str(tmp_path))


def test_an_empty_section_can_be_overridden(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("steps:\n  trim:\n")
    pipeline = load_pipeline(tmp_path / "x.yaml", ["steps.trim.window_s=4", "steps.tag.taggers=[]"])
    assert pipeline.steps.trim.window_s == 4


def test_anchors_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("name: &n x\noutput: *n\nsteps: {trim: &t {window_s: 3}}\n")
    assert load_pipeline(tmp_path / "x.yaml").output == "x"


def test_settings_survive_their_own_tree() -> None:
    pipeline = build(Pipeline, {"steps": {"select": {"require": {"a": {"max": 1}}}}}, "test")
    assert build(Pipeline, to_tree(pipeline), "again") == pipeline


def test_digest_depends_on_every_value_and_not_on_order() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest("ab", "c") != digest("a", "bc")


def test_every_committed_pipeline_file_is_valid() -> None:
    files = sorted((Path(__file__).resolve().parents[2] / "pipelines").glob("*.yaml"))
    assert files
    for path in files:
        load_pipeline(path)
