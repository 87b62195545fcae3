from pathlib import Path
from typing import Any

import pytest
from mlflow_window import MlflowWindow

from infra.errors import DataError, ObjectCorrupt, ServiceError
from infra.store import FolderStore
from infra.tracking.actor import MetricsActor, start_metrics_actor
from infra.tracking.journal import Journal
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import TrackingPlace
from infra.tracking.points import MetricPoint


def points(start: int, stop: int) -> list[MetricPoint]:
    return [
        MetricPoint(key="train/loss", step=n, value=1 / (n + 1), timestamp_ms=1000 + n)
        for n in range(start, stop)
    ]


@pytest.fixture
def actor(tmp_path: Path) -> MetricsActor:
    """In this process; nothing that is told needs a journal or a tracker."""
    place = TrackingPlace("sqlite:///nowhere/mlflow.db", None, "nowhere")
    return MetricsActor(str(tmp_path), place, "no-run", "alexnet")


def test_the_first_failure_stays(actor: MetricsActor) -> None:
    assert actor.failure() is None
    first = DataError("bad bytes", remedy="restore them")
    actor.fail(first)
    actor.fail(ServiceError("the group was torn down", remedy="none"))
    assert actor.failure() is first


def test_every_start_of_the_workers_is_noted(actor: MetricsActor) -> None:
    assert actor.starts() == []
    actor.started(0)
    actor.started(120)
    assert actor.starts() == [0, 120]


def test_of_each_attempt_the_first_crash_stays(actor: MetricsActor) -> None:
    for attempt, text in ((1, "KeyError: 'k'"), (1, "a connection was closed"), (2, "again")):
        actor.note_crash(attempt, text)
    assert actor.crashes() == {1: "KeyError: 'k'", 2: "again"}


@pytest.mark.ray
def test_workers_points_reach_the_journal_and_mlflow(
    ray_local: Any, tmp_path: Path, mlflow_place: TrackingPlace
) -> None:
    import ray

    store = FolderStore(tmp_path / "a run")
    run_id = MlflowTracker(mlflow_place).create_run(run_key="k", run_name="n")
    actor = start_metrics_actor(store.uri, mlflow_place, run_id, experiment="alexnet")
    for start in range(0, 100, 10):
        actor.record.remote(points(start, start + 10), (start + 10, 128 * (start + 10)))
    ray.get(actor.flush.remote())
    assert [
        p for n in range(Journal(store).num_segments) for p in Journal(store).segment(n + 1)
    ] == (points(0, 100))
    assert ray.get(actor.position.remote()) == (100, 12800)
    ray.get(actor.started.remote(100))
    assert ray.get(actor.starts.remote()) == [100]
    assert ray.get(actor.finish.remote(60.0))
    history = MlflowWindow(mlflow_place).points(run_id, "train/loss")
    assert history == [(p.step, p.value, p.timestamp_ms) for p in points(0, 100)]


@pytest.mark.ray
def test_a_workers_failure_reaches_the_driver_with_its_remedy(
    ray_local: Any, tmp_path: Path, mlflow_place: TrackingPlace
) -> None:
    import ray

    actor = start_metrics_actor(str(tmp_path / "run"), mlflow_place, "no-run", experiment="alexnet")
    assert ray.get(actor.failure.remote()) is None
    ray.get(actor.fail.remote(ObjectCorrupt("shard 3 is cut", remedy="restore it")))
    failure = ray.get(actor.failure.remote())
    assert type(failure) is ObjectCorrupt
    assert (failure.problem, failure.remedy) == ("shard 3 is cut", "restore it")
    assert ray.get(actor.problem.remote()) is None


@pytest.mark.ray
def test_a_journal_that_cannot_be_read_is_named_when_the_actor_starts(
    ray_local: Any, tmp_path: Path, mlflow_place: TrackingPlace
) -> None:
    store = FolderStore(tmp_path / "run")
    store.write("journal/00000001.json", b"x")
    with pytest.raises(ObjectCorrupt, match=r"journal/00000001\.json cannot be read") as caught:
        start_metrics_actor(store.uri, mlflow_place, "no-run", experiment="alexnet")
    assert "restore it from a copy" in caught.value.remedy
