"""What the step says to MLflow; whole trainings are in tests/end_to_end."""

import io
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from refusing_tracker import Refusing

from alexnet.train import gpu_nodes
from alexnet.train.checkpoint import CheckpointReceipt, TrainState, write_checkpoint
from infra.errors import DataError, ServiceError, StoreError, TrackingError
from infra.ray_runtime import Node, Resources
from infra.store import FolderStore
from infra.tracking.base import RunStatus
from infra.tracking.journal import Journal
from infra.tracking.memory import MemoryTracker
from infra.tracking.mlflow_quiet import import_mlflow
from infra.tracking.place import place_for
from infra.tracking.points import MetricPoint
from infra.tracking.run_note import RunNote
from pipelines.context import Context
from pipelines.recipe_yaml import load_recipe
from pipelines.steps import train, training_run
from pipelines.steps.train import TrainStep

POINTS = [MetricPoint(key="train/loss", step=n, value=1.0, timestamp_ms=n) for n in range(1, 4)]
NUM_STEPS = 20
"""Of the recipe's 20 epochs on the made-up dataset of one batch."""


def train_step(workspace: FolderStore, tracker: Any = None, uri: str | None = None) -> TrainStep:
    """The step on a dataset of no images, whose trainings are made up."""
    manifest = SimpleNamespace(
        name="tiny",
        fingerprint="f" * 64,
        num_classes=10,
        rows_per_group=64,
        train=SimpleNamespace(shards=[SimpleNamespace(num_rows=64)]),
    )
    dataset = SimpleNamespace(store=workspace.child("datasets/d"), manifest=manifest)
    prepare: Any = SimpleNamespace(product=dataset, is_done=True)
    context = Context(load_recipe("demo"), workspace, place_for(workspace, uri), io.StringIO())
    step = TrainStep(context, prepare)
    if tracker is not None:
        step.context.tracker = tracker
    return step


def said(step: TrainStep) -> list[str]:
    assert isinstance(step.context.stream, io.StringIO)
    return step.context.stream.getvalue().splitlines()


def test_another_server_gets_the_curves_of_a_training_that_holds(workspace: FolderStore) -> None:
    tracker = MemoryTracker()
    step = train_step(workspace, tracker)
    Journal(step.folder()).append(POINTS)
    step.catch_up()
    (run_id,) = tracker.runs
    assert tracker.runs[run_id].points == POINTS
    assert tracker.runs[run_id].params["train.epochs"]
    assert tracker.status(run_id) is RunStatus.FINISHED

    tracker.away = True  # not even asked
    again = train_step(workspace, tracker)
    again.catch_up()
    assert said(again) == []


def test_points_that_did_not_arrive_follow_with_the_next_command(
    workspace: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_run, "REST_SILENCE_S", 0.2)
    tracker = Refusing()
    step = train_step(workspace, tracker)
    Journal(step.folder()).append(POINTS)
    run_id = step.run.ensure_id()
    assert tracker.status(run_id) is RunStatus.RUNNING
    assert said(step) == [f"train: {training_run.REST_FOLLOWS}"]

    tracker.away = True
    away = train_step(workspace, tracker)
    away.catch_up()
    assert said(away)[-1] == "train: MLflow still lacks points of the curves: memory is away"

    tracker.away = tracker.refuses = False
    train_step(workspace, tracker).catch_up()
    assert tracker.runs[run_id].points == POINTS
    assert tracker.status(run_id) is RunStatus.FINISHED


@pytest.fixture
def silent_uri(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that takes connections and never answers; nobody waits for it for long."""
    monkeypatch.setattr(training_run, "REACHABLE_S", 0.2)
    monkeypatch.setattr(train, "REACHABLE_S", 0.2)
    # What a call costs that is made all the same; a probe's thread lives as long.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "8")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    import_mlflow()  # takes seconds of its own
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def at_once() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < 2


def test_a_server_that_never_answers_is_gone_on_without(
    workspace: FolderStore, silent_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = train_step(workspace, uri=silent_uri)
    note = RunNote(server=silent_uri, run_id="0" * 32)
    step.folder().write("tracking/0001.json", note.model_dump_json().encode())
    Journal(step.folder()).append(POINTS)
    seen: list[str] = []

    def interrupted(run_id: str) -> None:
        seen.append(run_id)
        raise KeyboardInterrupt

    monkeypatch.setattr(step, "_train", interrupted)
    with at_once(), pytest.raises(KeyboardInterrupt):
        step.make()
    assert seen == [note.run_id]
    with at_once(), pytest.raises(TrackingError, match="no answer"):
        step.run.ensure()
    with at_once():
        step.catch_up()
    assert [line.partition(":")[0] for line in said(step)] == ["train"] * 4


def test_a_sample_log_that_the_nodes_do_not_share_is_refused(
    workspace: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each node would write its ranks' part to a disk of its own."""

    def refused(store: FolderStore) -> None:
        raise StoreError(f"node 10.0.0.2 does not see {store.uri}", remedy="share it")

    monkeypatch.setattr(train, "check_nodes_share", refused)
    step = train_step(workspace)
    settings = step.context.recipe.train.model_copy(update={"sample_log": str(tmp_path / "log")})
    step.context.recipe = step.context.recipe.model_copy(update={"train": settings})
    step.context.cluster = Resources((Node(cpus=8, gpus=0),) * 2, 8 * 2.0**30)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    step.check_cluster()
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(StoreError, match=r"10\.0\.0\.2 does not see .*/log"):
        step.check_cluster()


def test_a_training_whose_curves_did_not_arrive_is_done_and_its_run_still_running(
    workspace: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_run, "REST_SILENCE_S", 0.2)
    tracker = Refusing()
    step = train_step(workspace, tracker)
    save(step, NUM_STEPS)
    Journal(step.folder()).append(POINTS)
    assert step.make().receipt.step == NUM_STEPS
    (run_id,) = tracker.runs
    assert tracker.status(run_id) is RunStatus.RUNNING


@pytest.mark.parametrize("lost", [True, False])
def test_who_was_taken_over_leaves_the_status_to_who_has_the_run_now(
    workspace: FolderStore, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    def cut(_: str) -> None:
        raise DataError("a shard is cut", remedy="restore it")

    tracker = MemoryTracker()
    step = train_step(workspace, tracker)
    lease: Any = SimpleNamespace(lost=lost)
    step._lease = lease
    monkeypatch.setattr(step, "_train", cut)
    with pytest.raises(DataError):
        step.make()
    (run_id,) = tracker.runs
    assert tracker.status(run_id) is (RunStatus.RUNNING if lost else RunStatus.FAILED)


@pytest.mark.parametrize("gpu", ["auto", "required", "optional"])
def test_a_recipe_that_requires_gpus_is_refused_before_anything_is_made(
    workspace: FolderStore, gpu: str
) -> None:
    step = train_step(workspace)
    scaling = step.context.recipe.scaling.model_copy(update={"gpu": gpu})
    step.context.recipe = step.context.recipe.model_copy(update={"scaling": scaling})
    step.context.cluster = Resources((Node(cpus=8, gpus=0),), 8 * 2.0**30)
    if gpu != "required":
        step.check_cluster()
        return
    with pytest.raises(ServiceError, match="there is no GPU here"):
        step.check_cluster()


def test_where_there_are_gpus_every_node_is_asked_whether_it_can_use_them(
    workspace: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> None:
        raise ServiceError("node 10.0.0.2 has 8 GPU(s)", remedy="install another torch")

    monkeypatch.setattr(gpu_nodes, "check_nodes_use_gpus", refused)
    step = train_step(workspace)
    step.context.cluster = Resources((Node(cpus=8, gpus=0),), 8 * 2.0**30)
    step.check_cluster()
    step.context.cluster = Resources((Node(cpus=8, gpus=8),), 8 * 2.0**30)
    with pytest.raises(ServiceError, match=r"10\.0\.0\.2"):
        step.check_cluster()


def test_a_run_that_was_not_told_its_end_is_by_the_next_command(workspace: FolderStore) -> None:
    """Though it has every point, and nothing is left to do."""

    class LosesTheEnd(MemoryTracker):
        def set_status(self, run_id: str, status: RunStatus, reason: str = "") -> None:
            if status is RunStatus.FINISHED and self.loses:
                raise TrackingError("no answer", remedy="wait")
            super().set_status(run_id, status, reason)

        loses = True

    tracker = LosesTheEnd()
    step = train_step(workspace, tracker)
    save(step, NUM_STEPS)
    step.make()
    (run_id,) = tracker.runs
    assert tracker.status(run_id) is RunStatus.RUNNING

    tracker.loses = False
    train_step(workspace, tracker).catch_up()
    assert tracker.status(run_id) is RunStatus.FINISHED
    tracker.away = True  # not even asked
    again = train_step(workspace, tracker)
    again.catch_up()
    assert said(again) == []


def save(step: TrainStep, number: int) -> CheckpointReceipt:
    """Write a checkpoint of the made-up training."""
    recipe = step.context.recipe
    state = TrainState(
        step=number,
        epoch=number,
        attempt=1,
        run_key="k",
        dataset_fingerprint="f" * 64,
        seed=0,
        global_batch=64,
        num_classes=10,
        network=recipe.model,
        augment=recipe.train.augment,
    )
    return write_checkpoint(step.folder(), state, {}, {})


class CountsReads(FolderStore):
    """Counts how often a checkpoint's weights are read."""

    reads = 0

    def child(self, prefix: str) -> "CountsReads":
        return CountsReads(Path(super().child(prefix).uri))

    def read(self, key: str) -> bytes:
        CountsReads.reads += key.endswith("model.safetensors")
        return super().read(key)


def test_a_training_that_was_killed_before_its_receipt_is_not_trained_again(
    workspace: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its last checkpoint, of gigabytes maybe, is read once."""
    tracker = MemoryTracker()
    step = train_step(CountsReads(Path(workspace.uri)), tracker)
    save(step, NUM_STEPS - 1)
    last = save(step, NUM_STEPS)
    Journal(step.folder()).append(POINTS)
    monkeypatch.setattr(CountsReads, "reads", 0)
    assert step.make().receipt.step == last.step
    assert CountsReads.reads == 1
    (run_id,) = tracker.runs
    assert tracker.runs[run_id].points == POINTS
    assert tracker.status(run_id) is RunStatus.FINISHED


def test_a_training_is_in_its_folder_before_mlflow_has_a_run_of_it(
    workspace: FolderStore,
) -> None:
    """Else a kill between the two would leave a run of a training that is not listed."""
    tracker = MemoryTracker()
    tracker.away = True
    step = train_step(workspace, tracker)
    with pytest.raises(TrackingError):
        step.make()
    assert step.folder().stat("run.json") is not None


def test_a_run_is_finished_before_its_training_is(workspace: FolderStore) -> None:
    """Else a kill between the two would leave it to the next command to say so."""

    class Looks(MemoryTracker):
        def set_status(self, run_id: str, status: RunStatus, reason: str = "") -> None:
            super().set_status(run_id, status, reason)
            self.was_committed = step.folder().stat("finished.json") is not None

        was_committed = True

    tracker = Looks()
    step = train_step(workspace, tracker)
    save(step, NUM_STEPS)
    step.make()
    assert tracker.status("run-1") is RunStatus.FINISHED
    assert not tracker.was_committed
    assert step.folder().stat("finished.json") is not None
