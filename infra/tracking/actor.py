"""The metrics sink, and what else workers tell the driver, in a Ray actor beside it."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from infra.errors import ProjectError
from infra.ray_runtime import lost_work_named
from infra.store import open_store
from infra.tracking.delivery import Delivery
from infra.tracking.journal import Journal
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import TrackingPlace
from infra.tracking.points import MetricPoint
from infra.tracking.sink import MetricsSink, Position

if TYPE_CHECKING:  # whoever only names the actor's class needs no Ray
    import ray

MetricsHandle: TypeAlias = "ray.ActorHandle[Any]"
"""Of a MetricsActor: its methods, each with a `remote`."""


def start_metrics_actor(
    store_uri: str,
    place: TrackingPlace,
    run_id: str,
    *,
    experiment: str,
) -> MetricsHandle:
    """Start the actor on this node, using no CPU, and return its handle; it ends with the handle.

    Workers call `handle.record.remote(points, position)` and
    `ray.get(handle.flush.remote(points))`; calls of one caller run in order. A killed actor starts
    again from the journal: what it had recorded and not flushed is lost, so a flush is given it
    again, and calls it had not answered are made again, a few times.

    Args:
        store_uri: the training's folder.
        place: where runs are tracked.
        run_id: the training's run there.
        experiment: the run's experiment.

    Raises:
        ObjectCorrupt: the run's journal cannot be read.
        ServiceError: the store is away, or the actor kept dying.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(num_cpus=0, scheduling_strategy=here, max_restarts=-1, max_task_retries=3)(
        MetricsActor
    )
    handle = actor.remote(store_uri, place, run_id, experiment)
    with lost_work_named("the metrics actor", remedy="see Ray's logs, then run again"):
        ray.get(handle.problem.remote())
    return handle


class MetricsActor:
    """A metrics sink, made from plain arguments on the actor's side; and the workers' mailbox.

    So workers need no way to the tracker. What they leave for the driver is in memory alone: a
    killed actor starts again without it.
    """

    def __init__(
        self,
        store_uri: str,
        place: TrackingPlace,
        run_id: str,
        experiment: str,
    ) -> None:
        self._store_uri, self._place, self._run_id = store_uri, place, run_id
        self._experiment = experiment
        self._starts: list[int] = []
        self._failure: ProjectError | None = None
        self._crashes: dict[int, str] = {}
        self._controller: ray.ActorHandle[Any] | None = None

    # Opened by the first call: what is raised while an actor is made ends it, and nobody hears why.
    @cached_property
    def _sink(self) -> MetricsSink:
        journal = Journal(open_store(self._store_uri))
        tracker = MlflowTracker(self._place, experiment=self._experiment)
        delivery = Delivery(journal, tracker, self._run_id)
        return MetricsSink(journal, delivery)

    def record(self, points: list[MetricPoint], position: Position) -> None:
        """Take points and how far the training is."""
        self._sink.record(points, position)

    def flush(self, points: Sequence[MetricPoint] = ()) -> None:
        """Write everything recorded so far to the journal, and these if it lacks them."""
        self._sink.flush(points)

    def position(self) -> Position | None:
        """Return the latest (step, images)."""
        return self._sink.position()

    def problem(self) -> str | None:
        """Return why nothing reaches the tracker at the moment."""
        return self._sink.problem()

    def started(self, step: int) -> None:
        """Take note that the workers started, to go on from this step."""
        self._starts.append(step)

    def starts(self) -> list[int]:
        """Return the steps that the workers started from, one a start."""
        return self._starts

    def fail(self, error: ProjectError) -> None:
        """Leave the error that ended a worker for the driver; the first one stays."""
        if self._failure is None:
            self._failure = error

    def failure(self) -> ProjectError | None:
        """Return the error that a worker left."""
        return self._failure

    def controlled_by(self, controller: "ray.ActorHandle[Any]") -> None:
        """Take the handle of the actor that starts the workers."""
        self._controller = controller

    def controller(self) -> "ray.ActorHandle[Any] | None":
        """Return that handle; None before it was told."""
        return self._controller

    def note_crash(self, attempt: int, text: str) -> None:
        """Leave the traceback that ended an attempt; the first stays, others follow from it.

        Args:
            attempt: its number; 0 for one that had none yet.
            text: as `traceback.format_exc` has it.
        """
        self._crashes.setdefault(attempt, text)

    def crashes(self) -> dict[int, str]:
        """Return the tracebacks that workers left, by attempt."""
        return self._crashes

    def finish(self, silence_s: float, at_most_s: float = math.inf) -> bool:
        """Flush, wait for the delivery, end."""
        return self._sink.finish(silence_s, at_most_s=at_most_s)
