import io
from pathlib import Path

import pytest
from jpeg_archives import DEVKIT, TRAIN, VAL, write_archives

from infra.store import FolderStore, MemoryStore, RangeFile
from preprocessing.errors import ArchiveMissing
from preprocessing.sources.archives import find_archives


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    write_archives(tmp_path)
    (tmp_path / DEVKIT).unlink()
    with pytest.raises(ArchiveMissing, match=f"holds no {DEVKIT}") as caught:
        find_archives(FolderStore(tmp_path))
    assert all(name in caught.value.remedy for name in (TRAIN, VAL, DEVKIT))


def test_archives_are_described_as_their_store_shows_them(tmp_path: Path) -> None:
    folder = write_archives(tmp_path)
    status = (folder / TRAIN).stat()
    train = find_archives(FolderStore(folder))[0]
    assert (train.name, train.size_bytes, train.version) == (
        TRAIN,
        status.st_size,
        str(status.st_mtime_ns),
    )


def test_a_range_file_reads_like_a_file() -> None:
    body = bytes(range(256)) * 100
    store = MemoryStore()
    store.write("x", body)
    file, expected = RangeFile(store, "x", 100, 20_000), io.BytesIO(body[100:20_000])
    for position, count in [(0, 10), (9_000, 9_000), (8_999, 2), (19_890, 100), (50_000, 1)]:
        file.seek(position)
        expected.seek(position)
        assert file.read(count) == expected.read(count)
        assert file.tell() == expected.tell()
