"""Stage 7, train: batches in, updates out; when to report and when to save.

Knows nothing of Ray, MLflow or files: batches come from an iterator, and what is to be saved or
reported goes to callables. It runs as it is in one plain process.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from alexnet.counter_rng import keys_of, stream_key
from alexnet.counter_rng_torch import keys_to_tensor
from alexnet.data.augment import Augment, color_noise_keys
from alexnet.data.batches import Batch
from alexnet.data.crops import draw_flips, draw_shared_flips
from alexnet.data.erasing import erasing_keys
from alexnet.data.jitter import jitter_keys
from alexnet.settings import AugmentSettings, MixingSettings, ProgressiveSize
from alexnet.train.average import WeightAverage
from alexnet.train.divergence import check_finite
from alexnet.train.epoch_losses import EpochLosses
from alexnet.train.mixing import blend_images, blend_labels, draw_blend
from alexnet.train.optimizer import set_rates
from alexnet.train.schedule import Rates, ScheduleSettings, rates_at
from alexnet.train.step import train_step
from alexnet.train.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopPlan:
    """What is fixed before the first step."""

    seed: int
    total_steps: int
    steps_per_epoch: int
    schedule: ScheduleSettings
    augment: AugmentSettings
    log_every_steps: int
    save_every_steps: int | None
    save_every_epochs: int | None
    mixing: MixingSettings | None = None
    progressive: ProgressiveSize | None = None
    label_smoothing: float = 0.0
    autocast_dtype: torch.dtype | None = None
    microbatch: int | None = None

    def saves_after(self, step: int) -> bool:
        """Tell whether the state after `step` updates is kept; the last always is."""
        if step == self.total_steps:
            return True
        if self.save_every_steps is not None and step % self.save_every_steps == 0:
            return True
        if self.save_every_epochs is None:
            return False
        return step % (self.save_every_epochs * self.steps_per_epoch) == 0

    def input_px(self, epoch: int) -> int:
        """Return the side of the network's input in one epoch, counted from 0."""
        if self.progressive is None:
            return self.augment.crop_px
        epochs = self.total_steps // self.steps_per_epoch
        return self.progressive.side_at(epoch=epoch, epochs=epochs, crop_px=self.augment.crop_px)


@dataclass(frozen=True, slots=True)
class Learner:
    """What learns, on its device: the network (possibly wrapped by DDP) and its optimizer."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    augment: Augment
    device: torch.device
    average: WeightAverage | None = None
    """Kept by one rank, for all have the same weights."""
    losses: EpochLosses | None = None
    """Kept by every rank, where the schedule looks at them."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known after a reported step."""

    step: int
    """Updates made."""
    loss: float
    """Mean over the global batch of the last step, natural logarithm."""
    weight_rate: float
    images: int
    """Images of all ranks since the last report."""
    elapsed_s: float
    waited_frac: float
    """Part of it in which the rank that waited longest had no batch to work on: all wait for it."""


def train_loop(
    learner: Learner,
    batches: Iterator[Batch],
    plan: LoopPlan,
    world: World,
    *,
    trained: Callable[[Batch], None],
    report: Callable[[Progress], None],
    save: Callable[[int], None],
) -> None:
    """Train on every batch in turn.

    Args:
        learner: in the state before the first of the batches.
        batches: this rank's share of consecutive global steps, up to the plan's last.
        plan: the same on every rank.
        world: the ranks; all must call this together.
        trained: called with each batch when its update is made.
        report: called every `log_every_steps`, on every rank.
        save: called with the number of updates made when the plan says so, on every rank.

    Raises:
        TrainingDiverged: the loss is not finite (looked at when reporting and before saving, and
            at the end of an epoch where the schedule looks too).
    """
    learner.model.train()
    clock = _Clock()
    for batch in clock.timed(batches):
        rates = _rates(learner, batch, plan)
        set_rates(learner.optimizer, rates)
        loss_sum = _step(learner, batch, plan, world, rates)
        if learner.average is not None:
            learner.average.update(batch.step + 1)
        clock.images += batch.batch_rows
        trained(batch)
        done = batch.step + 1
        saves, reports = plan.saves_after(done), done % plan.log_every_steps == 0
        if saves or reports:
            loss = check_finite(world.total(loss_sum) / batch.batch_rows, f"after step {done}")
            if reports:
                waited = torch.tensor(clock.waited_frac(), device=loss_sum.device)
                report(clock.lap(done, loss, rates.weight_rate, world.greatest(waited)))
        if learner.losses is not None:
            _note_loss(learner.losses, loss_sum, batch, plan)
        if saves:
            save(done)


def _rates(learner: Learner, batch: Batch, plan: LoopPlan) -> Rates:
    return rates_at(
        plan.schedule,
        epoch=batch.epoch,
        progress=batch.step / plan.total_steps,
        epoch_losses=() if learner.losses is None else learner.losses.finished,
    )


def _note_loss(losses: EpochLosses, loss_sum: Tensor, batch: Batch, plan: LoopPlan) -> None:
    losses.add(loss_sum, batch.batch_rows)
    if (batch.step + 1) % plan.steps_per_epoch == 0:
        losses.finish_epoch()


def _step(learner: Learner, batch: Batch, plan: LoopPlan, world: World, rates: Rates) -> Tensor:
    ids, device = batch.rows.sample_ids, learner.device
    inputs = _inputs(learner, batch, plan, rates)
    labels = torch.tensor(batch.rows.labels, device=device)
    blended = None
    if plan.mixing is not None:
        blend = draw_blend(
            plan.mixing,
            seed=plan.seed,
            step=batch.step,
            positions=batch.rows.positions,
            side_px=inputs.shape[-1],
        )
        inputs, blended = blend_images(inputs, blend), blend_labels(labels, blend)
    dropout = keys_of(stream_key(plan.seed, "dropout", batch.epoch), ids)
    return train_step(
        learner.model,
        learner.optimizer,
        inputs,
        labels,
        keys_to_tensor(dropout, device),
        world_size=world.size,
        batch_rows=batch.batch_rows,
        blended=blended,
        label_smoothing=plan.label_smoothing,
        autocast_dtype=plan.autocast_dtype,
        microbatch=plan.microbatch,
    )


def _inputs(learner: Learner, batch: Batch, plan: LoopPlan, rates: Rates) -> Tensor:
    """Bring this rank's crops to the device and make of them what the network sees."""
    ids, device = batch.rows.sample_ids, learner.device
    noise, jitter, erasing = (
        keys_to_tensor(keys(seed=plan.seed, epoch=batch.epoch, sample_ids=ids), device)
        for keys in (color_noise_keys, jitter_keys, erasing_keys)
    )
    inputs = learner.augment.training_inputs(
        _images(batch, plan.augment.crop_px).to(device, non_blocking=True),
        flips=_flips(batch, plan, device),
        noise_keys=noise,
        color_noise=rates.color_noise,
        jitter_keys=jitter,
        erasing_keys=erasing,
    )
    side_px = plan.input_px(batch.epoch)
    if side_px == plan.augment.crop_px or not len(inputs):  # which interpolate refuses
        return inputs[..., :side_px, :side_px]
    return interpolate(inputs, size=(side_px, side_px), mode="bilinear", antialias=True)


def _images(batch: Batch, crop_px: int) -> Tensor:
    images = batch.rows.images.reshape(-1, crop_px, crop_px, 3) if len(batch.rows) else None
    if images is None:
        return torch.empty((0, crop_px, crop_px, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        # The pixels lie in Ray's shared memory, which is read-only; nothing here writes to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(images)


def _flips(batch: Batch, plan: LoopPlan, device: torch.device) -> Tensor | None:
    if not plan.augment.flip:
        return None
    if plan.augment.crop_sharing > 1:
        flips = draw_shared_flips(
            seed=plan.seed,
            step=batch.step,
            positions=batch.rows.positions,
            sharing=plan.augment.crop_sharing,
        )
    else:
        flips = draw_flips(seed=plan.seed, epoch=batch.epoch, sample_ids=batch.rows.sample_ids)
    return torch.from_numpy(np.ascontiguousarray(flips)).to(device)


class _Clock:
    """Time and images between reports, and how much of the time went into waiting for data."""

    def __init__(self) -> None:
        self._reset()

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            asked_at = time.perf_counter()
            batch = next(batches, None)
            self._waited_s += time.perf_counter() - asked_at
            if batch is None:
                return
            yield batch

    def waited_frac(self) -> float:
        return self._waited_s / self._elapsed_s()

    def lap(self, step: int, loss: float, weight_rate: float, waited_frac: float) -> Progress:
        elapsed_s = self._elapsed_s()
        progress = Progress(step, loss, weight_rate, self.images, elapsed_s, waited_frac)
        self._reset()
        return progress

    def _elapsed_s(self) -> float:
        return time.perf_counter() - self._started_at

    def _reset(self) -> None:
        self._started_at = time.perf_counter()
        self._waited_s = 0.0
        self.images = 0
