"""Which classes are taken for which: the whole table as one picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from alexnet.figures.canvas import FAINT, INK, drawable, new_figure, png_of, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Counts = npt.NDArray[np.int64]

_MOST_NAMED: Final = 30
_MOST_NUMBERED: Final = 15
_MOST_PX: Final = 250
_NAME_LETTERS: Final = 24


def draw_confusion(counts: Counts, names: Sequence[str]) -> bytes:
    """Draw counts (true, predicted) as shares of each true class, as a PNG.

    Up to 30 classes are named, up to 15 have their counts written in. Of more than 250, neighbours
    share a pixel, which has the greatest of their shares.
    """
    from matplotlib.colors import PowerNorm

    figure, axes = new_figure(5.0, 4.4)
    # The root: a class that is mistaken for one in a hundred should not look perfect.
    image = axes.imshow(
        darkest(shares(counts), _MOST_PX),
        cmap="Blues",
        norm=PowerNorm(0.5, 0, 1),
        interpolation="nearest",
        extent=(-0.5, len(counts) - 0.5, len(counts) - 0.5, -0.5),
    )
    axes.set_xlabel("predicted", fontsize=8, color=INK)
    axes.set_ylabel("true", fontsize=8, color=INK)
    axes.spines[:].set_visible(False)
    if len(counts) <= _MOST_NAMED:
        labels = [
            drawable(shortened(name, _NAME_LETTERS), f"class {i}") for i, name in enumerate(names)
        ]
        axes.set_xticks(range(len(counts)), labels, rotation=90)
        axes.set_yticks(range(len(counts)), labels)
    if len(counts) <= _MOST_NUMBERED:
        _write_numbers(axes, counts)
    bar = figure.colorbar(image, ax=axes, shrink=0.6, ticks=[0, 0.01, 0.1, 0.5, 1])
    bar.ax.set_yticklabels(["0", "1 %", "10 %", "50 %", "100 %"])
    bar.ax.tick_params(colors=INK, labelsize=8, color=FAINT)
    bar.outline.set_visible(False)
    return png_of(figure)


def _write_numbers(axes: "Axes", counts: Counts) -> None:
    dark = shares(counts) > 0.25
    for true, predicted in zip(*np.nonzero(counts), strict=True):
        axes.text(
            predicted,
            true,
            f"{counts[true, predicted]}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if dark[true, predicted] else INK,
        )


def shares(counts: Counts) -> npt.NDArray[np.float64]:
    """Divide each row by its sum; a class without images stays 0."""
    totals = counts.sum(axis=1, keepdims=True)
    return counts / np.maximum(totals, 1)


def darkest(values: npt.NDArray[np.float64], at_most: int) -> npt.NDArray[np.float64]:
    """Shrink a square to at most so many pixels a side, each the greatest value it covers."""
    size = len(values)
    if size <= at_most:
        return values
    starts = np.arange(at_most) * size // at_most
    rows = np.maximum.reduceat(values, starts, axis=0)
    return np.maximum.reduceat(rows, starts, axis=1)
