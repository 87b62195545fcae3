"""Stage 2 of 11, index: one pass over an archive's headers → where every member lies.

Nothing is unpacked. An index is kept in the workspace for as long as its archive's size and
version (mtime, ETag) stay what they were.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Final, TypeVar

import pyarrow as pa
from pydantic import ValidationError

from infra.canonical import digest_of
from infra.commit import (
    Frozen,
    StoredObject,
    commit_receipt,
    read_object,
    read_receipt,
    write_object,
)
from infra.errors import ObjectCorrupt
from infra.parquet import parquet_bytes, read_parquet
from infra.store import ObjectStore, is_remote
from preprocessing.errors import ArchiveCorrupt
from preprocessing.sources.archives import SourceFile
from preprocessing.sources.tar import BLOCK, TarMember, walk_tar

INDEX_VERSION: Final = 2
"""Goes up when the same archive would give another index."""
COLUMNS: Final = pa.schema(
    [
        ("name", pa.string()),
        ("start", pa.int64()),
        ("size_bytes", pa.int64()),
        ("inner", pa.string()),  # stem of the tar inside the archive; empty where there is none
    ]
)
_MEMBERS_AT_ONCE: Final = 1 << 16
_PARTS_AT_ONCE: Final = 8
_SLOW_S: Final = 100e-6
"""Of waiting for one header: from a disk's cache it takes some microseconds, from NFS hundreds."""

Part = TypeVar("Part")

log = logging.getLogger(__name__)


class IndexReceipt(Frozen):
    """An index that exists: of which archives, and its table."""

    uri: str
    sources: tuple[SourceFile, ...]
    num_members: int
    table: StoredObject


def archive_index(
    workspace: ObjectStore, store: ObjectStore, source: SourceFile, *, nested: bool
) -> pa.Table:
    """Return the index of one archive, the kept one if there is one: columns as COLUMNS.

    Args:
        nested: its members are tars, and theirs are what is indexed.

    Raises:
        ArchiveCorrupt: the archive, or a tar in it, is cut off, is no tar, or holds nothing.
    """
    key = index_key(store, source, nested=nested)
    return kept_or_scanned(
        workspace, key, store, (source,), lambda: scan_archive(store, source, nested=nested)
    )


def index_key(store: ObjectStore, source: SourceFile, *, nested: bool) -> str:
    """Hex SHA-256 of what decides the index of one archive."""
    return digest_of([INDEX_VERSION, f"{store.uri}/{source.name}", source.model_dump(), nested])


def kept_or_scanned(
    workspace: ObjectStore,
    key: str,
    store: ObjectStore,
    sources: tuple[SourceFile, ...],
    scan: Callable[[], pa.Table],
) -> pa.Table:
    """Return the index that the workspace keeps under a key, else make and keep it.

    Args:
        key: digest of all that decides the index, the sources' versions included.
    """
    folder = workspace.child(f"indexes/{key}")
    kept = _kept_index(folder)
    if kept is not None:
        return kept
    started_at = time.monotonic()
    table = scan()
    _keep(folder, store.uri, sources, table)
    log.info(
        "archives_indexed name=%s num_archives=%d num_members=%d elapsed_s=%.1f",
        sources[0].name,
        len(sources),
        table.num_rows,
        time.monotonic() - started_at,
    )
    return table


def scan_archive(store: ObjectStore, source: SourceFile, *, nested: bool) -> pa.Table:
    """Walk an archive's headers; see `archive_index`."""
    if not nested:
        table = _table(walk_tar(store, source.name, 0, source.size_bytes), "")
    else:
        # A tar of tars has few headers, far apart: what is read ahead would be read for nothing.
        outer = list(walk_tar(store, source.name, 0, source.size_bytes, read_ahead_bytes=BLOCK))
        tables = scan_each(store, outer, lambda tar: _scan_inner(store, source.name, tar))
        table = pa.concat_tables([COLUMNS.empty_table(), *tables])
    if table.num_rows == 0:
        raise ArchiveCorrupt(
            f"{store.uri}/{source.name} holds no members", remedy="download the archive again"
        )
    return table.combine_chunks()


def scan_each(
    store: ObjectStore, parts: Sequence[Part], scan: Callable[[Part], pa.Table]
) -> list[pa.Table]:
    """Scan parts of archives, some at once where that is waiting; their tables in the same order.

    A remote store answers many requests at once; on a disk, threads would only share one lock. But
    what looks like one may be mounted from afar, so the time that the first part waits decides.
    """
    first: list[pa.Table] = []
    waits = is_remote(store)
    if parts and not waits:
        started_s = time.perf_counter() - time.thread_time()
        first = [scan(parts[0])]
        waited_s = time.perf_counter() - time.thread_time() - started_s
        waits = waited_s > _SLOW_S * first[0].num_rows
    with ThreadPoolExecutor(max_workers=_PARTS_AT_ONCE if waits else 1) as threads:
        return [*first, *threads.map(scan, parts[len(first) :])]


def _scan_inner(store: ObjectStore, key: str, tar: TarMember) -> pa.Table:
    if not tar.name.endswith(".tar"):
        raise ArchiveCorrupt(
            f"{store.uri}/{key}: member {tar.name!r} is no tar of a class",
            remedy="name the official archive, which holds one nXXXXXXXX.tar a class",
        )
    members = walk_tar(store, key, tar.start, tar.start + tar.size_bytes, inner=tar.name)
    return _table(members, tar.name.rpartition("/")[2].removesuffix(".tar"))


def _table(walk: Iterable[TarMember], inner: str) -> pa.Table:
    """Put a walk into columns, piece by piece: they take a third of what the members would."""
    walk = iter(walk)
    tables = [COLUMNS.empty_table()]
    while members := list(islice(walk, _MEMBERS_AT_ONCE)):
        columns = {
            "name": [member.name for member in members],
            "start": [member.start for member in members],
            "size_bytes": [member.size_bytes for member in members],
            "inner": [inner] * len(members),
        }
        tables.append(pa.table(columns, schema=COLUMNS))
    return pa.concat_tables(tables)


def _kept_index(folder: ObjectStore) -> pa.Table | None:
    body = read_receipt(folder, "index.json")
    if body is None:
        return None
    try:
        receipt = IndexReceipt.model_validate_json(body)
        return read_parquet(read_object(folder, receipt.table))
    except (ValidationError, ObjectCorrupt):
        log.warning("index_damaged uri=%s; the archive is read again", folder.uri)
        folder.delete("index.json")  # it would stand in the way of the new one
        return None


def _keep(folder: ObjectStore, uri: str, sources: tuple[SourceFile, ...], table: pa.Table) -> None:
    written = write_object(folder, "index.parquet", parquet_bytes(table))
    receipt = IndexReceipt(uri=uri, sources=sources, num_members=table.num_rows, table=written)
    commit_receipt(folder, "index.json", receipt.model_dump_json().encode())
