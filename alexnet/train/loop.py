"""Stage 7, train: batches in, updates out; when to report and when to save.

Knows nothing of Ray, MLflow or files: batches come from an iterator, and what is to be saved or
reported goes to callables. It runs as it is in one plain process.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from alexnet.data.augment import Augment
from alexnet.data.batches import Batch
from alexnet.device_copies import CopyBeside
from alexnet.model.global_batch_norm import averages_kept
from alexnet.train.average import WeightAverage
from alexnet.train.divergence import check_finite
from alexnet.train.epoch_losses import EpochLosses
from alexnet.train.optimizer import set_rates
from alexnet.train.plan import LoopPlan
from alexnet.train.schedule import Rates, rates_at
from alexnet.train.step import train_step
from alexnet.train.step_inputs import step_inputs
from alexnet.train.world import World


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
class StepReport:
    """What is known after a reported step."""

    step: int
    """Updates made."""
    loss: float
    """Mean over the global batch of the last step, natural logarithm."""
    weight_rate: float
    """Of the last step; of all layers but those that have rates of their own."""
    bias_rate: float
    """As `weight_rate`."""
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
    report: Callable[[StepReport], None],
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
    clock, copy = _Clock(), CopyBeside(learner.device)
    for batch in clock.timed(batches):
        rates = _rates(learner, batch, plan)
        set_rates(learner.optimizer, rates)
        inputs = step_inputs(batch, plan, learner.augment, copy, color_noise=rates.color_noise)
        with averages_kept(learner.model) if plan.is_rest(batch) else nullcontext():
            loss_sum = train_step(
                learner.model,
                learner.optimizer,
                inputs,
                world_size=world.size,
                batch_rows=batch.batch_rows,
                options=plan.options,
            )
        done = batch.step + 1
        if learner.average is not None:
            learner.average.update(done)
        clock.images += batch.batch_rows
        trained(batch)
        saves, reports = plan.saves_after(done), done % plan.log_every_steps == 0
        if saves or reports:
            loss = check_finite(world.total(loss_sum) / batch.batch_rows, f"after step {done}")
            if reports:
                waited = torch.tensor(clock.waited_frac(), device=loss_sum.device)
                report(clock.lap(done, loss, rates, world.greatest(waited)))
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

    def lap(self, step: int, loss: float, rates: Rates, waited_frac: float) -> StepReport:
        report = StepReport(
            step=step,
            loss=loss,
            weight_rate=rates.weight_rate,
            bias_rate=rates.bias_rate,
            images=self.images,
            elapsed_s=self._elapsed_s(),
            waited_frac=waited_frac,
        )
        self._reset()
        return report

    def _elapsed_s(self) -> float:
        return time.perf_counter() - self._started_at

    def _reset(self) -> None:
        self._started_at = time.perf_counter()
        self._waited_s = 0.0
        self.images = 0
