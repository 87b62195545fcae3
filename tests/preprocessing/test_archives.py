import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jpeg_archives import DEVKIT, TRAIN, cut, make_tar, write_archives

from infra.store import FolderStore, MemoryStore
from preprocessing.archives import RangeFile, TarMember, find_archives, walk_tar
from preprocessing.errors import ArchiveCorrupt, ArchiveMissing

FILES = [("a.JPEG", b"a" * 700), ("b.JPEG", b""), ("c.JPEG", b"c" * 512)]


def walk(body: bytes) -> list[TarMember]:
    store = MemoryStore()
    store.write("x.tar", body)
    return list(walk_tar(store, "x.tar", 0, len(body)))


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    write_archives(tmp_path)
    (tmp_path / DEVKIT).unlink()
    with pytest.raises(ArchiveMissing, match=f"holds no {DEVKIT}"):
        find_archives(FolderStore(tmp_path))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_where_the_walk_says(format: int) -> None:
    files = [*FILES, ("d" * 90 + "/" + "e" * 120, b"long name")]
    body = make_tar(files, format) if format != tarfile.USTAR_FORMAT else make_tar(FILES)
    found = [(m.name, body[m.start : m.start + m.size_bytes]) for m in walk(body)]
    assert found == (files if format != tarfile.USTAR_FORMAT else FILES)


def test_a_tar_inside_an_object_is_walked_in_place() -> None:
    inner = make_tar(FILES)
    body = make_tar([("n1.tar", inner)])
    store = MemoryStore()
    store.write("x.tar", body)
    (tar,) = walk_tar(store, "x.tar", 0, len(body))
    members = walk_tar(store, "x.tar", tar.start, tar.start + tar.size_bytes, inner=tar.name)
    assert [body[m.start : m.start + m.size_bytes] for m in members] == [b for _, b in FILES]


@given(st.integers(min_value=0, max_value=512 * 7 - 1))
def test_every_cut_is_noticed(size_bytes: int) -> None:
    body = make_tar(FILES)  # three headers, 2 + 0 + 1 blocks of data, then zeros
    with pytest.raises(ArchiveCorrupt):
        walk(body[:size_bytes])


def test_a_cut_member_is_named_with_its_bytes(tmp_path: Path) -> None:
    cut(write_archives(tmp_path) / TRAIN, 5_000)
    store = FolderStore(tmp_path)
    with pytest.raises(
        ArchiveCorrupt, match=r"'n00000010.tar' ends at byte [\d,]+, the archive at"
    ):
        list(walk_tar(store, TRAIN, 0, 5_000))


def test_garbage_after_a_member_is_not_the_end() -> None:
    body = make_tar(FILES)
    with pytest.raises(ArchiveCorrupt, match="no member header at byte 3,072"):
        walk(body[: 512 * 6] + b"garbage!" * 1000)


@pytest.mark.parametrize("body", [b"", b"<html>not found</html>" * 100, b"x" * 511])
def test_what_is_no_tar_is_called_so(body: bytes) -> None:
    with pytest.raises(ArchiveCorrupt, match="is no tar"):
        walk(body)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("/etc/passwd", tarfile.REGTYPE),
        ("a/../../b", tarfile.REGTYPE),
        ("link", tarfile.SYMTYPE),
        ("hard", tarfile.LNKTYPE),
        ("device", tarfile.CHRTYPE),
    ],
)
def test_a_hostile_member_is_refused_by_name(name: str, kind: bytes) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "elsewhere"
        tar.addfile(info)
    with pytest.raises(ArchiveCorrupt, match=name):
        walk(out.getvalue())


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
