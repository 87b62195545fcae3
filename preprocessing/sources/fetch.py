"""Read members' bytes out of their archives, some ahead of use."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from infra.store import ObjectStore, is_remote
from preprocessing.errors import ArchiveCorrupt, ArchiveMissing
from preprocessing.sources.members import Member, Members

_NUM_AHEAD: Final = 16
"""A remote store's answer takes longer than the decoding of an image; memory stays at some MB."""
_LOCAL_BATCH: Final = 8
"""A file's bytes are there at once: handing a thread one member costs thrice what reading does."""

_BATCH_BYTES: Final = 16 << 20
_AHEAD_BYTES: Final = 64 << 20
"""Large members are not read so far ahead."""

_Read = list[tuple[Member, bytes]]


def read_members(store: ObjectStore, members: Members) -> Iterator[tuple[Member, bytes]]:
    """Yield every member with its bytes, in order.

    Raises:
        ArchiveMissing: an archive is gone.
        ArchiveCorrupt: an archive ends before a member does.
    """
    count = 1 if is_remote(store) else _LOCAL_BATCH
    pending, ahead_bytes = deque[tuple[int, Future[_Read]]](), 0
    with ThreadPoolExecutor(max_workers=8) as threads:
        for batch, size_bytes in _batches(members, count):
            while pending and ahead_bytes + size_bytes > _AHEAD_BYTES:
                ahead_bytes -= pending[0][0]
                yield from pending.popleft()[1].result()
            pending.append((size_bytes, threads.submit(_read_all, store, batch)))
            ahead_bytes += size_bytes
            if len(pending) * count > _NUM_AHEAD:
                ahead_bytes -= pending[0][0]
                yield from pending.popleft()[1].result()
        while pending:
            yield from pending.popleft()[1].result()


def _batches(members: Members, count: int) -> Iterator[tuple[list[Member], int]]:
    """Yield members that are read by one thread, and their bytes in all."""
    batch: list[Member] = []
    size_bytes = 0
    for member in members:
        if batch and (len(batch) == count or size_bytes + member.size_bytes > _BATCH_BYTES):
            yield batch, size_bytes
            batch, size_bytes = [], 0
        batch.append(member)
        size_bytes += member.size_bytes
    if batch:
        yield batch, size_bytes


def _read_all(store: ObjectStore, members: Sequence[Member]) -> _Read:
    return [(member, _read(store, member)) for member in members]


def _read(store: ObjectStore, member: Member) -> bytes:
    stop = member.start + member.size_bytes
    try:
        body = store.read_range(member.archive, member.start, stop)
    except FileNotFoundError as error:
        raise ArchiveMissing(
            f"{store.uri}/{member.archive} is gone", remedy="put it back and run again"
        ) from error
    if len(body) < member.size_bytes:
        raise ArchiveCorrupt(
            f"{store.uri}/{member.archive}: member {member.name!r} ends at byte {stop:,},"
            f" the archive at {member.start + len(body):,}",
            remedy="the archive changed after it was indexed: run again",
        )
    return body
