"""A training brought to its end on what the cluster holds, placed anew when that shrinks."""

import time
from typing import Any, Final

from alexnet.settings import WorkerRange
from alexnet.train.attempts import read_attempts
from alexnet.train.checkpoint import find_sound_checkpoint
from alexnet.train.job import TrainJob
from alexnet.train.launch import (
    START_RETRIES,
    START_RETRIES_OF_A_RANGE,
    finish_metrics,
    run_training,
)
from alexnet.train.placement import Placement, place_workers
from infra.errors import ClusterTooSmall, NoRoomForWorkers, ServiceError
from infra.ray_runtime import cluster_resources
from infra.store import open_store
from infra.tracking.actor import start_metrics_actor
from pipelines.context import Context

DRAIN_S: Final = 60.0
DRAIN_AFTER_FAILURE_S: Final = 5.0
LOST_NODE_S: Final = 60.0
"""How long to wait for Ray to notice that a node is gone."""


class ClusterTraining:
    """One training on the context's cluster, from where its run stands to its end."""

    def __init__(
        self, context: Context, job: TrainJob, run_id: str, *, total_steps: int, num_images: int
    ) -> None:
        self._context = context
        self._job = job
        self._run_id = run_id
        self._total_steps = total_steps
        self._num_images = num_images

    def run(self) -> None:
        """Train to the end.

        Raises:
            NoRoomForWorkers: what is left of the cluster does not hold the workers.
            ProjectError: whatever deliberate error a worker met.
        """
        scaling = self._context.recipe.scaling
        placement = place_workers(self._context.cluster, scaling.workers)
        for _ in range(scaling.max_failures):
            try:
                self._train_on(placement)
            except NoRoomForWorkers as error:
                placement = self._placed_anew(placement, error)
            else:
                return
        self._train_on(placement)

    def _train_on(self, placement: Placement) -> None:
        run, scaling = open_store(self._job.run_uri), self._context.recipe.scaling
        found = find_sound_checkpoint(run, read_attempts(run))
        sink = start_metrics_actor(
            run.uri,
            self._context.tracking,
            self._run_id,
            experiment=self._context.recipe.tracking.experiment,
        )
        self._context.say(
            f"train: {self._total_steps:,} steps, from step {found.step if found else 0}, on"
            f" {placement.workers} worker(s){', one GPU each' if placement.use_gpu else ''}"
        )
        fewer_will_do = isinstance(scaling.workers, WorkerRange)
        drain_s = DRAIN_AFTER_FAILURE_S
        try:
            with self._context.progress("train") as progress:
                run_training(
                    self._job,
                    placement,
                    sink,
                    max_failures=scaling.max_failures,
                    start_retries=START_RETRIES_OF_A_RANGE if fewer_will_do else START_RETRIES,
                    num_images=self._num_images,
                    progress=progress,
                )
            drain_s = DRAIN_S
        finally:
            self._finish(sink, drain_s)

    def _finish(self, sink: Any, drain_s: float) -> None:  # noqa: ANN401 - a Ray handle
        try:
            sent = finish_metrics(sink, drain_s)
        except ServiceError as error:
            # Said, not raised: an error of the training itself must not be hidden by it.
            self._context.say(f"train: the last points were not kept: {error.problem}")
        else:
            if not sent:
                self._context.say("train: MLflow is away; its curves follow when it is back")

    def _placed_anew(self, before: Placement, error: NoRoomForWorkers) -> Placement:
        """Place the workers on what is left of the cluster; the error, where that will not do."""
        deadline = time.monotonic() + LOST_NODE_S
        while True:
            try:
                left = place_workers(cluster_resources(), self._context.recipe.scaling.workers)
            except ClusterTooSmall:
                raise error from None
            if left.use_gpu != before.use_gpu:
                # Days at a hundredth of the speed are no help; nodes with GPUs may come back.
                raise error
            if left != before:
                self._context.say(f"train: {error.problem}; going on with {left.workers} worker(s)")
                return left
            # A node that died is still listed for some seconds.
            if time.monotonic() > deadline:
                raise error
            time.sleep(1)
