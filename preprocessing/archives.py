"""Stage 1 of 11, archives: find the source tars, and walk one without unpacking it.

The standard library's tarfile passes over some damage in silence (a cut header, garbage after a
member), so every member's end and the end-of-archive block are checked here.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from infra.commit import Frozen
from infra.store import ObjectStore, RangeFile
from preprocessing.errors import ArchiveCorrupt, ArchiveMissing

TRAIN_ARCHIVE: Final = "ILSVRC2012_img_train.tar"
VAL_ARCHIVE: Final = "ILSVRC2012_img_val.tar"
DEVKIT_ARCHIVE: Final = "ILSVRC2012_devkit_t12.tar.gz"

_AGAIN: Final = "download the archive again, and compare its MD5 with the published one"


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


def _check_end(file: RangeFile, offset: int, where: str) -> None:
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
