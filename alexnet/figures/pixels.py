"""Pictures that are arrays: enlarged without smoothing, written as PNG."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

Picture = npt.NDArray[np.uint8]
"""(height, width, 3), RGB."""


def enlarged(picture: Picture, factor: int) -> Picture:
    """Make a square of factor x factor pixels of each one."""
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def picture_png(picture: Picture) -> bytes:
    """Write a picture as PNG."""
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, format="PNG", optimize=True)
    return sink.getvalue()
