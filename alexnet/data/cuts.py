"""Which part of each stored image a training sees, and how it is cut out. For loader tasks.

A dataset of squares has images of one size. One that keeps the aspect has many, with one shorter
side. One of originals has files of any size: their crops are drawn as if the image had been scaled
to the dataset's shorter side, and the part is scaled alone.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from PIL import Image

from alexnet.data.crops import (
    Boxes,
    Ids,
    Sizes,
    draw_crops,
    draw_resized_crops,
    draw_shared_crops,
)
from alexnet.settings import ResizedCrop
from preprocessing.dataset.manifest import Manifest
from preprocessing.dataset.pixels import Pixels, scaled_size
from preprocessing.dataset.stored import decode_original, decode_stored


class Cutter:
    """Draws crops of a dataset's images and cuts them out."""

    def __init__(
        self,
        manifest: Manifest,
        *,
        seed: int,
        crop_px: int,
        crop_sharing: int,
        resized_crop: ResizedCrop | None,
    ) -> None:
        self._shape = manifest.shape
        self._stored_px = (manifest.height_px, manifest.width_px)
        self._seed, self._crop_px = seed, crop_px
        self._sharing, self._resized = crop_sharing, resized_crop

    @property
    def needs_sizes(self) -> bool:
        """Whether `draw` must know each image's size."""
        return self._shape != "square"

    def draw(
        self, epoch: int, step: int, sample_ids: Ids, positions: Ids, sizes: Ids | None
    ) -> Ids | Boxes:
        """Draw one part of each image.

        Args:
            epoch: 0-based.
            step: updates done before this batch, over the whole run.
            sample_ids: (n,).
            positions: (n,), in the global batch.
            sizes: (n, 2), height and width as stored; None where all are squares.

        Returns:
            Offsets (y, x), int64 (n, 2), of parts that are cut; or boxes (top, left, height,
            width), float64 (n, 4), of parts that are scaled to the crop's side.

        Raises:
            RecipeError: the crop is larger than an image.
        """
        drawn_px: Sizes = self._stored_px if sizes is None else sizes
        if self._shape != "original" or sizes is None:
            return self._draw(epoch, step, sample_ids, positions, drawn_px)
        side_px = self._stored_px[0]
        scaled = np.array([scaled_size((int(h), int(w)), side_px) for h, w in sizes], np.int64)
        parts = self._draw(epoch, step, sample_ids, positions, scaled)
        if parts.shape[1] == 2:
            parts = np.concatenate([parts, np.full_like(parts, self._crop_px)], axis=1)
        return parts * np.tile(sizes / scaled, 2)

    def _draw(
        self, epoch: int, step: int, sample_ids: Ids, positions: Ids, stored_px: Sizes
    ) -> Ids | Boxes:
        if self._resized is not None:
            return draw_resized_crops(
                seed=self._seed,
                epoch=epoch,
                sample_ids=sample_ids,
                stored_px=stored_px,
                resized=self._resized,
            )
        if self._sharing > 1:
            return draw_shared_crops(
                seed=self._seed,
                step=step,
                positions=positions,
                sharing=self._sharing,
                stored_px=stored_px,
                crop_px=self._crop_px,
            )
        return draw_crops(
            seed=self._seed,
            epoch=epoch,
            sample_ids=sample_ids,
            stored_px=stored_px,
            crop_px=self._crop_px,
        )

    def cut(self, body: npt.NDArray[np.uint8], part: Sequence[float]) -> Pixels:
        """Decode a stored image and return its part, (crop_px, crop_px, 3).

        It may be overwritten by the next call.

        Raises:
            ImageRejected: the bytes are damaged.
        """
        side = self._crop_px
        if self._shape == "original":
            pixels = decode_original(body)
        else:
            pixels = decode_stored(body, into=self._buffer)
        if len(part) == 2:
            y, x = map(int, part)
            return pixels[y : y + side, x : x + side]
        top, left, height, width = part
        # As the build scales where nothing but the size changes; else as is usual for such crops.
        how = Image.Resampling.BICUBIC if self._resized is None else Image.Resampling.BILINEAR
        scaled = Image.fromarray(pixels).resize(
            (side, side), how, box=(left, top, left + width, top + height)
        )
        return np.asarray(scaled)

    @cached_property
    def _buffer(self) -> Pixels | None:
        """Squares are decoded into one kept buffer; other images have no size in common."""
        return np.empty((*self._stored_px, 3), np.uint8) if self._shape == "square" else None
