import logging
import time
from collections.abc import Sequence
from typing import ClassVar

import pytest
from mlflow_window import MlflowWindow

from infra.store import MemoryStore
from infra.tracking import delivery as module
from infra.tracking.delivery import Delivery
from infra.tracking.journal import Journal
from infra.tracking.memory import MemoryTracker
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import TrackingPlace
from infra.tracking.points import MetricPoint


def points(start: int, stop: int, *, at: int = 1000) -> list[MetricPoint]:
    return [
        MetricPoint(key="loss", step=n, value=1 / (n + 1), timestamp_ms=at + n)
        for n in range(start, stop)
    ]


def deliver(journal: Journal, tracker: MemoryTracker | MlflowTracker, run_id: str) -> Delivery:
    return Delivery(journal, tracker, run_id, first_wait_s=0.01, longest_wait_s=0.05)


def memory_run() -> tuple[MemoryTracker, str]:
    tracker = MemoryTracker()
    return tracker, tracker.create_run(run_key="k", run_name="n")


def test_what_is_journaled_arrives() -> None:
    journal = Journal(MemoryStore())
    tracker, run_id = memory_run()
    delivery = deliver(journal, tracker, run_id)
    assert delivery.drain(silence_s=5)
    for start in (0, 10, 20):
        journal.append(points(start, start + 10))
        delivery.notify()
    assert delivery.drain(silence_s=5)
    delivery.close()
    assert tracker.runs[run_id].points == points(0, 30)


def test_an_outage_is_told_once_and_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(MemoryStore())
    tracker, run_id = memory_run()
    tracker.away = True
    with caplog.at_level(logging.INFO, logger="infra.tracking.delivery"):
        delivery = deliver(journal, tracker, run_id)
        journal.append(points(0, 10))
        assert not delivery.drain(silence_s=0.3)
        assert delivery.problem == "memory is away"
        tracker.away = False
        assert delivery.drain(silence_s=5)
        assert delivery.problem is None
        tracker.away = True
        journal.append(points(10, 20))
        assert not delivery.drain(silence_s=0.2)
        tracker.away = False
        assert delivery.drain(silence_s=5)
        delivery.close()
    assert tracker.runs[run_id].points == points(0, 20)
    told = [record.message.split()[0] for record in caplog.records]
    assert told == ["tracking_away", "tracking_back"] * 2


def test_a_resume_sends_only_what_is_missing() -> None:
    store = MemoryStore()
    tracker, run_id = memory_run()
    journal = Journal(store)
    journal.append(points(0, 10))
    first = deliver(journal, tracker, run_id)
    assert first.drain(silence_s=5)
    first.close()
    tracker.runs[run_id].points.clear()
    journal = Journal(store)
    journal.append(points(10, 20))
    second = deliver(journal, tracker, run_id)
    assert second.drain(silence_s=5)
    second.close()
    assert tracker.runs[run_id].points == points(10, 20)


def test_a_closed_delivery_leaves_the_rest_in_the_journal() -> None:
    store = MemoryStore()
    tracker, run_id = memory_run()
    tracker.away = True
    journal = Journal(store)
    journal.append(points(0, 10))
    delivery = deliver(journal, tracker, run_id)
    assert not delivery.drain(silence_s=0.1)
    delivery.close()
    tracker.away = False
    time.sleep(0.2)  # four of its longest waits
    assert tracker.runs[run_id].points == []
    assert Journal(store).delivered(tracker.server, run_id) == 0

    later = deliver(Journal(store), tracker, run_id)
    assert later.drain(silence_s=5)
    later.close()
    assert tracker.runs[run_id].points == points(0, 10)


def test_a_replay_of_many_small_segments_takes_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(MemoryTracker):
        sizes: ClassVar[list[int]] = []

        def log_points(self, run_id: str, points: Sequence[MetricPoint]) -> None:
            self.sizes.append(len(points))
            super().log_points(run_id, points)

    monkeypatch.setattr(module, "POINTS_PER_CALL", 8)
    tracker = Counting()
    run_id = tracker.create_run(run_key="k", run_name="n")
    journal = Journal(store := MemoryStore())
    for start in range(0, 21, 3):
        journal.append(points(start, start + 3))
    delivery = deliver(Journal(store), tracker, run_id)
    assert delivery.drain(silence_s=5)
    delivery.close()
    assert tracker.sizes == [9, 9, 3]
    assert tracker.runs[run_id].points == points(0, 21)
    assert Journal(store).delivered(tracker.server, run_id) == 7


class Slow(MemoryTracker):
    """Takes its time with every segment."""

    def log_points(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        time.sleep(0.05)
        super().log_points(run_id, points)


def twenty_segments() -> Journal:
    journal = Journal(MemoryStore())
    for start in range(20):
        journal.append(points(start, start + 1))
    return journal


@pytest.fixture
def one_point_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POINTS_PER_CALL", 1)


@pytest.mark.usefixtures("one_point_a_call")
def test_a_slow_server_is_waited_for_and_a_silent_one_is_not() -> None:
    tracker = Slow()
    run_id = tracker.create_run(run_key="k", run_name="n")
    delivery = deliver(twenty_segments(), tracker, run_id)
    assert delivery.drain(silence_s=0.3)
    delivery.close()
    assert tracker.runs[run_id].points == points(0, 20)


@pytest.mark.usefixtures("one_point_a_call")
def test_who_has_no_time_waits_no_longer_for_a_slow_server() -> None:
    tracker = Slow()
    run_id = tracker.create_run(run_key="k", run_name="n")
    delivery = deliver(twenty_segments(), tracker, run_id)
    assert not delivery.drain(silence_s=0.3, at_most_s=0.3)
    delivery.close()


def test_outages_and_restarts_draw_every_point_once_in_mlflow(mlflow_place: TrackingPlace) -> None:
    store = MemoryStore()
    tracker = MlflowTracker(mlflow_place)
    run_id = tracker.create_run(run_key="k", run_name="n")

    class Unreliable(MlflowTracker):
        """Delivers, then loses the answer of every second call."""

        calls = 0

        def log_points(self, run_id: str, points: object) -> None:
            super().log_points(run_id, points)  # type: ignore[arg-type]  # passed on as it is
            self.calls += 1
            if self.calls % 2:
                raise self._error("the answer was lost")

    for attempt in range(3):
        # Each attempt starts ten steps before the last one ended, and measures later.
        journal = Journal(store)
        delivery = deliver(journal, Unreliable(mlflow_place), run_id)
        for start in range(20 * attempt, 20 * attempt + 30, 10):
            journal.append(points(start, start + 10, at=1000 * (attempt + 1)))
            delivery.notify()
        assert delivery.drain(silence_s=30)
        delivery.close()

    history = MlflowWindow(mlflow_place).points(run_id, "loss")
    assert [step for step, _, _ in history] == list(range(70))
    assert history[25] == (25, 1 / 26, 1025)
    assert history[35] == (35, 1 / 36, 2035)

    new_run_id = tracker.create_run(run_key="k", run_name="n")
    replay = deliver(Journal(store), tracker, new_run_id)
    assert replay.drain(silence_s=30)
    replay.close()
    assert MlflowWindow(mlflow_place).points(new_run_id, "loss") == history


def test_a_bug_met_on_the_way_does_not_end_the_delivery(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(MemoryTracker):
        def log_points(self, run_id: str, points: Sequence[MetricPoint]) -> None:
            if self.away:
                raise KeyError("metrics")  # as of an answer that nobody expected
            super().log_points(run_id, points)

    tracker, journal = Odd(), Journal(MemoryStore())
    run_id = tracker.create_run(run_key="k", run_name="n")
    tracker.away = True
    journal.append(points(0, 10))
    delivery = deliver(journal, tracker, run_id)
    assert not delivery.drain(silence_s=0.3)
    assert delivery.problem == "KeyError: 'metrics'"
    (record,) = caplog.records
    assert record.exc_info  # where it comes from
    tracker.away = False
    assert delivery.drain(silence_s=5)
    delivery.close()
    assert tracker.runs[run_id].points == points(0, 10)
