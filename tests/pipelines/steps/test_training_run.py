"""What is sent, on a real MLflow: its database file, the test's own; how work ends, in memory."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow_window import MlflowWindow
from refusing_tracker import Refusing

from infra.errors import TrackingError
from infra.store import FolderStore
from infra.tracking.base import REASON_TAG, RunStatus, Tracker
from infra.tracking.delivery import Delivery
from infra.tracking.journal import Journal
from infra.tracking.memory import MemoryTracker
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import TrackingPlace, place_for
from infra.tracking.points import MetricPoint
from infra.tracking.run_note import end_run, open_run, read_notes
from pipelines.recipe_yaml import load_recipe
from pipelines.steps import training_run as module
from pipelines.steps.prepare import Dataset
from pipelines.steps.training_run import TrainingRun

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
    monkeypatch.setattr(module, "REST_SILENCE_S", 0.2)


def training_run(tracker: Tracker, folder: FolderStore, *overrides: str) -> TrainingRun:
    """A training of the recipe `demo`, on a dataset that is made up."""
    manifest: Any = SimpleNamespace(name="tiny", fingerprint="f" * 64)
    return TrainingRun(
        tracker=tracker,
        folder=folder,
        run_key=KEY,
        recipe=load_recipe("demo", overrides),
        dataset=Dataset(FolderStore(Path("/datasets/tiny")), manifest),
        say=print,
    )


def finish(tracker: Tracker, run: FolderStore) -> str:
    found = training_run(tracker, run).ensure()
    assert found.is_whole
    return found.run_id


def add(tracker: Tracker, run: FolderStore, values: Mapping[str, float] = RESULTS) -> bool:
    return training_run(tracker, run).add_results(step=30, values=values)


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
    gone = MemoryTracker()
    gone.away = True
    assert not add(gone, run)
    assert window.points(run_id, "val/top1") == []
    assert finish(tracker, run) == run_id
    assert [(step, value) for step, value, _ in window.points(run_id, "val/top1")] == [(30, 0.75)]


@pytest.mark.usefixtures("impatient")
def test_a_run_that_lacks_points_is_not_finished_and_is_sent_the_rest_later(
    run: FolderStore, run_id: str
) -> None:
    other = Refusing()
    assert training_run(other, run).lacks_points()
    found = training_run(other, run).ensure()
    assert not found.is_whole
    assert other.status(found.run_id) is RunStatus.RUNNING
    assert training_run(other, run).lacks_points()

    other.refuses = False
    assert finish(other, run) == found.run_id
    assert other.status(found.run_id) is RunStatus.FINISHED
    assert [(p.step, p.value, p.timestamp_ms) for p in other.runs[found.run_id].points] == LOSSES
    assert not training_run(other, run).lacks_points()


@pytest.mark.usefixtures("impatient")
def test_results_that_are_refused_are_kept_and_said_not_to_be_there(
    run: FolderStore, run_id: str
) -> None:
    other = Refusing()
    assert not add(other, run)
    assert Journal(run).num_segments == len(LOSSES) + 1
    other.refuses = False
    assert finish(other, run) == "run-1"
    assert len(other.runs["run-1"].points) == len(LOSSES) + len(RESULTS)


def test_what_a_server_has_is_known_without_asking_it(
    tracker: MlflowTracker, run: FolderStore, run_id: str
) -> None:
    assert not training_run(tracker, run).lacks_points()
    Journal(run).append([MetricPoint(key="val/loss", step=30, value=0.5, timestamp_ms=1)])
    assert training_run(tracker, run).lacks_points()
    assert finish(tracker, run) == run_id
    assert not training_run(tracker, run).lacks_points()
    assert training_run(MemoryTracker("https://another.example.org"), run).lacks_points()


def test_a_server_that_is_away_is_said_to_be(run: FolderStore, tmp_path: Path) -> None:
    gone = tmp_path / "a file"
    gone.touch()
    place = place_for(FolderStore(tmp_path), f"sqlite:///{gone}/mlflow.db")
    with pytest.raises(TrackingError):
        finish(MlflowTracker(place), run)


def ours() -> bool:
    return True


def train(
    run: TrainingRun, *, is_whole: bool = True, ends_with: BaseException | None = None
) -> str:
    """Train, as far as MLflow is told; return the run's id."""
    with run.at_work(ours) as work:
        work.is_whole = is_whole
        if ends_with is not None:
            raise ends_with
    return work.run_id


def test_a_run_is_running_while_its_training_is_at_work(run: FolderStore) -> None:
    tracker = MemoryTracker()
    training = training_run(tracker, run)
    assert not training.is_noted()
    with training.at_work(ours) as work:
        assert tracker.status(work.run_id) is RunStatus.RUNNING
        assert tracker.runs[work.run_id].name == NAME
        assert tracker.runs[work.run_id].params["train.epochs"]
        assert tracker.runs[work.run_id].datasets
        assert training.is_noted()


@pytest.mark.parametrize("arrive", [True, False])
def test_a_training_ends_as_finished_when_its_curves_have_arrived(
    run: FolderStore, arrive: bool
) -> None:
    tracker = MemoryTracker()
    run_id = train(training_run(tracker, run), is_whole=arrive)
    expected = RunStatus.FINISHED if arrive else RunStatus.RUNNING
    assert tracker.status(run_id) is expected


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (KeyboardInterrupt(), RunStatus.KILLED, "interrupted"),
        (ValueError("a shard is cut"), RunStatus.FAILED, "ValueError: a shard is cut"),
    ],
)
def test_a_training_that_ends_early_is_said_to_and_why(
    run: FolderStore, error: BaseException, status: RunStatus, reason: str
) -> None:
    tracker = MemoryTracker()
    with pytest.raises(type(error)):
        train(training_run(tracker, run), ends_with=error)
    (run_id,) = tracker.runs
    assert tracker.status(run_id) is status
    assert tracker.runs[run_id].tags[REASON_TAG] == reason


def test_who_was_taken_over_does_not_finish_the_run(run: FolderStore) -> None:
    tracker = MemoryTracker()
    with training_run(tracker, run).at_work(lambda: False) as work:
        work.is_whole = True
    assert tracker.status(work.run_id) is RunStatus.RUNNING


def test_ctrl_c_while_the_run_is_described_leaves_it_killed(
    run: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    tracker = MemoryTracker()
    monkeypatch.setattr(tracker, "log_params", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(training_run(tracker, run))
    (run_id,) = tracker.runs
    assert tracker.status(run_id) is RunStatus.KILLED


@pytest.mark.parametrize("back", [True, False])
def test_a_run_that_could_not_be_described_is_before_it_is_finished(
    run: FolderStore, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    tracker = MemoryTracker()
    describe = tracker.log_params

    def refuse(*_: object) -> None:
        raise TrackingError("the database is locked", remedy="wait")

    monkeypatch.setattr(tracker, "log_params", refuse)
    with training_run(tracker, run).at_work(ours) as work:
        if back:
            monkeypatch.setattr(tracker, "log_params", describe)
        work.is_whole = True
    run_id = work.run_id
    assert tracker.status(run_id) is (RunStatus.FINISHED if back else RunStatus.RUNNING)
    assert bool(tracker.runs[run_id].params) is back

    # Whatever asks for the finished training's run sends it, and ends the run.
    monkeypatch.setattr(tracker, "log_params", describe)
    assert training_run(tracker, run).ensure_id() == run_id
    assert tracker.status(run_id) is RunStatus.FINISHED
    assert tracker.runs[run_id].params["train.epochs"]
    assert tracker.runs[run_id].datasets


def test_a_run_tells_of_the_recipe_that_it_was_begun_with(run: FolderStore) -> None:
    """Its parameters do too: what is set anew on the way is in no key."""
    tracker = MemoryTracker()
    first = training_run(tracker, run)
    run_id = train(first)
    again = training_run(tracker, run, "checkpoint.keep_last=7")
    assert train(again) == run_id
    assert again.recipe.digest != first.recipe.digest
    assert tracker.runs[run_id].tags["alexnet.recipe_digest"] == first.recipe.digest
    assert tracker.runs[run_id].params["checkpoint.keep_last"] != "7"
