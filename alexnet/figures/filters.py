"""The first layer's filters as one picture, as in figure 3 of the 2012 paper. Pure."""

from typing import Final

import numpy as np
import numpy.typing as npt

from alexnet.figures.pixels import Picture, joined

PER_ROW: Final = 16
GAP_PX: Final = 1
BAND_PX: Final = 4
"""White, between two towers."""


def filters_picture(filters: npt.NDArray[np.float32], *, towers: int = 1) -> Picture:
    """Lay filters out in rows of 16, a pixel for each weight, with black lines between them.

    All filters of a tower share one offset and one scale, from its least weight (black) to its
    greatest (white): a filter that learned nothing looks flat beside the others.

    Args:
        filters: (maps, 3, k, k), RGB; the first tower's maps come first.
        towers: of equal size, one below the other.

    Source: `plot_filters` of the release's `shownet.py`, without `--norm-filters`.
    """
    return joined([_tower(tower) for tower in np.split(filters, towers)], BAND_PX, axis=0)


def _tower(filters: npt.NDArray[np.float32]) -> Picture:
    maps, _, side, _ = filters.shape
    columns = min(PER_ROW, maps)
    cell = side + GAP_PX
    sheet = np.zeros((-(-maps // columns) * cell + GAP_PX, columns * cell + GAP_PX, 3), np.uint8)
    for number, tile in enumerate(_scaled(filters).transpose(0, 2, 3, 1)):
        top, left = (number // columns) * cell + GAP_PX, (number % columns) * cell + GAP_PX
        sheet[top : top + side, left : left + side] = tile
    return sheet


def _scaled(filters: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    low, high = float(filters.min()), float(filters.max())
    shares = (filters.astype(np.float64) - low) / ((high - low) or 1.0)
    return np.rint(shares * 255).astype(np.uint8)
