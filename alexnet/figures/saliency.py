"""Which pixels an answer hangs on, beside the image, as `--show-data-grad` of the release meant."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from alexnet.figures.canvas import INK, new_grid, png_of, show_picture
from alexnet.figures.pixels import Picture, as_rgb, joined

SUPPRESSED_BELOW: Final = 3.0
"""Standard deviations."""
_GAP_PX: Final = 2
_COLUMNS: Final = 2
_WIDTH_IN: Final = 9.6

Gradient = npt.NDArray[np.floating]


def draw_saliency(
    images: npt.NDArray[np.uint8], gradients: Gradient, captions: Sequence[str]
) -> bytes:
    """Draw each image beside its saliency, two pairs a row, as a PNG.

    Args:
        images: (n, side, side, 3) RGB, what the network saw; one or more.
        gradients: (n, side, side, 3), of the answer by these pixels.
        captions: one an image, drawn as they are.
    """
    rows = -(-len(images) // _COLUMNS)
    figure, grid = new_grid(_WIDTH_IN, 2.75 * rows, rows=rows, columns=_COLUMNS)
    for axes in grid:
        axes.set_axis_off()
    for axes, image, gradient, caption in zip(grid, images, gradients, captions, strict=False):
        show_picture(axes, joined([image, saliency_picture(gradient)], _GAP_PX, axis=1))
        axes.set_title(caption, loc="left", fontsize=9, color=INK)
    return png_of(figure)


def saliency_picture(gradient: Gradient) -> Picture:
    """Draw where one image's gradient is great: black is nothing, white the greatest.

    Args:
        gradient: (height, width, 3); of a pixel's channels the greatest counts.
    """
    strength = np.abs(suppressed(gradient)).max(axis=2)
    grey = np.rint(strength / (strength.max() or 1.0) * 255).astype(np.uint8)
    return as_rgb(grey)


def suppressed(gradient: Gradient) -> npt.NDArray[np.float64]:
    """Set to zero what is less than three standard deviations of the gradient's values.

    Source: `do_show_data_grad` of the release's `shownet.py`, whose other half is commented out:
    that the deviation is of one image's values, and from zero, is our reading.
    """
    values = gradient.astype(np.float64)
    return np.where(np.abs(values) < SUPPRESSED_BELOW * values.std(), 0.0, values)
