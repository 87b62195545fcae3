"""`alexnet runs reap`: MLflow runs that a killed driver left RUNNING are called KILLED."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from alexnet.train.training_receipt import FINISHED
from infra.abandoned import is_abandoned
from infra.errors import DataError
from infra.looking import may_exist
from infra.store import ObjectStore, open_store
from infra.tracking.base import RunStatus
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import place_for, sqlite_path
from infra.tracking.run_note import end_run, run_ids_on
from pipelines.lookup.runs import experiment_of, name_of, runs_in
from pipelines.steps.training_run import REACHABLE_S

log = logging.getLogger(__name__)

REASON: Final = (
    "nobody works on this training: its driver was killed, or its machine is gone;"
    " the same command goes on with it"
)
_AT_ONCE: Final = 16
"""Trainings that are listened to at a time: one of another host may take half a minute."""


def reap_runs(workspace: str, *, tracking_uri: str | None) -> list[dict[str, Any]]:
    """Set the runs of trainings that ended without a word to KILLED, with the reason as a tag.

    Args:
        workspace: holds the trainings.
        tracking_uri: the MLflow server that shows them, if not the workspace's own.

    Returns:
        Of each that was set: `name`, `uri`, `mlflow_run_id`.

    Raises:
        TrackingError: MLflow is away, or refuses.
        StoreError: so does the workspace's store.
    """
    store = open_store(workspace)
    place = place_for(store, tracking_uri)
    # Looking must not make a database.
    if (database := sqlite_path(place.uri)) is not None and not may_exist(database):
        return []
    shown = [(run, _shown_as(run, place.registry_id)) for run in runs_in(store)]
    shown = [(run, run_id) for run, run_id in shown if run_id is not None]
    if not shown:
        return []
    # Any experiment tells whether the server is there; one that has such a run should be there too.
    tracker = MlflowTracker(place, experiment=experiment_of(shown[0][0]))
    tracker.check_reachable(REACHABLE_S)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        reaped = threads.map(lambda one: _reap(tracker, *one), shown)
        return [
            {"name": name_of(run), "uri": run.uri, "mlflow_run_id": run_id}
            for (run, run_id), is_reaped in zip(shown, reaped, strict=True)
            if is_reaped
        ]


def _shown_as(run: ObjectStore, server: str) -> str | None:
    """Return the id of an unfinished training's run on this server; None where there is none."""
    if run.stat(FINISHED) is not None:
        return None  # the next command of its recipe ends it, when it has all points
    try:
        noted = run_ids_on(run, server)
    except DataError as error:
        log.warning("run_unreadable %s: %s", run.uri, error)
        return None
    return noted[-1] if noted else None


def _reap(tracker: MlflowTracker, run: ObjectStore, run_id: str) -> bool:
    if tracker.status(run_id) is not RunStatus.RUNNING:
        return False
    # No lease is taken, which a driver that starts now would wait for: it calls the run RUNNING
    # again seconds after its claim, by when this has long been said.
    try:
        if not is_abandoned(run) or run.stat(FINISHED) is not None:
            return False
    except DataError as error:  # of this one; the others are told of
        log.warning("run_unreadable %s: %s", run.uri, error)
        return False
    end_run(tracker, run, run_id, RunStatus.KILLED, REASON)
    return True
