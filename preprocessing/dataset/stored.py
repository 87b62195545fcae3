"""How a dataset stores an image, and how it is read back.

Pixels are HWC uint8 RGB throughout. `raw` images are binary PPM files: the pixels behind a short
header, so that reading them is no work, and Pillow and Hugging Face's datasets open them too.
"""

import re
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import simplejpeg

from preprocessing.dataset.pixels import Pixels, central_square, decode_image, decode_square
from preprocessing.errors import ANEW, ImageRejected

ShapeName = Literal["square", "keep-aspect", "original"]
EncodingName = Literal["jpeg", "raw"]
ChromaName = Literal["420", "444"]

_HEADER: Final = re.compile(rb"P6\n(\d{1,5}) (\d{1,5})\n255\n")
_HEADER_BYTES: Final = 18
"""The longest header there is."""


def encode_jpeg(pixels: Pixels, quality: int, chroma: ChromaName = "420") -> bytes:
    """Encode as a baseline JPEG."""
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=quality, colorspace="RGB", colorsubsampling=chroma
    )


def encode_raw(pixels: Pixels) -> bytes:
    """Write as a binary PPM file (P6)."""
    height, width = pixels.shape[:2]
    return b"P6\n%d %d\n255\n" % (width, height) + pixels.tobytes()


def decode_stored(body: bytes | npt.NDArray[np.uint8], into: Pixels | None = None) -> Pixels:
    """Return the pixels of a stored image.

    Args:
        body: a JPEG or what `encode_raw` wrote.
        into: a kept buffer of at least the image's bytes, to save allocating; a JPEG is decoded
            into it, raw pixels are viewed where they are.

    Raises:
        ImageRejected: the bytes are damaged.
    """
    raw = _HEADER.match(bytes(body[:_HEADER_BYTES]))
    try:
        if raw is None:
            return simplejpeg.decode_jpeg(body, "RGB", buffer=into, strict=True)
        width, height = int(raw[1]), int(raw[2])
        return np.frombuffer(body, np.uint8)[raw.end() :].reshape(height, width, 3)
    except ValueError as error:
        raise ImageRejected(f"a stored image cannot be decoded: {error}", remedy=ANEW) from error


def decode_original(body: bytes | npt.NDArray[np.uint8]) -> Pixels:
    """Return the pixels of an image whose file is stored as it was, upright.

    Raises:
        ImageRejected: the bytes are damaged.
    """
    return decode_image(bytes(body))


def stored_square(body: bytes | npt.NDArray[np.uint8], shape: ShapeName, side_px: int) -> Pixels:
    """Return the central square of a stored image, (side_px, side_px, 3).

    The same pixels that the dataset's statistics are of.

    Raises:
        ImageRejected: the bytes are damaged.
    """
    if shape == "original":
        return decode_square(bytes(body), side_px)
    pixels = decode_stored(body)
    return pixels if shape == "square" else central_square(pixels)
