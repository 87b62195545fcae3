"""Images with what a network takes them for, as in figure 4 (left) of the 2012 paper."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from alexnet.figures.canvas import (
    FAINT,
    INK,
    PALE_BLUE,
    PALE_ORANGE,
    drawable,
    new_grid,
    png_of,
    shortened,
    show_picture,
)
from alexnet.figures.panel import GUESSES, PANEL_IMAGES, Guess

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS: Final = 4
_LETTERS: Final = 30
_CELL_IN: Final = (2.4, 3.5)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """An image and a network's most probable classes for it."""

    image: npt.NDArray[np.uint8]
    """(side, side, 3), RGB."""
    guesses: Sequence[Guess]
    """Best first."""
    label: int | None
    """The true class, where it is known."""
    name: str
    """Stands below the image where the true class is not known."""


def draw_panel(predictions: Sequence[Prediction], names: Sequence[str]) -> bytes:
    """Draw up to eight images, four a row, each above its five bars, as a PNG.

    A bar is as long as its class is probable, on an axis from 0 to 1; the true class's has another
    colour.

    Args:
        predictions: one or more.
        names: of the classes, by label.

    Source: `plot_predictions` of the release's `shownet.py`.
    """
    shown = predictions[:PANEL_IMAGES]
    blocks = -(-len(shown) // _COLUMNS)
    width_in, height_in = _CELL_IN
    figure, grid = new_grid(
        _COLUMNS * width_in, blocks * height_in, rows=2 * blocks, columns=_COLUMNS
    )
    for axes in grid:
        axes.set_axis_off()
    for place, prediction in enumerate(shown):
        block, column = divmod(place, _COLUMNS)
        above = grid[2 * block * _COLUMNS + column]
        _show_image(above, prediction, names)
        draw_bars(grid[(2 * block + 1) * _COLUMNS + column], prediction, names)
    return png_of(figure)


def _show_image(axes: "Axes", prediction: Prediction, names: Sequence[str]) -> None:
    show_picture(axes, prediction.image)
    axes.set_axis_on()
    text = prediction.name if prediction.label is None else names[prediction.label]
    axes.set_xlabel(_printed(text, prediction.label), fontsize=9, color=INK)


def draw_bars(axes: "Axes", prediction: Prediction, names: Sequence[str]) -> None:
    """Draw the bars of one image, the most probable class at the top, named within its bar."""
    axes.set_axis_on()
    places = range(len(prediction.guesses))
    axes.barh(
        places,
        [guess.probability for guess in prediction.guesses],
        color=[
            PALE_ORANGE if g.label == prediction.label else PALE_BLUE for g in prediction.guesses
        ],
        height=0.85,
    )
    for place, guess in zip(places, prediction.guesses, strict=True):
        name = _printed(names[guess.label], guess.label)
        axes.text(0.02, place, name, va="center", fontsize=8, color=INK, clip_on=True)
    axes.set_xlim(0, 1)
    axes.set_ylim(GUESSES - 0.5, -0.5)
    axes.set_yticks([])
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.spines["left"].set_color(FAINT)


def _printed(name: str, label: int | None) -> str:
    return drawable(shortened(name, _LETTERS), "an image" if label is None else f"class {label}")
