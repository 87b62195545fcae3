"""Image bytes → the pixels that are stored. Build and prediction share it, so that they agree.

Pixels are HWC uint8 RGB throughout.
"""

import io
import struct
from typing import Final

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from preprocessing.errors import ImageRejected

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS: Final = 90_000_000
"""Images of more pixels are refused unread: the largest of ImageNet has under 21 million."""
MAX_SIDE_PX: Final = 65_535
"""Longer images are no JPEG."""
EXIF_WINDOW: Final = 64 * 1024
FORMATS: Final = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""What is opened, MPO as JPEG. Pillow knows more, and would start Ghostscript for an EPS."""
_PILLOW_ERRORS: Final = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    NotImplementedError,
    struct.error,
)


def decode_image(body: bytes) -> Pixels:
    """Decode an image file of one of FORMATS, upright, as RGB.

    Ordinary JPEGs go through libjpeg-turbo, all else (PNG, CMYK, EXIF orientation, …) through
    Pillow.

    Raises:
        ImageRejected: it is no such image, is cut off, or has more than MAX_PIXELS.
    """
    if body[:2] == b"\xff\xd8" and b"Exif\0\0" not in body[:EXIF_WINDOW]:
        pixels = _decode_plain_jpeg(body)
        if pixels is not None:
            return pixels
    return _decode_with_pillow(body)


def to_square(pixels: Pixels, side_px: int) -> Pixels:
    """Scale the shorter side to `side_px` and cut the central square, as in 2012.

    The cut is made in the source's coordinates and scaled in one pass, so only pixels that are
    kept are computed. Bicubic with antialiasing.

    Source: Krizhevsky et al. 2012, section 2; which filter they used is not recorded
    (cuda-convnet2: area when shrinking, cubic when enlarging).
    """
    height, width = pixels.shape[:2]
    short = min(height, width)
    if short == side_px:
        return central_square(pixels)
    top, left = (height - short) / 2, (width - short) / 2
    resized = Image.fromarray(pixels).resize(
        (side_px, side_px),
        Image.Resampling.BICUBIC,
        box=(left, top, left + short, top + short),
    )
    return np.asarray(resized)


def to_short_side(pixels: Pixels, side_px: int) -> Pixels:
    """Scale the shorter side to `side_px` and the longer one with it, as `to_square` scales.

    Raises:
        ImageRejected: it is so narrow that it would get more than MAX_PIXELS, or be too long for
            a JPEG.
    """
    height, width = pixels.shape[:2]
    size = scaled_size((height, width), side_px)
    _refuse_bomb(*size)
    if max(size) > MAX_SIDE_PX:
        raise ImageRejected(
            f"{width}x{height} is too narrow: stored, it would be {max(size):,} pixels long",
            remedy="store squares, replace the file, or allow rejects",
        )
    if size == (height, width):
        return pixels
    resized = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC)
    return np.asarray(resized)


def scaled_size(size: tuple[int, int], side_px: int) -> tuple[int, int]:
    """Return (height, width) once the shorter side is `side_px`."""
    height, width = size
    short = min(height, width)
    return (
        max(side_px, round(height * side_px / short)),
        max(side_px, round(width * side_px / short)),
    )


def central_square(pixels: Pixels) -> Pixels:
    """View the central square of an image."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def _decode_plain_jpeg(body: bytes) -> Pixels | None:
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(body)
        if colorspace not in ("Gray", "YCbCr", "RGB"):
            return None
        _refuse_bomb(height, width)
        return simplejpeg.decode_jpeg(body, "RGB", strict=True)
    except ValueError:
        # Pillow decides: it forgives stray bytes, which ImageNet has, but not a cut image.
        return None


def _decode_with_pillow(body: bytes) -> Pixels:
    try:
        with Image.open(io.BytesIO(body), formats=FORMATS) as image:
            _refuse_bomb(image.height, image.width)
            ImageOps.exif_transpose(image, in_place=True)
            return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except _PILLOW_ERRORS as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ImageRejected(reason, remedy="replace the file, or allow rejects") from error


def _refuse_bomb(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise ImageRejected(
            f"{width}x{height} is more than {MAX_PIXELS:,} pixels",
            remedy="replace the file, or allow rejects",
        )
