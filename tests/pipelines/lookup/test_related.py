"""A model tells by its bytes what it comes from; in the workspace of a finished, evaluated run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from alexnet.release.package import open_package, write_package
from alexnet.trained import TrainedNetwork
from infra.store import FolderStore
from pipelines.lookup.models import open_model
from pipelines.lookup.related import find_related

REGISTERED = "models:/m/1"


@pytest.fixture
def workspace(evaluated_run: Path, tmp_path: Path) -> Path:
    root = Path(shutil.copytree(evaluated_run, tmp_path / "workspace"))
    (root / "runs" / "r" / "run.json").write_text("{}")
    return root


def checkpoint_in(workspace: Path) -> str:
    (checkpoint,) = workspace.glob("runs/r/checkpoints/*")
    return str(checkpoint)


@pytest.fixture
def registered(workspace: Path, tmp_path: Path) -> TrainedNetwork:
    """What MLflow holds of the run: weights, statistics and classes, and no name of theirs."""
    with open_model(checkpoint_in(workspace), workspace=str(workspace), tracking_uri=None) as found:
        write_package(found[1], tmp_path / "package")
    return open_package(FolderStore(tmp_path / "package"))


def test_a_registered_model_finds_its_dataset_training_and_evaluation(
    workspace: Path, registered: TrainedNetwork
) -> None:
    related = find_related(REGISTERED, registered, str(workspace))
    assert related.dataset is not None
    assert related.dataset[0].uri == f"{workspace}/datasets/d"
    assert related.run is not None
    assert related.run.uri == f"{workspace}/runs/r"
    assert related.evaluation is not None
    assert related.evaluation[0].uri == f"{workspace}/evaluations/e"


def test_of_several_evaluations_that_on_its_own_dataset_is_taken(
    workspace: Path, registered: TrainedNetwork
) -> None:
    """As a champion has them, which was evaluated on others' images."""
    folder = workspace / "evaluations"
    shutil.copytree(folder / "e", folder / "a")
    receipt = json.loads((folder / "e" / "evaluation.json").read_text())
    elsewhere = json.dumps({**receipt, "validation_digest": "0" * 64})
    (folder / "a" / "evaluation.json").write_text(elsewhere)
    for own, expected in ((True, "e"), (False, "a")):
        if not own:
            shutil.rmtree(folder / "e")
        found = find_related(REGISTERED, registered, str(workspace)).evaluation
        assert found is not None
        assert found[0].uri == str(folder / expected)


def test_another_networks_things_are_not_taken_for_its_own(
    workspace: Path, registered: TrainedNetwork
) -> None:
    weights = registered.weights
    other = replace(weights, item=weights.item.model_copy(update={"sha256": "0" * 64}))
    related = find_related(REGISTERED, replace(registered, weights=other), str(workspace))
    assert related.dataset is not None  # trained on the same one
    assert (related.run, related.evaluation) == (None, None)
    classes = replace(
        registered.classes,
        item=registered.classes.item.model_copy(update={"sha256": "0" * 64}),
    )
    assert (
        find_related(REGISTERED, replace(registered, classes=classes), str(workspace)).dataset
        is None
    )


def test_what_is_damaged_or_from_another_version_is_passed_over(
    workspace: Path, registered: TrainedNetwork
) -> None:
    for path in ("datasets/a/manifest.json", "evaluations/a/evaluation.json"):
        FolderStore(workspace).write(path, b'{"schema_version": 99}')
    FolderStore(workspace).write("runs/a/run.json", b"{}")
    FolderStore(workspace).write("runs/a/finished.json", b"{")
    related = find_related(REGISTERED, registered, str(workspace))
    assert related.dataset is not None
    assert related.evaluation is not None
    assert related.run is not None
    assert related.run.uri.endswith("/r")


def test_a_checkpoint_is_looked_up_in_its_own_workspace_first(
    workspace: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    checkpoint = checkpoint_in(workspace)
    with open_model(checkpoint, workspace=str(elsewhere), tracking_uri=None) as (uri, trained):
        related = find_related(uri, trained, str(elsewhere))
    assert related.run is not None
    assert related.run.uri == f"{workspace}/runs/r"
    assert related.evaluation is not None
    # It need not have ended: a checkpoint's training is the one that it lies in.
    (workspace / "runs" / "r" / "finished.json").unlink()
    assert find_related(uri, trained, str(elsewhere)).run is not None
    (workspace / "runs" / "r" / "run.json").unlink()
    assert find_related(uri, trained, str(elsewhere)).run is None


def test_an_empty_workspace_holds_nothing(registered: TrainedNetwork, tmp_path: Path) -> None:
    related = find_related(REGISTERED, registered, str(tmp_path / "nothing"))
    assert (related.dataset, related.run, related.evaluation) == (None, None, None)
