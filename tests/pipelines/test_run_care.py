"""Whether anybody works on a folder is tested in tests/infra/test_abandoned.py."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlflow_window import MlflowWindow
from typer.testing import CliRunner

from infra.abandoned import is_abandoned
from infra.lease import LeaseTimings, hold_lease
from infra.store import FolderStore
from infra.tracking.base import REASON_TAG, RunStatus
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import TrackingPlace, sqlite_path
from infra.tracking.run_note import open_run
from pipelines import run_care
from pipelines.cli import app
from pipelines.run_care import REASON, reap_runs

QUICK = LeaseTimings(beat_s=0.05, stale_s=0.5, poll_s=0.01)


@pytest.fixture
def workspace(mlflow_place: TrackingPlace, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    """One with an MLflow of its own."""
    monkeypatch.setattr(run_care, "is_abandoned", partial(is_abandoned, timings=QUICK))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    database = sqlite_path(mlflow_place.uri)
    assert database is not None
    return FolderStore(database.parent)


def begin(workspace: FolderStore, tracker: Any, name: str) -> tuple[FolderStore, str]:
    """Make a training that runs, as MLflow has it."""
    run = workspace.child(f"runs/{name}")
    run.create("run.json", b"{}")
    return run, open_run(tracker, run, run_key=name, run_name=name, timeout_s=30)


def test_only_what_was_left_running_and_has_nobody_is_called_killed(
    workspace: FolderStore, mlflow_place: TrackingPlace
) -> None:
    tracker = MlflowTracker(mlflow_place)
    killed, killed_id = begin(workspace, tracker, "killed")
    at_work, at_work_id = begin(workspace, tracker, "at-work")
    finished, finished_id = begin(workspace, tracker, "finished")
    finished.create("finished.json", b"{}")
    _, failed_id = begin(workspace, tracker, "failed")
    tracker.set_status(failed_id, RunStatus.FAILED, "diverged")
    damaged = workspace.child("runs/damaged")
    damaged.create("run.json", b"{}")
    damaged.create("tracking/0001.json", b"cut")
    cut, cut_id = begin(workspace, tracker, "cut-lease")
    cut.create("lease/0001.json", b"cut")

    with hold_lease(at_work, timings=QUICK):
        found = reap_runs(workspace.uri, tracking_uri=None)
    assert found == [{"name": "killed", "uri": killed.uri, "mlflow_run_id": killed_id}]
    assert tracker.status(killed_id) is RunStatus.KILLED
    assert MlflowWindow(mlflow_place).tags(killed_id)[REASON_TAG] == REASON
    assert tracker.status(at_work_id) is tracker.status(finished_id) is RunStatus.RUNNING
    assert tracker.status(failed_id) is RunStatus.FAILED
    assert tracker.status(cut_id) is RunStatus.RUNNING  # nobody can tell

    # The same command goes on with it.
    assert begin(workspace, tracker, "killed")[1] == killed_id
    assert tracker.status(killed_id) is RunStatus.RUNNING


def test_runs_of_another_server_are_not_asked_for(
    workspace: FolderStore, mlflow_place: TrackingPlace, tmp_path: Path
) -> None:
    begin(workspace, MlflowTracker(mlflow_place), "killed")
    nowhere = f"sqlite:///{tmp_path}/none.db"
    assert reap_runs(workspace.uri, tracking_uri=nowhere) == []
    assert not (tmp_path / "none.db").exists()


def test_the_command_takes_its_options_before_the_word_too(
    workspace: FolderStore, mlflow_place: TrackingPlace
) -> None:
    _, run_id = begin(workspace, MlflowTracker(mlflow_place), "killed")
    done = CliRunner().invoke(app, ["runs", "--workspace", workspace.uri, "reap", "--json"])
    assert [run["mlflow_run_id"] for run in json.loads(done.stdout)["reaped"]] == [run_id]
    again = CliRunner().invoke(app, ["runs", "reap", "--workspace", workspace.uri])
    assert again.stdout == f"no training of {workspace.uri} was left RUNNING there\n"
