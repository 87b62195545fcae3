"""What normalisation and colour noise take from the train split, or from what was published."""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt

from preprocessing.dataset.statistics import DatasetStatistics

Floats = npt.NDArray[np.float32]

_MEAN: Final = (127.305, 119.715, 104.913)
_STDS: Final = (19.7208, 37.0939, 121.7801)
_AXES: Final = (
    (0.41795513, -0.71257945, -0.56351045),
    (-0.81698062, -0.02354167, -0.5761844),
    (0.39731118, 0.70119634, -0.59200296),
)
"""One axis in each column, ascending as `_STDS` are; rows are R, G, B."""
_TORCHVISION_MEAN: Final = (0.485, 0.456, 0.406)
_TORCHVISION_STD: Final = (0.229, 0.224, 0.225)
"""Both of pixels in 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InputStatistics:
    """Statistics of the train split's stored pixels, RGB, in units of 0..255; all float32."""

    mean_image: Floats
    """(stored height, stored width, 3)."""
    channel_mean: Floats
    """(3,)."""
    channel_std: Floats
    """(3,)."""
    color_eigenvectors: Floats
    """(3, 3), of the covariance of RGB values: one in each column, rows are R, G, B."""
    color_stds: Floats
    """(3,): standard deviations along the eigenvectors; the eigenvalues would be variances."""

    @classmethod
    def of(cls, statistics: DatasetStatistics) -> "InputStatistics":
        """Take them from a dataset's, which are float64."""
        return cls(**{f.name: getattr(statistics, f.name).astype(np.float32) for f in fields(cls)})

    @classmethod
    def of_ilsvrc_2012(cls, height_px: int, width_px: int) -> "InputStatistics":
        """Return what was published of ILSVRC-2012, for images of a size.

        The mean image is flat, whatever its size: of the published one only the means are repeated
        here, those of all 256 x 256 pixels. What 2012 subtracts of it, its central 224 x 224, has
        127.226, 118.587 and 103.448, which is 0.1, 1.1 and 1.5 of 255 less. It stays so: networks
        keep the setting's name, not its values, so other values would feed a training that goes
        on, and a registered network, other inputs than those it learned from. The standard
        deviations by channel follow from the covariance that the axes make up: 74, 72, 77.

        Source: cuda-convnet2, `make-data/input_meta` (`data_mean`, `color_pca`).
        """
        axes, stds = np.array(_AXES), np.array(_STDS)
        channel_std = np.sqrt((axes**2 * stds**2).sum(axis=1))
        return cls._published(np.array(_MEAN), channel_std, height_px, width_px)

    @classmethod
    def of_torchvision(cls, height_px: int, width_px: int) -> "InputStatistics":
        """Return the means and standard deviations that torchvision's weights were trained with.

        The deviations are 58, 57 and 57, not the 74, 72 and 77 of all pixels of ILSVRC-2012: they
        are said to be means of those within each image. Colour axes, which torchvision has none
        of, are those of ILSVRC-2012.

        Source: torchvision, `transforms/_presets.py`, `ImageClassification`.
        """
        mean, std = 255 * np.array(_TORCHVISION_MEAN), 255 * np.array(_TORCHVISION_STD)
        return cls._published(mean, std, height_px, width_px)

    @classmethod
    def _published(
        cls, mean: npt.NDArray[np.float64], std: npt.NDArray[np.float64], *size_px: int
    ) -> "InputStatistics":
        channels = {
            "channel_mean": mean,
            "channel_std": std,
            "color_eigenvectors": np.array(_AXES),
            "color_stds": np.array(_STDS),
            "mean_image": np.broadcast_to(mean, (*size_px, 3)),
        }
        return cls(**{name: values.astype(np.float32) for name, values in channels.items()})

    def __post_init__(self) -> None:
        height_px, width_px = self.mean_image.shape[:2]
        shapes = [(height_px, width_px, 3), (3,), (3,), (3, 3), (3,)]
        for field, shape in zip(fields(self), shapes, strict=True):
            found = getattr(self, field.name).shape
            if found != shape:
                raise ValueError(f"{field.name} has shape {found}, not {shape}")
