"""Figures of matplotlib without its global state, its chatter and its metadata."""

import io
import logging
from collections.abc import Container
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK: Final = "#3c4149"
FAINT: Final = "#c9ced6"
BLUE: Final = "#2f6db3"
PALE_BLUE: Final = "#9dbfe3"
PALE_ORANGE: Final = "#f6c79b"
ORANGE: Final = "#d9660b"
Interpolation = Literal["auto", "nearest"]
_DPI: Final = 250
"""Pictures are shown at less than half their pixels: sharp on a phone and in print."""


def new_figure(width_in: float, height_in: float) -> "tuple[Figure, Axes]":
    """Return an empty figure with one pair of axes; 0.3 s the first time."""
    figure, (axes,) = new_grid(width_in, height_in, rows=1, columns=1)
    return figure, axes


def new_grid(
    width_in: float, height_in: float, *, rows: int, columns: int
) -> "tuple[Figure, list[Axes]]":
    """Return an empty figure with so many pairs of axes, row by row."""
    # It warns of building its font cache, of having no place for it, and of fonts it passes over.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib.figure import Figure

    # Not pyplot: that keeps every figure, picks a window system and belongs to one thread.
    figure = Figure(figsize=(width_in, height_in), dpi=_DPI, layout="constrained")
    grid = [figure.add_subplot(rows, columns, place) for place in range(1, rows * columns + 1)]
    for axes in grid:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
        axes.tick_params(colors=INK, labelsize=8, color=FAINT)
    return figure, grid


def show_picture(
    axes: "Axes", picture: npt.NDArray[np.uint8], *, interpolation: Interpolation = "auto"
) -> None:
    """Show an RGB picture without axes, at the aspect of its pixels.

    Args:
        axes: where.
        picture: (height, width, 3).
        interpolation: "nearest" keeps the colours of a picture whose pixels are values.
    """
    axes.imshow(picture, interpolation=interpolation)
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])


def shortened(text: str, letters: int) -> str:
    """Cut a text to so many letters, the last an ellipsis."""
    return text if len(text) <= letters else f"{text[: letters - 1].rstrip()}…"


def png_of(figure: "Figure") -> bytes:
    """Draw a figure as PNG; the same figure gives the same bytes."""
    sink = io.BytesIO()
    figure.savefig(sink, format="png", metadata={"Software": None})
    return sink.getvalue()


def drawable(text: str, otherwise: str) -> str:
    """Return a text that matplotlib draws as it stands, or another where its font lacks a letter.

    A folder may be called りんご, for which the font that comes along has no signs.
    """
    letters = _letters()
    if any(ord(letter) not in letters for letter in text if letter != "\n"):
        return otherwise
    return text.replace("$", r"\$")  # between two of them it would read a formula


def _letters() -> Container[int]:
    from matplotlib.font_manager import findfont, get_font

    return get_font(findfont("DejaVu Sans")).get_charmap().keys()
