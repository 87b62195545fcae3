"""Read members' bytes out of their archives, some ahead of use."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from infra.store import ObjectStore
from preprocessing.errors import ArchiveCorrupt, ArchiveMissing
from preprocessing.members import Member, Members

_NUM_AHEAD: Final = 16
"""A remote store's answer takes longer than the decoding of an image; memory stays at some MB."""


def read_members(store: ObjectStore, members: Members) -> Iterator[tuple[Member, bytes]]:
    """Yield every member with its bytes, in order.

    Raises:
        ArchiveMissing: an archive is gone.
        ArchiveCorrupt: an archive ends before a member does.
    """
    pending: deque[tuple[Member, Future[bytes]]] = deque()
    with ThreadPoolExecutor(max_workers=8) as threads:
        for member in members:
            pending.append((member, threads.submit(_read, store, member)))
            if len(pending) > _NUM_AHEAD:
                yield _first(pending)
        while pending:
            yield _first(pending)


def _first(pending: deque[tuple[Member, Future[bytes]]]) -> tuple[Member, bytes]:
    member, body = pending.popleft()
    return member, body.result()


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
