"""What is looked at: contact sheets, panels of what was heard, GIFs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from avdata.audio.spec import AudioSpec
from avdata.clip import one_line
from avdata.report.pictures import colormap, heat_overlay
from avdata.report.sheet import draw_text

MARGIN_PX, GAP_PX = 36, 8
HEADER_PX, CAPTION_PX, ROW_GAP_PX, HEADING_PX = 92, 27, 22, 22
LABEL_PX = 11  # letters over a spectrogram
CELL_PX = 128  # smaller pictures are enlarged to this side
WAVE_SHARE = 0.22  # of a panel's height
PAPER, INK, MUTED = (250, 248, 245), (33, 29, 43), (106, 99, 118)
WAVE, ACCENT, LINE = (143, 122, 166), (138, 42, 131), (226, 220, 228)
LOUDEST, QUIETEST = 99.7, 1.0  # percentiles that span the colours
FRAME_MS, HOLD_MS = 350, 900  # of a GIF: each step, and its two ends

Panel = Image.Image
Images = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]
"""Pictures [H, W, 3]; an array [n, R, R, 3] if all have one size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetRow:
    """Pictures of one sound, picture or step, and what they were made from.

    facts: plain values for result.json. headings: over each picture, if they differ.
    """

    title: str
    note: str = ""
    panel: Panel | None = None
    images: Images
    headings: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def panel_size(resolution: int) -> tuple[int, int]:
    """Return width and height of the panel beside pictures of this side."""
    side = cell_px(resolution)
    return round(1.9 * side), side


def cell_of(row: SheetRow) -> tuple[int, int]:
    """Return width and height of the cells in which a row's pictures are shown whole."""
    height, width = (max(image.shape[axis] for image in row.images) for axis in (0, 1))
    shortest = min(min(image.shape[:2]) for image in row.images)
    times = cell_px(shortest) // shortest
    return times * width, times * height


def cell_px(resolution: int) -> int:
    """Return the side at which a picture is shown: a whole multiple of its own."""
    return resolution * max(1, CELL_PX // resolution)


def sound_panel(
    fitted: NDArray[np.float32],
    spectrogram: NDArray[np.float32],
    spec: AudioSpec,
    size: tuple[int, int],
    heat: NDArray[np.float32] | None = None,
) -> Panel:
    """Draw the waveform to scale (±1 is the height) over the spectrogram as the network sees it.

    fitted: [n_samples]. spectrogram and heat: [F, N], low frequencies first.
    """
    width, height = size
    wave_px = round(WAVE_SHARE * height)
    panel = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(panel)
    middle = (wave_px - 3) / 2
    draw.line((0, middle, width, middle), fill=LINE)
    for x, part in enumerate(np.array_split(fitted, width)):
        if len(part):
            high, low = float(part.max()), float(part.min())
            draw.line((x, middle * (1 - high), x, middle * (1 - low)), fill=WAVE)
    below = (width, height - wave_px)
    picture = spectrogram_picture(spectrogram, below)
    if heat is not None:  # in colour over grey, or the two could not be told apart
        picture = picture.convert("L").convert("RGB")
        overlay = heat_overlay(heat[::-1].astype(np.float64), *below)
        picture.paste(overlay, (0, 0), overlay)
    panel.paste(picture, (0, wave_px))
    top = f"{spec.sample_rate_hz / 2000:g} kHz" if spec.mel == "none" else f"{spec.n_mels} mel"
    _label(draw, 5, wave_px + 5, top, "lt")
    seconds = spec.n_samples / spec.sample_rate_hz
    _label(draw, width - 5, height - 5, f"{seconds:.4g} s", "rb")
    return panel


def _label(draw: ImageDraw.ImageDraw, x: float, y: float, text: str, anchor: str) -> None:
    """Write over a spectrogram, on a dark ground, as what is under it may be as bright."""
    font = ImageFont.load_default(LABEL_PX)
    left, top, right, bottom = draw.textbbox((x, y), text, font=font, anchor=anchor)
    draw.rectangle((left - 3, top - 3, right + 2, bottom + 2), fill=INK)
    draw_text(draw, x, y, text, LABEL_PX, PAPER, anchor)


def fitted_line(text: str, width_px: float, size_px: int) -> str:
    """Return as much of `text` as fits on a line of this width, at this size of letters."""
    font = ImageFont.load_default(size_px)
    line = one_line(text)
    cuts = (one_line(line, letters) for letters in range(len(line), 0, -1))
    return next((cut for cut in cuts if font.getlength(cut) <= width_px), "")


def spectrogram_picture(spectrogram: NDArray[np.float32], size: tuple[int, int]) -> Image.Image:
    """Draw a spectrogram [F, N], its own range over all colours; a constant one is dark."""
    low, high = np.percentile(spectrogram, [QUIETEST, LOUDEST])
    span = float(high - low)
    shade = np.clip((spectrogram - low) / span, 0, 1) if span > 0 else np.zeros_like(spectrogram)
    grey = Image.fromarray((shade[::-1] * 255).round().astype(np.uint8))
    resized = np.asarray(grey.resize(size, Image.Resampling.BOX))
    return Image.fromarray(colormap()[resized])


def picture_panel(image: NDArray[np.uint8], size: tuple[int, int]) -> Panel:
    """Show a picture [H, W, 3] whole, at the right of the panel."""
    picture = Image.fromarray(image)
    scale = min(size[0] / picture.width, size[1] / picture.height)
    shape = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    panel = Image.new("RGB", size, PAPER)
    panel.paste(picture.resize(shape, Image.Resampling.LANCZOS), (size[0] - shape[0], 0))
    return panel


def beside(panel: Panel, image: NDArray[np.uint8]) -> Panel:
    """Return a panel with a picture [H, W, 3] at its right, whole, of the panel's height."""
    side = panel.height
    wider = Image.new("RGB", (panel.width + GAP_PX + side, side), PAPER)
    wider.paste(panel, (0, 0))
    wider.paste(picture_panel(image, (side, side)), (panel.width + GAP_PX, 0))
    return wider


def share_panel(share: float, names: tuple[str, str], size: tuple[int, int]) -> Panel:
    """Draw how much of each of two ends a step has."""
    panel = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(panel)
    width, y = size[0], size[1] // 2
    at = round(width * (1 - share))
    draw.rectangle((0, y - 5, width, y + 5), fill=LINE)
    draw.rectangle((0, y - 5, at, y + 5), fill=WAVE)
    draw.rectangle((at, y - 5, width, y + 5), fill=ACCENT)
    draw_text(draw, 0, y - 12, fitted_line(names[0], width, 12), 12, WAVE, "ld")
    draw_text(draw, width, y + 12, fitted_line(names[1], width, 12), 12, ACCENT, "ra")
    return panel


def contact_sheet(title: str, note: str, rows: Sequence[SheetRow]) -> Image.Image:
    """Return all rows under each other: what was heard at the left, what came of it at the right.

    Raises ValueError without rows.
    """
    if not rows:
        raise ValueError("a sheet needs at least one row")
    cells = [cell_of(row) for row in rows]
    panel_px = max((row.panel.width + 2 * GAP_PX for row in rows if row.panel), default=0)
    widths = [len(row.images) * (cell[0] + GAP_PX) for row, cell in zip(rows, cells, strict=True)]
    width = 2 * MARGIN_PX + max(panel_px + max(widths) - GAP_PX, 520)
    heights = [_row_height(row, cell[1]) for row, cell in zip(rows, cells, strict=True)]
    sheet = Image.new("RGB", (width, HEADER_PX + sum(heights) + MARGIN_PX - ROW_GAP_PX), PAPER)
    draw = ImageDraw.Draw(sheet)
    line_px = width - 2 * MARGIN_PX
    draw_text(draw, MARGIN_PX, 26, fitted_line(title, line_px, 26), 26, INK)
    draw_text(draw, MARGIN_PX, 61, fitted_line(note, line_px, 13), 13, MUTED)
    top = HEADER_PX
    for row, cell, height in zip(rows, cells, heights, strict=True):
        _draw_row(sheet, draw, row, cell, top, MARGIN_PX + panel_px)
        top += height
    return sheet


def _row_height(row: SheetRow, height: int) -> int:
    heading = HEADING_PX if row.headings else 0
    panel = row.panel.height if row.panel else 0
    return CAPTION_PX + heading + max(height, panel) + ROW_GAP_PX


def _draw_row(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    row: SheetRow,
    cell: tuple[int, int],
    top: int,
    left: int,
) -> None:
    right = sheet.width - MARGIN_PX
    title = fitted_line(row.title, right - MARGIN_PX, 16)
    draw_text(draw, MARGIN_PX, top, title, 16, INK)
    after = MARGIN_PX + draw.textlength(title, font=ImageFont.load_default(16)) + 12
    draw_text(draw, after, top + 3, fitted_line(row.note, right - after, 13), 13, MUTED)
    top += CAPTION_PX
    heading = HEADING_PX if row.headings else 0
    if row.panel is not None:
        sheet.paste(row.panel, (MARGIN_PX, top + heading))
    for n, image in enumerate(row.images):
        x = left + n * (cell[0] + GAP_PX)
        if n < len(row.headings):
            heading_text = fitted_line(row.headings[n], cell[0], 12)
            draw_text(draw, x + cell[0] / 2, top, heading_text, 12, MUTED, "ma")
        _paste(sheet, image, (x, top + heading), cell)


def unrolled(row: SheetRow) -> list[SheetRow]:
    """Return a row for each picture of a row, titled by its heading."""
    pairs = zip(row.headings, row.images, strict=True)
    return [SheetRow(title=heading, images=image[None]) for heading, image in pairs]


def film(rows: Sequence[SheetRow]) -> list[Image.Image]:
    """Return one frame per row, there and back: its pictures side by side over its title."""
    frames = []
    for row in rows:
        width, height = cell_of(row)
        step = width + GAP_PX
        frame = Image.new("RGB", (len(row.images) * step + GAP_PX, height + 34), PAPER)
        for n, image in enumerate(row.images):
            _paste(frame, image, (GAP_PX + n * step, GAP_PX), (width, height))
        draw = ImageDraw.Draw(frame)
        title = fitted_line(row.title, frame.width - 2 * GAP_PX, 14)
        draw_text(draw, frame.width / 2, height + 21, title, 14, INK, "mm")
        frames.append(frame)
    return frames + frames[-2:0:-1]


def save_gif(frames: Sequence[Image.Image], path: Path) -> None:
    """Write an endless GIF that rests at both ends of a `film`."""
    ends = {0, len(frames) // 2}
    reduced = [frame.quantize(256, dither=Image.Dither.NONE) for frame in frames]
    times_ms = [HOLD_MS if n in ends else FRAME_MS for n in range(len(frames))]
    reduced[0].save(
        path, "GIF", save_all=True, append_images=reduced[1:], duration=times_ms, loop=0
    )


def _paste(
    sheet: Image.Image, image: NDArray[np.uint8], at: tuple[int, int], cell: tuple[int, int]
) -> None:
    """Show a picture in the middle of its cell, small ones enlarged by a whole number."""
    picture = Image.fromarray(image)
    times = min(cell[0] // picture.width, cell[1] // picture.height)
    if times > 1:
        size = (times * picture.width, times * picture.height)
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    sheet.paste(
        picture, (at[0] + (cell[0] - picture.width) // 2, at[1] + (cell[1] - picture.height) // 2)
    )
