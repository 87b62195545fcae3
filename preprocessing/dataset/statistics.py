"""What normalisation and colour noise need to know of the train split.

Sums are integers, so they are the same whatever the order in which shards are merged; floating
point begins at `finish`, on the whole.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from infra.commit import StoredObject, read_object
from infra.store import ObjectStore
from preprocessing.errors import ANEW, ManifestError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_SWEEPS: Final = 32
"""Jacobi converges quadratically: a 3x3 matrix is diagonal to the last bit after about six."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetStatistics:
    """Of the pixels of the train split, 0..255, RGB, as rendered, before JPEG encoding."""

    mean_image: Floats
    """(height, width, 3)."""
    channel_mean: Floats
    """(3,)."""
    channel_std: Floats
    """(3,), standard deviation over all pixels of all images."""
    color_eigenvectors: Floats
    """(3, 3): columns are the principal components of the RGB covariance over all pixels."""
    color_stds: Floats
    """(3,): standard deviations along the columns, ascending; the largest is last.

    The square roots of the covariance's eigenvalues. Section 4.1 of the paper scales its noise by
    the eigenvalues; which of the two it meant is the model's decision, not this file's.
    """
    class_counts: Integers
    """(classes,): training images a class."""

    def to_bytes(self) -> bytes:
        """Write as safetensors."""
        return save({name: getattr(self, name) for name in self.__slots__})


def parse_statistics(body: bytes) -> DatasetStatistics:
    """Read what `to_bytes` wrote; ManifestError for anything else."""
    try:
        return DatasetStatistics(**load(body))
    except (SafetensorError, TypeError) as error:
        raise ManifestError(
            f"the statistics cannot be read: {error}",
            remedy=ANEW,
        ) from error


def read_statistics(store: ObjectStore, expected: StoredObject) -> DatasetStatistics:
    """Read a dataset's statistics, digest checked; `expected` is `manifest.statistics`.

    Raises:
        ObjectCorrupt: missing, or other bytes than the manifest names.
        ManifestError: they cannot be understood.
    """
    return parse_statistics(read_object(store, expected))


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelSums:
    """Exact sums over some images; `merge` changes them in place."""

    image_sum: Integers
    """(height, width, 3): sum of the pixels, a position."""
    product_sum: Integers
    """(3, 3): sum over all pixels of channel times channel."""
    class_counts: Integers
    """(classes,)."""

    @classmethod
    def zero(cls, height: int, width: int, num_classes: int) -> "PixelSums":
        """Return sums over no images."""
        return cls(
            image_sum=np.zeros((height, width, 3), np.int64),
            product_sum=np.zeros((3, 3), np.int64),
            class_counts=np.zeros(num_classes, np.int64),
        )

    def merge(self, other: "PixelSums") -> None:
        """Add the sums over other images."""
        for mine, theirs in zip(self.to_arrays().values(), other.to_arrays().values(), strict=True):
            np.add(mine, theirs, out=mine)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the sums by name."""
        return {name: getattr(self, name) for name in self.__slots__}


def finish(sums: PixelSums) -> DatasetStatistics:
    """Turn sums over at least one image into means, deviations and principal colours."""
    num_images = int(sums.class_counts.sum())
    height, width = sums.image_sum.shape[:2]
    num_pixels = num_images * height * width
    totals = [int(total) for total in sums.image_sum.sum(axis=(0, 1))]
    covariance = [
        [
            _covariance(num_pixels, int(sums.product_sum[i, j]), totals[i], totals[j])
            for j in range(3)
        ]
        for i in range(3)
    ]
    variances, eigenvectors = symmetric_eigen(covariance)
    return DatasetStatistics(
        mean_image=sums.image_sum / num_images,
        channel_mean=np.array([total / num_pixels for total in totals]),
        channel_std=np.array([math.sqrt(covariance[i][i]) for i in range(3)]),
        color_eigenvectors=eigenvectors,
        color_stds=np.array([math.sqrt(max(variance, 0.0)) for variance in variances]),
        class_counts=sums.class_counts,
    )


def _covariance(count: int, products: int, total_a: int, total_b: int) -> float:
    # Python's integers do not overflow, and their quotient is correctly rounded.
    return (count * products - total_a * total_b) / (count * count)


def symmetric_eigen(matrix: list[list[float]]) -> tuple[list[float], Floats]:
    """Eigenvalues, ascending, and eigenvectors in columns of a symmetric 3x3 matrix.

    Signs are fixed: the entry of largest magnitude in each column is positive. By Jacobi's
    rotations in plain floats: LAPACK's last bits depend on the processor, and these numbers are
    part of a dataset's fingerprint.
    """
    a = [row[:] for row in matrix]
    vectors = [[float(i == j) for j in range(3)] for i in range(3)]
    for _ in range(_SWEEPS):
        for p, q in ((0, 1), (0, 2), (1, 2)):
            _rotate(a, vectors, p, q)
    order = sorted(range(3), key=lambda i: a[i][i])
    columns = [_with_sign([vectors[row][i] for row in range(3)]) for i in order]
    return [a[i][i] for i in order], np.array(columns).T.copy()


def _rotate(a: list[list[float]], vectors: list[list[float]], p: int, q: int) -> None:
    """Make a[p][q] zero by one rotation, and turn the vectors with it."""
    if a[p][q] == 0.0:
        return
    theta = (a[q][q] - a[p][p]) / (2 * a[p][q])
    t = math.copysign(1.0, theta) / (abs(theta) + math.sqrt(theta * theta + 1))
    c = 1 / math.sqrt(t * t + 1)
    s = t * c
    for row in (*a, *vectors):
        row[p], row[q] = c * row[p] - s * row[q], s * row[p] + c * row[q]
    for k in range(3):
        a[p][k], a[q][k] = c * a[p][k] - s * a[q][k], s * a[p][k] + c * a[q][k]
    a[p][q] = a[q][p] = 0.0


def _with_sign(column: list[float]) -> list[float]:
    largest = max(column, key=abs)
    return [-value for value in column] if largest < 0 else column
