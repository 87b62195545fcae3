"""The trainings of a workspace: find one by what people call it, list them."""

import json
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Final

from alexnet.evaluate.evaluation import Evaluation, read_evaluation
from alexnet.evaluate.rows import VIEW_NAMES, view_suffix
from alexnet.train.attempts import read_attempts
from alexnet.train.checkpoint import list_checkpoints, open_checkpoint
from alexnet.train.job import RUN
from alexnet.train.training_receipt import FINISHED
from infra.commit import unreadable
from infra.errors import DataError, RecipeError
from infra.store import ObjectStore, open_store
from infra.tracking.base import RunStatus
from infra.tracking.journal import first_point
from infra.tracking.run_note import read_notes
from pipelines.recipe import TrackingSettings

log = logging.getLogger(__name__)


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
        RecipeError: several trainings have such a name, or it is empty.
        DataError: none has.
    """
    if not name:
        raise RecipeError(
            "a name is empty, as a variable of the shell that is not set is",
            remedy="name a training that `alexnet runs` lists",
        )
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
                    f"{name!r} may be any of {', '.join(map(name_of, found))}",
                    remedy="write more of the name",
                )
    raise DataError(
        f"{name!r} is no training" + ("" if "/" in name else f" of the workspace {workspace}"),
        remedy="name one that `alexnet runs` lists, by name, folder or MLflow run id, or give its"
        " --workspace; one that is a link is named by its folder",
    )


def describe_run(run: ObjectStore) -> dict[str, Any]:
    """Describe one training as `list_runs` does."""
    recipe = recipe_of(run)
    evaluations = evaluations_of(run)
    views = evaluations[0][1].views if evaluations else {}
    notes = read_notes(run)
    finished = run.stat(FINISHED) is not None
    return {
        "name": name_of(run),
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
            "name": name_of(run),
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


def name_of(run: ObjectStore) -> str:
    """Return a training's name: its folder's."""
    return run.uri.rpartition("/")[2]


def _called(run: ObjectStore, name: str) -> bool:
    return name_of(run) == name


def _begins(run: ObjectStore, name: str) -> bool:
    return name_of(run).startswith(name)


def _is_shown_as(run: ObjectStore, name: str) -> bool:
    return any(note.run_id == name for note in read_notes(run))


def recipe_of(run: ObjectStore) -> dict[str, Any]:
    """Read a training's resolved recipe, of an earlier version too.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        # Not as a Recipe: an earlier version's has other keys, and is shown all the same.
        return dict(json.loads(run.read(RUN)))
    except (FileNotFoundError, ValueError) as error:
        raise unreadable(f"{run.uri}/{RUN}") from error


def experiment_of(run: ObjectStore) -> str:
    """Return the MLflow experiment that a training's recipe names; the default if it tells none."""
    try:
        settings = recipe_of(run).get("tracking") or {}
    except DataError as error:
        log.warning("run_unreadable %s: %s", run.uri, error)
        settings = {}
    return str(settings.get("experiment") or TrackingSettings().experiment)


def _position(run: ObjectStore) -> dict[str, Any]:
    checkpoints = list_checkpoints(run, read_attempts(run))
    if not checkpoints:
        return {"global_step": 0, "epoch": 0, "dataset_fingerprint": None}
    _, state = open_checkpoint(run.child(checkpoints[-1].folder))
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
    return run.uri.rsplit("/", 2)[0] or "/"
