"""Pictures that are arrays: enlarged without smoothing, written as PNG."""

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

Picture = npt.NDArray[np.uint8]
"""(height, width, 3), RGB."""


def enlarged(picture: Picture, factor: int) -> Picture:
    """Make a square of factor x factor pixels of each one."""
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def as_rgb(grey: npt.NDArray[np.uint8]) -> Picture:
    """Make a picture of grey values, (height, width)."""
    return np.repeat(grey[:, :, None], 3, axis=2)


def joined(parts: Sequence[Picture], gap_px: int, *, axis: int) -> Picture:
    """Put pictures below (axis 0) or beside (axis 1) each other, with white gaps between them."""
    shape = list(parts[0].shape)
    shape[axis] = gap_px
    gap = np.full(shape, 255, np.uint8)
    return np.concatenate([piece for part in parts for piece in (part, gap)][:-1], axis=axis)


def as_jpeg(png: bytes, quality: int = 85) -> bytes:
    """Write a PNG of photographs as JPEG, a tenth as large."""
    sink = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").save(sink, format="JPEG", quality=quality, optimize=True)
    return sink.getvalue()


def picture_png(picture: Picture) -> bytes:
    """Write a picture as PNG."""
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, format="PNG", optimize=True)
    return sink.getvalue()
