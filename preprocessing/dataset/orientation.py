"""How a camera was held: the orientation of an EXIF block, and what puts an image upright.

Source: Exif 2.3, section 4.6.4, tag 0x0112.
"""

import io
import struct
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

Box = tuple[float, float, float, float]
"""(top, left, height, width), in pixels."""

UPRIGHT: Final = 1
EXIF_ERRORS: Final = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    struct.error,
)
"""What Pillow raises over tags whose types or counts are not the standard's."""
_EXIF_WINDOW: Final = 64 * 1024
_TURNS: Final[Mapping[int, tuple[bool, bool, bool]]] = {
    UPRIGHT: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
"""By orientation: whether rows and columns change places; then whether either is reversed."""


def orientation_of(image: Image.Image) -> int:
    """Return the orientation of an open image, 1 to 8; UPRIGHT where none can be read.

    The tag is read alone. `ImageOps.exif_transpose` writes the whole block anew and fails over what
    cameras and editors put into others (a resolution as text, a description as numbers), and no
    tag is worth an image that decodes: whatever fails here, the image is taken as it lies.
    """
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
        return int(found) if found in _TURNS else UPRIGHT
    except EXIF_ERRORS:
        return UPRIGHT


def jpeg_orientation(body: bytes) -> int:
    """Return the orientation of a JPEG, of which only the headers are read."""
    if body.find(b"Exif\0\0", 0, _EXIF_WINDOW) < 0:
        return UPRIGHT
    try:
        with Image.open(io.BytesIO(body), formats=("JPEG",)) as image:
            return orientation_of(image)
    except (*EXIF_ERRORS, Image.DecompressionBombError):
        return UPRIGHT


def turn_pixels(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Put (height, width, 3) pixels upright."""
    if orientation == UPRIGHT:
        return pixels
    swapped, rows, columns = _TURNS[orientation]
    turned = pixels.swapaxes(0, 1) if swapped else pixels
    return np.ascontiguousarray(turned[:: -1 if rows else 1, :: -1 if columns else 1])


def turn_box(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """Return where a box lies once the image of `size`, (height, width), is put upright."""
    (top, left, height, width), (rows_px, columns_px) = box, size
    swapped, rows, columns = _TURNS[orientation]
    if swapped:
        top, left, height, width = left, top, width, height
        rows_px, columns_px = columns_px, rows_px
    return (
        rows_px - top - height if rows else top,
        columns_px - left - width if columns else left,
        height,
        width,
    )
