import math
import threading
import time

import pytest

from infra.errors import StoreError
from infra.store import MemoryStore
from infra.tracking.delivery import Delivery
from infra.tracking.journal import Journal
from infra.tracking.memory import MemoryTracker
from infra.tracking.points import MetricPoint
from infra.tracking.sink import MetricsSink


def point(step: int) -> MetricPoint:
    return MetricPoint(key="loss", step=step, value=0.5, timestamp_ms=step)


class SometimesFull(MemoryStore):
    full = False

    def create(self, key: str, body: bytes) -> bool:
        if self.full:
            raise StoreError("full", remedy="make room")
        return super().create(key, body)


def make_sink(
    store: MemoryStore, tracker: MemoryTracker, flush_every_s: float = 60.0
) -> MetricsSink:
    run_id = tracker.find_run("k") or tracker.create_run(run_key="k", run_name="n")
    journal = Journal(store)
    return MetricsSink(journal, Delivery(journal, tracker, run_id), flush_every_s=flush_every_s)


def test_a_flush_makes_all_that_was_recorded_durable() -> None:
    store, tracker = MemoryStore(), MemoryTracker()
    sink = make_sink(store, tracker)
    sink.record([point(1), point(2)], (2, 256))
    assert Journal(store).num_segments == 0
    sink.flush()
    assert Journal(store).segment(1) == (point(1), point(2))
    assert sink.finish(silence_s=5)


def test_a_flush_takes_points_that_were_recorded_already_once() -> None:
    store, tracker = MemoryStore(), MemoryTracker()
    sink = make_sink(store, tracker)
    sink.record([point(1)], (1, 128))
    sink.flush()
    sink.record([point(2)], (2, 256))
    sink.flush([point(1), point(2), point(3)])
    sink.flush([point(1), point(2), point(3)])
    journal = Journal(store)
    assert [journal.segment(n + 1) for n in range(journal.num_segments)] == [
        (point(1),),
        (point(2), point(3)),
    ]
    assert sink.position() == (2, 256)
    assert sink.finish(silence_s=5)


def test_the_position_is_the_latest() -> None:
    sink = make_sink(MemoryStore(), MemoryTracker())
    assert sink.position() is None
    sink.record([], (1, 128))
    sink.record([], (2, 256))
    assert sink.position() == (2, 256)
    assert sink.finish(silence_s=5)


def test_points_reach_the_journal_without_being_asked() -> None:
    store = MemoryStore()
    sink = make_sink(store, MemoryTracker(), flush_every_s=0.02)
    sink.record([point(1)], (1, 128))
    deadline = time.monotonic() + 5
    while Journal(store).num_segments == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert Journal(store).num_segments == 1
    assert sink.finish(silence_s=5)


def test_the_end_sends_everything() -> None:
    tracker = MemoryTracker()
    sink = make_sink(MemoryStore(), tracker)
    sink.record([point(1)], (1, 128))
    assert sink.finish(silence_s=5)
    assert tracker.runs["run-1"].points == [point(1)]


def test_an_end_without_the_tracker_says_so_and_a_restart_sends_the_rest() -> None:
    store, tracker = MemoryStore(), MemoryTracker()
    sink = make_sink(store, tracker)
    tracker.away = True
    sink.record([point(1)], (1, 128))
    assert not sink.finish(silence_s=0.2)
    assert sink.problem() == "memory is away"
    tracker.away = False
    again = make_sink(store, tracker)
    again.record([point(1), point(2)], (2, 256))
    assert again.finish(silence_s=5)
    assert tracker.runs["run-1"].points == [point(1), point(2)]


def test_points_wait_while_the_store_is_full() -> None:
    store = SometimesFull()
    sink = make_sink(store, MemoryTracker())
    store.full = True
    sink.record([point(1)], (1, 128))
    with pytest.raises(StoreError, match="full"):
        sink.flush()
    store.full = False
    sink.record([point(2)], (2, 256))
    sink.flush()
    assert Journal(store).segment(1) == (point(1), point(2))
    assert sink.finish(silence_s=5)


class AwayStore(MemoryStore):
    """Is away for as long as it is tried."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.is_over = threading.Event(), threading.Event()
        self.deadline_s = math.inf

    def with_deadline(self, deadline_s: float) -> "AwayStore":
        self.deadline_s = deadline_s
        return self

    def create(self, key: str, body: bytes) -> bool:
        self.asked.set()
        self.is_over.wait(min(60.0, self.deadline_s))
        raise StoreError("away", remedy="wait")


@pytest.mark.parametrize("another_flushes", [False, True])
def test_an_end_that_may_not_last_long_waits_for_no_store(another_flushes: bool) -> None:
    """Someone has pressed Ctrl-C."""
    store = AwayStore()
    sink = make_sink(store, MemoryTracker(), flush_every_s=0.01 if another_flushes else 60.0)
    sink.record([point(1)], (1, 128))
    if another_flushes:
        assert store.asked.wait(20)
    begun_at = time.monotonic()
    try:
        with pytest.raises(StoreError):
            sink.finish(silence_s=5, at_most_s=0.2)
        assert time.monotonic() - begun_at < 20
    finally:
        store.is_over.set()
