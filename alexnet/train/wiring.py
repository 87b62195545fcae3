"""From what a job says to what the loop takes: the plan of its steps, and what learns by it.

A setting that decides what is learned gets into a training here, or through `TrainJob.read_spec`.
"""

import torch
from torch import nn

from alexnet.data.augment import Augment
from alexnet.data.input_statistics import InputStatistics
from alexnet.data.order import Order
from alexnet.train.average import WeightAverage
from alexnet.train.compiled import compile_network
from alexnet.train.epoch_losses import EpochLosses
from alexnet.train.job import TrainJob
from alexnet.train.loop import Learner
from alexnet.train.optimizer import build_optimizer
from alexnet.train.plan import LoopPlan
from alexnet.train.schedule_settings import PlateauSchedule
from alexnet.train.step import StepOptions
from alexnet.train.world import World


def plan_of(job: TrainJob, order: Order) -> LoopPlan:
    """Return what is fixed before a job's first step, the same on every rank."""
    train, checkpoint = job.train, job.checkpoint
    return LoopPlan(
        seed=train.seed,
        total_steps=job.total_steps(order),
        steps_per_epoch=order.steps_per_epoch,
        full_batch_rows=order.batch_rows(0),
        schedule=train.schedule,
        augment=train.augment,
        log_every_steps=train.log_every_steps,
        save_every_steps=checkpoint.every_steps,
        save_every_epochs=checkpoint.every_epochs,
        mixing=train.mixing,
        progressive=train.progressive,
        options=StepOptions(
            precision=train.precision,
            label_smoothing=train.label_smoothing,
            microbatch=job.microbatch,
        ),
    )


def make_learner(
    job: TrainJob, statistics: InputStatistics, device: torch.device, world: World
) -> Learner:
    """Make one rank's network, not wrapped yet, and all that learns with it, before any step.

    Seeds torch's global generator with the job's seed. Only rank 0 keeps an average.

    Raises:
        RecipeError: it is to be compiled and cannot be, or would be another network.
    """
    train = job.train
    torch.manual_seed(train.seed)
    network: nn.Module = job.network.build(job.num_classes, train.augment.crop_px).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves it out
    if job.compile:
        compile_network(network, train.augment.crop_px, train.precision)
    decay = train.average_decay if world.rank == 0 else None
    looks = isinstance(train.schedule, PlateauSchedule)
    return Learner(
        network,
        build_optimizer(network, train.optimizer),
        Augment(train.augment, statistics, device),
        device,
        None if decay is None else WeightAverage(network, decay),
        EpochLosses(world, device) if looks else None,
    )
