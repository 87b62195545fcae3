"""Images and those a network takes as most like them, captioned; figure 4 (right) of the paper."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Final

from alexnet.figures.canvas import INK, ORANGE, drawable, new_grid, png_of, shortened, show_picture
from alexnet.figures.pixels import Picture
from alexnet.figures.similar import similar_picture, tile_centres

MOST_ROWS: Final = 8
_WIDTH_IN: Final = 6.4
_CAPTION_IN: Final = 0.3
_TITLE_IN: Final = 0.3
_LETTERS: Final = 16
"""Of a line below a picture; there are two."""


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One image of a row."""

    picture: Picture | None
    """(side, side, 3) RGB; None, an image that is gone, is grey."""
    name: str
    """Stands below it."""
    alike: bool = False
    """Of the class of the row's first image."""


def draw_neighbours(rows: Sequence[Sequence[Tile]], side: int, layer: str) -> bytes:
    """Draw up to MOST_ROWS images, each at the left of its nearest, nearest first, as a PNG.

    What is of the image's own class has an orange name.

    Args:
        rows: of equal length.
        side: of every picture, in pixels.
        layer: whose features were compared.
    """
    rows = rows[:MOST_ROWS]
    sheets = [similar_picture([[tile.picture for tile in row]], side) for row in rows]
    height, width = sheets[0].shape[:2]
    row_in = _WIDTH_IN * height / width + _CAPTION_IN
    figure, grid = new_grid(_WIDTH_IN, len(rows) * row_in + _TITLE_IN, rows=len(rows), columns=1)
    centres = tile_centres(len(rows[0]), side)
    for axes, sheet, row in zip(grid, sheets, rows, strict=True):
        show_picture(axes, sheet)
        axes.set_xticks(centres, [_caption(tile.name) for tile in row])
        axes.tick_params(length=0, pad=2, labelsize=7)
        for text, tile in zip(axes.get_xticklabels(), row, strict=True):
            text.set_color(ORANGE if tile.alike else INK)
    grid[0].set_title(
        f"left: an image; then the nearest to it by {drawable(layer, 'the layer')}; orange: of its"
        " class",
        loc="left",
        fontsize=9,
        color=INK,
    )
    return png_of(figure)


def _caption(name: str) -> str:
    lines = wrap(name, _LETTERS, max_lines=2, placeholder="…")
    return drawable("\n".join(shortened(line, _LETTERS) for line in lines), "an image")
