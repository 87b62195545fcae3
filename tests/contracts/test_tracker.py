"""What every tracker does, memory and MLflow on a database file alike."""

import math
from typing import Any

import numpy as np
import pytest

from infra.errors import TrackingError
from infra.tracking.base import DATASET_DIGEST_TAG, REASON_TAG, RUN_KEY_TAG, RunStatus, Tracker
from infra.tracking.points import MetricPoint


def make_run(tracker: Tracker, key: str = "demo-1") -> str:
    return tracker.create_run(run_key=key, run_name="a name", tags={"colour": "blue"})


def test_a_server_that_is_there_is_reachable(tracker: Tracker) -> None:
    tracker.check_reachable(timeout_s=30)


def test_a_run_is_found_by_its_key(tracker: Tracker, window: Any) -> None:
    assert tracker.find_run("demo-1") is None
    run_id = make_run(tracker)
    make_run(tracker, "demo-2")
    assert tracker.find_run("demo-1") == run_id
    assert window.tags(run_id).items() >= {RUN_KEY_TAG: "demo-1", "colour": "blue"}.items()


def test_of_two_runs_of_a_key_the_oldest_is_found(tracker: Tracker) -> None:
    first = make_run(tracker)
    for _ in range(3):
        make_run(tracker)
    assert tracker.find_run("demo-1") == first


def test_a_deleted_run_is_neither_found_nor_there(tracker: Tracker, window: Any) -> None:
    run_id = make_run(tracker)
    window.delete(run_id)
    assert tracker.find_run("demo-1") is None
    assert tracker.status(run_id) is None


def test_an_unknown_run_has_no_status(tracker: Tracker) -> None:
    assert tracker.status("0123456789abcdef0123456789abcdef") is None


@pytest.mark.parametrize("status", [RunStatus.FINISHED, RunStatus.FAILED, RunStatus.KILLED])
def test_a_run_ends_with_a_reason_and_starts_again(
    tracker: Tracker, window: Any, status: RunStatus
) -> None:
    run_id = make_run(tracker)
    assert tracker.status(run_id) is RunStatus.RUNNING
    tracker.set_status(run_id, status, "why " * 3000)
    assert tracker.status(run_id) is status
    assert window.tags(run_id)[REASON_TAG].startswith("why why")
    tracker.set_status(run_id, RunStatus.RUNNING)
    assert tracker.status(run_id) is RunStatus.RUNNING
    assert window.tags(run_id)[REASON_TAG] == ""


def test_a_point_that_is_sent_twice_is_there_once(tracker: Tracker, window: Any) -> None:
    run_id = make_run(tracker)
    points = [
        MetricPoint(key="train/loss", step=step, value=0.1 * step, timestamp_ms=1000 + step)
        for step in range(2500)
    ]
    tracker.log_points(run_id, points)
    tracker.log_points(run_id, points[1200:])
    assert window.points(run_id, "train/loss") == [(n, 0.1 * n, 1000 + n) for n in range(2500)]


def test_a_loss_that_is_no_number_is_kept(tracker: Tracker, window: Any) -> None:
    run_id = make_run(tracker)
    point = MetricPoint(key="train/loss", step=7, value=math.nan, timestamp_ms=5)
    tracker.log_points(run_id, [point])
    tracker.log_points(run_id, [point])
    [(step, value, timestamp_ms)] = window.points(run_id, "train/loss")
    assert (step, math.isnan(value), timestamp_ms) == (7, True, 5)


def test_a_parameter_keeps_its_first_value(tracker: Tracker, window: Any) -> None:
    run_id = make_run(tracker)
    tracker.log_params(run_id, {"lr": "0.01", "workers": "2"})
    tracker.log_params(run_id, {"workers": "4", "seed": "0"})
    assert window.params(run_id) == {"lr": "0.01", "workers": "2", "seed": "0"}


def test_more_than_a_hundred_parameters_are_taken(tracker: Tracker, window: Any) -> None:
    run_id = make_run(tracker)
    params = {f"p{n:03}": str(n) for n in range(150)}
    tracker.log_params(run_id, params)
    assert window.params(run_id) == params


def test_a_tag_keeps_its_first_value(tracker: Tracker, window: Any) -> None:
    run_id = make_run(tracker)
    tracker.add_tags(run_id, {"shade": "red", "attempt": "2"})
    tracker.add_tags(run_id, {"shade": "blue", "shape": "round"})
    expected = {"shade": "red", "attempt": "2", "shape": "round"}
    assert window.tags(run_id).items() >= expected.items()


def test_a_dataset_is_an_input_once_with_its_whole_digest_as_a_tag(
    tracker: Tracker, window: Any
) -> None:
    run_id = make_run(tracker)
    for _ in range(2):
        tracker.log_dataset(run_id, name="drawn", digest="ab" * 32, source_uri="/a b/datasets/d")
    assert window.datasets(run_id) == [("drawn", "ab" * 16)]
    assert window.tags(run_id)[DATASET_DIGEST_TAG] == "ab" * 32


def test_points_of_a_run_that_is_not_there_are_refused(tracker: Tracker) -> None:
    point = MetricPoint(key="a", step=0, value=1.0, timestamp_ms=1)
    with pytest.raises(TrackingError):
        tracker.log_points("0123456789abcdef0123456789abcdef", [point])


def test_pictures_stand_at_their_steps_once(tracker: Tracker, window: Any) -> None:
    run_id = make_run(tracker)
    pictures = {step: np.full((9, 33, 3), step, np.uint8) for step in (0, 20, 100)}
    tracker.log_images(run_id, "filters", {0: pictures[0], 20: pictures[20]})
    tracker.log_images(run_id, "filters", pictures)
    tracker.log_images(run_id, "of another key", {20: pictures[20]})
    assert window.images(run_id) == [
        ("filters", 0),
        ("filters", 20),
        ("filters", 100),
        ("of another key", 20),
    ]


def test_a_table_is_replaced(tracker: Tracker, window: Any) -> None:
    run_id = make_run(tracker)
    tracker.log_table(run_id, "per_class.json", {"name": ["Löwe", "<b>"], "top1": [0.5, 1.0]})
    table = {"name": ["Löwe", "りんご", "c"], "count": [3, 2, 0], "top1": [0.25, 1.0, None]}
    for _ in range(2):
        tracker.log_table(run_id, "per_class.json", table)
    assert window.table(run_id, "per_class.json") == table


def test_files_are_kept_by_name_and_replaced(tracker: Tracker, window: Any) -> None:
    run_id = make_run(tracker)
    tracker.log_files(run_id, "report", {"report.html": b"old", "loss.png": b"\x89"})
    tracker.log_files(run_id, "report", {"report.html": "größer".encode()})
    assert window.file(run_id, "report/report.html") == "größer".encode()
    assert window.file(run_id, "report/loss.png") == b"\x89"


def test_pictures_tables_and_files_of_a_run_that_is_not_there_are_refused(tracker: Tracker) -> None:
    unknown = "0123456789abcdef0123456789abcdef"
    with pytest.raises(TrackingError):
        tracker.log_images(unknown, "filters", {0: np.zeros((2, 2, 3), np.uint8)})
    with pytest.raises(TrackingError):
        tracker.log_table(unknown, "per_class.json", {"name": ["a"]})
    with pytest.raises(TrackingError):
        tracker.log_files(unknown, "report", {"a": b""})
