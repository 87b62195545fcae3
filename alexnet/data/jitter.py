"""Random brightness, contrast and saturation of whole batches, on the device."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from alexnet.counter_rng import Keys, keys_of, stream_key
from alexnet.counter_rng_torch import draw_uniform
from alexnet.settings import ColorJitter

_RED, _GREEN, _BLUE = 0.2989, 0.587, 0.114
"""Shares in a pixel's grey: ITU-R BT.601's, as torchvision rounds them."""
_BRIGHTNESS, _CONTRAST = 0, 1  # and 2, saturation


def jitter_keys(*, seed: int, epoch: int, sample_ids: npt.NDArray[np.int64]) -> Keys:
    """Return what each image's jitter is drawn from, (n,); `keys_to_tensor` carries it."""
    return keys_of(stream_key(seed, "colour jitter", epoch), sample_ids)


def jitter_colors(pixels: Tensor, keys: Tensor, settings: ColorJitter) -> Tensor:
    """Change brightness, contrast and saturation, each image's in an order of its own.

    A factor f is uniform between 1 - strength (0 at least) and 1 + strength. Every change is
    f * pixels + (1 - f) * other, kept within 0..255: of brightness the other is black, of contrast
    the image's mean grey, of saturation each pixel's own grey.

    Args:
        pixels: (n, height, width, 3) float32, RGB in 0..255; n may be 0.
        keys: (n,) int64, of `jitter_keys`.
        settings: the three strengths.

    Returns:
        The same shape, not rounded to whole levels.

    Source:
        torchvision's `ColorJitter`, which rounds images of uint8 down after each change. Howard,
        arXiv 1312.5402, is the first we know of to train this network so.
    """
    order, factors = _draw(keys, settings)
    for place in range(3):
        change, factor = order[:, place, None, None], factors[:, place, None, None]
        grey = _grey(pixels)
        other = torch.where(change == _CONTRAST, _mean(grey), grey)
        other = other.mul_(1 - factor).masked_fill_(change == _BRIGHTNESS, 0)
        pixels = (pixels * factor[..., None]).add_(other[..., None]).clamp_(0, 255)
    return pixels


def _draw(keys: Tensor, settings: ColorJitter) -> tuple[Tensor, Tensor]:
    """Return each image's three changes in its order, and their factors, both (n, 3)."""
    uniform = draw_uniform(keys, 6)
    order = uniform[:, :3].argsort(dim=1, stable=True)
    strengths = (settings.brightness, settings.contrast, settings.saturation)
    high = 1 + torch.tensor(strengths, dtype=torch.float32, device=keys.device)
    low = (2 - high).clamp_(min=0)
    factors = low + uniform[:, 3:] * (high - low)
    return order, factors.gather(1, order)


def _grey(pixels: Tensor) -> Tensor:
    red, green, blue = pixels.unbind(-1)
    return (red * _RED).add_(green * _GREEN).add_(blue * _BLUE)


def _mean(grey: Tensor) -> Tensor:
    """Return each image's mean, (n, 1, 1): of whole numbers, the same bits in any batch."""
    levels = (grey * 2.0**16).to(torch.int32).sum(dim=(1, 2), keepdim=True, dtype=torch.int64)
    mean: Tensor = levels.double() / (grey[0].numel() * 2.0**16) if len(grey) else levels.double()
    return mean.float()
