import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.errors import DataError, ObjectCorrupt
from infra.store import FolderStore, MemoryStore
from preprocessing.sources.archives import SourceFile
from preprocessing.sources.unpack import RECEIPT, UnpackedImage, unpack

SOURCES = tuple(SourceFile(name=f"data/{c}", size_bytes=100, version="1") for c in "abc")


class Stopped(Exception):
    """As if the process had been killed."""


class Reader:
    """Three images a file; stops in the middle of one when it is told to."""

    def __init__(self, stop_in: str | None = None) -> None:
        self.stop_in, self.read = stop_in, list[str]()

    def __call__(self, source: SourceFile) -> Iterator[UnpackedImage]:
        self.read.append(source.name)
        for number in range(3):
            if number == 2 and source.name == self.stop_in:
                raise Stopped
            body = f"{source.name}{number}".encode() * (number + 1)
            yield UnpackedImage(f"{source.name}/{number}", body, number, "abc"[number])


def run(workspace: FolderStore | MemoryStore, reader: Reader) -> dict[str, bytes]:
    """Unpack, check the table against what was written, and return all files."""
    store, table = unpack(workspace, "kind", MemoryStore(), SOURCES, reader)
    assert table.num_rows == 9
    for row in table.to_pylist():
        body = store.read_range(row["archive"], row["start"], row["start"] + row["size_bytes"])
        number = row["label"]
        assert row["archive"] == "images/" + row["name"].rpartition("/")[0]
        assert body == f"{row['archive'].removeprefix('images/')}{number}".encode() * (number + 1)
        assert row["wnid"] == "abc"[number]
    return {info.key: store.read(info.key) for info in store.list()}


def test_images_lie_where_the_table_says_and_are_unpacked_once(workspace: FolderStore) -> None:
    reader = Reader()
    files = run(workspace, reader)
    assert reader.read == ["data/a", "data/b", "data/c"]
    assert run(workspace, reader) == files
    assert len(reader.read) == 3


@pytest.mark.parametrize("stop_in", ["data/a", "data/b", "data/c"])
def test_a_stopped_run_goes_on_at_the_file(stop_in: str, workspace: FolderStore) -> None:
    with pytest.raises(Stopped):
        run(workspace, Reader(stop_in))
    reader = Reader()
    files = run(workspace, reader)
    assert reader.read == [f"data/{c}" for c in "abc" if f"data/{c}" >= stop_in]
    assert files == run(MemoryStore(), Reader()) | {RECEIPT: files[RECEIPT]}


def test_two_at_once_write_the_same(workspace: FolderStore) -> None:
    with ThreadPoolExecutor(4) as threads:
        results = [threads.submit(run, workspace, Reader()) for _ in range(4)]
        files = [result.result() for result in results]
    assert run(workspace, Reader()) == files[-1]
    receipts = {body[RECEIPT] for body in files}
    assert len(receipts) == 1


def unpacked_folder(workspace: FolderStore) -> Path:
    (folder,) = Path(workspace.uri).glob("archives/kind-*")
    return folder


def test_only_what_is_missing_is_unpacked_again(workspace: FolderStore) -> None:
    files = run(workspace, Reader())
    (unpacked_folder(workspace) / "images/data/b").unlink()
    reader = Reader()
    assert run(workspace, reader) == files
    assert reader.read == ["data/b"]


@pytest.mark.parametrize("path", [RECEIPT, "parts/data/b.json"])
def test_a_receipt_that_cannot_be_read_is_made_anew(path: str, workspace: FolderStore) -> None:
    files = run(workspace, Reader())
    (unpacked_folder(workspace) / path).write_bytes(b"{}")
    (unpacked_folder(workspace) / RECEIPT).write_bytes(b"{}")
    assert run(workspace, Reader()) == files
    reader = Reader()
    run(workspace, reader)
    assert reader.read == []


def test_a_damaged_table_is_not_believed(workspace: FolderStore) -> None:
    run(workspace, Reader())
    path = unpacked_folder(workspace) / "members.parquet"
    path.write_bytes(b"x" + path.read_bytes()[1:])
    with pytest.raises(ObjectCorrupt, match=r"members\.parquet does not have the bytes"):
        run(workspace, Reader())


def test_other_versions_of_the_files_are_unpacked_apart(workspace: FolderStore) -> None:
    first, _ = unpack(workspace, "kind", MemoryStore(), SOURCES[:1], Reader())
    changed = SOURCES[0].model_copy(update={"version": "2"})
    second, _ = unpack(workspace, "kind", MemoryStore(), (changed,), Reader())
    assert first.uri != second.uri


@pytest.mark.parametrize(
    ("bodies", "problem"),
    [
        ([b"x", b""], "image '1' is empty"),
        ([b"x" * 5_000, b"x" * 5_001], "more than 100 times its bytes"),
    ],
)
def test_what_cannot_be_images_is_refused_and_not_kept(
    bodies: list[bytes], problem: str, workspace: FolderStore
) -> None:
    def read(_: SourceFile) -> Iterator[UnpackedImage]:
        for number, body in enumerate(bodies):
            yield UnpackedImage(str(number), body, 0)

    with pytest.raises(DataError, match=problem):
        unpack(workspace, "kind", MemoryStore(), SOURCES[:1], read)
    assert list(workspace.list()) == []


def test_a_run_that_is_stopped_does_not_end_its_files_first() -> None:
    """From a remote store, where several are read at once."""

    class FarStore(MemoryStore):
        @property
        def uri(self) -> str:
            return "s3://bucket"

    are_reading = threading.Barrier(2, timeout=20)
    num_read = 0

    def read(source: SourceFile) -> Iterator[UnpackedImage]:
        nonlocal num_read
        are_reading.wait()
        if source == SOURCES[0]:
            raise KeyboardInterrupt
        for _ in range(2_000):
            threading.Event().wait(0.005)
            num_read += 1
            yield UnpackedImage("x", b"x", 0)

    workspace = MemoryStore()
    with pytest.raises(KeyboardInterrupt):
        unpack(workspace, "kind", FarStore(), SOURCES[:2], read)
    assert num_read < 1_000
    assert list(workspace.list()) == []
