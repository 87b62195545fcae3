"""The trainings of a workspace: find one by what people call it, list them, compare some."""

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Final

from alexnet.evaluate.evaluation import Evaluation, read_evaluation
from alexnet.evaluate.rows import VIEW_NAMES, view_suffix
from alexnet.train.attempts import read_attempts
from alexnet.train.checkpoint import list_checkpoints, open_checkpoint
from alexnet.train.receipt import FINISHED
from infra.commit import unreadable
from infra.errors import DataError, ProjectError, RecipeError
from infra.store import ObjectStore, open_store
from infra.tracking.base import RunStatus
from infra.tracking.journal import Journal, first_point
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import TrackingPlace, place_for
from infra.tracking.run_note import read_notes
from pipelines.links import comparison_link, look_command
from pipelines.parameters import flat_parameters

log = logging.getLogger(__name__)

RUN: Final = "run.json"
OWN_SERVER: Final = "workspace"
"""What notes call the database in a training's own workspace."""
REACHABLE_S: Final = 15.0
"""How long a comparison waits for MLflow: only its link comes from there."""


def list_runs(workspace: str) -> list[dict[str, Any]]:
    """Describe every training of a workspace, newest first.

    Returns:
        For each `name`, `uri`, `status` (FINISHED, UNFINISHED, DAMAGED), `started_at` (of its first
        metric, or null), `global_step` and `epoch` of its newest checkpoint, `epochs` of its
        recipe, `top1`, `top1_ten_crop` and `top1_nine_crop` (null where not evaluated), `recipe`,
        `dataset`, `dataset_fingerprint`, `mlflow_run_id`.
    """
    found = [_described(run) for run in runs_in(open_store(workspace))]
    # One that has no metric yet has just begun.
    return sorted(found, key=lambda run: (run["started_at"] or "~", run["name"]), reverse=True)


def find_run(name: str, workspace: str) -> ObjectStore:
    """Find a training by its folder's URI, its name or an unambiguous prefix, or MLflow's run id.

    Raises:
        RecipeError: several trainings have such a name.
        DataError: none has.
    """
    if "/" in name:
        run = open_store(name)
        if run.stat(RUN) is not None:
            return run
    else:
        runs = list(runs_in(open_store(workspace)))
        for matches in (_called, _begins, _is_shown_as):
            found = [run for run in runs if matches(run, name)]
            if len(found) == 1:
                return found[0]
            if found:
                raise RecipeError(
                    f"{name!r} may be any of {', '.join(map(_name_of, found))}",
                    remedy="write more of the name",
                )
    raise DataError(
        f"{name!r} is no training" + ("" if "/" in name else f" of the workspace {workspace}"),
        remedy="name one that `alexnet runs` lists, by name, folder or MLflow run id, or give its"
        " --workspace",
    )


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
    parameters = [flat_parameters(_recipe_of(run)) for run in runs]
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


def describe_run(run: ObjectStore) -> dict[str, Any]:
    """Describe one training as `list_runs` does."""
    recipe = _recipe_of(run)
    evaluations = evaluations_of(run)
    views = evaluations[0][1].views if evaluations else {}
    notes = read_notes(run)
    finished = run.stat(FINISHED) is not None
    return {
        "name": _name_of(run),
        "uri": run.uri,
        "status": RunStatus.FINISHED.value if finished else "UNFINISHED",
        "started_at": _started_at(run),
        **_position(run),
        "epochs": recipe.get("train", {}).get("epochs"),
        **{
            f"top1{view_suffix(view)}": views[view].top1 if view in views else None
            for view in VIEW_NAMES
        },
        "recipe": recipe.get("name"),
        "dataset": recipe.get("dataset", {}).get("name"),
        "mlflow_run_id": notes[-1].run_id if notes else None,
    }


def _described(run: ObjectStore) -> dict[str, Any]:
    """Describe one training of many: what is damaged does not hide the others."""
    try:
        return describe_run(run)
    except DataError as error:
        log.warning("run_unreadable %s: %s", run.uri, error)
        return {
            **dict.fromkeys(_FIELDS),
            "name": _name_of(run),
            "uri": run.uri,
            "status": "DAMAGED",
        }


_FIELDS: Final = (
    "name", "uri", "status", "started_at", "global_step", "epoch", "epochs", "top1",
    "top1_ten_crop", "top1_nine_crop", "recipe", "dataset", "dataset_fingerprint", "mlflow_run_id",
)  # fmt: skip


def runs_in(workspace: ObjectStore) -> Iterable[ObjectStore]:
    """List the folders of a workspace's trainings."""
    for info in workspace.list("runs/"):
        folder = PurePosixPath(info.key).parent
        if info.key.endswith(f"/{RUN}") and len(folder.parts) == 2:
            yield workspace.child(str(folder))


def _name_of(run: ObjectStore) -> str:
    return run.uri.rpartition("/")[2]


def _called(run: ObjectStore, name: str) -> bool:
    return _name_of(run) == name


def _begins(run: ObjectStore, name: str) -> bool:
    return _name_of(run).startswith(name)


def _is_shown_as(run: ObjectStore, name: str) -> bool:
    return any(note.run_id == name for note in read_notes(run))


def _recipe_of(run: ObjectStore) -> dict[str, Any]:
    try:
        # Not as a Recipe: an earlier version's has other keys, and is shown all the same.
        return dict(json.loads(run.read(RUN)))
    except (FileNotFoundError, ValueError) as error:
        raise unreadable(f"{run.uri}/{RUN}") from error


def _position(run: ObjectStore) -> dict[str, Any]:
    checkpoints = list_checkpoints(run, read_attempts(run))
    if not checkpoints:
        return {"global_step": 0, "epoch": 0, "dataset_fingerprint": None}
    _, state = open_checkpoint(run.child(f"checkpoints/{checkpoints[-1].name}"))
    return {
        "global_step": state.step,
        "epoch": state.epoch,
        "dataset_fingerprint": state.dataset_fingerprint,
    }


def _started_at(run: ObjectStore) -> str | None:
    point = first_point(run)
    if point is None:
        return None
    return datetime.fromtimestamp(point.timestamp_ms / 1000, UTC).isoformat(timespec="seconds")


def evaluations_of(run: ObjectStore) -> list[tuple[ObjectStore, Evaluation]]:
    """Read the evaluations of the training's end, those with the most views first."""
    workspace = open_store(workspace_of(run))
    places = [
        workspace.child(f"evaluations/{PurePosixPath(info.key).name}")
        for info in run.list("results/")
    ]
    found = [(place, read_evaluation(place)) for place in places]
    there = [(place, evaluation) for place, evaluation in found if evaluation is not None]
    return sorted(there, key=lambda one: len(one[1].views), reverse=True)


def workspace_of(run: ObjectStore) -> str:
    """Return the URI of the workspace that a training or an evaluation lies in: a copy's own."""
    return run.uri.rsplit("/", 2)[0]


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
        tracker = MlflowTracker(place)
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
    noted = [note.run_id for note in read_notes(run) if note.server == place.registry_id]
    return noted[-1] if noted else None


def _own_place(run: ObjectStore) -> TrackingPlace:
    return place_for(open_store(workspace_of(run)), None)
