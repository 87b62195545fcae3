import shutil
from pathlib import Path

from mlflow.tracking import MlflowClient

from infra.store import FolderStore
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import TrackingPlace, place_for


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
    assert locations(moved, run_id) == [expected, f"{expected}/{run_id}/artifacts"]
    # The original is as it was.
    assert all(location.startswith(home) for location in locations(place, run_id))


def test_a_place_without_a_database_stays_without_one(tmp_path: Path) -> None:
    place_for(FolderStore(tmp_path), None)
    assert list(tmp_path.iterdir()) == []
