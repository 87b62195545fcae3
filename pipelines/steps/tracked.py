"""What happens to a training's MLflow run after its end: more points, on the same run."""

import time
from collections.abc import Callable, Mapping
from typing import Final

from infra.errors import ServiceError
from infra.store import ObjectStore
from infra.tracking.base import RunStatus
from infra.tracking.delivery import Delivery
from infra.tracking.journal import Journal
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.points import MetricPoint
from infra.tracking.run_note import open_run, read_notes

DRAIN_S: Final = 30.0


def finished_run(
    tracker: MlflowTracker,
    run: ObjectStore,
    *,
    run_key: str,
    name: str,
    describe: Callable[[str], None],
) -> str:
    """Return the id of a finished training's run on this server, made and filled if need be.

    What the journal holds and the run lacks is sent to it; `describe` is given the id of a run
    that may lack parameters and inputs.

    Raises:
        TrackingError: the server is away, or refuses.
    """
    noted = [note.run_id for note in read_notes(run) if note.server == tracker.server]
    for run_id in reversed(noted):
        if tracker.status(run_id) is RunStatus.FINISHED:
            deliver_journal(tracker, run, run_id)
            return run_id
    # There is none, or it was left behind by a kill or an outage: then its points may lack too.
    run_id = open_run(tracker, run, run_key=run_key, run_name=name)
    describe(run_id)
    deliver_journal(tracker, run, run_id)
    tracker.set_status(run_id, RunStatus.FINISHED)
    return run_id


def add_results(
    tracker: MlflowTracker,
    run: ObjectStore,
    run_id: Callable[[], str],
    *,
    step: int,
    values: Mapping[str, float],
    drain_s: float = DRAIN_S,
) -> bool:
    """Journal what was measured of the state after `step` updates and send it; False if not sent.

    Once: a value that the journal holds already is not taken again. `run_id` is asked for the run
    afterwards, so that what was measured is kept while the server is away.
    """
    journal = Journal(run)
    now_ms = int(time.time() * 1000)
    journal.append(
        MetricPoint(key=key, step=step, value=value, timestamp_ms=now_ms)
        for key, value in values.items()
    )
    try:
        return _deliver(tracker, journal, run_id(), drain_s)
    except ServiceError:
        return False


def deliver_journal(tracker: MlflowTracker, run: ObjectStore, run_id: str) -> bool:
    """Send what a training's journal holds and its run lacks; False if not all was sent."""
    return _deliver(tracker, Journal(run), run_id, DRAIN_S)


def _deliver(tracker: MlflowTracker, journal: Journal, run_id: str, drain_s: float) -> bool:
    delivery = Delivery(journal, tracker, run_id)
    try:
        return delivery.drain(drain_s)
    finally:
        delivery.close()
