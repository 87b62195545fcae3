"""Read members' bytes out of their archives, some ahead of use."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Final

from infra.store import ObjectStore, is_remote
from preprocessing.errors import ArchiveCorrupt, ArchiveMissing
from preprocessing.sources.members import Member, Members

_NUM_AHEAD: Final = 16
"""A remote store's answer takes longer than the decoding of an image; memory stays at some MB."""
_LOCAL_BATCH: Final = 8
"""A file's bytes are there at once: handing a thread one member costs thrice what reading does."""

_Read = list[tuple[Member, bytes]]


def read_members(store: ObjectStore, members: Members) -> Iterator[tuple[Member, bytes]]:
    """Yield every member with its bytes, in order.

    Raises:
        ArchiveMissing: an archive is gone.
        ArchiveCorrupt: an archive ends before a member does.
    """
    batch = 1 if is_remote(store) else _LOCAL_BATCH
    waiting, pending = iter(members), deque[Future[_Read]]()
    with ThreadPoolExecutor(max_workers=8) as threads:
        while some := list(islice(waiting, batch)):
            pending.append(threads.submit(_read_all, store, some))
            if len(pending) * batch > _NUM_AHEAD:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()


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
