"""Random erasing: a box of each chosen image becomes the mean, whole batches on the device."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from alexnet.counter_rng import Keys, keys_of, stream_key
from alexnet.counter_rng_torch import draw_uniform
from alexnet.settings import RandomErasing


def erasing_keys(*, seed: int, epoch: int, sample_ids: npt.NDArray[np.int64]) -> Keys:
    """Return what each image's erased box is drawn from, (n,); `keys_to_tensor` carries it."""
    return keys_of(stream_key(seed, "erasing", epoch), sample_ids)


def draw_boxes(keys: Tensor, settings: RandomErasing, side_px: int) -> Tensor:
    """Draw one box for each image.

    The area is uniform, the logarithm of height over width uniform among the shapes of that area
    which fit, the place uniform over whole pixels. (torchvision draws a shape from the whole
    range, and again if it does not fit: ours needs no retries.)

    Args:
        keys: (n,) int64, of `erasing_keys`.
        settings: how often, and the range of areas and shapes.
        side_px: side of the images, which are square.

    Returns:
        (n, 4) int64: top, left, height and width, inside the image; of no size where nothing
        is erased.
    """
    chosen, area, shape, y, x = draw_uniform(keys, 5).unbind(1)
    area = settings.min_area + area * (settings.max_area - settings.min_area)
    # Of a square, a box of share a fits where height over width lies in [a, 1 / a].
    widest = (-area.log()).clamp_(max=math.log(settings.max_aspect))
    aspect = torch.exp((2 * shape - 1) * widest)
    sides = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], dim=1)
    sides = (side_px * sides).round_().clamp_(max=side_px)
    sides = torch.where((chosen < settings.probability)[:, None], sides, 0)
    corners = torch.stack([y, x], dim=1) * (side_px + 1 - sides)
    return torch.cat([corners.floor_(), sides], dim=1).to(torch.int64)


def erase(inputs: Tensor, keys: Tensor, settings: RandomErasing) -> Tensor:
    """Set one box of each chosen image to 0 in place, which is the mean once that is subtracted.

    Args:
        inputs: (n, 3, side, side), normalised; n may be 0.
        keys: (n,) int64, of `erasing_keys`.
        settings: how often, and the range of areas and shapes.

    Source:
        Zhong et al., arXiv 1708.04896, whose best fill was random pixels; torchvision's is 0.
    """
    side_px = inputs.shape[-1]
    boxes = draw_boxes(keys, settings, side_px)
    top, left, height, width = boxes[:, :, None].unbind(1)
    pixel = torch.arange(side_px, device=inputs.device)
    in_rows = (pixel >= top) & (pixel < top + height)
    in_columns = (pixel >= left) & (pixel < left + width)
    return inputs.masked_fill_((in_rows[:, :, None] & in_columns[:, None, :])[:, None], 0)
