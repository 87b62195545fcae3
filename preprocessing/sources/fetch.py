"""Read members' bytes out of their archives, some ahead of use."""

import os
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Final

import pyarrow as pa

from infra.errors import StoreError
from infra.store import ObjectStore, is_remote
from infra.thread_pool import thread_pool
from preprocessing.errors import ArchiveCorrupt, ArchiveMissing
from preprocessing.sources.members import Member, Members

NUM_AHEAD: Final = 16
"""A disk takes longer to answer than an image to be decoded."""
NUM_FAR_AHEAD: Final = 64
_FAR_AT_ONCE: Final = 32
"""S3 may take 100 ms to the first byte, and a core decodes 250 photographs a second. The client has
connections for twice as many; a task is a process of its own."""
_AHEAD_BYTES: Final = 64 << 20
"""Large members are not read so far ahead."""
_OPEN_ARCHIVES: Final = 2 * NUM_AHEAD
"""More than are used ahead: none is closed that is still to be read."""


def read_members(store: ObjectStore, members: Members) -> Iterator[tuple[Member, bytes]]:
    """Yield every member with its bytes, in order.

    Raises:
        ArchiveMissing: an archive is gone.
        ArchiveCorrupt: an archive ends before a member does.
        StoreError: the place itself fails.
    """
    return _read_far(store, members) if is_remote(store) else _read_near(store, members)


def _read_far(store: ObjectStore, members: Members) -> Iterator[tuple[Member, bytes]]:
    """Let threads wait for what is asked for ahead."""
    pending, ahead_bytes = deque[tuple[Member, Future[bytes]]](), 0
    with thread_pool(_FAR_AT_ONCE) as threads:
        for member in members:
            while pending and (
                len(pending) >= NUM_FAR_AHEAD or ahead_bytes + member.size_bytes > _AHEAD_BYTES
            ):
                first, future = pending.popleft()
                ahead_bytes -= first.size_bytes
                yield first, future.result()
            pending.append((member, threads.submit(_read_range, store, member)))
            ahead_bytes += member.size_bytes
        while pending:
            first, future = pending.popleft()
            yield first, future.result()


def _read_near(store: ObjectStore, members: Members) -> Iterator[tuple[Member, bytes]]:
    """Let the system fetch ahead: threads cost more than reading (docs/experiments.md)."""
    ahead = deque[tuple[Member, pa.NativeFile]]()
    archives = _OpenArchives(store)
    try:
        for member in members:
            archive = archives.of(member)
            _announce(archive, member)
            ahead.append((member, archive))
            if len(ahead) > NUM_AHEAD:
                yield _read_open(store, *ahead.popleft())
        while ahead:
            yield _read_open(store, *ahead.popleft())
    finally:
        archives.close()


class _OpenArchives:
    """The archives that were used last, kept open."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._files: dict[str, pa.NativeFile] = {}
        """The one that was used last stands last."""

    def of(self, member: Member) -> pa.NativeFile:
        with _missing_named(self._store, member):
            file = self._files.pop(member.archive, None) or self._store.open_input(member.archive)
        self._files[member.archive] = file
        if len(self._files) > _OPEN_ARCHIVES:
            self._files.pop(next(iter(self._files))).close()
        return file

    def close(self) -> None:
        for file in self._files.values():
            file.close()


def _announce(archive: pa.NativeFile, member: Member) -> None:
    """Have the system read a member of a file, and do not wait for it. Only a hint."""
    if sys.platform == "linux" and isinstance(archive, pa.OSFile):
        with suppress(OSError):
            os.posix_fadvise(
                archive.fileno(), member.start, member.size_bytes, os.POSIX_FADV_WILLNEED
            )


def _read_open(store: ObjectStore, member: Member, archive: pa.NativeFile) -> tuple[Member, bytes]:
    try:
        body: bytes = archive.read_at(member.size_bytes, member.start)
    except OSError as error:
        raise StoreError(
            f"{store.uri}: cannot read {member.archive}: {error}",
            remedy="check the disk, and run again",
        ) from error
    return member, _whole(store, member, body)


def _read_range(store: ObjectStore, member: Member) -> bytes:
    with _missing_named(store, member):
        body = store.read_range(member.archive, member.start, member.start + member.size_bytes)
    return _whole(store, member, body)


@contextmanager
def _missing_named(store: ObjectStore, member: Member) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ArchiveMissing(
            f"{store.uri}/{member.archive} is gone", remedy="put it back and run again"
        ) from error


def _whole(store: ObjectStore, member: Member, body: bytes) -> bytes:
    if len(body) < member.size_bytes:
        stop = member.start + member.size_bytes
        raise ArchiveCorrupt(
            f"{store.uri}/{member.archive}: member {member.name!r} ends at byte {stop:,},"
            f" the archive at {member.start + len(body):,}",
            remedy="the archive changed after it was indexed: run again",
        )
    return body
