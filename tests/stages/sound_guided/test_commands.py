"""The commands, as they are typed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from avdata.media import probe
from stages import generate
from tests.stages.sound_guided.tiny import SIDE, picture, tone
from tests.stages.sound_guided.tiny_run import SPEC, make_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, two sounds and two pictures."""
    found = tmp_path_factory.mktemp("commands")
    make_run(found / "run")
    for name, hz in (("low", 300), ("high", 3000)):
        soundfile.write(found / f"{name}.wav", tone(hz, spec=SPEC).samples, 16_000)
    for seed in (5, 6):
        Image.fromarray(picture(seed).image).resize((40, 24)).save(found / f"view{seed}.png")
    return found


def made(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """Run a command on the tiny run; return result.json, each row with its images."""
    out = folder / "out" / "-".join(re.findall(r"\w+", " ".join(words)))[:60]
    common = ["--run", str(folder / "run"), "--family", "sound_guided", "--device", "cpu"]
    few = ["--move-steps", "8", "--invert-steps", "8", "-n", "2", "-o", str(out)]
    generate.main([*(w.replace("@", f"{folder}/") for w in words), *common, *few])
    assert "pictures; look at" in capsys.readouterr().out
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    for row in result["rows"]:
        row["pictures"] = [np.asarray(Image.open(out / name), float) for name in row["images"]]
    result["folder"] = out
    assert (out / "sheet.png").is_file()
    return result


def test_sounds_move_the_same_starts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, low, high = made(folder, capsys, "sound", "@low.wav", "@high.wav")["rows"]
    assert (source["title"], low["title"], high["title"]) == ("Source", "low", "high")
    assert len(source["images"]) == 2
    assert np.abs(low["pictures"][0] - source["pictures"][0]).mean() > 0.5
    assert np.abs(low["pictures"][0] - high["pictures"][0]).mean() > 0.5


def test_given_pictures_are_moved(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["mix", "@low.wav", "@high.wav", "--content", "@view5.png", "@view6.png"]
    rows = made(folder, capsys, *words)["rows"]
    assert [row["title"] for row in rows] == ["Source", "low, 0 dB", "high, 0 dB", "low + high"]
    assert rows[0]["contents"] == ["view5", "view6"]
    found = made(folder, capsys, "project", "@view5.png", "@view6.png")
    codes = np.load(found["folder"] / "codes.npy")
    assert codes.shape == (2, 6, 8)
    assert found["codes"] == "codes.npy"
    given, again, _ = found["rows"][0]["pictures"]
    np.testing.assert_array_equal(again, rows[0]["pictures"][0])  # both commands' starts
    assert np.abs(given - again).mean() < np.abs(given - rows[0]["pictures"][1]).mean()
    saved = made(folder, capsys, "text", "ocean", "--codes", str(found["folder"] / "codes.npy"))
    np.testing.assert_array_equal(saved["rows"][0]["pictures"][1], rows[0]["pictures"][1])


def test_from_a_sound_to_a_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_sound = made(folder, capsys, "sound", "@low.wav")["rows"][1]["pictures"]
    by_text = made(folder, capsys, "text", "ocean")["rows"][1]["pictures"]
    for between in ("codes", "guidance"):
        words = ["fuse", "@low.wav", "ocean", "--rows", "3", "--between", between]
        rows = made(folder, capsys, *words)["rows"]
        assert [row.get("share") for row in rows] == [None, 0, 0.5, 1]
        for number in range(2):  # the ends are those of either alone
            np.testing.assert_allclose(rows[1]["pictures"][number], by_sound[number], atol=1)
            np.testing.assert_allclose(rows[3]["pictures"][number], by_text[number], atol=1)
        middle = rows[2]["pictures"][0]
        assert np.abs(middle - by_sound[0]).mean() > 0.2


def test_layers_are_mixed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = made(folder, capsys, "stylemix", "@low.wav", "ocean")["rows"]
    assert rows[3]["title"] == "layers 1 to 3 low, 4 to 6 “ocean”"
    sound, text, mixed = (row["pictures"][0] for row in rows[1:])
    assert min(np.abs(mixed - sound).mean(), np.abs(mixed - text).mean()) > 0.05


def test_the_way_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["trace", "@low.wav", "--text", "ocean", "--frames", "5", "--film-s", "2"]
    found = made(folder, capsys, *words)
    assert found["films"] == ["way_00.mp4", "way_01.mp4"]
    row = found["rows"][1]
    assert len(row["similarity"]) == 9
    assert row["similarity"][-1] > row["similarity"][0]
    source, *_, result, difference = row["pictures"]
    change = result - source
    expected = 128 + change * 127 / np.abs(change).max()
    np.testing.assert_allclose(difference, expected, atol=0.51)
    film = probe(found["folder"] / "way_01.mp4")
    assert (film.width_px, film.duration_ms) == (8 * SIDE, pytest.approx(2000, abs=60))


def test_volume_and_latents(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = made(folder, capsys, "sweep", "@low.wav", "--gains-db", "-40", "0")["rows"]
    quiet, loud = (row["pictures"][0] for row in rows[1:])
    assert np.abs(quiet - loud).mean() > 0.1  # against a fixed reference, volume counts
    words = ["interpolate", "@low.wav", "@view5.png", "--rows", "3"]
    assert len(made(folder, capsys, *words)["rows"]) == 3


def test_a_clipped_sound_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loud = np.clip(4 * tone(300, spec=SPEC).samples, -1, 1)
    soundfile.write(folder / "loud.wav", loud, 16_000)
    row = made(folder, capsys, "sound", "@loud.wav", "-n", "1")["rows"][1]
    assert re.search(r"; clipped: 6[67]% of it is at full scale$", row["note"])


def test_what_cannot_be_done_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent = folder / "silent.wav"
    soundfile.write(silent, np.zeros(16_000), 16_000)
    np.save(folder / "wrong.npy", np.zeros((14, 512)))
    for words, said in (
        (["trace"], "nothing to follow"),
        (["sound", str(silent)], "is silent"),
        (["text", "a " * 200], "too long"),
        (["text", "a", "--codes", "@wrong.npy"], "another size; invert the picture again"),
        (["trace", "@low.wav", "--frames", "1"], "give 2 or more"),
    ):
        with pytest.raises(SystemExit) as end:
            made(folder, capsys, *words)
        assert end.value.code == 2
        assert said in capsys.readouterr().err
