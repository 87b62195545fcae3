"""Images and their nearest neighbours as one picture, as in figure 4 of the 2012 paper. Pure."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from alexnet.figures.pixels import Picture, enlarged

GAP_PX: Final = 4
QUERY_GAP_PX: Final = 16
"""Between an image and its neighbours."""
SMALLEST_PX: Final = 96
"""Smaller images are enlarged, each pixel to a square."""
_WHITE, _GREY = 255, 224


def similar_picture(rows: Sequence[Sequence[Picture | None]], side: int) -> Picture:
    """Lay out one row an image: itself at the left, then its neighbours, nearest first.

    Args:
        rows: of equal length, at least one image each. What is None, an image that is not there
            any more, is grey.
        side: of every image, a square, in pixels.
    """
    factor = _factor(side)
    cell, lefts = factor * side, _lefts(len(rows[0]), side)
    height, width = len(rows) * (cell + GAP_PX) - GAP_PX, lefts[-1] + cell
    sheet = np.full((height, width, 3), _WHITE, np.uint8)
    for number, row in enumerate(rows):
        top = number * (cell + GAP_PX)
        for left, image in zip(lefts, row, strict=True):
            tile = _GREY if image is None else enlarged(image, factor)
            sheet[top : top + cell, left : left + cell] = tile
    return sheet


def tile_centres(columns: int, side: int) -> list[float]:
    """Return where the tiles of such a picture's rows have their middle, in pixels from the left.

    Args:
        columns: tiles a row.
        side: as in `similar_picture`.
    """
    return [left + (_factor(side) * side - 1) / 2 for left in _lefts(columns, side)]


def _factor(side: int) -> int:
    return max(1, -(-SMALLEST_PX // side))


def _lefts(columns: int, side: int) -> list[int]:
    cell = _factor(side) * side
    return [number * (cell + GAP_PX) + (QUERY_GAP_PX if number else 0) for number in range(columns)]
