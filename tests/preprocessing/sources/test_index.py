import io
import os
import threading
import time
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest
from jpeg_archives import TRAIN, cut, make_tar, write_archives

from infra.store import FolderStore, MemoryStore
from preprocessing.errors import ArchiveCorrupt
from preprocessing.sources.archives import SourceFile, find_archives
from preprocessing.sources.fetch import read_members
from preprocessing.sources.index import archive_index, scan_archive
from preprocessing.sources.members import Member, Members
from preprocessing.sources.tar import BLOCK


def test_an_index_is_kept_while_size_and_version_hold(
    tmp_path: Path, workspace: FolderStore
) -> None:
    store = FolderStore(write_archives(tmp_path / "archives"))
    train = find_archives(store)[0]
    first = archive_index(workspace, store, train, nested=True)
    (tmp_path / "archives" / TRAIN).write_bytes(b"never read again")
    assert archive_index(workspace, store, train, nested=True).equals(first)
    with pytest.raises(ArchiveCorrupt):
        archive_index(workspace, store, find_archives(store)[0], nested=True)


@pytest.mark.parametrize("name", ["index.json", "index.parquet"])
def test_a_damaged_kept_index_is_made_anew(
    name: str, tmp_path: Path, workspace: FolderStore, caplog: pytest.LogCaptureFixture
) -> None:
    store = FolderStore(write_archives(tmp_path / "archives"))
    train = find_archives(store)[0]
    whole = archive_index(workspace, store, train, nested=True)
    (path,) = Path(workspace.uri).glob(f"indexes/*/{name}")
    before = path.read_bytes()
    path.write_bytes(b"x" + before[1:])
    for _ in range(2):  # once, then it is there again
        assert archive_index(workspace, store, train, nested=True).equals(whole)
    assert path.read_bytes() == before
    assert caplog.text.count("index_damaged") == 1


def test_a_cut_inner_tar_is_named(tmp_path: Path, workspace: FolderStore) -> None:
    inner = make_tar([("n00000010_0.JPEG", b"x" * 5000)])
    (tmp_path / TRAIN).write_bytes(make_tar([("n00000010.tar", inner[:3000])]))
    store = FolderStore(tmp_path)
    info = store.stat(TRAIN)
    assert info is not None
    archives = FolderStore(write_archives(tmp_path / "whole"))
    source = find_archives(archives)[0].model_copy(update={"size_bytes": info.size_bytes})
    with pytest.raises(ArchiveCorrupt, match=r"n00000010.tar: member 'n00000010_0.JPEG' ends at"):
        archive_index(workspace, store, source, nested=True)


def test_a_cut_train_archive_is_refused(tmp_path: Path, workspace: FolderStore) -> None:
    path = write_archives(tmp_path) / TRAIN
    cut(path, path.stat().st_size * 2 // 3)
    store = FolderStore(tmp_path)
    with pytest.raises(ArchiveCorrupt, match="ends at byte"):
        archive_index(workspace, store, find_archives(store)[0], nested=True)


def test_images_where_tars_should_be_are_refused(tmp_path: Path, workspace: FolderStore) -> None:
    store = FolderStore(write_archives(tmp_path))
    with pytest.raises(ArchiveCorrupt, match="is no tar of a class"):
        archive_index(workspace, store, find_archives(store)[1], nested=True)


def test_a_changed_archive_of_the_same_size_is_read_again(
    tmp_path: Path, workspace: FolderStore
) -> None:
    path, store = tmp_path / TRAIN, FolderStore(tmp_path)
    names = []
    for number, name in enumerate(("one.JPEG", "two.JPEG")):
        path.write_bytes(make_tar([("n00000010.tar", make_tar([(name, b"x" * 100)]))]))
        os.utime(path, ns=(0, 1_700_000_000_000_000_000 + number))  # in the same second
        table = archive_index(workspace, store, source(store, TRAIN), nested=True)
        names += table["name"].to_pylist()
    assert names == ["one.JPEG", "two.JPEG"]


def source(store: FolderStore | MemoryStore, name: str) -> SourceFile:
    info = store.stat(name)
    assert info is not None
    return SourceFile.of(info)


class CountingStore(MemoryStore):
    """Counts the bytes that are read, and is as far away as its URI says."""

    def __init__(self, uri: str) -> None:
        super().__init__()
        self._uri, self.num_read, self.num_opened = uri, 0, 0

    @property
    def uri(self) -> str:
        return self._uri

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        body = super().read_range(key, start, stop)
        self.num_read += len(body)
        return body

    def open_input(self, key: str) -> pa.NativeFile:
        store = self
        self.num_opened += 1

        class Counting(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                body = super().read(size)
                store.num_read += len(body)
                return body

        return pa.PythonFile(Counting(self.read(key)), mode="r")


@pytest.mark.parametrize("uri", ["/local", "s3://far"])
def test_an_archive_is_read_twice_at_most_headers_and_members(uri: str) -> None:
    files = {f"n{i}": [(f"n{i}_{j}.JPEG", b"%d" % j * 40_000) for j in range(9)] for i in range(5)}
    body = make_tar([(f"{wnid}.tar", make_tar(members)) for wnid, members in files.items()])
    store = CountingStore(uri)
    store.write(TRAIN, body)
    table = scan_archive(store, source(store, TRAIN), nested=True)
    assert table.num_rows == 45
    assert store.num_read <= len(body)
    if uri == "/local":
        assert store.num_read <= 60 * 4096 + 6 * 10_240  # headers, and the padding of six tars
        assert store.num_opened == 6  # once a tar, not once a header
    store.num_read = 0
    columns = {name: table[name] for name in ("name", "start", "size_bytes")}
    texts = {"split": "train", "archive": TRAIN, "wnid": "n", "sha256": None}
    for name, text in texts.items():
        columns[name] = [text] * table.num_rows
    members = Members.schema().empty_table()
    members = Members(members.from_pydict(columns, schema=Members.schema()))
    for member, image in read_members(store, members):
        assert isinstance(member, Member)
        assert dict(files[member.name.partition("_")[0]])[member.name] == image
    assert store.num_read == 45 * 40_000


def test_a_folder_that_answers_slowly_is_asked_by_threads() -> None:
    """As one of NFS, whose address is that of a directory."""
    asked_by: set[int] = set()

    class SlowStore(CountingStore):
        def open_input(self, key: str) -> pa.NativeFile:
            asked_by.add(threading.get_ident())
            time.sleep(0.005)
            return super().open_input(key)

    files = [(f"n{i}.tar", make_tar([(f"{i}.JPEG", b"x" * i)])) for i in range(40)]
    tables = []
    for store in (SlowStore("/mounted"), CountingStore("/disk")):
        store.write(TRAIN, make_tar(files))
        tables.append(scan_archive(store, source(store, TRAIN), nested=True))
    assert len(asked_by) > 2  # this one, for the first tar, and not just another
    assert tables[0].equals(tables[1])


def test_a_sparse_archive_of_real_size_is_indexed_in_seconds(tmp_path: Path) -> None:
    """As large as ImageNet's: 1,000 tars of 138 MB, of few images each; the rest is holes."""
    num_inner, image_bytes = 1000, 46 << 20
    inner_bytes = 3 * (image_bytes + BLOCK) + 2 * BLOCK
    image_header = header_of("image.JPEG", image_bytes)
    path = tmp_path / TRAIN
    with path.open("wb") as file:
        for number in range(num_inner):
            start = number * (inner_bytes + BLOCK)
            file.seek(start)
            file.write(header_of(f"n{number:08}.tar", inner_bytes))
            for place in range(3):
                file.seek(start + BLOCK + place * (image_bytes + BLOCK))
                file.write(image_header)
        file.truncate(num_inner * (inner_bytes + BLOCK) + 2 * BLOCK)
    assert path.stat().st_size > 130 << 30
    assert path.stat().st_blocks * 512 < 100 << 20, "this file system knows no holes"
    store = FolderStore(tmp_path)
    tracemalloc.start()
    try:
        table = scan_archive(store, source(store, TRAIN), nested=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert table.num_rows == 3 * num_inner
    assert table.slice(3 * 999 + 2, 1).to_pylist() == [
        {
            "name": "image.JPEG",
            "start": 999 * (inner_bytes + BLOCK) + 2 * (image_bytes + BLOCK) + 2 * BLOCK,
            "size_bytes": image_bytes,
            "inner": "n00000999",
        }
    ]
    assert peak < 8 << 20


def header_of(name: str, size_bytes: int) -> bytes:
    block = bytearray(make_tar([(name, b"")])[:BLOCK])
    block[124:136] = b"%011o\0" % size_bytes
    block[148:155] = b"%06o\0" % sum(block[:148] + b" " * 8 + block[156:])
    return bytes(block)
