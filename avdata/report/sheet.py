"""A contact sheet: one clip as one picture, waveform, spectrogram and frames under each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from avdata import audio, frames
from avdata.clip import Clip, Media, one_line
from avdata.media_tar import read_member
from avdata.report import pictures
from avdata.report.gallery import frequency_ticks, localisation_map, neighbours, time_ticks
from avdata.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

WIDTH_PX = 1280
MARGIN_PX = 48
WAVE_PX = 110
SPECTROGRAM_PX = 300
GAP_PX = 14
MAX_FRAMES = 8
PAPER, INK, MUTED = (250, 248, 245), (33, 29, 43), (106, 99, 118)
WAVE, ACCENT = (143, 122, 166), (138, 42, 131)


def draw_sheet(store: Store, clip: Clip) -> Image:
    """Return the contact sheet of a clip that has media, 1280 pixels wide.

    Picked moments are numbered lines, picked frames are framed and carry their localisation map.
    Raises ClipError (corrupt) when the media cannot be read.
    """
    from PIL import Image, ImageDraw

    media = clip.media
    assert media is not None, "only a clip with media can be drawn"
    samples, rate_hz = audio.decode(read_member(store, media.path, media.audio))
    strip = _strip(store, clip, media)
    inner = WIDTH_PX - 2 * MARGIN_PX
    wave_top = 96
    spectrogram_top = wave_top + WAVE_PX + 4
    strip_top = spectrogram_top + SPECTROGRAM_PX + 40
    height = strip_top + (max((p.height for p, _ in strip), default=0) + 44 if strip else 0)
    sheet = Image.new("RGB", (WIDTH_PX, height + MARGIN_PX // 2), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw_text(draw, MARGIN_PX, 28, clip.key, 26, INK)
    draw_text(draw, MARGIN_PX, 62, one_line(_subtitle(clip), 150), 16, MUTED)
    if len(samples):
        _draw_wave(draw, samples, wave_top, inner)
        spectrogram = pictures.spectrogram_image(samples, rate_hz, inner, SPECTROGRAM_PX)
        sheet.paste(spectrogram, (MARGIN_PX, spectrogram_top))
        _draw_axes(draw, len(samples) / rate_hz, rate_hz, spectrogram_top, inner)
        _draw_picks(draw, clip, len(samples) / rate_hz, wave_top, inner)
    left = MARGIN_PX
    for picture, (text, picked) in strip:
        sheet.paste(picture, (left, strip_top))
        if picked:
            box = (
                left - 4,
                strip_top - 4,
                left + picture.width + 3,
                strip_top + picture.height + 3,
            )
            draw.rectangle(box, outline=ACCENT, width=4)
        draw_text(
            draw,
            left + picture.width / 2,
            strip_top + picture.height + 10,
            text,
            15,
            ACCENT if picked else MUTED,
            anchor="ma",
        )
        left += picture.width + GAP_PX
    return sheet


def _subtitle(clip: Clip) -> str:
    chosen = clip.selection
    scorer = f"picked by {chosen.scorer}" if chosen and chosen.picks else ""
    parts = (str(clip.status), clip.reason, ", ".join(clip.labels), scorer, clip.url)
    return "  ·  ".join(part for part in parts if part)


def _draw_wave(draw: ImageDraw, samples: NDArray[np.int16], top: int, width: int) -> None:
    pairs = pictures.envelope(samples, width)
    middle, reach = top + WAVE_PX / 2, WAVE_PX / 2 - 2
    for column, (low, high) in enumerate(pairs.tolist()):
        x = MARGIN_PX + column
        draw.line((x, middle - high * reach, x, middle - low * reach), fill=WAVE)


def _draw_axes(draw: ImageDraw, duration_s: float, rate_hz: int, top: int, width: int) -> None:
    bottom = top + SPECTROGRAM_PX
    for mark in time_ticks(duration_s):
        x = MARGIN_PX + mark.percent / 100 * width
        draw.line((x, bottom, x, bottom + 5), fill=MUTED)
        draw_text(draw, x, bottom + 8, mark.text, 14, MUTED, anchor="ma")
    for mark in frequency_ticks(rate_hz):
        y = bottom - mark.percent / 100 * SPECTROGRAM_PX
        draw.line((MARGIN_PX - 5, y, MARGIN_PX, y), fill=MUTED)
        draw_text(draw, MARGIN_PX - 8, y, mark.text, 14, MUTED, anchor="rm")
    draw_text(draw, MARGIN_PX - 8, top, "kHz", 14, MUTED, anchor="ra")


def _draw_picks(draw: ImageDraw, clip: Clip, duration_s: float, top: int, width: int) -> None:
    if not clip.selection or not clip.media:
        return
    bottom = top + WAVE_PX + 4 + SPECTROGRAM_PX
    for rank, index in enumerate(clip.selection.picks, 1):
        x = MARGIN_PX + min(1.0, clip.media.frames[index].t_s / duration_s) * width
        draw.line((x, top, x, bottom), fill=(255, 255, 255), width=3)
        draw.line((x, top, x, bottom), fill=ACCENT, width=1)
        draw.ellipse((x - 12, top - 12, x + 12, top + 12), fill=ACCENT)
        draw_text(draw, x, top, str(rank), 15, (255, 255, 255), anchor="mm")


def _strip(store: Store, clip: Clip, media: Media) -> list[tuple[Image, tuple[str, bool]]]:
    """Return the shown frames in time order, each with its caption and whether it was picked."""
    picks = clip.selection.picks if clip.selection else ()
    shown = neighbours(len(media.frames), sorted(picks), MAX_FRAMES)
    side = (WIDTH_PX - 2 * MARGIN_PX - (len(shown) - 1) * GAP_PX) // max(len(shown), 1)
    strip = []
    for index in shown:
        frame = media.frames[index]
        data = read_member(store, media.path, frame)
        picture = pictures.thumbnail(frames.decode_jpeg(data, side), min(side, 320))
        values = localisation_map(clip.selection, picks.index(index)) if index in picks else None
        if values is not None:
            overlay = pictures.heat_overlay(values, picture.width, picture.height)
            picture.paste(overlay, (0, 0), overlay)
        strip.append((picture, (f"{frame.t_s:.2f} s", index in picks)))
    return strip


def draw_text(
    draw: ImageDraw,
    x: float,
    y: float,
    text: str,
    size_px: int,
    fill: tuple[int, int, int],
    anchor: str = "la",
) -> None:
    """Write `text` in Pillow's own font; `anchor` as in Pillow, by default its top left corner."""
    from PIL import ImageFont

    draw.text((x, y), text, fill=fill, font=ImageFont.load_default(size_px), anchor=anchor)
