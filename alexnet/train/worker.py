"""What Ray Train starts on each worker: where to go on, device, process group, loop, saving.

Every start of the group is an attempt: rank 0 finds the newest sound checkpoint, claims the next
number and tells the others. Nothing lags a checkpoint: sample logs of all ranks and all points of
the curves are durable before its receipt is.
"""

import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import ray
import ray.train
import ray.train.collective
import ray.train.torch
import torch
from ray.exceptions import RayError
from torch import nn

from alexnet.data.batches import Batch
from alexnet.data.input_statistics import InputStatistics
from alexnet.data.loader import LoaderResources, load_batches
from alexnet.train.attempts import claim_attempt, read_attempts
from alexnet.train.checkpoint import (
    LossesSoFar,
    TrainState,
    find_sound_checkpoint,
    open_checkpoint,
    prune_checkpoints,
    read_tensors,
    write_checkpoint,
)
from alexnet.train.filters import write_filters
from alexnet.train.gpu_memory import gpu_too_small
from alexnet.train.job import TrainJob
from alexnet.train.loop import StepReport, train_loop
from alexnet.train.optimizer import load_optimizer_state, optimizer_state
from alexnet.train.placement import Placement, has_room
from alexnet.train.sample_log import SampleLog
from alexnet.train.stop import ending_when
from alexnet.train.utilisation import gpu_name, utilisation
from alexnet.train.wiring import make_learner, plan_of
from alexnet.train.world import World
from infra.allocator import keep_memory
from infra.errors import Interrupted, NoRoomForWorkers, ProjectError
from infra.ray_runtime import cluster_resources, project_error_in, this_nodes_cpus
from infra.store import ObjectStore, open_store
from infra.tracking.points import MetricPoint
from preprocessing.dataset.manifest import Manifest, open_dataset
from preprocessing.dataset.statistics import read_statistics


def train_on_worker(config: dict[str, Any]) -> None:
    """Train from where the run stands to its end. Ray Train calls it on every worker.

    Args:
        config: `job` (JSON of a TrainJob), `placement`, and `sink`, the handle of the metrics
            actor beside the driver.
    """
    sink, placement = config["sink"], config["placement"]
    if ray.get(sink.failure.remote()) is not None:
        return  # The last attempt failed for a reason that another one would meet again.
    worker: _Worker | None = None
    try:
        with ending_when(partial(_is_stopped, sink)):
            job = TrainJob.model_validate_json(config["job"])
            worker = _Worker(job, placement, sink)
            worker.run()
    except ProjectError as error:
        # What the metrics actor raised comes as a class of Ray's, which cannot be sent once more.
        told = project_error_in(error) or error
        ray.get(sink.fail.remote(told))
        if told is error:
            raise
        raise told from error
    except torch.OutOfMemoryError as error:
        told = gpu_too_small(error)
        ray.get(sink.fail.remote(told))
        raise told from error
    except Exception:
        # Before this process goes: its peers fail a moment later, of a broken connection.
        with suppress(RayError):  # else of the actor, which hides nothing
            number = 0 if worker is None else worker.attempt
            ray.get(sink.note_crash.remote(number, traceback.format_exc()))
        raise


def _is_stopped(sink: "ray.ActorHandle[Any]") -> bool:
    try:
        return isinstance(ray.get(sink.failure.remote()), Interrupted)
    except RayError:  # it is being started again
        return False


class _Worker:
    """One rank of one attempt."""

    def __init__(self, job: TrainJob, placement: Placement, sink: "ray.ActorHandle[Any]") -> None:
        keep_memory()
        context = ray.train.get_context()
        self._world = World(context.get_world_rank(), context.get_world_size())
        self._device = ray.train.torch.get_device()
        self._gpu = gpu_name(self._device)
        if self._gpu is None:
            torch.set_num_threads(placement.threads_per_worker)
        self._job = job
        self._placement = placement
        self._sink = sink
        self.attempt = 0
        """The number that rank 0 claims for the group."""
        # Of rank 0. The metrics actor may be killed with what it has not written yet.
        self._unsaved: list[MetricPoint] = []
        self._run: ObjectStore = open_store(job.run_uri)
        self._dataset: ObjectStore = open_store(job.dataset_uri)
        self._manifest: Manifest = open_dataset(self._dataset)
        self._order = job.order(self._manifest)
        self._plan = plan_of(job, self._order)

    def run(self) -> None:
        self._check_room()
        self.attempt, self._start_step, checkpoint = self._agree_on_start()
        statistics = InputStatistics.of(read_statistics(self._dataset, self._manifest.statistics))
        self._learner = make_learner(self._job, statistics, self._device, self._world)
        self._network = self._learner.model  # before DDP wraps it, under the names of checkpoints
        if checkpoint is not None:
            self._restore(checkpoint)
        if self._start_step == 0 and self._world.rank == 0:
            write_filters(self._run, 0, self._network.state_dict())
        self._sample_log = self._open_sample_log()
        train_loop(
            replace(self._learner, model=self._joined(self._network)),
            self._batches(),
            self._plan,
            self._world,
            trained=self._note_samples,
            report=self._report,
            save=self._save,
        )

    def _check_room(self) -> None:
        here = ray.train.get_context().get_local_world_size()
        if not has_room(
            self._placement,
            workers_here=here,
            node_cpus=this_nodes_cpus(),
            cluster_cpus=cluster_resources().cpus,
        ):
            raise NoRoomForWorkers(
                f"{here} workers came to one node, which has CPUs for fewer: others are gone"
                if self._placement.reads_at_home
                else "the workers hold all CPUs, and none are left to read: nodes are gone",
                remedy="bring the nodes back, or set scaling.workers to {min, max}; then run again:"
                " it goes on from the last checkpoint",
            )

    def _agree_on_start(self) -> tuple[int, int, str | None]:
        """Let rank 0 decide which attempt this is, at which step it starts, from which folder."""
        decision = None
        if self._world.rank == 0:
            found = find_sound_checkpoint(self._run, read_attempts(self._run))
            step = found.step if found else 0
            attempt = claim_attempt(
                self._run,
                start_step=step,
                world_size=self._world.size,
                use_gpu=self._placement.use_gpu,
            )
            self._sink.started.remote(step)
            decision = (attempt.number, step, found.folder if found else None)
        agreed: tuple[int, int, str | None] = ray.train.collective.broadcast_from_rank_zero(
            decision
        )
        return agreed

    def _restore(self, checkpoint: str) -> None:
        store = self._run.child(checkpoint)
        receipt, state = open_checkpoint(store)
        state.check_continues(self._state(receipt.step))
        learner = self._learner
        self._network.load_state_dict(read_tensors(store, receipt.model))
        load_optimizer_state(learner.optimizer, read_tensors(store, receipt.optimizer))
        if learner.losses is not None and state.losses is not None:
            learner.losses.load(state.losses)
        if learner.average is not None and receipt.average is not None:
            learner.average.load(read_tensors(store, receipt.average))

    def _joined(self, network: nn.Module) -> nn.Module:
        """Have the gradients of all ranks averaged, where there are several."""
        if self._world.size == 1:
            return network
        ids = [self._device.index] if self._device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(
            network, device_ids=ids, gradient_as_bucket_view=True
        )

    def _batches(self) -> Iterator[Batch]:
        resources = LoaderResources(
            self._placement.cpus_per_task,
            self._placement.tasks_per_worker,
            at_home=self._placement.reads_at_home,
            ranks_here=ray.train.get_context().get_local_world_size(),
        )
        return load_batches(
            self._job.read_spec,
            self._order,
            resources,
            first_step=self._start_step,
            stop_step=self._plan.total_steps,
            rank=self._world.rank,
            world_size=self._world.size,
        )

    def _open_sample_log(self) -> SampleLog | None:
        if self._job.train.sample_log is None:
            return None
        return SampleLog(
            open_store(self._job.train.sample_log).child(self._job.run_key),
            attempt=self.attempt,
            rank=self._world.rank,
            world_size=self._world.size,
        )

    def _note_samples(self, batch: Batch) -> None:
        if self._sample_log is not None:
            self._sample_log.add(batch)

    def _report(self, report: StepReport) -> None:
        if self._world.rank != 0:
            return
        now_ms = int(time.time() * 1000)
        values = {
            "train/loss": report.loss,
            "train/weight_rate": report.weight_rate,
            "train/bias_rate": report.bias_rate,
            "perf/images_per_s": report.images / report.elapsed_s,
            "perf/data_wait_frac": report.waited_frac,
            "perf/mfu": utilisation(self._job, self._plan, report, self._world, self._gpu),
        }
        points = [
            MetricPoint(key=key, step=report.step, value=value, timestamp_ms=now_ms)
            for key, value in values.items()
            if value is not None
        ]
        self._unsaved += points
        self._sink.record.remote(points, (report.step, self._order.rows_before(report.step)))

    def _state(self, step: int, losses: LossesSoFar | None = None) -> TrainState:
        return TrainState(
            step=step,
            epoch=step // self._order.steps_per_epoch,
            attempt=self.attempt,
            run_key=self._job.run_key,
            dataset_fingerprint=self._job.dataset_fingerprint,
            seed=self._job.train.seed,
            global_batch=self._job.train.global_batch,
            num_classes=self._job.num_classes,
            network=self._job.network,
            augment=self._job.train.augment,
            losses=losses,
        )

    def _save(self, step: int) -> None:
        if self._sample_log is not None:
            self._sample_log.flush()
        learner = self._learner
        losses = None if learner.losses is None else learner.losses.gather()
        self._world.wait_for_all()
        if self._world.rank != 0:
            return
        ray.get(self._sink.flush.remote(self._unsaved))
        self._unsaved = []
        write_filters(self._run, step, self._network.state_dict())
        write_checkpoint(
            self._run,
            self._state(step, losses),
            self._network.state_dict(),
            optimizer_state(learner.optimizer),
            None if learner.average is None else learner.average.state(),
        )
        prune_checkpoints(
            self._run, read_attempts(self._run), keep_last=self._job.checkpoint.keep_last
        )
