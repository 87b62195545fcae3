"""One fixture a contract, parametrised over its implementations; memory is the reference."""

from pathlib import Path
from typing import Any

import pytest
from mlflow_window import MlflowWindow
from s3_servers import FaultyServer

from infra.store import FolderStore, MemoryStore, ObjectStore
from infra.store.s3 import S3Store
from infra.tracking.base import Tracker
from infra.tracking.memory import MemoryTracker
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import TrackingPlace


@pytest.fixture(params=["memory", "folder", "s3", "s3-with-faults"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store."""
    if request.param == "memory":
        return MemoryStore()
    if request.param == "folder":
        return FolderStore(tmp_path / "a store")
    place: S3Store = request.getfixturevalue(
        "s3_store" if request.param == "s3" else "store_with_faults"
    )
    return place


@pytest.fixture
def store_with_faults(faulty_store: S3Store, faulty_s3: FaultyServer) -> S3Store:
    """Every tenth call or so fails, is cut off, or is done and answered as if it had failed."""
    for seed, fault in enumerate((500, 503, "reset", "truncate", "lost-answer")):
        faulty_s3.add_fault(fault, rate=0.03, seed=seed)
    return faulty_store


class MemoryWindow:
    """Looks at the memory tracker's runs."""

    def __init__(self, tracker: MemoryTracker) -> None:
        self._tracker = tracker

    def points(self, run_id: str, key: str) -> list[tuple[int, float, int]]:
        points = [p for p in self._tracker.runs[run_id].points if p.key == key]
        return sorted((p.step, p.value, p.timestamp_ms) for p in points)

    def params(self, run_id: str) -> dict[str, str]:
        return self._tracker.runs[run_id].params

    def tags(self, run_id: str) -> dict[str, str]:
        return self._tracker.runs[run_id].tags

    def datasets(self, run_id: str) -> list[tuple[str, str]]:
        return [(name, digest) for name, digest, _ in self._tracker.runs[run_id].datasets]

    def images(self, run_id: str) -> list[tuple[str, int]]:
        return sorted(self._tracker.runs[run_id].images)

    def table(self, run_id: str, path: str) -> dict[str, list[Any]]:
        return self._tracker.runs[run_id].tables[path]

    def file(self, run_id: str, path: str) -> bytes:
        return self._tracker.runs[run_id].files[path]

    def delete(self, run_id: str) -> None:
        self._tracker.runs[run_id].deleted = True


@pytest.fixture(params=["memory", "mlflow"])
def tracker_and_window(
    request: pytest.FixtureRequest,
    mlflow_place: TrackingPlace,
) -> tuple[Tracker, Any]:
    if request.param == "mlflow":
        return MlflowTracker(mlflow_place), MlflowWindow(mlflow_place)
    tracker = MemoryTracker()
    return tracker, MemoryWindow(tracker)


@pytest.fixture
def tracker(tracker_and_window: tuple[Tracker, Any]) -> Tracker:
    return tracker_and_window[0]


@pytest.fixture
def window(tracker_and_window: tuple[Tracker, Any]) -> Any:
    return tracker_and_window[1]
