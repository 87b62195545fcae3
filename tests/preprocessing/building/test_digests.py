import io
from pathlib import Path

import pyarrow as pa
import pytest

from infra.commit import StoredObject, write_object
from infra.errors import ObjectCorrupt, StoreError
from infra.store import FolderStore, MemoryStore
from preprocessing.building import digests
from preprocessing.building.digests import copy_object, damage_of


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def written(store: FolderStore | MemoryStore, body: bytes) -> StoredObject:
    return write_object(store, "a/b", body)


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 5000])
def test_an_object_with_its_bytes_is_whole(
    size: int, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "PIECE_BYTES", 1000)
    assert damage_of(store, written(store, bytes(range(250)) * 20 + bytes(size))) is None


def test_damage_is_named(store: FolderStore) -> None:
    item = written(store, b"x" * 5000)
    store.write("a/b", b"x" * 4999 + b"y")
    assert damage_of(store, item) == "does not have the bytes it should"
    store.write("a/b", b"x" * 4999)
    assert damage_of(store, item) == "has 4,999 bytes, it should have 5,000"
    store.delete("a/b")
    assert damage_of(store, item) == "is missing"


class BadDisk(MemoryStore):
    """Reads the first bytes, and fails then."""

    def open_input(self, key: str) -> pa.NativeFile:
        return pa.PythonFile(_Failing(self.read(key)), mode="r")


class _Failing(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            raise OSError(5, "Input/output error")
        return super().read(10)


def test_a_disk_that_fails_while_it_is_read_is_damage() -> None:
    store = BadDisk()
    assert "Input/output error" in str(damage_of(store, written(store, b"x" * 100)))


def test_what_is_gone_before_it_is_copied_is_named() -> None:
    store, target = MemoryStore(), MemoryStore()
    item = written(store, b"x")
    store.delete("a/b")
    with pytest.raises(StoreError, match="a/b was written, and is gone"):
        copy_object(store, target, item)
    assert list(target.list()) == []


def test_a_copy_has_the_bytes_or_is_not_there(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "PIECE_BYTES", 7)
    target = MemoryStore()
    item = written(store, b"x" * 100)
    copy_object(store, target, item)
    assert target.read("a/b") == b"x" * 100
    target.write("a/b", b"old")
    with pytest.raises(ObjectCorrupt, match="read otherwise"):
        copy_object(store, target, item.model_copy(update={"sha256": "0" * 64}))
    assert target.read("a/b") == b"old"
