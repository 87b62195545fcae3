"""Training on real data, through the loader, beside training on batches that are in memory.

The same loop, step and worker's share for both; they differ in where the batches come from.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final, Literal

import numpy as np
import ray
import torch

from alexnet.data.augment import Augment
from alexnet.data.batches import Batch, Rows
from alexnet.data.input_statistics import InputStatistics
from alexnet.data.loader import load_batches
from alexnet.settings import AugmentSettings, NetworkSettings, OptimizerSettings
from alexnet.train.loop import Learner, StepReport, train_loop
from alexnet.train.optimizer import build_optimizer
from alexnet.train.plan import LoopPlan
from alexnet.train.schedule_settings import Phase, PhasesSchedule
from alexnet.train.world import World
from benchmarks.bench import Bench, train_worker
from benchmarks.passes import Pass, Results, Stamp, Subject, compare, make_pass
from infra.allocator import keep_memory
from infra.store import FolderStore
from preprocessing.dataset.statistics import read_statistics

FLOOR: Final = 0.9
WARM_UP_STEPS: Final = 4
MIN_STEPS: Final = 8
REPORTS: Final = 20
"""Reports of a pass, at most: each waits for the device."""
NUM_SYNTHETIC: Final = 4
"""Different batches that the synthetic data has."""
SCHEDULE: Final = PhasesSchedule(
    phases=(Phase(from_epoch=1, weight_rate=1e-5, bias_rate=2e-5),),
)
"""So low that random pixels and labels do not make it diverge; a step costs the same."""

Source = Literal["real", "synthetic"]


class TrainingWorker:
    """Trains as alexnet/train/worker.py does, without checkpoints, logs and other ranks."""

    def __init__(self, bench: Bench) -> None:
        keep_memory()
        if not bench.placement.use_gpu:
            torch.set_num_threads(bench.placement.threads_per_worker)
        self._bench = bench
        self._device = torch.device("cuda" if bench.placement.use_gpu else "cpu")
        self._augment = AugmentSettings(crop_px=bench.settings.crop_px)
        self._learner = self._make_learner()
        self._synthetic = [_draw(bench, number) for number in range(NUM_SYNTHETIC)]

    def train(self, source: Source, steps: int) -> Pass:
        """Train so many steps, from the first batch that is asked for to the last that is done."""
        stamps: list[Stamp] = []

        def report(step_report: StepReport) -> None:
            done = stamps[-1].images if stamps else 0
            stamps.append(Stamp(time.perf_counter(), done + step_report.images))

        started_s = time.perf_counter()
        train_loop(
            self._learner,
            self._real(steps) if source == "real" else self._in_memory(steps),
            self._plan(steps),
            World(),
            trained=lambda batch: None,
            report=report,
            save=lambda step: None,
        )
        return make_pass(started_s, [stamps])

    def _make_learner(self) -> Learner:
        bench, device = self._bench, self._device
        torch.manual_seed(0)
        network = (
            NetworkSettings(name="alexnet-2012", width=bench.settings.width)
            .build(bench.settings.num_classes, bench.settings.crop_px)
            .to(device)
            .to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves it out
        )
        store = FolderStore(bench.dataset)
        statistics = InputStatistics.of(read_statistics(store, bench.manifest.statistics))
        augment = Augment(self._augment, statistics, device)
        return Learner(network, build_optimizer(network, OptimizerSettings()), augment, device)

    def _plan(self, steps: int) -> LoopPlan:
        return LoopPlan(
            seed=0,
            total_steps=steps,
            steps_per_epoch=self._bench.order.steps_per_epoch,
            full_batch_rows=self._bench.settings.global_batch,
            schedule=SCHEDULE,
            augment=self._augment,
            log_every_steps=report_every(steps),
            save_every_steps=None,
            save_every_epochs=None,
        )

    def _real(self, steps: int) -> Iterator[Batch]:
        bench = self._bench
        return load_batches(
            bench.read_spec,
            bench.order,
            bench.reading,
            first_step=0,
            stop_step=steps,
            rank=0,
            world_size=1,
        )

    def _in_memory(self, steps: int) -> Iterator[Batch]:
        """Yield the same few batches, under the numbers of the steps that they stand for."""
        per_epoch = self._bench.order.steps_per_epoch
        for step in range(steps):
            rows = self._synthetic[step % NUM_SYNTHETIC]
            rows = replace(rows, steps=np.full_like(rows.steps, step))
            yield Batch(rows, step // per_epoch, step, len(rows))


def measure(bench: Bench) -> Results:
    """Measure both in one worker, in turn."""
    with train_worker(TrainingWorker, bench) as worker:

        def take(source: Source, steps: int) -> Pass:
            return ray.get(worker.train.remote(source, steps))

        take("real", WARM_UP_STEPS)
        rate = take("synthetic", WARM_UP_STEPS).whole
        steps = plan_steps(rate, bench.settings.seconds, bench.settings.global_batch)
        return compare(
            "training on real / on synthetic data",
            Subject(
                name="training on synthetic data",
                what=f"alexnet.train.loop on {NUM_SYNTHETIC} uint8 batches kept in memory: mirror,"
                " mean, colour noise, step; the worker alone on the machine",
                take=lambda: take("synthetic", steps),
            ),
            Subject(
                name="training on real data",
                what="the same loop on what the loader reads meanwhile, on the same cores; the"
                " start of the loader is part of the pass",
                take=lambda: take("real", steps),
            ),
            # As a whole: the loader runs ahead, so in a short pass most of its work is done by
            # 20 %, and a steady rate would leave that out.
            quantity="whole",
            num_passes=bench.settings.passes,
            floor=FLOOR,
        )


def plan_steps(rate: float, seconds: float, global_batch: int) -> int:
    """Return the steps of a pass that lasts about so long; whole report intervals, MIN_STEPS up."""
    steps = max(MIN_STEPS, math.ceil(rate * seconds / global_batch))
    every = report_every(steps)
    return -(-steps // every) * every


def report_every(steps: int) -> int:
    """Return the steps between two reports, so that there are at most REPORTS, the last at the end.

    Of numbers that `plan_steps` returns.
    """
    return -(-steps // REPORTS)


def _draw(bench: Bench, number: int) -> Rows:
    rng = np.random.default_rng(number)
    count, side = bench.settings.global_batch, bench.settings.crop_px
    first: Any = number * count
    return Rows(
        images=rng.integers(0, 256, (count, side, side, 3), np.uint8),
        labels=rng.integers(0, bench.settings.num_classes, count),
        sample_ids=np.arange(first, first + count, dtype=np.int64),
        positions=np.arange(count, dtype=np.int64),
        steps=np.zeros(count, np.int64),
    )
