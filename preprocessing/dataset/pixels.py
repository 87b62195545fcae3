"""Image bytes → the pixels that are stored. Build and prediction share it, so that they agree.

Pixels are HWC uint8 RGB throughout.
"""

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from preprocessing.dataset.orientation import (
    EXIF_ERRORS,
    UPRIGHT,
    Box,
    jpeg_orientation,
    orientation_of,
    turn_box,
    turn_pixels,
)
from preprocessing.errors import ImageRejected

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS: Final = 90_000_000
"""Images of more pixels are refused unread: the largest of ImageNet has under 21 million."""
MAX_SIDE_PX: Final = 65_535
"""Longer images are no JPEG."""
FORMATS: Final = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""What is opened, MPO as JPEG. Pillow knows more, and would start Ghostscript for an EPS."""
_FACTORS: Final = (8, 4, 2)
"""Those for which libjpeg-turbo has quick code."""
_LEFT_TO_SCALE: Final = 2
"""Decoded smaller, an image is still so many times too large: the resize decides how it looks."""
_PILLOW_ERRORS: Final = (*EXIF_ERRORS, Image.DecompressionBombError, NotImplementedError)


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image as it was decoded: whole, or at 1/2, 1/4 or 1/8 of its size."""

    pixels: Pixels
    factor: int = 1
    box: Box | None = None
    """Where the image is in these pixels, where factor is not 1: rows and columns at the edges may
    stand for part of one."""


def decode_image(body: bytes) -> Pixels:
    """Decode an image file of one of FORMATS, upright, as RGB.

    Ordinary JPEGs go through libjpeg-turbo, all else (PNG, CMYK, stray bytes, …) through Pillow.
    Of 16 bits a colour or grey the upper 8 are taken.

    Raises:
        ImageRejected: it is no such image, is cut off, has more than MAX_PIXELS, or greys of 32
            bits.
    """
    return _decode(body, None).pixels


def decode_for(body: bytes, side_px: int) -> Decoded:
    """Decode as `decode_image`, a large JPEG no larger than `to_square` has use for.

    What comes out of `to_square` differs by less than between two good filters
    (docs/experiments.md). So whatever must agree on the pixels of an image decodes it here.

    Raises:
        ImageRejected: as `decode_image`.
    """
    return _decode(body, side_px)


def decode_square(body: bytes, side_px: int) -> Pixels:
    """Decode an image file and return its square, (side_px, side_px, 3), as datasets have it.

    Raises:
        ImageRejected: as `decode_image`.
    """
    decoded = decode_for(body, side_px)
    return to_square(decoded.pixels, side_px, decoded.box)


def decoding_factor(height: int, width: int, side_px: int) -> int:
    """Return the factor by which a JPEG may be decoded smaller when its square is wanted."""
    short = min(height, width)
    return next((f for f in _FACTORS if short >= _LEFT_TO_SCALE * f * side_px), 1)


def to_square(pixels: Pixels, side_px: int, box: Box | None = None) -> Pixels:
    """Scale the shorter side to `side_px` and cut the central square, as in 2012.

    The cut is made in the source's coordinates and scaled in one pass, so only pixels that are
    kept are computed. Bicubic with antialiasing.

    Args:
        box: where the image is, when it is not all of the array: `Decoded.box`.

    Source: Krizhevsky et al. 2012, section 2; which filter they used is not recorded
    (cuda-convnet2: area when shrinking, cubic when enlarging).
    """
    top, left, height, width = box or (0, 0, *pixels.shape[:2])
    short = min(height, width)
    if short == side_px:
        return central_square(pixels)
    top, left = top + (height - short) / 2, left + (width - short) / 2
    resized = Image.fromarray(pixels).resize(
        (side_px, side_px),
        Image.Resampling.BICUBIC,
        box=(left, top, left + short, top + short),
    )
    return np.asarray(resized)


def to_short_side(pixels: Pixels, side_px: int, box: Box | None = None) -> Pixels:
    """Scale the shorter side to `side_px` and the longer one with it, as `to_square` scales.

    Raises:
        ImageRejected: it is so narrow that it would get more than MAX_PIXELS, or be too long for
            a JPEG.
    """
    top, left, height, width = box or (0, 0, *pixels.shape[:2])
    size = scaled_size((height, width), side_px)
    _refuse_bomb(*size)
    if max(size) > MAX_SIDE_PX:
        raise ImageRejected(
            f"{width:g}x{height:g} is too narrow: stored, it would be {max(size):,} pixels long",
            remedy="store squares, replace the file, or allow rejects",
        )
    if size == (height, width):
        return pixels
    resized = Image.fromarray(pixels).resize(
        size[::-1], Image.Resampling.BICUBIC, box=(left, top, left + width, top + height)
    )
    return np.asarray(resized)


def scaled_size(size: tuple[float, float], side_px: int) -> tuple[int, int]:
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


def _decode(body: bytes, side_px: int | None) -> Decoded:
    if body[:2] == b"\xff\xd8":
        decoded = _decode_plain_jpeg(body, side_px)
        if decoded is not None:
            return _turned(decoded, jpeg_orientation(body))
    return Decoded(_decode_with_pillow(body))


def _decode_plain_jpeg(body: bytes, side_px: int | None) -> Decoded | None:
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(body)
        if colorspace not in ("Gray", "YCbCr", "RGB"):
            return None
        _refuse_bomb(height, width)
        factor = 1 if side_px is None else decoding_factor(height, width, side_px)
        if factor == 1:
            return Decoded(simplejpeg.decode_jpeg(body, "RGB", strict=True))
        pixels = simplejpeg.decode_jpeg(
            body, "RGB", min_height=-(-height // factor), min_width=-(-width // factor), strict=True
        )
        return Decoded(pixels, factor, (0, 0, height / factor, width / factor))
    except ValueError:
        # Pillow decides: it forgives stray bytes, which ImageNet has, but not a cut image.
        return None


def _turned(decoded: Decoded, orientation: int) -> Decoded:
    """Put an image upright, after it was decoded at whatever size."""
    if orientation == UPRIGHT:
        return decoded
    pixels, box = decoded.pixels, decoded.box
    return Decoded(
        turn_pixels(pixels, orientation),
        decoded.factor,
        None if box is None else turn_box(box, pixels.shape[:2], orientation),
    )


def _decode_with_pillow(body: bytes) -> Pixels:
    try:
        with Image.open(io.BytesIO(body), formats=FORMATS) as image:
            _refuse_bomb(image.height, image.width)
            # Before the orientation is asked for: a TIFF is put upright by being read.
            image.load()
            return turn_pixels(_rgb_of(image), orientation_of(image))
    except _PILLOW_ERRORS as error:
        told = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        reason = told or type(error).__name__
        raise ImageRejected(reason, remedy="replace the file, or allow rejects") from error


def _rgb_of(image: Image.Image) -> Pixels:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _rgb_of_grey(image)
    # What is transparent keeps its colour; of a palette's, `convert` would warn of that.
    image.info.pop("transparency", None)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _rgb_of_grey(image: Image.Image) -> Pixels:
    """Take the upper 8 of 16 bits, as Pillow does of colours; its `convert` makes all greys white.

    Raises:
        ImageRejected: greys of 32 bits or with a sign: nothing says which of them is white.
    """
    if not image.mode.startswith("I;16") and (image.mode, image.format) != ("I", "PPM"):
        raise ImageRejected(
            "greys of 32 bits or with a sign: convert to 8 or 16 bits",
            remedy="convert the file, or allow rejects",
        )
    bits = image.tag_v2[BITSPERSAMPLE][0] if isinstance(image, TiffImageFile) else 16
    grey = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
    return np.repeat(grey[..., np.newaxis], 3, axis=2)


def _refuse_bomb(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise ImageRejected(
            f"{width}x{height} is more than {MAX_PIXELS:,} pixels",
            remedy="replace the file, or allow rejects",
        )
