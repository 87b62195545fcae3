"""Members come in order, whole, and not too far ahead of their use."""

import os
import sys
import threading
import time
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from infra.errors import StoreError
from infra.store import FolderStore, MemoryStore, ObjectStore
from preprocessing.errors import ArchiveCorrupt, ArchiveMissing
from preprocessing.sources import fetch
from preprocessing.sources.fetch import NUM_AHEAD, NUM_FAR_AHEAD, read_members
from preprocessing.sources.members import Member, Members

COUNT = 100


class FarStore(MemoryStore):
    """Counts what is read of it; its address is that of a remote one."""

    def __init__(self) -> None:
        super().__init__()
        self._counting = threading.Lock()
        self.num_reads = 0

    @property
    def uri(self) -> str:
        return "s3://bucket"

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        with self._counting:
            self.num_reads += 1
        return super().read_range(key, start, stop)


class NearStore(FolderStore):
    """Keeps what it opened."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.opened: list[pa.NativeFile] = []

    def open_input(self, key: str) -> pa.NativeFile:
        self.opened.append(super().open_input(key))
        return self.opened[-1]

    @property
    def num_open(self) -> int:
        return sum(not file.closed for file in self.opened)


def written(store: ObjectStore) -> ObjectStore:
    store.write("a.tar", b"".join(body_of(i) for i in range(COUNT)))
    for number in range(COUNT):
        store.write(f"{number}.jpg", body_of(number))
    return store


@pytest.fixture(params=["directory", "memory", "far"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    kinds = {"directory": FolderStore(tmp_path), "memory": MemoryStore(), "far": FarStore()}
    return written(kinds[request.param])


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Ranges of files that the system was asked to read."""
    found: list[tuple[int, int]] = []

    def note(descriptor: int, start: int, size_bytes: int, _: int) -> None:
        os.fstat(descriptor)  # open
        found.append((start, size_bytes))

    if sys.platform != "linux":
        pytest.skip("only Linux is asked")
    monkeypatch.setattr(os, "posix_fadvise", note)
    return found


def body_of(number: int) -> bytes:
    return b"%04d" % number


def members_of(*numbers: int, alone: bool = False) -> Members:
    """Members of one tar, or `alone`, each a file of its own."""
    members = [
        Member("train", f"{i}.jpg" if alone else "a.tar", f"{i}.jpg", 0 if alone else 4 * i, 4, "a")
        for i in numbers
    ]
    return Members(pa.Table.from_pylist([asdict(m) for m in members], Members.schema()))


@pytest.mark.parametrize("alone", [False, True])
def test_they_come_in_the_order_asked_for(store: ObjectStore, alone: bool) -> None:
    order = [*range(COUNT - 1, -1, -3), *range(0, COUNT, 7)]
    found = list(read_members(store, members_of(*order, alone=alone)))
    assert [member.name for member, _ in found] == [f"{i}.jpg" for i in order]
    assert [body for _, body in found] == [body_of(i) for i in order]


def test_few_are_in_memory() -> None:
    store = FarStore()
    reading = read_members(written(store), members_of(*range(COUNT), *range(COUNT)))
    for used in range(10, 2 * COUNT, 10):
        list(islice(reading, 10))
        assert used <= store.num_reads <= used + NUM_FAR_AHEAD
    reading.close()  # type: ignore[attr-defined]  # it is a generator


def test_a_far_store_is_asked_for_many_at_once() -> None:
    together = threading.Barrier(32)

    class SlowStore(FarStore):
        def read_range(self, key: str, start: int, stop: int) -> bytes:
            together.wait(timeout=30)
            return super().read_range(key, start, stop)

    order = range(3 * together.parties)
    found = [body for _, body in read_members(written(SlowStore()), members_of(*order))]
    assert found == [body_of(i) for i in order]


def test_the_system_is_told_a_little_ahead(
    tmp_path: Path, announced: list[tuple[int, int]]
) -> None:
    reading = read_members(written(FolderStore(tmp_path)), members_of(*range(COUNT)))
    for used in range(10, COUNT, 10):
        list(islice(reading, 10))
        assert announced == [(4 * i, 4) for i in range(min(COUNT, used + NUM_AHEAD))]


def test_a_system_that_takes_no_hints_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("not here")

    monkeypatch.setattr(os, "posix_fadvise", refuse, raising=False)
    found = list(read_members(written(FolderStore(tmp_path)), members_of(3, 1)))
    assert [body for _, body in found] == [body_of(3), body_of(1)]


def test_few_archives_are_open_and_none_at_the_end(tmp_path: Path) -> None:
    store = NearStore(tmp_path)
    written(store)
    order = [number for i in range(COUNT) for number in (i, 0)]  # 0 is never the oldest
    for _ in read_members(store, members_of(*order, alone=True)):
        assert store.num_open <= 2 * NUM_AHEAD
    assert (len(store.opened), store.num_open) == (COUNT, 0)
    reading = read_members(store, members_of(*order, alone=True))
    next(reading)
    reading.close()  # type: ignore[attr-defined]  # it is a generator
    assert store.num_open == 0


def test_none_is_read_for_none(store: ObjectStore) -> None:
    assert list(read_members(store, members_of())) == []


def test_one_past_the_end_is_no_member(store: ObjectStore) -> None:
    with pytest.raises(ArchiveCorrupt, match=r"'100\.jpg' ends at byte 404, the archive at 400"):
        list(read_members(store, members_of(3, COUNT, 4)))


def test_an_archive_that_is_gone_is_named(store: ObjectStore) -> None:
    with pytest.raises(ArchiveMissing, match=r"/?100\.jpg is gone"):
        list(read_members(store, members_of(3, COUNT, 4, alone=True)))


def test_a_bad_disk_is_named(tmp_path: Path) -> None:
    class BadFile:
        closed = False

        def read_at(self, *_: Any) -> bytes:
            raise OSError(5, "Input/output error")

        def close(self) -> None:
            self.closed = True

    class BadStore(FolderStore):
        def open_input(self, key: str) -> pa.NativeFile:
            return BadFile()

    with pytest.raises(StoreError, match=r"cannot read a\.tar: .*Input/output error"):
        list(read_members(BadStore(tmp_path), members_of(1)))


def test_large_members_are_not_read_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_AHEAD_BYTES", 20)
    store = FarStore()
    found = read_members(written(store), members_of(*range(COUNT)))
    next(found)
    assert store.num_reads <= 6  # of 4 bytes each, five fit beside the one that is yielded
    assert [member.name for member, _ in found] == [f"{i}.jpg" for i in range(1, COUNT)]


def test_an_outage_ends_the_reading_ahead() -> None:
    """Each read that is asked for ahead would wait out the outage once more."""

    class AwayStore(FarStore):
        def read_range(self, key: str, start: int, stop: int) -> bytes:
            body = super().read_range(key, start, stop)
            if start == 0:
                raise StoreError("away", remedy="wait")
            time.sleep(0.5)
            return body

    store = AwayStore()
    with pytest.raises(StoreError, match="away"):
        list(read_members(written(store), members_of(*range(COUNT))))
    assert store.num_reads < NUM_FAR_AHEAD
