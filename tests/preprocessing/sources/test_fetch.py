"""Members come in order, whole, and not too far ahead of their use."""

import threading
from dataclasses import asdict
from itertools import islice

import pyarrow as pa
import pytest

from infra.store import MemoryStore
from preprocessing.errors import ArchiveCorrupt
from preprocessing.sources.fetch import read_members
from preprocessing.sources.members import Member, Members

COUNT = 100
MOST_AHEAD = 32


class CountingStore(MemoryStore):
    """Counts what is read of it, as a place nearby or a far one."""

    def __init__(self, uri: str) -> None:
        super().__init__()
        self._uri = uri
        self._counting = threading.Lock()
        self.num_reads = 0

    @property
    def uri(self) -> str:
        return self._uri

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        with self._counting:
            self.num_reads += 1
        return super().read_range(key, start, stop)


@pytest.fixture(params=["memory:", "s3://bucket"])
def store(request: pytest.FixtureRequest) -> CountingStore:
    store = CountingStore(request.param)
    store.write("a.tar", b"".join(body_of(i) for i in range(COUNT)))
    return store


def body_of(number: int) -> bytes:
    return b"%04d" % number


def members_of(*numbers: int) -> Members:
    rows = [asdict(Member("train", "a.tar", f"{i}.jpg", 4 * i, 4, "a")) for i in numbers]
    return Members(pa.Table.from_pylist(rows, Members.schema()))


def test_they_come_in_the_order_asked_for(store: CountingStore) -> None:
    order = [*range(COUNT - 1, -1, -3), *range(0, COUNT, 7)]
    found = list(read_members(store, members_of(*order)))
    assert [member.name for member, _ in found] == [f"{i}.jpg" for i in order]
    assert [body for _, body in found] == [body_of(i) for i in order]


def test_few_are_in_memory(store: CountingStore) -> None:
    reading = read_members(store, members_of(*range(COUNT)))
    for used in range(1, COUNT, 10):
        list(islice(reading, 10))
        assert store.num_reads <= used + 10 + MOST_AHEAD
    reading.close()  # type: ignore[attr-defined]  # it is a generator


def test_none_is_read_for_none(store: CountingStore) -> None:
    assert list(read_members(store, members_of())) == []


def test_one_past_the_end_is_no_member(store: CountingStore) -> None:
    with pytest.raises(ArchiveCorrupt, match=r"'100\.jpg' ends at byte 404, the archive at 400"):
        list(read_members(store, members_of(3, COUNT, 4)))


def test_large_members_are_not_read_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preprocessing.sources.fetch._BATCH_BYTES", 10)
    monkeypatch.setattr("preprocessing.sources.fetch._AHEAD_BYTES", 20)
    store = CountingStore("memory:")
    store.write("a.tar", b"".join(body_of(i) for i in range(COUNT)))
    found = read_members(store, members_of(*range(COUNT)))
    next(found)
    # Of 4 bytes each, two make a batch; two batches fit, and the first of them is being yielded.
    assert store.num_reads <= 6
    assert [member.name for member, _ in found] == [f"{i}.jpg" for i in range(1, COUNT)]
