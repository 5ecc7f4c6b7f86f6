"""Still images of all modes, as a viewer would show them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from avdata.errors import ClipError
from avdata.frames import decode_image

SHADE = np.linspace(0, 255, 6 * 4).reshape(4, 6).round().astype(np.uint8)


def stored(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [(1, SHADE), (2, SHADE[:, ::-1]), (3, SHADE[::-1, ::-1]), (6, np.rot90(SHADE, -1)),
     (8, np.rot90(SHADE))],
)  # fmt: skip
def test_exif_turns_a_picture(orientation: int, turned: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode_image(stored(Image.fromarray(SHADE), exif=exif))
    np.testing.assert_array_equal(found, np.repeat(turned[..., None], 3, axis=2))


def test_what_is_transparent_shows_white() -> None:
    clear = np.zeros((2, 2, 4), np.uint8)
    clear[..., 3] = [[0, 255], [128, 255]]
    found = decode_image(stored(Image.fromarray(clear, "RGBA")))[..., 0]
    np.testing.assert_allclose(found, [[255, 0], [127, 0]], atol=1)
    palette = Image.new("P", (1, 1))
    palette.putpalette([9, 9, 9])
    assert decode_image(stored(palette, transparency=0)).tolist() == [[[255, 255, 255]]]


def test_sixteen_bits_become_eight() -> None:
    deep = (SHADE.astype(np.uint16) * 257).reshape(4, 6)
    for format in ("PNG", "TIFF"):
        found = decode_image(stored(Image.fromarray(deep), format))
        np.testing.assert_array_equal(found[..., 1], SHADE)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_gives_three_channels(mode: str) -> None:
    format = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    found = decode_image(stored(Image.new("RGB", (5, 3), (200, 200, 200)).convert(mode), format))
    assert found.shape == (3, 5, 3)
    assert found.dtype == np.uint8
    assert abs(float(found.mean()) - (255 if mode == "1" else 200)) < 60


def test_no_picture() -> None:
    with pytest.raises(ClipError, match="of no known format"):
        decode_image(b"not a picture")
