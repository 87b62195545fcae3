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
EXIF_WINDOW: Final = 64 * 1024
FORMATS: Final = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
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
    if (height, width) == (side_px, side_px):
        return pixels
    top, left = (height - short) / 2, (width - short) / 2
    resized = Image.fromarray(pixels).resize(
        (side_px, side_px),
        Image.Resampling.BICUBIC,
        box=(left, top, left + short, top + short),
    )
    return np.asarray(resized)


def encode_jpeg(pixels: Pixels, quality: int) -> bytes:
    """Encode as a baseline JPEG with 4:2:0 colour."""
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=quality, colorspace="RGB", colorsubsampling="420"
    )


def decode_stored(jpeg: bytes | npt.NDArray[np.uint8], into: Pixels | None = None) -> Pixels:
    """Decode a JPEG of a shard; `into` is a kept buffer of the stored size, to save allocating.

    Raises:
        ImageRejected: the bytes are damaged.
    """
    try:
        return simplejpeg.decode_jpeg(jpeg, "RGB", buffer=into, strict=True)
    except ValueError as error:
        raise ImageRejected(
            f"a stored JPEG cannot be decoded: {error}", remedy="prepare the dataset again"
        ) from error


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
            upright = ImageOps.exif_transpose(image)
            return np.asarray(upright.convert("RGB"))
    except _PILLOW_ERRORS as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ImageRejected(reason, remedy="replace the file, or allow rejects") from error


def _refuse_bomb(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise ImageRejected(
            f"{width}x{height} is more than {MAX_PIXELS:,} pixels",
            remedy="replace the file, or allow rejects",
        )
