"""The driver's side of a training: start the workers through Ray Train, watch, say how it ended."""

import math
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import ray
from ray.exceptions import RayError, RayTaskError
from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2._internal.execution.callback import ControllerCallback

from alexnet.train.job import TrainJob
from alexnet.train.placement import Placement
from alexnet.train.process_group import NodesNetwork
from alexnet.train.watch import Watch, ask
from alexnet.train.worker import train_on_worker
from infra.errors import (
    Interrupted,
    NoRoomForWorkers,
    ProjectError,
    ServiceError,
    WorkersDied,
    WorkersNotJoined,
)
from infra.progress import NotedReport
from infra.ray_runtime import project_error_in
from infra.temporary import temporary_folder

POLL_S: Final = 0.5
LEAVE_S: Final = 60.0
"""How long a driver that leaves waits for Ray Train's end: it may be about to start."""

ANSWER_S: Final = 5.0
"""How long a driver that leaves waits for an answer of the metrics actor: its store may be away."""

START_RETRIES: Final = 5
"""Failed starts of the workers to get over in a run. Ray's own default is to try for ever, so a
group that fits nowhere (a GPU taken, a node gone for good) would hang instead of ending."""
START_RETRIES_OF_A_RANGE: Final = 1
"""Where fewer workers will do, there is no point in waiting long for a lost node."""


def run_training(
    job: TrainJob,
    placement: Placement,
    sink: "ray.ActorHandle[Any]",
    *,
    max_failures: int,
    start_retries: int = START_RETRIES,
    num_images: int,
    progress: NotedReport,
    say: Callable[[str], None],
) -> None:
    """Train from where the run stands to its end, restarting the workers when one dies.

    Args:
        job: what to train.
        placement: how many workers, and what each may use.
        sink: the metrics actor beside this process.
        max_failures: restarts before giving up.
        start_retries: failed starts of the workers before giving up.
        num_images: images of the whole training, for the status line.
        progress: called twice a second or so; its note says when the workers started again.
        say: told in a line what else someone who watches should know.

    Raises:
        ProjectError: the one a worker met.
        NoRoomForWorkers: they could not be started, or came to fewer nodes than they need.
        WorkersNotJoined: they were started, and did not find each other; Ray Train tries once.
        WorkersDied: more than max_failures times.
        ServiceError: Ray Train's controller died.
        TrainingFailedError: a bug ended the last attempt; its notes hold the worker's traceback.
    """
    # The controller may write a last note while it is removed: what it leaves is no error.
    with temporary_folder("ray-train-") as notes:
        fit = _Fit(
            _trainer(
                job,
                placement,
                sink,
                max_failures=max_failures,
                start_retries=start_retries,
                notes=str(notes),
            )
        )
        fit.start()
        watch = Watch(sink, num_images=num_images, progress=progress, say=say)
        try:
            while not fit.wait(POLL_S):
                fit.look_for_controller(sink)
                watch.look()
                _raise_what_ends_all(ask(sink.failure))
        except BaseException:
            # Where Ray outlives this call, Ray Train does too: the workers look for this, and end.
            sink.fail.remote(Interrupted("the training was stopped", remedy="run it again"))
            fit.leave(sink)
            raise
    failure: ProjectError | None = ask(sink.failure)
    if failure is not None:
        raise failure
    watch.tell_crashes()
    if fit.error is not None:
        explained = _explained(fit.error, max_failures)
        if not isinstance(explained, ProjectError) and watch.crash is not None:
            explained.add_note(watch.crash)
        raise explained from fit.error


def finish_metrics(
    sink: "ray.ActorHandle[Any]", silence_s: float, *, at_most_s: float = math.inf
) -> bool:
    """Have the metrics actor write and send what it holds, and end; False if not all was sent.

    Args:
        sink: the metrics actor.
        silence_s: how long nothing may arrive at the tracker.
        at_most_s: how long to wait for it in all, and ANSWER_S more for its answer.

    Raises:
        ServiceError: it did not answer: its store is away.
    """
    within_s = None if math.isinf(at_most_s) else at_most_s + ANSWER_S
    sent = ask(sink.finish, silence_s, at_most_s, within_s=within_s)
    if sent is None and within_s is not None:
        raise ServiceError(
            "the metrics actor did not answer",
            remedy="run the same command again: it goes on from the last checkpoint",
        )
    return bool(sent)


def _raise_what_ends_all(failure: ProjectError | None) -> None:
    """Raise the error that a worker left, at once: Ray Train would start the workers once more.

    Except NoRoomForWorkers: the caller then places the workers anew, and the old ones must first
    have released their resources.
    """
    if failure is not None and not isinstance(failure, NoRoomForWorkers):
        raise failure


class _Fit(threading.Thread):
    """`fit` off the main thread, where it would take Ctrl-C for itself."""

    def __init__(self, trainer: TorchTrainer) -> None:
        super().__init__(name="ray-train-fit", daemon=True)
        self._trainer = trainer
        # Not `join`: a Ctrl-C in it has Python 3.11 believe that the thread has ended.
        self._has_returned = threading.Event()
        self._controller: Any = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._trainer.fit()
        except Exception as error:  # raised again in the main thread
            self.error = error
        finally:
            self._has_returned.set()

    def wait(self, timeout_s: float) -> bool:
        """Tell whether `fit` has returned; wait for it no longer than this."""
        return self._has_returned.wait(timeout_s)

    def look_for_controller(
        self, sink: "ray.ActorHandle[Any]", *, within_s: float | None = None
    ) -> None:
        """Ask who Ray Train's controller is: later the metrics actor may wait for its store."""
        # None until it has started, or still that of a group before.
        self._controller = ask(sink.controller, within_s=within_s) or self._controller

    def leave(self, sink: "ray.ActorHandle[Any]") -> None:
        """End Ray Train's controller, and its workers with it; return when `fit` has returned.

        Who shuts Ray down while a thread is inside it ends there and then, with status 1 and
        without a word to the user.
        """
        deadline = time.monotonic() + LEAVE_S
        while not self._has_returned.is_set() and time.monotonic() < deadline:
            if self._controller is not None:
                # Not killed: what it holds for its workers would stay.
                self._controller.abort.remote()
            if not self.wait(POLL_S):
                self.look_for_controller(sink, within_s=ANSWER_S)


class _Introduction(ControllerCallback):  # type: ignore[misc]  # Ray ships no types
    """Tells the metrics actor who Ray Train's controller is: `fit` keeps the handle to itself."""

    def __init__(self, sink: "ray.ActorHandle[Any]") -> None:
        self._sink = sink

    def after_controller_start(self, train_run_context: object) -> None:
        """Tell it; nobody waits for an answer."""
        self._sink.controlled_by.remote(ray.get_runtime_context().current_actor)


def _trainer(
    job: TrainJob,
    placement: Placement,
    sink: "ray.ActorHandle[Any]",
    *,
    max_failures: int,
    start_retries: int,
    notes: str,
) -> TorchTrainer:
    resources = {"CPU": placement.cpus_per_worker}
    if placement.use_gpu:
        resources["GPU"] = 1
    return TorchTrainer(
        train_on_worker,
        train_loop_config={"job": job.model_dump_json(), "placement": placement, "sink": sink},
        scaling_config=ScalingConfig(
            num_workers=placement.workers,
            use_gpu=placement.use_gpu,
            resources_per_worker=resources,
            placement_strategy=placement.strategy,
        ),
        torch_config=NodesNetwork(),
        run_config=RunConfig(
            # Ray's own notes of the run, of which it makes none that matter: ours decide where it
            # goes on. Its controller, on this node, alone looks at the folder; in a store it would
            # need credentials of its own and wait for minutes when that is away.
            storage_path=notes,
            failure_config=FailureConfig(
                max_failures=max_failures, controller_failure_limit=start_retries
            ),
            callbacks=[_Introduction(sink)],
        ),
    )


def _explained(error: Exception, max_failures: int) -> Exception:
    ours = project_error_in(error)
    if ours is not None:
        return ours
    if isinstance(error, ControllerError):
        return _not_started(error.controller_failure)
    # Its peers fail with it, of a broken connection: one lost worker explains them all.
    failures = getattr(error, "worker_failures", {}).values()
    lost = next((failure for failure in failures if _is_lost(failure)), None)
    if lost is not None:
        return WorkersDied(
            f"workers died more than {max_failures} times: {lost}",
            remedy="look for lack of memory or lost nodes, then run again: it goes on from the"
            " last checkpoint",
        )
    if _is_lost(error):
        return ServiceError(
            f"the controller of the training died: {error}",
            remedy="look for lack of memory on this node, then run again: it goes on from the"
            " last checkpoint",
        )
    return error


def _not_started(failure: BaseException) -> ServiceError:
    if isinstance(failure, WorkerGroupStartupTimeoutError | WorkerGroupStartupFailedError):
        return NoRoomForWorkers(
            f"the workers could not be started: {failure}",
            remedy="see whether the cluster has room for them (ray status), then run again: it"
            " goes on from the last checkpoint",
        )
    if isinstance(failure, RayTaskError) and failure.cause is not None:
        failure = failure.cause
    return WorkersNotJoined(
        f"the workers did not come together: {type(failure).__name__}: {failure}",
        remedy="see whether the nodes reach each other on all ports, then run again: it goes on"
        " from the last checkpoint",
    )


def _is_lost(failure: BaseException) -> bool:
    if isinstance(failure, WorkerHealthCheckFailedError):
        failure = failure.health_check_failure
    # What a task raised is a fault in its code, unless that in turn met a lost process.
    if isinstance(failure, RayTaskError):
        failure = failure.cause
    return isinstance(failure, RayError | WorkerHealthCheckTimeoutError)
