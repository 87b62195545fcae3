import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from infra.errors import TrackingError
from infra.store import FolderStore
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import TrackingPlace, place_for
from infra.tracking.rehome import rehome_artifacts


def locations(place: TrackingPlace, run_id: str) -> list[str]:
    client = MlflowClient(place.uri)
    run = client.get_run(run_id)
    experiment = client.get_experiment(run.info.experiment_id)
    return [experiment.artifact_location, run.info.artifact_uri]


def test_a_moved_database_names_its_files_where_they_are(
    tmp_path: Path, mlflow_template: Path
) -> None:
    old, new = tmp_path / "a workspace", tmp_path / "its copy"
    old.mkdir()
    shutil.copy(mlflow_template, old / "mlflow.db")
    place = place_for(FolderStore(old), None)
    run_id = MlflowTracker(place).create_run(run_key="k", run_name="n")
    home = (old / "mlartifacts").as_uri()
    assert all(location.startswith(home) for location in locations(place, run_id))

    shutil.copytree(old, new)
    moved = place_for(FolderStore(new), None)
    expected = (new / "mlartifacts").as_uri()
    for _ in range(2):
        rehome_artifacts(new / "mlflow.db", expected)
    assert locations(moved, run_id) == [expected, f"{expected}/{run_id}/artifacts"]
    # The original is as it was.
    assert all(location.startswith(home) for location in locations(place, run_id))


def test_without_a_database_nothing_is_made(tmp_path: Path) -> None:
    rehome_artifacts(tmp_path / "mlflow.db", "file:///mlartifacts")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("nothing of the kind, and long enough to see it" * 100)
    with pytest.raises(TrackingError, match=r"mlflow\.db cannot be used"):
        rehome_artifacts(tmp_path / "mlflow.db", "file:///mlartifacts")
