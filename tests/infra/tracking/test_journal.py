import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import ValidationError

from infra.errors import ObjectCorrupt
from infra.store import MemoryStore
from infra.tracking.journal import Journal, first_point, is_delivered
from infra.tracking.points import MetricPoint


def point(step: int, value: float = 1.0, key: str = "loss", at: int = 0) -> MetricPoint:
    return MetricPoint(key=key, step=step, value=value, timestamp_ms=at or 1000 + step)


def everything(journal: Journal) -> list[MetricPoint]:
    return [p for n in range(journal.num_segments) for p in journal.segment(n + 1)]


def test_points_survive_a_restart() -> None:
    store = MemoryStore()
    Journal(store).append([point(1), point(1, key="top1")])
    Journal(store).append([point(2)])
    journal = Journal(store)
    assert everything(journal) == [point(1), point(1, key="top1"), point(2)]
    assert [info.key for info in store.list()] == [
        "journal/00000001.json",
        "journal/00000002.json",
    ]


def test_the_first_point_is_read_without_the_rest() -> None:
    store = MemoryStore()
    assert first_point(store) is None
    Journal(store).append([point(3), point(4)])
    store.write("journal/00000002.json", b"cut")
    assert first_point(store) == point(3)


def test_what_a_server_lacks_is_told_without_reading_a_point() -> None:
    store = MemoryStore()
    assert is_delivered(store, "server", "run")
    journal = Journal(store)
    journal.append([point(1)])
    store.write("journal/00000001.json", b"cut")
    assert not is_delivered(store, "server", "run")
    journal.mark_delivered("server", "run", 1)
    assert is_delivered(store, "server", "run")
    assert not is_delivered(store, "another", "run")
    assert not is_delivered(store, "server", "another")
    store.write("journal/00000002.json", b"cut")
    assert not is_delivered(store, "server", "run")


def test_a_step_trained_again_keeps_its_first_point() -> None:
    store = MemoryStore()
    Journal(store).append([point(1, 0.5, at=10), point(2, 0.4, at=20)])
    journal = Journal(store)
    accepted = journal.append([point(2, 0.3, at=90), point(3, 0.2, at=99), point(3, 0.1, at=100)])
    assert accepted == [point(3, 0.2, at=99)]
    assert everything(Journal(store)) == [
        point(1, 0.5, at=10),
        point(2, 0.4, at=20),
        point(3, 0.2, at=99),
    ]


def test_nothing_new_writes_nothing() -> None:
    store = MemoryStore()
    journal = Journal(store)
    journal.append([point(1)])
    assert journal.append([point(1)]) == []
    assert journal.append([]) == []
    assert len(list(store.list())) == 1


def test_a_number_that_another_writer_took_is_read_and_the_next_one_used() -> None:
    store = MemoryStore()
    ours, theirs = Journal(store), Journal(store)
    assert theirs.append([point(1, 0.9), point(2, 0.8)]) == [point(1, 0.9), point(2, 0.8)]
    assert ours.append([point(2, 0.1), point(3, 0.2)]) == [point(3, 0.2)]
    assert everything(ours) == [point(1, 0.9), point(2, 0.8), point(3, 0.2)]
    assert everything(Journal(store)) == everything(ours)
    assert theirs.append([point(3, 0.7)]) == []


def test_eight_writers_leave_each_step_once() -> None:
    store = MemoryStore()

    def write(writer: int) -> list[MetricPoint]:
        journal = Journal(store)
        batches = [range(start, start + 10) for start in range(0, 100, 5)]
        return [p for steps in batches for p in journal.append([point(n, writer) for n in steps])]

    with ThreadPoolExecutor(8) as pool:
        accepted = [p for points in pool.map(write, range(8)) for p in points]
    kept = everything(Journal(store))
    assert sorted(p.step for p in kept) == list(range(105))
    assert sorted(map(str, kept)) == sorted(map(str, accepted))


def test_an_answer_that_was_lost_is_no_second_writer() -> None:
    class ForgetsToSay(MemoryStore):
        def create(self, key: str, body: bytes) -> bool:
            super().create(key, body)
            return False

    store = ForgetsToSay()
    journal = Journal(store)
    assert journal.append([point(1)]) == [point(1)]
    assert everything(Journal(store)) == [point(1)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_kept(value: float) -> None:
    store = MemoryStore()
    Journal(store).append([point(1, value)])
    [kept] = everything(Journal(store))
    assert str(kept.value) == str(value)


def test_the_form_of_a_segment_is_pinned() -> None:
    # Journals of older versions are replayed: what they wrote must stay readable.
    store = MemoryStore()
    Journal(store).append([point(7, 0.25), point(8, math.nan)])
    assert store.read("journal/00000001.json") == (
        b'[{"key":"loss","step":7,"timestamp_ms":1007,"value":0.25},'
        b'{"key":"loss","step":8,"timestamp_ms":1008,"value":"nan"}]'
    )


def test_what_was_delivered_is_known_a_server_and_run() -> None:
    store = MemoryStore()
    journal = Journal(store)
    journal.append([point(1)])
    assert journal.delivered("http://a", "run") == 0
    journal.mark_delivered("http://a", "run", 1)
    assert Journal(store).delivered("http://a", "run") == 1
    assert journal.delivered("http://b", "run") == 0
    assert journal.delivered("http://a", "other") == 0
    assert Journal(store).num_segments == 1


def test_a_point_names_a_metric_and_a_step() -> None:
    for wrong in ({"key": ""}, {"step": -1}, {"step": 1.5}, {"value": "1"}):
        with pytest.raises(ValidationError):
            MetricPoint.model_validate(point(1).model_dump() | wrong)


@pytest.mark.parametrize("body", [b"", b"{}1", b"[1]", b'[{"key":"loss"}]', b'[{"value":1}]', b"7"])
def test_a_segment_that_was_cut_is_named(body: bytes) -> None:
    store = MemoryStore()
    store.write("journal/00000001.json", body)
    with pytest.raises(ObjectCorrupt, match=r"journal/00000001\.json cannot be read"):
        Journal(store)


def test_a_mark_that_was_cut_is_named() -> None:
    store = MemoryStore()
    journal = Journal(store)
    journal.mark_delivered("http://a", "run", 1)
    [mark] = store.list("journal/delivered-")
    store.write(mark.key, b"")
    with pytest.raises(ObjectCorrupt, match=mark.key):
        journal.delivered("http://a", "run")
