import errno
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient

from infra.errors import ExitCode, TrackingError
from infra.store import MemoryStore
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import TrackingPlace, place_for


def server_tracker(port: int) -> MlflowTracker:
    return MlflowTracker(place_for(MemoryStore(), f"http://me:secret@127.0.0.1:{port}"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_dead_server_is_reported_in_time_without_its_password() -> None:
    started_at = time.monotonic()
    with pytest.raises(TrackingError) as caught:
        server_tracker(free_port()).check_reachable(timeout_s=1)
    assert time.monotonic() - started_at < 3
    assert caught.value.exit_code is ExitCode.SERVICE
    assert "secret" not in caught.value.problem
    assert "check that the server runs" in caught.value.remedy


def test_a_server_that_never_answers_is_reported_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started_at = time.monotonic()
        with pytest.raises(TrackingError, match="no answer within 1 s"):
            server_tracker(silent.getsockname()[1]).check_reachable(timeout_s=1)
        assert time.monotonic() - started_at < 3


def test_another_kind_of_server_is_refused() -> None:
    class NotMlflow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), NotMlflow) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with pytest.raises(TrackingError, match="cannot look up an experiment") as caught:
            server_tracker(server.server_port).check_reachable(timeout_s=10)
        server.shutdown()
        thread.join()
    assert "secret" not in caught.value.problem


def test_a_database_that_is_none_is_reported_in_time(mlflow_place: TrackingPlace) -> None:
    path = mlflow_place.uri + "/below-a-file.db"
    with pytest.raises(TrackingError, match="MLflow at sqlite"):
        MlflowTracker(place_for(MemoryStore(), path)).check_reachable(timeout_s=20)


def test_eight_who_make_the_experiment_at_once_share_it(mlflow_place: TrackingPlace) -> None:
    start = threading.Barrier(8)

    def make(number: int) -> str:
        tracker = MlflowTracker(mlflow_place, experiment="shared")
        tracker.check_reachable()
        start.wait()
        return tracker.create_run(run_key=f"k-{number}", run_name="n")

    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(make, range(8)))
    tracker = MlflowTracker(mlflow_place, experiment="shared")
    assert [tracker.find_run(f"k-{number}") for number in range(8)] == runs


def test_a_runs_experiment_is_told_and_a_run_that_is_not_there_is_named(
    mlflow_place: TrackingPlace,
) -> None:
    tracker = MlflowTracker(mlflow_place, experiment="e")
    run_id = tracker.create_run(run_key="k", run_name="n")
    client = MlflowClient(mlflow_place.uri)
    assert tracker.experiment_of(run_id) == client.get_experiment_by_name("e").experiment_id
    with pytest.raises(TrackingError, match=f"there is no run {'0' * 32}"):
        tracker.experiment_of("0" * 32)


def test_an_experiment_that_was_deleted_is_named_with_a_remedy(mlflow_place: TrackingPlace) -> None:
    tracker = MlflowTracker(mlflow_place, experiment="gone")
    tracker.create_run(run_key="k", run_name="n")
    client = tracker._client()
    client.delete_experiment(client.get_experiment_by_name("gone").experiment_id)
    for ask in (tracker.check_reachable, lambda: tracker.create_run(run_key="k", run_name="n")):
        with pytest.raises(TrackingError, match="experiment gone is deleted") as caught:
            ask()
        assert "tracking.experiment" in caught.value.remedy


def test_a_full_temporary_folder_is_not_called_the_servers_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = MlflowTracker(TrackingPlace(f"sqlite:///{tmp_path}/mlflow.db", None, "workspace"))

    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(TrackingError, match="No space left") as caught:
        tracker.log_files("run", "report", {"report.html": b"1"})
    assert "$TMPDIR" in caught.value.remedy
