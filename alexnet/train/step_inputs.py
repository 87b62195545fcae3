"""From a batch in memory to what a step takes, on its device."""

import warnings

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from alexnet.counter_rng import keys_of, stream_key
from alexnet.counter_rng_torch import keys_to_tensor
from alexnet.data.augment import Augment
from alexnet.data.batches import Batch
from alexnet.data.image_draws import draw_images
from alexnet.device_copies import CopyBeside, to_device
from alexnet.train.mixing import blend_images, blend_labels, draw_blend
from alexnet.train.plan import LoopPlan
from alexnet.train.step import StepInputs


def step_inputs(
    batch: Batch,
    plan: LoopPlan,
    augment: Augment,
    copy: CopyBeside,
    *,
    color_noise: float | None,
) -> StepInputs:
    """Bring this rank's crops to the device and make of them what the network sees.

    Args:
        batch: this rank's share, possibly empty.
        plan: what is done to images, blends and sizes included.
        augment: of the plan's settings, on the device.
        copy: to the device.
        color_noise: of the schedule's phase; none is the settings' own.
    """
    crops = copy(_crops(batch, plan.augment.crop_px))
    draws = draw_images(batch, plan.augment, seed=plan.seed, device=crops.device)
    images = augment.training_inputs(crops, draws, color_noise=color_noise)
    images = _scaled(images, plan.input_px(batch.epoch))
    labels = to_device(torch.tensor(batch.rows.labels), crops.device)
    dropout = keys_of(stream_key(plan.seed, "dropout", batch.epoch), batch.rows.sample_ids)
    sample_keys = keys_to_tensor(dropout, crops.device)
    if plan.mixing is None:
        return StepInputs(images, labels, sample_keys)
    blend = draw_blend(
        plan.mixing,
        seed=plan.seed,
        step=batch.step,
        positions=batch.rows.positions,
        side_px=images.shape[-1],
    )
    blended = blend_labels(labels, blend)
    return StepInputs(blend_images(images, blend), labels, sample_keys, blended)


def _crops(batch: Batch, crop_px: int) -> Tensor:
    if not len(batch.rows):
        return torch.empty((0, crop_px, crop_px, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        # The pixels lie in Ray's shared memory, which is read-only; nothing here writes to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(batch.rows.images.reshape(-1, crop_px, crop_px, 3))


def _scaled(images: Tensor, side_px: int) -> Tensor:
    if side_px == images.shape[-1] or not len(images):  # which interpolate refuses
        return images[..., :side_px, :side_px]
    return interpolate(images, size=(side_px, side_px), mode="bilinear", antialias=True)
