"""Stage 1 of 11, archives: find the source tars, and walk one without unpacking it.

The standard library's tarfile passes over some damage in silence (a cut header, garbage after a
member), so every member's end and the end-of-archive block are checked here.
"""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from infra.commit import Frozen
from infra.store import ObjectStore
from preprocessing.errors import ArchiveCorrupt, ArchiveMissing

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

TRAIN_ARCHIVE: Final = "ILSVRC2012_img_train.tar"
VAL_ARCHIVE: Final = "ILSVRC2012_img_val.tar"
DEVKIT_ARCHIVE: Final = "ILSVRC2012_devkit_t12.tar.gz"

_AGAIN: Final = "download the archive again, and compare its MD5 with the published one"
_LOCAL_READ_AHEAD_BYTES: Final = 4096  # a header; the disk seeks for nothing
_REMOTE_READ_AHEAD_BYTES: Final = 8 << 20  # a request costs as much as some megabytes


class SourceFile(Frozen):
    """One file images come from, as its store shows it; `version` is its ETag or mtime."""

    name: str
    size_bytes: int
    version: str


@dataclass(frozen=True, slots=True)
class TarMember:
    """One file in a tar: its bytes are start (inclusive) to start + size_bytes of the object."""

    name: str
    start: int
    size_bytes: int


def find_archives(store: ObjectStore) -> tuple[SourceFile, ...]:
    """Describe the three official archives: train, val, devkit.

    Raises:
        ArchiveMissing: one is not there.
    """
    return tuple(_find(store, name) for name in (TRAIN_ARCHIVE, VAL_ARCHIVE, DEVKIT_ARCHIVE))


def _find(store: ObjectStore, name: str) -> SourceFile:
    info = store.stat(name)
    if info is None:
        raise ArchiveMissing(
            f"{store.uri} holds no {name}",
            remedy="put the three official archives there, or name their place in dataset.archives",
        )
    return SourceFile(name=name, size_bytes=info.size_bytes, version=info.version)


def walk_tar(
    store: ObjectStore, key: str, start: int, stop: int, inner: str | None = None
) -> Iterator[TarMember]:
    """Yield the files of the tar in bytes start to stop of an object, in archive order.

    Args:
        inner: name of that tar, when it is itself a member of the object.

    Raises:
        ArchiveCorrupt: it is no tar, is cut off, or holds a member that is no plain file or
            whose name leaves the archive.
    """
    where = f"{store.uri}/{key}" + (f": {inner}" if inner else "")
    file = RangeFile(store, key, start, stop)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            yield from _members(tar, where, start, stop - start)
            _check_end(file, tar.offset, where)
    except (tarfile.TarError, ValueError) as error:
        raise ArchiveCorrupt(f"{where} is no tar: {error}", remedy=_AGAIN) from error


def _members(tar: tarfile.TarFile, where: str, start: int, size_bytes: int) -> Iterator[TarMember]:
    while (info := tar.next()) is not None:
        # tarfile would keep every header it has seen.
        tar.members.clear()  # type: ignore[attr-defined]  # typeshed does not list it
        stop = info.offset_data + info.size
        if stop > size_bytes:
            raise ArchiveCorrupt(
                f"{where}: member {info.name!r} ends at byte {stop:,}, the archive at"
                f" {size_bytes:,}",
                remedy=_AGAIN,
            )
        if not info.isdir():
            _refuse_hostile(info, where)
            yield TarMember(info.name.removeprefix("./"), start + info.offset_data, info.size)


def _refuse_hostile(info: tarfile.TarInfo, where: str) -> None:
    path = PurePosixPath(info.name)
    if path.is_absolute() or ".." in path.parts:
        problem = "has a name that leaves the archive"
    elif not info.isreg() or info.issparse():
        problem = "is no plain file"
    elif any("\ud800" <= letter <= "\udfff" for letter in info.name):
        problem = "has a name that is not UTF-8"
    else:
        return
    raise ArchiveCorrupt(
        f"{where}: member {info.name!r} {problem}",
        remedy="this is not an official archive: make it again from plain files",
    )


def _check_end(file: "RangeFile", offset: int, where: str) -> None:
    file.seek(offset)
    block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise ArchiveCorrupt(
            f"{where} is cut off at byte {offset + len(block):,}: its end-of-archive block is"
            " missing",
            remedy=_AGAIN,
        )
    if any(block):
        raise ArchiveCorrupt(f"{where} has no member header at byte {offset:,}", remedy=_AGAIN)


def is_remote(store: ObjectStore) -> bool:
    """Whether each read is a request over a network."""
    return "://" in store.uri


class RangeFile(io.RawIOBase):
    """Bytes start to stop of a stored object as a seekable file, read ahead in one buffer.

    A read returns fewer bytes than asked for at the end only.
    """

    def __init__(self, store: ObjectStore, key: str, start: int, stop: int) -> None:
        super().__init__()
        self._store, self._key = store, key
        self._start, self._size = start, stop - start
        self._position = 0
        self._buffer, self._buffer_start = b"", 0
        remote = is_remote(store)
        self._read_ahead = _REMOTE_READ_AHEAD_BYTES if remote else _LOCAL_READ_AHEAD_BYTES

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Return the position, counted from the range's start."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; positions past the end are allowed and read as empty."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, target: "WriteableBuffer") -> int:
        """Fill a buffer from the position on."""
        view = memoryview(target).cast("B")
        count = max(0, min(len(view), self._size - self._position))
        offset = self._position - self._buffer_start
        if not 0 <= offset <= len(self._buffer) - count:
            self._fetch(count)
            offset = 0
        piece = self._buffer[offset : offset + count]
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def _fetch(self, count: int) -> None:
        stop = min(self._position + max(count, self._read_ahead), self._size)
        body = self._store.read_range(self._key, self._start + self._position, self._start + stop)
        self._buffer, self._buffer_start = body, self._position
