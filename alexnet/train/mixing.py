"""Blends of two neighbours of the global batch, and of their labels: mixup and cutmix.

Rows 2i and 2i + 1 of a global batch are a pair, always on one rank, and nearly always of different
row groups (`data.order`, kind "paired"), which meet others every epoch. What becomes of a pair is
keyed by (seed, step, i): the same on any number of ranks. The odd last row of an epoch stays as it
is.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import betaincinv
from torch import Tensor

from alexnet.counter_rng import draw_uniform, keys_of, stream_key
from alexnet.device_copies import to_device
from alexnet.settings import MixingSettings

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Blend:
    """What each of n rows is made of; partners are rows of the same share of the batch."""

    partners: Ints
    """(n,): whose pixels and label come in; a row's own number where it has no partner."""
    pixel_shares: Floats
    """(n,): how much of each pixel is the row's own, outside of its box; 1 but for mixup."""
    boxes: Ints
    """(n, 4): top, left, height and width of what is the partner's alone; of no size for mixup."""
    label_shares: Floats
    """(n,): how much of the target is the row's own label."""


@dataclass(frozen=True, slots=True)
class BlendedLabels:
    """The second label of each row, and how much of the target is the first."""

    others: Tensor
    """(n,) int64."""
    shares: Tensor
    """(n,) float32."""


def draw_blend(
    settings: MixingSettings, *, seed: int, step: int, positions: Ints, side_px: int
) -> Blend:
    """Draw what becomes of each row of a rank's share.

    Both rows of a pair have the same shares and the same box. A box lies inside the image, unlike
    the paper's, which may be cut off at an edge.

    Args:
        settings: which blends.
        seed: the run's.
        step: updates done before this batch.
        positions: (n,), the rows' places in the global batch: consecutive, the first one even.
        side_px: side of the images, which are square.

    Source:
        mixup: Zhang et al., arXiv 1710.09412. cutmix: Yun et al., arXiv 1905.04899.
    """
    keys = keys_of(stream_key(seed, "mixing", step), positions // 2)
    way, quantile, y, x = draw_uniform(keys, 4).astype(np.float64).T
    rows = np.arange(len(positions), dtype=np.int64)
    neighbours = rows + 1 - 2 * (positions % 2)
    has_partner = (neighbours < len(positions)) & (way < settings.probability)
    cuts = _cuts(settings, way)
    shares = np.ones(len(positions))
    for alpha, chosen in ((settings.mixup, ~cuts), (settings.cutmix, cuts)):
        if alpha is not None:
            shares[chosen] = betaincinv(alpha, alpha, quantile[chosen])
    side = np.where(has_partner & cuts, np.rint(side_px * np.sqrt(1 - shares)), 0)
    boxes = np.stack([np.rint(y * (side_px - side)), np.rint(x * (side_px - side)), side, side], 1)
    shares = np.where(has_partner, shares, 1.0)
    return Blend(
        partners=np.where(has_partner, neighbours, rows),
        pixel_shares=np.where(cuts, 1.0, shares),
        boxes=boxes.astype(np.int64),
        label_shares=np.where(cuts, 1 - (side / side_px) ** 2, shares),
    )


def blend_images(images: Tensor, blend: Blend) -> Tensor:
    """Blend the network's inputs, (n, 3, side, side); n may be 0."""
    device, side_px = images.device, images.shape[-1]
    partners = images[_on(blend.partners, device)]
    shares = _on(blend.pixel_shares, device).to(images.dtype)
    top, left, height, width = _on(blend.boxes, device)[:, :, None].unbind(1)
    pixel = torch.arange(side_px, device=device)
    in_rows = (pixel >= top) & (pixel < top + height)
    in_columns = (pixel >= left) & (pixel < left + width)
    in_box = (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
    blended = torch.lerp(partners, images, shares[:, None, None, None])
    return torch.where(in_box, partners, blended)


def blend_labels(labels: Tensor, blend: Blend) -> BlendedLabels:
    """Return the partners' labels of (n,) int64 ones, and the shares."""
    return BlendedLabels(
        others=labels[_on(blend.partners, labels.device)],
        shares=_on(blend.label_shares, labels.device).to(torch.float32),
    )


def _on(values: Ints | Floats, device: torch.device) -> Tensor:
    return to_device(torch.from_numpy(values), device)


def _cuts(settings: MixingSettings, way: Floats) -> npt.NDArray[np.bool_]:
    """Tell which rows are cut, not mixed.

    All or none; where both kinds are set, those whose draw lies in the lower half of
    [0, probability).
    """
    if settings.mixup is None or settings.cutmix is None:
        return np.full(len(way), settings.cutmix is not None)
    halves: npt.NDArray[np.bool_] = way < settings.probability / 2
    return halves
