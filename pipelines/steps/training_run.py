"""A training's run in MLflow: opened, described, filled, ended, made where a server lacks it."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from infra.errors import ProjectError, ServiceError
from infra.store import ObjectStore
from infra.tracking.base import RunStatus, Tracker
from infra.tracking.delivery import Delivery
from infra.tracking.journal import Journal, is_delivered
from infra.tracking.points import MetricPoint
from infra.tracking.run_note import end_run, has_ended, note_end, open_run, run_ids_on
from pipelines.parameters import flat_parameters
from pipelines.recipe import Recipe
from pipelines.steps.prepare import Dataset

REACHABLE_S: Final = 15.0
"""How long MLflow is waited for; with the imports, told within half a minute.

Asked for before calls that could do without it: MLflow's own time-outs add up to eight minutes
where a server takes connections and never answers, and sending a model needs them.
"""
REST_SILENCE_S: Final = 30.0
"""How long no segment of a journal may arrive before the rest is left for later."""
REST_FOLLOWS: Final = (
    "MLflow does not have all points of the curves yet: the next step or command sends the rest"
)


@dataclass(frozen=True, slots=True)
class ShownRun:
    """A finished training's run on one server."""

    run_id: str
    is_whole: bool
    """Whether it has every point of the journal."""


@dataclass(slots=True)
class Work:
    """A training at work, as its run is told of it."""

    run_id: str
    is_whole: bool = False
    """Whether the run has every point of the journal: who trains says so at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """One training as one server shows it; the journal in its folder holds what that lacks."""

    tracker: Tracker
    folder: ObjectStore
    """The training's: notes and journal lie there."""
    run_key: str
    recipe: Recipe
    dataset: Dataset
    say: Callable[[str], None]
    """Gets a line for whoever watches."""

    @contextmanager
    def at_work(self, is_ours: Callable[[], bool]) -> Iterator[Work]:
        """Have the run RUNNING while the block trains, and say how that ended.

        It is FINISHED when the block says that it has every point; else it stays RUNNING, and who
        sends the rest ends it. It is KILLED by Ctrl-C, and FAILED by any other error. A run that
        is there already is gone on with while the server is away.

        Args:
            is_ours: tells whether this process still has the training: of one that was taken over,
                how it stands is for the process that has it now.

        Raises:
            TrackingError: the server is away, and has no run yet.
        """
        run_id = self._open()
        work = Work(run_id)
        try:
            is_described = self._describe_if_there(run_id)
            yield work
            if work.is_whole and not is_described:
                # Once it is FINISHED nobody looks whether it has its parameters.
                is_described = self._describe_if_there(run_id)
        except BaseException as error:
            if is_ours():
                self._end(run_id, *_ending(error))
            raise
        if work.is_whole and is_described and is_ours():
            self._end(run_id, RunStatus.FINISHED, "")

    def deliver(self, run_id: str) -> bool:
        """Send what the journal holds and the run lacks; say so, and tell, if not all was sent."""
        is_whole = self._deliver(run_id)
        self._tell_of_rest(is_whole)
        return is_whole

    def ensure(self) -> ShownRun:
        """Return the finished training's run on this server, made and filled if need be.

        What the journal holds and the run lacks is sent to it. A run becomes FINISHED when it is
        whole, not before.

        Raises:
            TrackingError: the server is away, or refuses.
        """
        self.tracker.check_reachable(REACHABLE_S)
        for run_id in reversed(run_ids_on(self.folder, self.tracker.server)):
            if self.tracker.status(run_id) is RunStatus.FINISHED:
                note_end(self.folder, self.tracker.server, run_id)
                return ShownRun(run_id, self._deliver(run_id))
        # There is none, or it was left behind by a kill or an outage: then its points may lack too.
        run_id = self._open()
        self._describe(run_id)
        is_whole = self._deliver(run_id)
        if is_whole:
            end_run(self.tracker, self.folder, run_id, RunStatus.FINISHED)
        return ShownRun(run_id, is_whole)

    def ensure_id(self) -> str:
        """Return the id of that run; say so if it is not whole, which is no reason to stop.

        Raises:
            TrackingError: as `ensure`.
        """
        shown = self.ensure()
        self._tell_of_rest(shown.is_whole)
        return shown.run_id

    def add_results(self, *, step: int, values: Mapping[str, float]) -> bool:
        """Journal what was measured of the state after `step` updates, and send it.

        Returns False if not all was sent. A value that the journal holds already is not taken
        again. The server is asked afterwards: what was measured is kept while it is away.
        """
        now_ms = int(time.time() * 1000)
        Journal(self.folder).append(
            MetricPoint(key=key, step=step, value=value, timestamp_ms=now_ms)
            for key, value in values.items()
        )
        try:
            return self.ensure().is_whole
        except ServiceError:
            return False

    def is_noted(self) -> bool:
        """Tell, without asking it, whether the server has a run of this training."""
        return bool(run_ids_on(self.folder, self.tracker.server))

    def lacks_points(self) -> bool:
        """Tell, without asking it, whether the server lacks the run, points of it or its end."""
        server = self.tracker.server
        noted = run_ids_on(self.folder, server)
        if not noted:
            return True
        newest = noted[-1]
        is_whole = is_delivered(self.folder, server, newest)
        return not (is_whole and has_ended(self.folder, server, newest))

    def _open(self) -> str:
        return open_run(
            self.tracker,
            self.folder,
            run_key=self.run_key,
            run_name=f"{self.recipe.name}-{self.run_key[:8]}",
            timeout_s=REACHABLE_S,
        )

    def _describe_if_there(self, run_id: str) -> bool:
        """Send parameters, tags and input; False if not all arrived."""
        try:
            self.tracker.check_reachable(REACHABLE_S)
            self._describe(run_id)
        except ServiceError as error:
            self.say(f"MLflow is away, going on without it: {error.problem}")
            return False
        return True

    def _describe(self, run_id: str) -> None:
        recipe, dataset = self.recipe, self.dataset
        self.tracker.log_params(run_id, flat_parameters(recipe.model_dump(mode="json")))
        self.tracker.add_tags(run_id, {"alexnet.recipe_digest": recipe.digest})
        self.tracker.log_dataset(
            run_id,
            name=dataset.manifest.name,
            digest=dataset.manifest.fingerprint,
            source_uri=dataset.store.uri,
        )

    def _deliver(self, run_id: str) -> bool:
        delivery = Delivery(Journal(self.folder), self.tracker, run_id)
        try:
            return delivery.drain(REST_SILENCE_S)
        finally:
            delivery.close()

    def _tell_of_rest(self, is_whole: bool) -> None:
        if not is_whole:
            self.say(REST_FOLLOWS)

    def _end(self, run_id: str, status: RunStatus, reason: str) -> None:
        try:
            self.tracker.check_reachable(REACHABLE_S)
            end_run(self.tracker, self.folder, run_id, status, reason)
        except ProjectError as error:
            self.say(f"the run's status {status} was not noted: {error.problem}")


def _ending(error: BaseException) -> tuple[RunStatus, str]:
    """Return how a run stands whose training raised this, and why."""
    if isinstance(error, KeyboardInterrupt):
        return RunStatus.KILLED, "interrupted"
    return RunStatus.FAILED, f"{type(error).__name__}: {error}"
