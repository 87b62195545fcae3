"""A training brought to its end on what the cluster holds, placed anew when that shrinks."""

import math
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
from infra.errors import ClusterTooSmall, NoRoomForWorkers, ServiceError, WorkersNotJoined
from infra.ray_runtime import Resources, cluster_resources, free_gpus
from infra.store import open_store
from infra.tracking.actor import start_metrics_actor
from pipelines.context import Context
from pipelines.steps.tracked import REST_FOLLOWS

SILENCE_S: Final = 60.0
"""After the last step: how long nothing may arrive at MLflow before the rest is left for later."""
DRAIN_AFTER_FAILURE_S: Final = 5.0
"""After a failure or Ctrl-C: how long in all, for someone waits to see the error."""
LOST_NODE_S: Final = 60.0
"""How long to wait for Ray to notice that a node is gone."""
FREED_S: Final = 10.0
"""How long to wait for GPUs that may be about to be free: those of an earlier group, say."""


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

    def run(self) -> bool:
        """Train to the end; say whether MLflow has every point of the curves.

        Raises:
            NoRoomForWorkers: what is left of the cluster does not hold the workers.
            WorkersNotJoined: they did not find each other, however often they were started.
            ProjectError: whatever deliberate error a worker met.
        """
        scaling = self._context.recipe.scaling
        placement = self._place(self._context.cluster)
        for _ in range(scaling.max_failures):
            try:
                return self._train_on(placement)
            except NoRoomForWorkers as error:
                placement = self._placed_anew(placement, error)
            except WorkersNotJoined as error:
                # A port was taken meanwhile, a worker died: the next group has other ports.
                self._context.say(f"train: {error.problem}; starting them again")
        return self._train_on(placement)

    def _place(self, resources: Resources) -> Placement:
        """Place the workers; of a range as many as there are GPUs that nobody else has.

        Raises:
            ClusterTooSmall: the cluster does not hold them, whoever works there.
        """
        workers = self._context.recipe.scaling.workers
        placement = place_workers(resources, workers)
        if isinstance(workers, int) or not placement.use_gpu:
            return placement
        deadline = time.monotonic() + FREED_S
        while (free := free_gpus()) < placement.workers and time.monotonic() < deadline:
            time.sleep(1)
        most = max(workers.min, min(workers.max, free))
        return place_workers(resources, WorkerRange(min=workers.min, max=most))

    def _train_on(self, placement: Placement) -> bool:
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
                    say=lambda text: self._context.say(f"train: {text}"),
                )
        except BaseException:
            self._finish(sink, DRAIN_AFTER_FAILURE_S, at_most_s=DRAIN_AFTER_FAILURE_S)
            raise
        return self._finish(sink, SILENCE_S)

    def _finish(
        self,
        sink: Any,  # noqa: ANN401 - a Ray handle
        timeout_s: float,
        *,
        at_most_s: float = math.inf,
    ) -> bool:
        try:
            sent = finish_metrics(sink, timeout_s, at_most_s=at_most_s)
        except ServiceError as error:
            # Said, not raised: an error of the training itself must not be hidden by it.
            self._context.say(f"train: the last points were not kept: {error.problem}")
            return False
        if not sent:
            self._context.say(f"train: {REST_FOLLOWS}")
        return sent

    def _placed_anew(self, before: Placement, error: NoRoomForWorkers) -> Placement:
        """Place the workers on what is left of the cluster; the error, where that will not do."""
        deadline = time.monotonic() + LOST_NODE_S
        while True:
            try:
                left = self._place(cluster_resources())
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
