"""Exact sums over images while they are rendered, in numbers no wider than they must be.

A core's cache decides the time: sums of 64 bits over one image at a time took more than twice as
long (docs/experiments.md). Every number here is an integer that its type holds exactly, so the
order of additions, and which instructions add, never show.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from preprocessing.dataset.pixels import Pixels
from preprocessing.dataset.statistics import PixelSums

EXACT_IMAGES: Final = 257
"""So many bytes add up to at most 255 * 257 = 2**16 - 1."""
EXACT_PIXELS: Final = 256
"""So many products of two bytes add up to less than 2**24: float32 adds them without rounding."""
STRIP_PIXELS: Final = 128 * EXACT_PIXELS
"""Of an image, taken at a time: their channels as float32 are 384 KiB."""
WAITING_BYTES: Final = 8 * 256 * 256 * 3
"""Of images that wait: eight of the usual size."""
_MAX_WAITING: Final = 64
_PRODUCT_OF: Final = np.array([[0, 3, 5], [3, 1, 4], [5, 4, 2]])
"""Which of the six products belongs to a pair of channels: red by itself is 0, by green 3."""


class PixelAdder:
    """Adds up images of one size; some wait, so that what they share is fetched once for all."""

    def __init__(self, height: int, width: int, num_classes: int) -> None:
        self._sums = PixelSums.zero(height, width, num_classes)
        num_pixels = height * width
        max_waiting = max(1, min(_MAX_WAITING, WAITING_BYTES // (3 * num_pixels)))
        # Copied, which costs no more than keeping them alive: an image may be a view of a far
        # larger one, and its array may be used again.
        self._waiting = np.empty((max_waiting, num_pixels, 3), np.uint8)
        self._num_waiting = 0
        self._narrow = np.zeros((num_pixels, 3), np.uint16)
        self._num_narrow = 0
        """Images in `_narrow`."""
        blocks = min(STRIP_PIXELS, -(-num_pixels // EXACT_PIXELS) * EXACT_PIXELS) // EXACT_PIXELS
        self._planes = np.empty((3, blocks * EXACT_PIXELS), np.uint8)
        self._floats = np.empty((3, blocks, EXACT_PIXELS), np.float32)
        self._dots = np.empty((6, blocks), np.float32)
        self._products = np.zeros((6, blocks), np.float64)

    def add(self, pixels: Pixels, label: int) -> None:
        """Add one image, (height, width, 3)."""
        self._waiting[self._num_waiting].reshape(pixels.shape)[...] = pixels
        self._num_waiting += 1
        self._sums.class_counts[label] += 1
        if self._num_waiting == len(self._waiting):
            self._add_waiting()

    def result(self) -> PixelSums:
        """Return the sums over all images so far; they change when more are added."""
        self._add_waiting()
        self._widen()
        return self._sums

    def _add_waiting(self) -> None:
        if self._num_narrow + self._num_waiting > EXACT_IMAGES:
            self._widen()
        self._num_narrow += self._num_waiting
        for start in range(0, len(self._narrow), self._planes.shape[1]):
            part = slice(start, start + self._planes.shape[1])
            for pixels in self._waiting[: self._num_waiting]:
                np.add(self._narrow[part], pixels[part], out=self._narrow[part])
                self._add_products(pixels[part])
        self._num_waiting = 0

    def _add_products(self, pixels: npt.NDArray[np.uint8]) -> None:
        planes, floats, dots = self._planes, self._floats, self._dots
        planes[:, : len(pixels)] = pixels.T
        planes[:, len(pixels) :] = 0
        floats[...] = planes.reshape(floats.shape)
        # As _PRODUCT_OF has them: channels by themselves, by the next one, the first by the last.
        np.vecdot(floats, floats, out=dots[:3])
        np.vecdot(floats[:2], floats[1:], out=dots[3:5])
        np.vecdot(floats[0], floats[2], out=dots[5])
        self._products += dots

    def _widen(self) -> None:
        """Take over what the narrow numbers hold."""
        image_sum, product_sum = self._sums.image_sum, self._sums.product_sum
        image_sum += self._narrow.reshape(image_sum.shape)
        product_sum += self._products.sum(axis=1).astype(np.int64)[_PRODUCT_OF]
        self._narrow[...] = 0
        self._products[...] = 0
        self._num_narrow = 0
