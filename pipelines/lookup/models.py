"""A trained network by what people call it: registered, exported, a checkpoint, a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alexnet.release.package import MODEL, open_package
from alexnet.train.attempts import read_attempts
from alexnet.train.checkpoint import RECEIPT, find_sound_checkpoint, open_checkpoint
from alexnet.trained import TrainedNetwork, trained_network
from infra.errors import DataError
from infra.store import FolderStore, ObjectStore, open_store
from infra.temporary import temporary_folder
from infra.tracking.place import place_for
from infra.tracking.rehome import rehome_artifacts
from pipelines.datasets import find_dataset
from pipelines.lookup.inspection import MODELS, find_version
from pipelines.lookup.runs import find_run, workspace_of


@contextmanager
def open_model(
    name: str, *, workspace: str, tracking_uri: str | None
) -> Iterator[tuple[str, TrainedNetwork]]:
    """Give the block a trained network, and its URI.

    Args:
        name: `models:/NAME@ALIAS` or `models:/NAME/VERSION`, a checkpoint's folder, that of an
            exported model, or a run by folder, name, unambiguous prefix or MLflow run id. Of a run
            its newest sound checkpoint, finished or not.
        workspace: whose registry and runs are meant.
        tracking_uri: the MLflow server of a registered model, if not the workspace's own.

    Raises:
        DataError: there is no such thing, or it is damaged.
        RecipeError: several runs have such a name.
        TrackingError: MLflow is away, or knows no such model.
        ServiceError: there is no room for its files.
    """
    if name.startswith(MODELS):
        with temporary_folder("alexnet-model-") as folder:
            yield _download(name, workspace, tracking_uri, folder)
    elif "/" in name and (exported := open_store(name)).stat(MODEL) is not None:
        yield exported.uri, open_package(exported)
    else:
        checkpoint = _find_checkpoint(name, workspace)
        yield checkpoint.uri, _with_its_dataset(checkpoint, workspace)


def _download(
    name: str, workspace: str, tracking_uri: str | None, folder: Path
) -> tuple[str, TrainedNetwork]:
    place = place_for(open_store(workspace), tracking_uri)
    if tracking_uri is None and place.artifact_location is not None:
        # The workspace may be a copy, whose MLflow still names the place of the original.
        rehome_artifacts(Path(open_store(workspace).uri) / "mlflow.db", place.artifact_location)
    registry, found = find_version(name, workspace=workspace, tracking_uri=tracking_uri)
    package = open_package(FolderStore(registry.download(found.version, folder)))
    return f"{MODELS}{registry.name}/{found.version}", package


def _find_checkpoint(name: str, workspace: str) -> ObjectStore:
    if "/" in name:
        store = open_store(name)
        if store.stat(RECEIPT) is not None:
            return store
    run = find_run(name, workspace)
    newest = find_sound_checkpoint(run, read_attempts(run))
    if newest is None:
        raise DataError(
            f"{run.uri} has no sound checkpoint",
            remedy="wait for its first one, or go on with the training",
        )
    return run.child(newest.folder)


def _with_its_dataset(checkpoint: ObjectStore, workspace: str) -> TrainedNetwork:
    """Find statistics and classes: in the workspace that the checkpoint lies in, or in ours."""
    _, state = open_checkpoint(checkpoint)
    found = find_dataset(state.dataset_fingerprint, places_of(checkpoint.uri, workspace))
    if found is not None:
        return trained_network(checkpoint, *found)
    raise DataError(
        f"{checkpoint.uri} was trained on dataset {state.dataset_fingerprint[:12]}, which is not"
        f" in {workspace_of(run_of(checkpoint.uri))}",
        remedy="copy its folder (a link is not followed) into datasets/ there, or name the"
        " --workspace that has it: its statistics and classes are needed",
    )


def places_of(uri: str, workspace: str) -> list[ObjectStore]:
    """Return where to look for what belongs to a model: a checkpoint's own workspace, then ours."""
    own = workspace_of(run_of(uri)) if is_checkpoint(uri) else ""
    return [open_store(place) for place in dict.fromkeys((own, open_store(workspace).uri)) if place]


def is_checkpoint(uri: str) -> bool:
    """Tell a checkpoint from a model that is registered or exported, which lies in no training."""
    return not uri.startswith(MODELS) and open_store(uri).stat(RECEIPT) is not None


def run_of(checkpoint: str) -> ObjectStore:
    """Return the folder of the training that a checkpoint's URI is in."""
    return open_store(checkpoint.rsplit("/", 2)[0])
