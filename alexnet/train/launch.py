"""The driver's side of a training: start the workers through Ray Train, watch, say how it ended."""

import logging
import threading
from typing import Any, Final

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer

from alexnet.train.job import TrainJob
from alexnet.train.placement import Placement
from alexnet.train.worker import train_on_worker
from infra.errors import ProjectError, ServiceError
from infra.progress import ProgressReport
from infra.ray_runtime import project_error_in

log = logging.getLogger(__name__)

POLL_S: Final = 0.5


def run_training(
    job: TrainJob,
    placement: Placement,
    sink: "ray.ActorHandle[Any]",
    *,
    max_failures: int,
    num_images: int,
    progress: ProgressReport,
) -> None:
    """Train from where the run stands to its end, restarting the workers when one dies.

    Args:
        job: what to train.
        placement: how many workers, and what each may use.
        sink: the metrics actor beside this process.
        max_failures: restarts before giving up.
        num_images: images of the whole training, for the status line.
        progress: called twice a second or so.

    Raises:
        ProjectError: the one a worker met.
        ServiceError: workers died more than max_failures times.
    """
    trainer = _trainer(job, placement, sink, max_failures)
    ended = _Fit(trainer)
    ended.start()
    while not ended.wait(POLL_S):
        position = ray.get(sink.position.remote())
        if position is not None:
            progress(position[1], num_images)
    failure: ProjectError | None = ray.get(sink.failure.remote())
    if failure is not None:
        raise failure
    if ended.error is not None:
        raise _explained(ended.error, max_failures) from ended.error


def finish_metrics(sink: "ray.ActorHandle[Any]", timeout_s: float) -> bool:
    """Have the metrics actor write and send what it holds, and end; False if not all was sent."""
    sent: bool = ray.get(sink.finish.remote(timeout_s))
    return sent


class _Fit(threading.Thread):
    """`fit` off the main thread, where it would take Ctrl-C for itself."""

    def __init__(self, trainer: TorchTrainer) -> None:
        super().__init__(name="ray-train-fit", daemon=True)
        self._trainer = trainer
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._trainer.fit()
        except Exception as error:  # raised again in the main thread
            self.error = error

    def wait(self, timeout_s: float) -> bool:
        self.join(timeout_s)
        return not self.is_alive()


def _trainer(
    job: TrainJob, placement: Placement, sink: "ray.ActorHandle[Any]", max_failures: int
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
        ),
        run_config=RunConfig(
            # Ray's own notes of the run; ours decide where it goes on.
            storage_path=f"{job.run_uri}/ray",
            failure_config=FailureConfig(max_failures=max_failures),
        ),
    )


def _explained(error: Exception, max_failures: int) -> Exception:
    ours = project_error_in(error)
    if ours is not None:
        return ours
    failures = getattr(error, "worker_failures", {}).values()
    died = all(isinstance(failure, ray.exceptions.RayError) for failure in failures)
    if isinstance(error, TrainingFailedError) and failures and died:
        return ServiceError(
            f"workers died more than {max_failures} times: {next(iter(failures))}",
            remedy="look for lack of memory or lost nodes, then run again: it goes on from the"
            " last checkpoint",
        )
    return error
