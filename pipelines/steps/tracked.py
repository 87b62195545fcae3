"""What happens to a training's MLflow run after its end: more points, on the same run."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from infra.errors import ServiceError
from infra.store import ObjectStore
from infra.tracking.base import RunStatus, Tracker
from infra.tracking.delivery import Delivery
from infra.tracking.journal import Journal, is_delivered
from infra.tracking.points import MetricPoint
from infra.tracking.run_note import end_run, has_ended, note_end, open_run, run_ids_on

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


def finished_run(
    tracker: Tracker,
    run: ObjectStore,
    *,
    run_key: str,
    name: str,
    describe: Callable[[str], None],
) -> ShownRun:
    """Return a finished training's run on this server, made and filled if need be.

    What the journal holds and the run lacks is sent to it; `describe` is given the id of a run
    that may lack parameters and inputs. A run becomes FINISHED when it is whole, not before.

    Raises:
        TrackingError: the server is away, or refuses.
    """
    tracker.check_reachable(REACHABLE_S)
    for run_id in reversed(run_ids_on(run, tracker.server)):
        if tracker.status(run_id) is RunStatus.FINISHED:
            note_end(run, tracker.server, run_id)
            return ShownRun(run_id, deliver_journal(tracker, run, run_id))
    # There is none, or it was left behind by a kill or an outage: then its points may lack too.
    run_id = open_run(tracker, run, run_key=run_key, run_name=name, timeout_s=REACHABLE_S)
    describe(run_id)
    is_whole = deliver_journal(tracker, run, run_id)
    if is_whole:
        end_run(tracker, run, run_id, RunStatus.FINISHED)
    return ShownRun(run_id, is_whole)


def lacks_points(server: str, run: ObjectStore) -> bool:
    """Tell, without asking it, whether a server lacks a training's run, points of it or its end."""
    noted = run_ids_on(run, server)
    if not noted:
        return True
    return not (is_delivered(run, server, noted[-1]) and has_ended(run, server, noted[-1]))


def add_results(
    run: ObjectStore,
    shown: Callable[[], ShownRun],
    *,
    step: int,
    values: Mapping[str, float],
) -> bool:
    """Journal what was measured of the state after `step` updates and send it; False if not sent.

    Once: a value that the journal holds already is not taken again. `shown` finds and fills the
    run, and is asked afterwards, so that what was measured is kept while the server is away.
    """
    now_ms = int(time.time() * 1000)
    Journal(run).append(
        MetricPoint(key=key, step=step, value=value, timestamp_ms=now_ms)
        for key, value in values.items()
    )
    try:
        return shown().is_whole
    except ServiceError:
        return False


def deliver_journal(tracker: Tracker, run: ObjectStore, run_id: str) -> bool:
    """Send what a training's journal holds and its run lacks; False if not all was sent."""
    delivery = Delivery(Journal(run), tracker, run_id)
    try:
        return delivery.drain(REST_SILENCE_S)
    finally:
        delivery.close()
