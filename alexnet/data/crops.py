"""Where each image is cut and whether it is mirrored: numpy only, loader tasks start without torch.

Two ways of drawing. Each image for itself, keyed by (seed, epoch, sample id): independent of the
batch, the rank and the order. Or shared as in the 2012 program, where 32 consecutive images of a
batch get one crop and one mirroring: keyed by (seed, step, position in the global batch // 32).
"""

import numpy as np
import numpy.typing as npt

from alexnet.counter_rng import Keys, draw_uniform, keys_of, stream_key
from alexnet.settings import ResizedCrop
from infra.errors import RecipeError

Ids = npt.NDArray[np.int64]
Sizes = tuple[int, int] | Ids
"""(height, width) of all images, or of each, (n, 2)."""
Boxes = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def draw_crops(*, seed: int, epoch: int, sample_ids: Ids, stored_px: Sizes, crop_px: int) -> Ids:
    """Draw one crop position for each image.

    Args:
        seed: the run's.
        epoch: 0-based.
        sample_ids: (n,).
        stored_px: (height, width) of the stored images, or of each.
        crop_px: side of the crop.

    Returns:
        Offsets (y, x) of the crop's upper left corner, int64 (n, 2), uniform over 0 (inclusive)
        to stored - crop (inclusive): 33 values at 256 and 224.

    Raises:
        RecipeError: the crop is larger than the image.
    """
    keys = keys_of(stream_key(seed, "crop", epoch), sample_ids)
    return _offsets(keys, stored_px, crop_px)


def draw_resized_crops(
    *,
    seed: int,
    epoch: int,
    sample_ids: Ids,
    stored_px: Sizes,
    resized: ResizedCrop,
) -> Boxes:
    """Draw one part for each image, to be scaled to the crop's side.

    The area is uniform, the logarithm of width over height uniform among the shapes of that area
    which fit, the place uniform. (The common way draws a shape from the whole range, and again if
    it does not fit: ours makes large parts less seldom, and needs no retries.)

    Args:
        seed: the run's.
        epoch: 0-based.
        sample_ids: (n,).
        stored_px: (height, width) of the stored images, or of each.
        resized: the range of areas and shapes.

    Returns:
        Boxes (top, left, height, width) in pixels, float64 (n, 4), inside the image.

    Source:
        Szegedy et al., arXiv 1409.4842, section 6.
    """
    keys = keys_of(stream_key(seed, "resized crop", epoch), sample_ids)
    area, shape, y, x = draw_uniform(keys, 4).T
    height_px, width_px = np.asarray(stored_px).T
    area = resized.min_area + area * (1 - resized.min_area)
    # Relative to the image's own shape: a part of share a fits when this lies in [a, 1 / a].
    own = width_px / height_px
    low = np.log(np.maximum(1 / resized.max_aspect / own, area))
    high = np.log(np.minimum(resized.max_aspect / own, 1 / area))
    # An image longer than max_aspect has no such large part: the nearest shape that fits.
    low, high = np.minimum(low, -np.log(area)), np.maximum(high, np.log(area))
    aspect = np.exp(low + shape * (high - low))
    heights = np.minimum(np.sqrt(area / aspect), 1) * height_px
    widths = np.minimum(np.sqrt(area * aspect), 1) * width_px
    return np.stack([y * (height_px - heights), x * (width_px - widths), heights, widths], axis=1)


def draw_flips(*, seed: int, epoch: int, sample_ids: Ids) -> Flags:
    """Draw for each image whether it is mirrored left to right, bool (n,): true for half of them.

    Arguments as in `draw_crops`.
    """
    return _flips(keys_of(stream_key(seed, "flip", epoch), sample_ids))


def draw_shared_crops(
    *,
    seed: int,
    step: int,
    positions: Ids,
    sharing: int,
    stored_px: Sizes,
    crop_px: int,
) -> Ids:
    """Draw one crop position for every `sharing` neighbours in the global batch.

    Args:
        seed: the run's.
        step: updates done before this batch, counted over the whole run, not from the epoch's
            start: else every epoch had the same crops.
        positions: (n,), of this rank's images in the global batch, from 0.
        sharing: how many neighbours share; 32 in the release.
        stored_px: (height, width) of the stored images, or of each.
        crop_px: side of the crop.

    Returns:
        As of `draw_crops`.

    Raises:
        RecipeError: the crop is larger than the image.

    Source:
        The release's `convdata_jpeg.py`, `crop_chunk`. cuda-convnet2 draws for each image.
    """
    keys = keys_of(stream_key(seed, "shared crop", step), positions // sharing)
    return _offsets(keys, stored_px, crop_px)


def draw_shared_flips(*, seed: int, step: int, positions: Ids, sharing: int) -> Flags:
    """Draw one mirroring for every `sharing` neighbours in the global batch, bool (n,).

    Arguments as in `draw_shared_crops`.
    """
    return _flips(keys_of(stream_key(seed, "shared flip", step), positions // sharing))


def _offsets(keys: Keys, stored_px: Sizes, crop_px: int) -> Ids:
    shorter_px = int(np.min(stored_px))
    if crop_px > shorter_px:
        raise RecipeError(
            f"a crop of {crop_px} px does not fit into a stored image of {shorter_px} px",
            remedy="lower augment.crop_px, or store larger images",
        )
    # Both ends count: 33 offsets at 256 and 224, not 32.
    choices = np.asarray(stored_px, dtype=np.int64) - crop_px + 1
    return np.floor(draw_uniform(keys, 2) * choices).astype(np.int64)


def _flips(keys: Keys) -> Flags:
    mirrored: Flags = draw_uniform(keys, 1)[:, 0] < 0.5
    return mirrored
