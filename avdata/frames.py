"""Images: decode, encode, squash, normalise. Arrays are uint8 RGB [height, width, 3]."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from avdata.errors import ClipError, Reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def encode_jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    """Return `image` as baseline JPEG (4:2:0)."""
    import simplejpeg

    data: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(image), quality=quality, colorspace="RGB", colorsubsampling="420"
    )
    return data


def encode_jpeg_planes(
    y: NDArray[np.uint8], u: NDArray[np.uint8], v: NDArray[np.uint8], quality: int
) -> bytes:
    """Return full-range BT.601 4:2:0 planes as baseline JPEG.

    `y` is [height, width], `u` and `v` are [ceil(height / 2), ceil(width / 2)].
    """
    import simplejpeg

    data: bytes = simplejpeg.encode_jpeg_yuv_planes(y, u, v, quality=quality)
    return data


def decode_jpeg(data: bytes, min_side_px: int = 0) -> NDArray[np.uint8]:
    """Return the picture; with `min_side_px`, possibly at a fraction of its size, never below it.

    JPEG can be decoded at 1/2, 1/4 or 1/8 of its size for a fraction of the work: good enough for
    measures and thumbnails, but another filter than `squash`, so not for what models see.
    Raises ClipError (corrupt) for anything that is not a whole JPEG.
    """
    import simplejpeg

    try:
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data,
            colorspace="RGB",
            min_height=min_side_px,
            min_width=min_side_px,
            min_factor=1 if min_side_px else 2,
        )
    except ValueError as error:
        raise ClipError(Reason.CORRUPT, f"not a readable JPEG: {error}") from None
    return image


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """Return any still image Pillow can read (PNG, WebP, JPEG...), upright, as RGB.

    It is turned as its EXIF says; what is transparent shows white; 16 bits become 8.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # Pillow would cut it at 255
                values = np.asarray(upright).astype(np.int64)
                high = (np.clip(values, 0, 65535) // 257).astype(np.uint8)
                return np.repeat(high[..., None], 3, axis=2)
            if upright.has_transparency_data:
                clear = upright.convert("RGBA")
                paper = Image.new("RGBA", clear.size, "white")
                upright = Image.alpha_composite(paper, clear)
            return np.asarray(upright.convert("RGB"))
    except UnidentifiedImageError:  # its own message names the buffer
        raise ClipError(Reason.CORRUPT, "not a readable image: of no known format") from None
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ClipError(Reason.CORRUPT, f"not a readable image: {error}") from None


def squash(image: NDArray[np.uint8], width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Return `image` at another size, whatever its shape, by Pillow's bilinear filter.

    It is the only way from a whole decoded picture to what a model of ours sees: the loader, the
    scorers and the image encoders all use it, so that a model meets in use what it was trained on.
    The filter widens where a picture shrinks, so that nothing is skipped.
    """
    from PIL import Image

    resized = Image.fromarray(image).resize((width_px, height_px), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def of_one_size(images: Iterable[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Return the pictures, squashed to the size of the first where they have another."""
    alike: list[NDArray[np.uint8]] = []
    for image in images:
        height_px, width_px = (alike[0] if alike else image).shape[:2]
        same = image.shape[:2] == (height_px, width_px)
        alike.append(image if same else squash(image, width_px, height_px))
    return alike


def normalise(
    images: NDArray[np.uint8],
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
) -> NDArray[np.float32]:
    """Return [..., H, W, 3] uint8 as [..., 3, H, W] float32: (x / 255 - mean) / std."""
    scaled = images.astype(np.float32)
    scaled /= np.float32(255)
    scaled -= np.asarray(mean, np.float32)
    scaled /= np.asarray(std, np.float32)
    return np.ascontiguousarray(np.moveaxis(scaled, -1, -3))
