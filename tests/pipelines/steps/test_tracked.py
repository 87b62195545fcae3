"""On a real MLflow: its database file, the test's own."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from mlflow_window import MlflowWindow
from refusing_tracker import Refusing

from infra.errors import TrackingError
from infra.store import FolderStore
from infra.tracking.base import RunStatus, Tracker
from infra.tracking.delivery import Delivery
from infra.tracking.journal import Journal
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import TrackingPlace, place_for
from infra.tracking.points import MetricPoint
from infra.tracking.run_note import end_run, open_run, read_notes
from pipelines.steps import tracked
from pipelines.steps.tracked import ShownRun, add_results, finished_run, lacks_points

KEY, NAME = "k" * 64, "demo-kkkkkkkk"
LOSSES = [(10, 2.25, 1_000_010), (20, 1.5, 1_000_020), (30, 1.25, 1_000_030)]
RESULTS = {"val/top1": 0.75, "val/top5": 1.0}


@pytest.fixture
def run(tmp_path: Path) -> FolderStore:
    """The folder of a training."""
    return FolderStore(tmp_path / "run")


@pytest.fixture
def tracker(mlflow_place: TrackingPlace) -> MlflowTracker:
    return MlflowTracker(mlflow_place)


@pytest.fixture
def window(mlflow_place: TrackingPlace) -> MlflowWindow:
    return MlflowWindow(mlflow_place)


@pytest.fixture
def other_place(tmp_path: Path, mlflow_template: Path) -> TrackingPlace:
    """Another, empty server."""
    folder = tmp_path / "other"
    folder.mkdir()
    shutil.copy(mlflow_template, folder / "mlflow.db")
    return place_for(FolderStore(tmp_path), f"sqlite:///{folder}/mlflow.db")


@pytest.fixture
def run_id(tracker: MlflowTracker, run: FolderStore) -> str:
    """A training that ended, all its points delivered."""
    run_id = open_run(tracker, run, run_key=KEY, run_name=NAME, timeout_s=30)
    journal = Journal(run)
    for step, value, timestamp_ms in LOSSES:
        point = MetricPoint(key="train/loss", step=step, value=value, timestamp_ms=timestamp_ms)
        journal.append([point])
    delivery = Delivery(journal, tracker, run_id)
    assert delivery.drain(30)
    delivery.close()
    end_run(tracker, run, run_id, RunStatus.FINISHED)
    return run_id


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracked, "REST_SILENCE_S", 0.2)


def shown(tracker: Tracker, run: FolderStore) -> ShownRun:
    described: list[str] = []
    return finished_run(tracker, run, run_key=KEY, name=NAME, describe=described.append)


def finish(tracker: Tracker, run: FolderStore) -> str:
    found = shown(tracker, run)
    assert found.is_whole
    return found.run_id


def add(tracker: Tracker, run: FolderStore, values: Mapping[str, float] = RESULTS) -> bool:
    return add_results(run, lambda: shown(tracker, run), step=30, values=values)


def test_results_are_added_to_the_trainings_run(
    tracker: MlflowTracker, window: MlflowWindow, run: FolderStore, run_id: str
) -> None:
    assert add(tracker, run)
    ((step, value, timestamp_ms),) = window.points(run_id, "val/top1")
    assert (step, value) == (30, 0.75)
    assert timestamp_ms > 1_700_000_000_000
    assert window.points(run_id, "train/loss") == LOSSES
    assert tracker.status(run_id) is RunStatus.FINISHED


def test_a_rerun_draws_no_second_point(
    tracker: MlflowTracker, window: MlflowWindow, run: FolderStore, run_id: str
) -> None:
    assert add(tracker, run)
    before = window.points(run_id, "val/top1")
    # Killed before the evaluation was committed: it is measured and added again.
    assert add(tracker, run, {**RESULTS, "val/top1_ten_crop": 0.8})
    assert window.points(run_id, "val/top1") == before
    assert len(window.points(run_id, "val/top1_ten_crop")) == 1
    assert window.points(run_id, "train/loss") == LOSSES


def test_the_noted_run_is_a_finished_trainings_run(
    tracker: MlflowTracker, run: FolderStore, run_id: str
) -> None:
    assert finish(tracker, run) == run_id
    assert finish(tracker, run) == run_id
    assert tracker.status(run_id) is RunStatus.FINISHED
    assert len(read_notes(run)) == 1


def test_another_server_gets_everything_once_and_a_finished_run(
    tracker: MlflowTracker, run: FolderStore, run_id: str, other_place: TrackingPlace
) -> None:
    add(tracker, run)
    other, window = MlflowTracker(other_place), MlflowWindow(other_place)
    made = finish(other, run)
    assert other.status(made) is RunStatus.FINISHED
    assert window.points(made, "train/loss") == LOSSES
    points = window.points(made, "val/top1")
    assert [(step, value) for step, value, _ in points] == [(30, 0.75)]
    assert window.tags(made)["alexnet.run_key"] == KEY

    assert finish(other, run) == made
    assert window.points(made, "train/loss") == LOSSES
    # Each server keeps its own; what comes later goes to the one that is asked for.
    assert finish(tracker, run) == run_id
    assert add(other, run, {"val/loss": 0.5})
    assert len(window.points(made, "val/loss")) == 1


def test_a_deleted_run_is_made_again_and_filled(
    tracker: MlflowTracker, window: MlflowWindow, run: FolderStore, run_id: str
) -> None:
    window.delete(run_id)
    made = finish(tracker, run)
    assert made != run_id
    assert window.points(made, "train/loss") == LOSSES
    assert tracker.status(made) is RunStatus.FINISHED
    assert finish(tracker, run) == made


@pytest.mark.parametrize("status", [RunStatus.RUNNING, RunStatus.FAILED])
def test_a_run_left_in_another_state_is_filled_and_finished(
    run: FolderStore, run_id: str, other_place: TrackingPlace, status: RunStatus
) -> None:
    """Killed between making it and filling it; or MLflow was away when the training ended."""
    other, window = MlflowTracker(other_place), MlflowWindow(other_place)
    opened = open_run(other, run, run_key=KEY, run_name=NAME, timeout_s=30)
    other.set_status(opened, status)
    assert finish(other, run) == opened
    assert other.status(opened) is RunStatus.FINISHED
    assert window.points(opened, "train/loss") == LOSSES


def test_results_are_kept_while_the_server_is_away_and_follow_when_it_is_back(
    tracker: MlflowTracker, window: MlflowWindow, run: FolderStore, run_id: str
) -> None:
    def away() -> ShownRun:
        raise TrackingError("no answer", remedy="wait")

    assert not add_results(run, away, step=30, values=RESULTS)
    assert window.points(run_id, "val/top1") == []
    assert finish(tracker, run) == run_id
    assert [(step, value) for step, value, _ in window.points(run_id, "val/top1")] == [(30, 0.75)]


@pytest.mark.usefixtures("impatient")
def test_a_run_that_lacks_points_is_not_finished_and_is_sent_the_rest_later(
    run: FolderStore, run_id: str
) -> None:
    other = Refusing()
    assert lacks_points(other.server, run)
    found = shown(other, run)
    assert not found.is_whole
    assert other.status(found.run_id) is RunStatus.RUNNING
    assert lacks_points(other.server, run)

    other.refuses = False
    assert finish(other, run) == found.run_id
    assert other.status(found.run_id) is RunStatus.FINISHED
    assert [(p.step, p.value, p.timestamp_ms) for p in other.runs[found.run_id].points] == LOSSES
    assert not lacks_points(other.server, run)


@pytest.mark.usefixtures("impatient")
def test_results_that_are_refused_are_kept_and_said_not_to_be_there(
    run: FolderStore, run_id: str
) -> None:
    other = Refusing()
    assert not add_results(run, lambda: shown(other, run), step=30, values=RESULTS)
    assert Journal(run).num_segments == len(LOSSES) + 1
    other.refuses = False
    assert shown(other, run).is_whole
    assert len(other.runs["run-1"].points) == len(LOSSES) + len(RESULTS)


def test_what_a_server_has_is_known_without_asking_it(
    tracker: MlflowTracker, run: FolderStore, run_id: str
) -> None:
    assert not lacks_points(tracker.server, run)
    Journal(run).append([MetricPoint(key="val/loss", step=30, value=0.5, timestamp_ms=1)])
    assert lacks_points(tracker.server, run)
    assert finish(tracker, run) == run_id
    assert not lacks_points(tracker.server, run)
    assert lacks_points("https://another.example.org", run)


def test_a_server_that_is_away_is_said_to_be(run: FolderStore, tmp_path: Path) -> None:
    gone = tmp_path / "a file"
    gone.touch()
    place = place_for(FolderStore(tmp_path), f"sqlite:///{gone}/mlflow.db")
    with pytest.raises(TrackingError):
        finish(MlflowTracker(place), run)
