import shutil
from pathlib import Path

import pytest

from infra.errors import RecipeError
from infra.store import FolderStore, MemoryStore
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import TrackingPlace, place_for, without_credentials


def test_a_directory_workspace_tracks_itself(tmp_path: Path) -> None:
    place = place_for(FolderStore(tmp_path / "ws"), None)
    assert place == TrackingPlace(
        f"sqlite:///{tmp_path}/ws/mlflow.db", f"file://{tmp_path}/ws/mlartifacts", "workspace"
    )


def test_a_server_that_is_named_wins_and_is_written_down_without_its_password() -> None:
    place = place_for(MemoryStore(), "https://me:secret@mlflow.example:5000/")
    assert place.uri == "https://me:secret@mlflow.example:5000/"
    assert place.artifact_location is None
    assert place.registry_id == "https://mlflow.example:5000"


def test_a_relative_database_is_taken_from_here_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = place_for(MemoryStore(), "sqlite:///runs.db")
    assert place.uri == place.registry_id == f"sqlite:///{tmp_path}/runs.db"
    assert place.artifact_location == f"file://{tmp_path}/mlartifacts"
    assert place_for(MemoryStore(), place.uri) == place


def test_a_workspace_that_is_no_directory_needs_a_server() -> None:
    with pytest.raises(RecipeError, match="no directory"):
        place_for(MemoryStore(), None)


@pytest.mark.parametrize(
    "uri",
    [
        "mlflow.example.org",
        "./mlruns",
        "",
        "file:///runs",
        "sqlite://",
        "databricks",
        "postgresql://me:secret@h/db",
    ],
)
def test_what_is_neither_a_server_nor_a_database_file_is_refused(uri: str) -> None:
    with pytest.raises(RecipeError, match="no place to track") as caught:
        place_for(MemoryStore(), uri)
    assert "secret" not in caught.value.problem


def test_choosing_makes_nothing(tmp_path: Path) -> None:
    place_for(FolderStore(tmp_path / "ws"), None)
    assert list(tmp_path.iterdir()) == []


def test_a_text_loses_every_password() -> None:
    text = "GET http://me:pw@host/x failed; see postgresql://you:pw2@db/name"
    assert without_credentials(text) == "GET http://host/x failed; see postgresql://db/name"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://u:p@ss@h/x", "http://h/x"),
        ("http://u:a/b@h/", "http://h/"),
        ("http://u:a?b@h/", "http://h/"),
        ("https://h:5000/x?token=secret", "https://h:5000/x"),
        ("postgresql://u:p@h/db?password=secret, then", "postgresql://h/db then"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("is it me@work? no", "is it me@work? no"),
    ],
)
def test_nothing_of_a_password_or_token_stays(uri: str, shown: str) -> None:
    assert without_credentials(uri) == shown


@pytest.mark.parametrize("name", ["a b#é", "c%20d?e"])
def test_any_directory_name_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_template: Path, name: str
) -> None:
    folder = tmp_path / "here" / name
    folder.mkdir(parents=True)
    shutil.copy(mlflow_template, folder / "mlflow.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    tracker = MlflowTracker(place_for(FolderStore(folder), None))
    run_id = tracker.create_run(run_key="k", run_name="n")
    tracker._client().log_text(run_id, "hello", "note.txt")
    assert MlflowTracker(place_for(FolderStore(folder), None)).find_run("k") == run_id
    assert [path.name for path in (folder / "mlartifacts").rglob("*.txt")] == ["note.txt"]
    assert list((tmp_path / "elsewhere").iterdir()) == []
