"""Objects as files below one directory: written aside, synced, then linked or renamed."""

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import IO, Final

import pyarrow as pa

from infra.errors import StoreError
from infra.store.base import ObjectInfo

ASIDE = ".writing-"
"""Prefix of unfinished files; never listed. What a crash leaves of them is deletable."""
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)
"""How a file system says that it has no hard links: FAT, exFAT, some of networks and of phones."""


class FolderStore:
    """Objects below a directory of a file system that every user of the store sees.

    A crash at any moment leaves the old object, the new one, or none; never a part.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def __repr__(self) -> str:
        return f"FolderStore({str(self._root)!r})"

    @property
    def uri(self) -> str:
        """The absolute path."""
        return str(self._root)

    def child(self, prefix: str) -> "FolderStore":
        """Return the store of a subdirectory."""
        return FolderStore(self._path(prefix))

    def with_deadline(self, deadline_s: float) -> "FolderStore":
        """Return this store: nothing is tried again."""
        return self

    def read(self, key: str) -> bytes:
        """Return a whole file."""
        with _translated(f"read {key}", self._root, may_be_missing=True):
            return _again_if_stale(self._path(key).read_bytes)

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Return bytes start to stop of a file."""
        with _translated(f"read {key}", self._root, may_be_missing=True):
            return _again_if_stale(lambda: _read_range(self._path(key), start, stop))

    def open_input(self, key: str) -> pa.NativeFile:
        """Open a file for random reads."""
        with _translated(f"open {key}", self._root, may_be_missing=True):
            return pa.OSFile(str(self._path(key)), "rb")

    def write(self, key: str, body: bytes) -> None:
        """Put a file, replacing any."""
        with self.open_output(key) as file:
            file.write(body)

    @contextmanager
    def open_output(self, key: str) -> Iterator[IO[bytes]]:
        """Write a file aside; put it in place when the block ends without an error."""
        with self._written_aside(key) as (aside, file):
            yield file
            _sync(file)
            aside.replace(self._path(key))

    def create(self, key: str, body: bytes) -> bool:
        """Put a file if there is none: link(2) decides, atomically, NFS included."""
        with self._written_aside(key) as (aside, file):
            file.write(body)
            _sync(file)
            try:
                os.link(aside, self._path(key))
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                raise StoreError(
                    f"{self._root}: this file system has no hard links, which commits need:"
                    f" {error.strerror}",
                    remedy="name a directory on another disk (ext4, XFS, NFS, Lustre have them)",
                ) from error
            return True

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """List files below a prefix, in key order."""
        # Only the folder part of the prefix is walked; S3 lists by prefix, a folder does not.
        folder = self._path(prefix.rpartition("/")[0])
        below = "".join(f"{part}/" for part in folder.relative_to(self._root).parts)
        with _translated(f"list {prefix!r}", self._root):
            found = [info for info in _infos_below(folder, below) if info.key.startswith(prefix)]
        yield from sorted(found, key=attrgetter("key"))

    def stat(self, key: str) -> ObjectInfo | None:
        """Describe one file."""
        with _translated(f"stat {key}", self._root):
            return self._info(self._path(key))

    def delete(self, key: str) -> None:
        """Remove a file."""
        with _translated(f"delete {key}", self._root):
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        parts = PurePosixPath(key).parts
        if PurePosixPath(key).is_absolute() or ".." in parts:
            raise ValueError(f"not a key below the store: {key!r}")
        return self._root.joinpath(*parts)

    def _info(self, path: Path) -> ObjectInfo | None:
        return _info_of(path.relative_to(self._root).as_posix(), path.stat)

    @contextmanager
    def _written_aside(self, key: str) -> Iterator[tuple[Path, IO[bytes]]]:
        path = self._path(key)
        aside = path.with_name(f"{ASIDE}{secrets.token_hex(8)}")
        with _translated(f"write {key}", self._root):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with aside.open("xb") as file:
                    yield aside, file
                _sync_folder(path.parent)
            finally:
                aside.unlink(missing_ok=True)


def _read_range(path: Path, start: int, stop: int) -> bytes:
    with path.open("rb") as file:
        return os.pread(file.fileno(), stop - start, start)


def _again_if_stale(read: Callable[[], bytes]) -> bytes:
    """Read once more, by a new handle, what another host replaced while NFS had the old one."""
    try:
        return read()
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return read()


def _infos_below(folder: Path, prefix: str) -> Iterator[ObjectInfo]:
    """Describe the files below a folder; their keys begin with the prefix. No order.

    Of a million files each costs one look and no path object.
    """
    waiting = [(str(folder), prefix)]
    while waiting:
        path, below = waiting.pop()
        for entry in _entries(path):
            key = f"{below}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                waiting.append((entry.path, f"{key}/"))
            elif not entry.name.startswith(ASIDE) and (info := _info_of(key, entry.stat)):
                yield info


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [*entries]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        # Never there, gone during the walk, or not ours to see (such as lost+found).
        return []


def _info_of(key: str, look: Callable[[], os.stat_result]) -> ObjectInfo | None:
    """Describe what a look finds; None for what is gone, or is no file."""
    try:
        status = look()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    # A copy may keep the mtime; the ctime says when it was put here.
    written_s = max(status.st_mtime, status.st_ctime)
    return ObjectInfo(key, status.st_size, str(status.st_mtime_ns), written_s)


@contextmanager
def _translated(what: str, root: Path, *, may_be_missing: bool = False) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if may_be_missing and isinstance(error, FileNotFoundError):
            raise
        raise StoreError(
            f"{root}: cannot {what}: {error.strerror or error}",
            remedy="check that the directory exists, is writable and has room, or name another",
        ) from error


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    # Some network file systems refuse to sync a folder; the file itself is synced.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
