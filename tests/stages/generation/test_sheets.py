"""Sheets hold their pictures unchanged, panels show what they say, films go there and back."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from avdata.audio.spectrograms import spectrogram
from stages.generation import sheets
from stages.generation.results import write_results
from stages.generation.sheets import (
    SheetRow,
    contact_sheet,
    film,
    panel_size,
    save_gif,
    sound_panel,
)
from tests.stages.tiny_scenes import SPEC, tone

MODELS = {"generator": {"file": "g", "sha256": "0" * 64}}


def pictures(n: int, side: int = 128, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def holds(sheet: Image.Image, picture: np.ndarray) -> bool:
    """Tell whether a picture stands somewhere in a sheet, pixel for pixel."""
    canvas, side = np.asarray(sheet), len(picture)
    ys, xs = np.nonzero((canvas == picture[0, 0]).all(axis=2))
    return any(
        np.array_equal(canvas[y : y + side, x : x + side], picture)
        for y, x in zip(ys.tolist(), xs.tolist(), strict=True)
    )


def test_a_sheet_holds_every_picture_and_panel() -> None:
    panel = Image.new("RGB", panel_size(128), (1, 2, 3))
    rows = [
        SheetRow(title="rain", panel=panel, images=pictures(3)),
        SheetRow(title="a long name " * 20, note="x" * 500, images=pictures(1, seed=1)),
        SheetRow(title="steps", images=pictures(2, 256, seed=2), headings=["one", "two"]),
    ]
    sheet = contact_sheet("Title", "note", rows)
    for row in rows:
        for image in row.images:
            assert holds(sheet, image)
    assert (np.asarray(sheet) == (1, 2, 3)).all(axis=2).sum() == panel.width * panel.height
    with pytest.raises(ValueError, match="at least one row"):
        contact_sheet("Title", "", [])


def test_pictures_of_any_shape_are_shown_whole() -> None:
    """The largest of each direction makes the cell; small ones are enlarged as squares are."""
    wide, tall = pictures(1, 64)[0][:, :, :], np.zeros((108, 64, 3), np.uint8)
    wide = np.concatenate([wide, wide[:, :20]], axis=1)  # 64 × 84
    row = SheetRow(title="both", images=[wide, tall])
    assert sheets.cell_of(row) == (168, 216)
    sheet = np.asarray(contact_sheet("Title", "", [row]))
    assert (sheet == 0).all(axis=2).sum() == 4 * tall.shape[0] * tall.shape[1]
    large = SheetRow(title="large", images=[pictures(1, 128)[0], pictures(1, 300)[0][:200]])
    assert holds(contact_sheet("Title", "", [large]), large.images[1][:, :200])


@pytest.mark.parametrize(("side", "shown"), [(32, 128), (64, 128), (100, 100), (128, 128)])
def test_pictures_are_enlarged_by_whole_numbers(side: int, shown: int) -> None:
    assert sheets.cell_px(side) == shown


def test_a_panel_shows_low_pitches_low_and_volume_to_scale() -> None:
    size = (200, 120)
    wave_px = round(sheets.WAVE_SHARE * size[1])
    drawn = {}
    for hz, level in ((500, 0.05), (7000, 0.9)):
        sound = tone(hz, level=level)
        panel = np.asarray(sound_panel(sound, spectrogram(sound, SPEC)[0], SPEC, size)).astype(int)
        light = panel[wave_px:, 60:140].sum(axis=(1, 2))
        place = light.argmax() / len(light)  # 0 is the top: 8 kHz
        assert place == pytest.approx(1 - hz / 8000, abs=0.06)
        wave = (panel[: wave_px - 3] == sheets.WAVE).all(axis=2).sum(axis=0)
        drawn[level] = np.median(wave) / (wave_px - 3)
    assert drawn[0.05] < 0.15
    assert drawn[0.9] == pytest.approx(0.9, abs=0.1)


def test_labels_over_a_bright_spectrogram_have_a_dark_ground() -> None:
    ramp = np.linspace(0, 1, 257, dtype=np.float32)[:, None].repeat(48, 1)  # bright where 8 kHz is
    panel = np.asarray(sound_panel(tone(500), ramp, SPEC, (200, 120)))
    wave_px = round(sheets.WAVE_SHARE * 120)
    label = panel[wave_px + 3 : wave_px + 14, 3:30]
    assert (label == sheets.INK).all(axis=2).mean() > 0.3
    assert (label == sheets.PAPER).all(axis=2).any()


def test_lines_are_cut_where_the_room_ends_and_not_before() -> None:
    name = "ocean_01-00016000"
    whole = sheets.fitted_line(f"100% {name} · 0% {name}", 795, 16)
    assert whole == f"100% {name} · 0% {name}"
    font = ImageFont.load_default(16)
    for width_px in (200, 60, 20):
        cut = sheets.fitted_line(whole, width_px, 16)
        assert cut.endswith("…")
        assert whole.startswith(cut[:-1])
        assert width_px - 20 < font.getlength(cut) <= width_px
    assert sheets.fitted_line(whole, 2, 16) == ""


def test_silence_is_dark_and_heat_is_in_colour() -> None:
    silence = np.zeros((257, 48), np.float32)
    assert np.asarray(sheets.spectrogram_picture(silence, (50, 40))).max() < 20
    heat = np.zeros((257, 48), np.float32)
    heat[:60, :12] = 1  # low and early
    sound = tone(2000)
    size = (200, 120)
    panel = sound_panel(sound, spectrogram(sound, SPEC)[0], SPEC, size, heat)
    below = np.asarray(panel)[round(sheets.WAVE_SHARE * 120) :].astype(int)
    colourful = np.ptp(below, axis=2) > 30
    assert colourful[-15:, :30].all()
    assert not colourful[20:60, 80:].any()


def test_a_picture_panel_keeps_the_shape() -> None:
    image = np.full((20, 40, 3), 9, np.uint8)
    panel = np.asarray(sheets.picture_panel(image, (200, 120)))
    ys, xs = np.nonzero((panel == 9).all(axis=2))
    assert (np.ptp(xs) + 1, np.ptp(ys) + 1) == (200, 100)


def test_a_film_goes_there_and_back(tmp_path: Path) -> None:
    rows = [SheetRow(title=str(n), images=pictures(2, 32, seed=n)) for n in range(4)]
    frames = film(rows)
    assert [frames.index(frame) for frame in frames] == [0, 1, 2, 3, 2, 1]
    save_gif(frames, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as gif:
        assert gif.n_frames == 6
        times_ms = []
        for n in range(6):
            gif.seek(n)
            times_ms.append(gif.info["duration"])
        assert gif.info["loop"] == 0
    assert times_ms == [900, 350, 350, 900, 350, 350]


def test_a_film_of_one_step_or_two(tmp_path: Path) -> None:
    for count in (1, 2):
        rows = [SheetRow(title=str(n), images=pictures(1, 32, seed=n)) for n in range(count)]
        save_gif(film(rows), tmp_path / "film.gif")
        with Image.open(tmp_path / "film.gif") as gif:
            assert gif.n_frames == count


def test_results_say_what_is_there(tmp_path: Path) -> None:
    rows = [
        SheetRow(title="rain", images=pictures(2), facts={"sound": "rain"}),
        SheetRow(title="../wind", images=pictures(1, seed=1)),
    ]
    facts = {"command": "sound", "seed": 3, "models": MODELS}
    write_results(tmp_path, "Title", rows, facts)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["seed"] == 3
    assert [row["title"] for row in result["rows"]] == ["rain", "../wind"]
    for row, listed in zip(rows, result["rows"], strict=True):
        for image, name in zip(row.images, listed["images"], strict=True):
            np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / name)), image)
    assert (tmp_path / "sheet.png").is_file()
    assert not (tmp_path / "film.gif").exists()
    chapter = (tmp_path / "section.html").read_text(encoding="utf-8")
    assert chapter.startswith("<h2>Title</h2>")
    assert b64encode((tmp_path / "sheet.png").read_bytes()).decode() in chapter
    write_results(tmp_path, "Title", rows[:1], facts, steps=rows)
    assert (tmp_path / "film.gif").is_file()
    assert "data:image/gif" in (tmp_path / "section.html").read_text(encoding="utf-8")
