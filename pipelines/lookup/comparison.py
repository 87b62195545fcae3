"""`alexnet runs compare`: trainings side by side, and MLflow's page of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.errors import DataError, ProjectError, RecipeError
from infra.store import ObjectStore, open_store
from infra.tracking.journal import Journal
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import OWN_SERVER, TrackingPlace, place_for
from infra.tracking.run_note import read_notes, run_ids_on
from pipelines.links import comparison_link, look_command
from pipelines.lookup.runs import describe_run, experiment_of, find_run, recipe_of, workspace_of
from pipelines.parameters import flat_parameters
from pipelines.steps.training_run import REACHABLE_S


def compare_runs(
    names: Sequence[str], *, workspace: str, tracking_uri: str | None
) -> dict[str, Any]:
    """Hold trainings side by side; all but the link is read from the workspace.

    Returns:
        `runs` (as `list_runs`), `parameters` (those that differ) and `metrics` (the last value of
        each), both lists by name in the order of the runs; `link` to MLflow's page and, for a
        database file, `look`, what starts its server; or `no_link`, why there is none.

    Raises:
        RecipeError: fewer than two different trainings.
        DataError: there is no such training.
    """
    runs = [find_run(name, workspace) for name in names]
    if len({run.uri for run in runs}) < max(2, len(runs)):
        raise RecipeError(
            "a comparison takes two or more different trainings",
            remedy="name them as `alexnet runs` lists them",
        )
    parameters = [flat_parameters(recipe_of(run)) for run in runs]
    metrics = [_last_values(run) for run in runs]
    link = _link(runs, workspace, tracking_uri)
    return {
        "runs": [describe_run(run) for run in runs],
        "parameters": {
            key: values
            for key, values in _side_by_side(parameters).items()
            if any(value != values[0] for value in values)
        },
        "metrics": _side_by_side(metrics),
        "link": link.uri,
        "look": link.look,
        "no_link": link.reason,
    }


def _last_values(run: ObjectStore) -> dict[str, float | str]:
    journal = Journal(run)
    last: dict[str, tuple[int, float]] = {}
    for number in range(1, journal.num_segments + 1):
        for point in journal.segment(number):
            if point.step >= last.get(point.key, (0, 0.0))[0]:
                last[point.key] = (point.step, point.value)
    # JSON has no NaN: such a value is given as text, as the journal has it.
    return {
        key: value if math.isfinite(value) else str(value)
        for key, (_, value) in sorted(last.items())
    }


def _side_by_side(columns: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    keys = dict.fromkeys(key for column in columns for key in column)
    return {key: [column.get(key) for column in columns] for key in keys}


@dataclass(frozen=True, slots=True)
class _Link:
    """MLflow's page of a comparison, or why there is none."""

    uri: str | None = None
    look: str | None = None
    reason: str | None = None


def _link(runs: Sequence[ObjectStore], workspace: str, tracking_uri: str | None) -> _Link:
    """Ask MLflow which experiments the runs are in; while it is away there is no link."""
    try:
        place, run_ids = _common_server(runs, workspace, tracking_uri)
        # Any experiment tells whether the server is there; one of a run should be there too.
        tracker = MlflowTracker(place, experiment=experiment_of(runs[0]))
        tracker.check_reachable(REACHABLE_S)
        experiments = [tracker.experiment_of(run_id) for run_id in run_ids]
    except ProjectError as error:
        return _Link(reason=error.problem)
    return _Link(comparison_link(run_ids, experiments, place), look_command(place))


def _common_server(
    runs: Sequence[ObjectStore], workspace: str, tracking_uri: str | None
) -> tuple[TrackingPlace, list[str]]:
    """Choose a server that has all the runs, the one that was named first; and their ids there.

    Raises:
        DataError: there is none.
    """
    store = open_store(workspace)
    places = [] if tracking_uri is None else [place_for(store, tracking_uri)]
    for note in reversed(read_notes(runs[0])):
        own = note.server == OWN_SERVER
        places.append(_own_place(runs[0]) if own else place_for(store, note.server))
    for place in places:
        run_ids = [_run_id_on(place, run) for run in runs]
        if None not in run_ids:
            return place, [run_id for run_id in run_ids if run_id is not None]
    raise DataError(
        "no one MLflow server has all of these runs",
        remedy="name with --tracking-uri the server that they were tracked on",
    )


def _run_id_on(place: TrackingPlace, run: ObjectStore) -> str | None:
    if place.registry_id == OWN_SERVER and place != _own_place(run):
        return None  # another workspace's
    noted = run_ids_on(run, place.registry_id)
    return noted[-1] if noted else None


def _own_place(run: ObjectStore) -> TrackingPlace:
    return place_for(open_store(workspace_of(run)), None)
