"""A decoded picture to a JPEG of the asked size, without a detour through RGB.

libswscale scales straight to full-range BT.601 4:2:0, which is what a JPEG holds; turning,
cropping and padding then happen on the three planes.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from avdata.config import TrimSettings
from avdata.errors import ClipError, Reason
from avdata.frames import encode_jpeg_planes
from avdata.media.strange import STRANGE
from avdata.media.survey import clockwise_deg

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
"""Bit-exact, so that every machine writes the same bytes."""

BLACK = (0, 128, 128)


class JpegWriter:
    """Turns upright, scales, fits and encodes; keeps the scaler from picture to picture."""

    def __init__(self, settings: TrimSettings, pixel_aspect: Fraction) -> None:
        self._settings = settings
        self._pixel_aspect = pixel_aspect
        self._reformatter = VideoReformatter()

    def size_px(self, frame: VideoFrame) -> tuple[int, int]:
        """Return width and height of what `encode` makes of this picture."""
        width_px, height_px = self._displayed_px(frame)
        return self._settings.width_px or width_px, self._settings.height_px or height_px

    def encode(self, frame: VideoFrame) -> tuple[bytes, tuple[int, int]]:
        """Return the picture as JPEG (baseline, 4:2:0), and its width and height in pixels.

        Raises ClipError (corrupt) for a picture that cannot be scaled or is too large.
        """
        try:
            return self._encode(frame), self.size_px(frame)
        except STRANGE as error:
            raise ClipError(Reason.CORRUPT, f"a picture cannot be converted: {error}") from None

    def _encode(self, frame: VideoFrame) -> bytes:
        width_px, height_px = self.size_px(frame)
        inner_width_px, inner_height_px = _inner_size(
            self._displayed_px(frame), (width_px, height_px), self._settings.fit
        )
        turn_deg = clockwise_deg(frame)
        scaled_px = (inner_width_px, inner_height_px)
        scaled = self._reformatter.reformat(
            frame,
            *(scaled_px[::-1] if turn_deg % 180 else scaled_px),
            "yuv420p",
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.JPEG,
            interpolation=SCALING,
            threads=1,
        )
        planes = []
        for index, plane in enumerate(scaled.planes):
            rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
            image = np.rot90(rows[: plane.height, : plane.width], -turn_deg // 90)
            step = 2 if index else 1  # the colour planes have half the size, rounded up
            shape = (-(-height_px // step), -(-width_px // step))
            # Even offsets, so that the colour planes are cut at the same place.
            top = (inner_height_px - height_px) // 4 * 2 // step
            left = (inner_width_px - width_px) // 4 * 2 // step
            planes.append(_place(image, shape, top, left, BLACK[index]))
        return encode_jpeg_planes(planes[0], planes[1], planes[2], self._settings.jpeg_quality)

    def _displayed_px(self, frame: VideoFrame) -> tuple[int, int]:
        width_px, height_px = max(1, round(frame.width * self._pixel_aspect)), frame.height
        return (height_px, width_px) if clockwise_deg(frame) % 180 else (width_px, height_px)


def _inner_size(source: tuple[int, int], target: tuple[int, int], fit: str) -> tuple[int, int]:
    """Return the size to scale to, before what is too much is cut off or what lacks is padded."""
    if fit == "squash":
        return target
    ratios = [Fraction(target[i], source[i]) for i in (0, 1)]
    if fit == "crop":
        scale = max(ratios)
        return max(target[0], round(source[0] * scale)), max(target[1], round(source[1] * scale))
    scale = min(ratios)
    return max(1, round(source[0] * scale)), max(1, round(source[1] * scale))


def _place(
    image: NDArray[np.uint8], shape: tuple[int, int], top: int, left: int, fill: int
) -> NDArray[np.uint8]:
    """Return [*shape] with `image` cut at (top, left), or put at (-top, -left) where negative."""
    cut = image[max(0, top) :, max(0, left) :][: shape[0], : shape[1]]
    if cut.shape == shape:
        return np.ascontiguousarray(cut)
    canvas = np.full(shape, fill, np.uint8)
    row, column = max(0, -top), max(0, -left)
    cut = cut[: shape[0] - row, : shape[1] - column]
    canvas[row : row + cut.shape[0], column : column + cut.shape[1]] = cut
    return canvas
