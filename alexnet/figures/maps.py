"""Feature maps, as `--show-maps` of the release drew them: of some images, or of some layers."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from alexnet.figures.canvas import INK, drawable, new_figure, png_of, show_picture
from alexnet.figures.pixels import Picture, as_rgb, enlarged, joined
from alexnet.figures.thinning import evenly

MOST_IMAGES: Final = 12
MOST_MAPS: Final = 16
GAP_PX: Final = 4
_CELL_PX: Final = 128
"""At least half of it, and an enlargement of a map's pixels by a whole number."""
_WIDTH_IN: Final = 9.6
_TITLE_IN: Final = 0.55
MAPS_A_LAYER: Final = 8
_IMAGE_CELLS: Final = 2
"""Side of the image beside several layers' maps."""
_LAYERS_WIDTH_IN: Final = 6.4
_LAYERS_TITLE_IN: Final = 0.3

Maps = npt.NDArray[np.float32]


def draw_maps(images: npt.NDArray[np.uint8], maps: Maps, layer: str) -> bytes:
    """Draw a row an image: the image, and evenly chosen ones of its maps; as a PNG.

    Args:
        images: (n, side, side, 3) RGB, what the network saw; the first MOST_IMAGES are drawn.
        maps: (n, maps, height, width), the layer's output; what is below zero is drawn as zero.
        layer: its name.
    """
    chosen = evenly(range(maps.shape[1]), MOST_MAPS)
    shown = maps[:MOST_IMAGES, chosen]
    sheet = maps_picture(images[:MOST_IMAGES], shown)
    height, width = sheet.shape[:2]
    figure, axes = new_figure(_WIDTH_IN, (_WIDTH_IN - 0.1) * height / width + _TITLE_IN)
    show_picture(axes, sheet, interpolation="nearest")
    cell = (width + GAP_PX) / (1 + len(chosen))
    centres = [(number + 1.5) * cell - GAP_PX / 2 for number in range(len(chosen))]
    axes.set_xticks(centres, [str(number) for number in chosen])
    axes.tick_params(length=0, top=True, labeltop=True, labelbottom=False)
    axes.set_title(
        f"{drawable(layer, 'the layer')}: {len(chosen)} of {maps.shape[1]} maps after ReLU, by "
        f"number; white is {max(float(shown.max()), 0.0):.3g} in all of them",
        loc="left",
        fontsize=9,
        color=INK,
    )
    return png_of(figure)


def maps_picture(images: npt.NDArray[np.uint8], maps: Maps) -> Picture:
    """Lay out a row an image, the image first, then its maps after ReLU, white gaps between.

    All maps share one scale, from zero (black) to the greatest value of all (white): so one sees
    which images excite which map, and a map that never answers is black.

    Args:
        images: (n, side, side, 3) RGB.
        maps: (n, maps, height, width).

    Source: `do_showmaps` of the release's `shownet.py`.
    """
    factor = max(1, round(_CELL_PX / max(maps.shape[2:])))
    grey = _greys(maps)
    height, width = (factor * side for side in maps.shape[2:])
    rows = []
    for image, of_image in zip(images, grey, strict=True):
        small = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
        cells = [enlarged(as_rgb(one), factor) for one in of_image]
        rows.append(joined([np.asarray(small), *cells], GAP_PX, axis=1))
    return joined(rows, GAP_PX, axis=0)


def draw_layers(image: Picture, layers: Sequence[tuple[str, Maps]]) -> bytes:
    """Draw an image beside some maps of several layers, a row a layer; as a PNG.

    Args:
        image: (side, side, 3) RGB, what the network saw.
        layers: name and output, (maps, height, width); what is below zero is drawn as zero.
    """
    sheet = layers_picture(image, [maps for _, maps in layers])
    height, width = sheet.shape[:2]
    figure, axes = new_figure(
        _LAYERS_WIDTH_IN, (_LAYERS_WIDTH_IN - 0.6) * height / width + _LAYERS_TITLE_IN
    )
    show_picture(axes, sheet, interpolation="nearest")
    centres = [number * (_CELL_PX + GAP_PX) + _CELL_PX / 2 for number in range(len(layers))]
    axes.set_yticks(centres, [drawable(name, "a layer") for name, _ in layers])
    axes.tick_params(length=0, left=False, labelleft=False, right=True, labelright=True)
    axes.set_title(
        f"an image, and {MAPS_A_LAYER} maps of each layer after ReLU; white is a layer's greatest",
        loc="left",
        fontsize=8,
        color=INK,
    )
    return png_of(figure)


def layers_picture(image: Picture, layers: Sequence[Maps]) -> Picture:
    """Lay out an image at the left, beside it a row a layer of MAPS_A_LAYER maps, evenly chosen.

    The maps of a layer share one scale, from zero (black) to the greatest of those shown (white).

    Args:
        image: (side, side, 3) RGB.
        layers: at least one, (maps, height, width).
    """
    step = _CELL_PX + GAP_PX
    rows, columns = max(len(layers), _IMAGE_CELLS), _IMAGE_CELLS + MAPS_A_LAYER
    sheet = np.full((rows * step - GAP_PX, columns * step - GAP_PX, 3), 255, np.uint8)
    side = _IMAGE_CELLS * step - GAP_PX
    sheet[:side, :side] = _resized(image, side, Image.Resampling.BICUBIC)
    for row, maps in enumerate(layers):
        shown = maps[evenly(range(len(maps)), MAPS_A_LAYER)]
        for column, grey in enumerate(_greys(shown), start=_IMAGE_CELLS):
            top, left = row * step, column * step
            cell = _resized(as_rgb(grey), _CELL_PX, Image.Resampling.NEAREST)
            sheet[top : top + _CELL_PX, left : left + _CELL_PX] = cell
    return sheet


def _greys(maps: Maps) -> npt.NDArray[np.uint8]:
    positive = np.maximum(maps.astype(np.float64), 0)
    return np.rint(positive / (positive.max() or 1.0) * 255).astype(np.uint8)


def _resized(picture: Picture, side: int, how: Image.Resampling) -> Picture:
    return np.asarray(Image.fromarray(picture).resize((side, side), how))
