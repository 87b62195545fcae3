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
from infra.errors import ServiceError, StoreError, TrackingError
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
from pipelines.steps import tracked, train
from pipelines.steps.train import TrainStep

POINTS = [MetricPoint(key="train/loss", step=n, value=1.0, timestamp_ms=n) for n in range(1, 4)]


def train_step(workspace: FolderStore, tracker: Any = None, uri: str | None = None) -> TrainStep:
    """The step on a dataset of no images, whose trainings are made up."""
    manifest = SimpleNamespace(name="tiny", fingerprint="f" * 64)
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
    monkeypatch.setattr(tracked, "SILENCE_S", 0.2)
    tracker = Refusing()
    step = train_step(workspace, tracker)
    Journal(step.folder()).append(POINTS)
    run_id = step.run_id()
    assert tracker.status(run_id) is RunStatus.RUNNING
    assert said(step) == [f"train: {tracked.REST_FOLLOWS}"]

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
    monkeypatch.setattr(tracked, "REACHABLE_S", 0.2)
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
    workspace: FolderStore, silent_uri: str
) -> None:
    step = train_step(workspace, uri=silent_uri)
    note = RunNote(server=silent_uri, run_id="0" * 32)
    step.folder().write("tracking/0001.json", note.model_dump_json().encode())
    Journal(step.folder()).append(POINTS)
    with at_once():
        assert step._open_run() == note.run_id
    with at_once():
        step._describe_if_there(note.run_id)
    with at_once():
        step._end(note.run_id, RunStatus.KILLED, "interrupted")
    with at_once(), pytest.raises(TrackingError, match="no answer"):
        step.shown_run()
    with at_once():
        step.catch_up()
    assert [line.partition(":")[0] for line in said(step)] == ["train"] * 4


def test_ctrl_c_while_the_run_is_described_leaves_it_killed(
    workspace: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    tracker = MemoryTracker()
    monkeypatch.setattr(tracker, "log_params", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_step(workspace, tracker).make()
    (run_id,) = tracker.runs
    assert tracker.status(run_id) is RunStatus.KILLED


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


@pytest.mark.parametrize("arrive", [True, False])
def test_a_training_ends_as_finished_when_its_curves_have_arrived(
    workspace: FolderStore, monkeypatch: pytest.MonkeyPatch, arrive: bool
) -> None:
    tracker = MemoryTracker()
    step = train_step(workspace, tracker)
    monkeypatch.setattr(step, "_train", lambda _: arrive)
    last = SimpleNamespace(
        step=3, folder="checkpoints/step-3", evaluated_weights=SimpleNamespace(sha256="0" * 64)
    )
    monkeypatch.setattr(step, "_last_checkpoint", lambda: last)
    step.make()
    (run_id,) = tracker.runs
    expected = RunStatus.FINISHED if arrive else RunStatus.RUNNING
    assert tracker.status(run_id) is expected


@pytest.mark.parametrize("back", [True, False])
def test_a_run_that_could_not_be_described_is_before_it_is_finished(
    workspace: FolderStore, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    tracker = MemoryTracker()
    describe = tracker.log_params

    def refuse(*_: object) -> None:
        raise TrackingError("the database is locked", remedy="wait")

    def trained(_: str) -> bool:
        if back:
            monkeypatch.setattr(tracker, "log_params", describe)
        return True

    monkeypatch.setattr(tracker, "log_params", refuse)
    step = train_step(workspace, tracker)
    monkeypatch.setattr(step, "_train", trained)
    last = SimpleNamespace(
        step=3, folder="checkpoints/step-3", evaluated_weights=SimpleNamespace(sha256="0" * 64)
    )
    monkeypatch.setattr(step, "_last_checkpoint", lambda: last)
    step.make()
    (run_id,) = tracker.runs
    assert tracker.status(run_id) is (RunStatus.FINISHED if back else RunStatus.RUNNING)
    assert bool(tracker.runs[run_id].params) is back

    # Whatever asks for the finished training's run sends it, and ends the run.
    monkeypatch.setattr(tracker, "log_params", describe)
    assert train_step(workspace, tracker).run_id() == run_id
    assert tracker.status(run_id) is RunStatus.FINISHED
    assert tracker.runs[run_id].params["train.epochs"]
    assert tracker.runs[run_id].datasets


def test_who_was_taken_over_leaves_the_status_to_who_has_the_run_now(
    workspace: FolderStore,
) -> None:
    tracker = MemoryTracker()
    step = train_step(workspace, tracker)
    run_id = step._open_run()
    lease: Any = SimpleNamespace(lost=True)
    step._lease = lease
    step._end(run_id, RunStatus.FAILED, "LeaseLost: another process works on it")
    assert tracker.status(run_id) is RunStatus.RUNNING
    lease.lost = False
    step._end(run_id, RunStatus.FAILED, "DataError: a shard is cut")
    assert tracker.status(run_id) is RunStatus.FAILED


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


def test_a_run_that_was_not_told_its_end_is_by_the_next_command(
    workspace: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it has every point, and nothing is left to do."""

    class LosesTheEnd(MemoryTracker):
        def set_status(self, run_id: str, status: RunStatus, reason: str = "") -> None:
            if status is RunStatus.FINISHED and self.loses:
                raise TrackingError("no answer", remedy="wait")
            super().set_status(run_id, status, reason)

        loses = True

    tracker = LosesTheEnd()
    step = train_step(workspace, tracker)
    monkeypatch.setattr(step, "_train", lambda _: True)
    last = SimpleNamespace(
        step=3, folder="checkpoints/step-3", evaluated_weights=SimpleNamespace(sha256="0" * 64)
    )
    monkeypatch.setattr(step, "_last_checkpoint", lambda: last)
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


def test_a_run_tells_of_the_recipe_that_it_was_begun_with(workspace: FolderStore) -> None:
    """Its parameters do too: what is set anew on the way is in no key."""
    tracker = MemoryTracker()
    step = train_step(workspace, tracker)
    run_id = step._open_run()
    step._describe(run_id)
    first = step.context.recipe.digest
    again = train_step(workspace, tracker)
    again.context.recipe = load_recipe("demo", ["checkpoint.keep_last=7"])
    again._describe(again._open_run())
    assert again.context.recipe.digest != first
    run = tracker.runs[run_id]
    assert run.tags["alexnet.recipe_digest"] == first
    assert run.params["checkpoint.keep_last"] != "7"
