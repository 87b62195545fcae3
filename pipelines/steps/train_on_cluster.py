"""A training brought to its end on what the cluster holds, placed anew when that shrinks."""

import math
import time
from typing import Final

from alexnet.settings import WorkerRange
from alexnet.train.attempts import read_attempts
from alexnet.train.checkpoint import list_checkpoints
from alexnet.train.job import TrainJob
from alexnet.train.launch import (
    START_RETRIES,
    START_RETRIES_OF_A_RANGE,
    finish_metrics,
    run_training,
)
from alexnet.train.placement import Placement, check_gpus, place_workers
from infra.errors import (
    ClusterTooSmall,
    NoRoomForWorkers,
    ServiceError,
    WorkersDied,
    WorkersNotJoined,
)
from infra.ray_runtime import LOCAL, Resources, cluster_address, cluster_resources, free_gpus
from infra.store import open_store
from infra.tracking.actor import MetricsHandle, start_metrics_actor
from pipelines.context import Context
from pipelines.steps.training_run import REST_FOLLOWS

LAST_POINTS_SILENCE_S: Final = 60.0
"""After the last step: how long nothing may arrive at MLflow before the rest is left for later."""
DRAIN_AFTER_FAILURE_S: Final = 5.0
"""After a failure or Ctrl-C: how long it sends, for someone waits to see the error."""
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
        self._run = open_store(job.run_uri)
        self._run_id = run_id
        self._total_steps = total_steps
        self._num_images = num_images

    def run(self) -> bool:
        """Train to the end; say whether MLflow has every point of the curves.

        Raises:
            NoRoomForWorkers: what is left of the cluster does not hold the workers.
            WorkersNotJoined: they did not find each other, however often they were started.
            WorkersDied: as often, and no checkpoint was written meanwhile.
            ServiceError: there is no GPU where one is wanted.
            ProjectError: whatever deliberate error a worker met.
        """
        self._context.start_cluster()  # joined hours ago, maybe: what it has now is asked for
        placement = self._place(cluster_resources())
        self._check_gpus(placement)
        failures = 0
        while True:
            step = self._saved_step()
            try:
                return self._train_on(placement)
            except (NoRoomForWorkers, WorkersNotJoined, WorkersDied) as error:
                has_progressed = self._saved_step() > step
                failures = (0 if has_progressed else failures) + 1
                if failures > self._context.recipe.scaling.max_failures:
                    raise
                placement = self._placement_after(error, placement, has_progressed)

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

    def _check_gpus(self, placement: Placement) -> None:
        began_on_gpus = any(attempt.use_gpu for attempt in read_attempts(self._run))
        wanted = self._context.recipe.scaling.gpu
        check_gpus(placement, wanted, began_on_gpus=began_on_gpus)
        if not placement.use_gpu and cluster_address() != LOCAL:
            self._context.say("train: no GPU in this cluster: training on CPUs")

    def _saved_step(self) -> int:
        """Return the step of the newest checkpoint, as its receipt says; 0 where there is none."""
        checkpoints = list_checkpoints(self._run, read_attempts(self._run))
        return checkpoints[-1].step if checkpoints else 0

    def _placement_after(
        self, error: ServiceError, before: Placement, has_progressed: bool
    ) -> Placement:
        """Choose where to train next; the error, where there is no point in it."""
        if isinstance(error, NoRoomForWorkers):
            return self._placed_anew(before, error, may_stay=has_progressed)
        if isinstance(error, WorkersDied) and not has_progressed:
            raise error  # Ray Train has started them as often as it may.
        # A port was taken meanwhile, a worker died: the next group has other ports.
        self._context.say(f"train: {error.problem}; starting them again")
        return before

    def _train_on(self, placement: Placement) -> bool:
        scaling = self._context.recipe.scaling
        # Of the newest checkpoint; where that is damaged, a worker warns and takes one before.
        self._context.say(
            f"train: {self._total_steps:,} steps, from step {self._saved_step()}, on"
            f" {placement.workers} worker(s){', one GPU each' if placement.use_gpu else ''}"
        )
        sink = start_metrics_actor(
            self._run.uri,
            self._context.tracking,
            self._run_id,
            experiment=self._context.recipe.tracking.experiment,
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
        return self._finish(sink, LAST_POINTS_SILENCE_S)

    def _finish(
        self,
        sink: MetricsHandle,
        silence_s: float,
        *,
        at_most_s: float = math.inf,
    ) -> bool:
        try:
            sent = finish_metrics(sink, silence_s, at_most_s=at_most_s)
        except ServiceError as error:
            # Said, not raised: an error of the training itself must not be hidden by it.
            self._context.say(f"train: the last points were not kept: {error.problem}")
            return False
        if not sent:
            self._context.say(f"train: {REST_FOLLOWS}")
        return sent

    def _placed_anew(
        self, before: Placement, error: NoRoomForWorkers, *, may_stay: bool
    ) -> Placement:
        """Place the workers on what is left of the cluster; the error, where that will not do.

        Where it is as it was, they may stay as they are if they had come further.
        """
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
                if may_stay:
                    self._context.say(f"train: {error.problem}; starting them again")
                    return before
                raise error
            time.sleep(1)
