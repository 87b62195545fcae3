"""First-layer filters over a training as a film strip: a row a moment, a column a filter."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from alexnet.figures.canvas import INK, new_figure, png_of, show_picture
from alexnet.figures.filters import BAND_PX, PER_ROW, filters_picture
from alexnet.figures.pixels import Picture, joined
from alexnet.figures.thinning import evenly

MOST_MOMENTS: Final = 20
_STRIP_IN: Final = 8.8
"""The greatest width."""
_ROW_IN: Final = 0.4
"""The greatest height of a row: few filters are not drawn larger."""
_STEPS_IN: Final = 0.8
_TITLE_IN: Final = 0.4
_LEAST_IN: Final = 2.4
"""The title's width."""

Filters = npt.NDArray[np.float32]


def draw_film(frames: Mapping[int, Filters], *, towers: int = 1) -> bytes:
    """Draw filters after some numbers of updates as a PNG, the first moment at the top.

    Args:
        frames: (maps, 3, k, k) by update, one or more; of many, MOST_MOMENTS evenly.
        towers: of equal size, side by side.
    """
    steps = evenly(sorted(frames), MOST_MOMENTS)
    strip = film_strip([frames[step] for step in steps], towers=towers)
    height, width = strip.shape[:2]
    row = (height + BAND_PX) / len(steps)
    strip_in = min(_STRIP_IN, _ROW_IN * width / row)
    figure, axes = new_figure(
        max(_LEAST_IN, strip_in + _STEPS_IN), strip_in * height / width + _TITLE_IN
    )
    show_picture(axes, strip, interpolation="nearest")
    centres = [number * row + (row - BAND_PX) / 2 for number in range(len(steps))]
    axes.set_yticks(centres, [f"{step:,}" for step in steps])
    axes.tick_params(length=0)
    axes.set_title("first-layer filters, by updates", loc="left", fontsize=9, color=INK)
    return png_of(figure)


def film_strip(moments: Sequence[Filters], *, towers: int = 1) -> Picture:
    """Lay filters out, a row a moment and a pixel a weight, with white bands between rows.

    Each row is scaled as in `filters_picture`, a tower at a time and by itself: with one scale for
    the whole training its beginning would be flat.

    Args:
        moments: (maps, 3, k, k) each, RGB; the first tower's maps come first.
        towers: of equal size, side by side; of each at most PER_ROW filters, chosen evenly.
    """
    rows = [_row(filters, towers) for filters in moments]
    return joined(rows, BAND_PX, axis=0)


def _row(filters: Filters, towers: int) -> Picture:
    chosen = [tower[evenly(range(len(tower)), PER_ROW)] for tower in np.split(filters, towers)]
    return joined([filters_picture(tower) for tower in chosen], BAND_PX, axis=1)
