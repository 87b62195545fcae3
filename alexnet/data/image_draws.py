"""What is random about each image of a batch: drawn on the host, used on the device."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from alexnet.counter_rng import Keys, keys_of, stream_key
from alexnet.counter_rng_torch import keys_to_tensor
from alexnet.data.batches import Batch
from alexnet.data.crops import draw_flips, draw_shared_flips
from alexnet.data.erasing import erasing_keys
from alexnet.data.jitter import jitter_keys
from alexnet.device_copies import to_device
from alexnet.settings import AugmentSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDraws:
    """Of n images, on their device; what is None is not done."""

    noise: Tensor
    """(n,) int64 keys, of `color_noise_keys`."""
    flips: Tensor | None = None
    """(n,) bool, which ones to mirror."""
    jitter: Tensor | None = None
    """(n,) int64 keys, of `jitter.jitter_keys`."""
    erasing: Tensor | None = None
    """(n,) int64 keys, of `erasing.erasing_keys`."""


def draw_images(
    batch: Batch, settings: AugmentSettings, *, seed: int, device: torch.device
) -> ImageDraws:
    """Draw what the settings ask for, keyed by each image; colour noise in any case.

    Whether there is noise is the schedule's to say, which may look at losses.

    Args:
        batch: one rank's share.
        settings: what there is in training.
        seed: the run's.
        device: where the images will be.
    """

    def keys(of: Callable[..., Keys]) -> Tensor:
        drawn = of(seed=seed, epoch=batch.epoch, sample_ids=batch.rows.sample_ids)
        return keys_to_tensor(drawn, device)

    flips = _flips(batch, settings, seed)
    return ImageDraws(
        noise=keys(color_noise_keys),
        flips=None
        if flips is None
        else to_device(torch.from_numpy(np.ascontiguousarray(flips)), device),
        jitter=keys(jitter_keys) if settings.jitter else None,
        erasing=keys(erasing_keys) if settings.erase else None,
    )


def color_noise_keys(*, seed: int, epoch: int, sample_ids: npt.NDArray[np.int64]) -> Keys:
    """Return what each image's colour noise is drawn from, (n,); `keys_to_tensor` carries it."""
    return keys_of(stream_key(seed, "color noise", epoch), sample_ids)


def _flips(batch: Batch, settings: AugmentSettings, seed: int) -> npt.NDArray[np.bool_] | None:
    if not settings.flip:
        return None
    rows, sharing = batch.rows, settings.crop_sharing
    if sharing == 1:
        return draw_flips(seed=seed, epoch=batch.epoch, sample_ids=rows.sample_ids)
    return draw_shared_flips(seed=seed, step=batch.step, positions=rows.positions, sharing=sharing)
