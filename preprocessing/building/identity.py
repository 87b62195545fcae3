"""Are these still the archives a committed dataset was made from? Names and sizes do not say.

A dataset's folder holds `sources/<digest>.json` for each set of files (names, sizes, versions) it
was made from or compared with; for any other set the members' own digests are compared.
"""

import hashlib
import logging
import os
from functools import partial
from typing import Final

import pyarrow as pa

from infra.canonical import canonical_json
from infra.commit import read_object
from infra.errors import DataError, StoreError
from infra.map_ahead import map_ahead
from infra.parquet import read_parquet
from infra.progress import NotedReport
from infra.store import ObjectStore, is_remote
from preprocessing.dataset.manifest import Manifest
from preprocessing.sources.dataset_index import DatasetIndex
from preprocessing.sources.fetch import read_members
from preprocessing.sources.members import Member, Members

FOLDER: Final = "sources/"
PIECE_ROWS: Final = 2048
"""Members that a thread compares before it takes others: soon over when somebody interrupts."""
MOST_THREADS: Final = 4
"""A disk gives no more than so many can digest."""

log = logging.getLogger(__name__)


def record_source(store: ObjectStore, index: DatasetIndex) -> None:
    """Note that the dataset at a store holds what these files hold, as they are now."""
    body = canonical_json({"files": [source.model_dump() for source in index.sources]})
    store.create(_path(index), body)


def forget_source(store: ObjectStore, index: DatasetIndex) -> None:
    """Take back what `record_source` noted."""
    store.delete(_path(index))


def check_source(
    store: ObjectStore, manifest: Manifest, index: DatasetIndex, progress: NotedReport
) -> None:
    """Compare the archives' members with a committed dataset's, unless that was done before.

    Raises:
        DataError: a member has other bytes than the dataset was made from; names the first.
        ArchiveCorrupt: an archive ends early.
    """
    if store.stat(_path(index)) is not None:
        return
    log.warning(
        "archives_look_changed uri=%s: all %d images are compared with those of %s",
        index.store.uri,
        len(index.members),
        store.uri,
    )
    table = read_parquet(read_object(store, manifest.members))
    # In the order of their bytes, so that a disk reads straight on.
    table = table.sort_by([("archive", "ascending"), ("start", "ascending")])
    pieces = [table.slice(start, PIECE_ROWS) for start in range(0, len(table), PIECE_ROWS)]
    done = 0
    for count, other in map_ahead(
        partial(_first_other, index.store), pieces, _threads(index.store)
    ):
        if other is not None:
            raise DataError(
                f"{index.store.uri}/{other.archive}: member {other.name!r} is not the one that"
                f" {store.uri} was made from",
                remedy="restore the archive, or delete that dataset's folder to make it anew",
            )
        done += count
        progress(done, len(table), "compared")
    try:
        record_source(store, index)
    except StoreError as error:  # another's folder, which may be read only
        log.warning(
            "comparison_not_noted uri=%s: it will be made again: %s", store.uri, error.problem
        )


def _threads(store: ObjectStore) -> int:
    # From afar members already come by many threads, slower than one digests them.
    return 1 if is_remote(store) else min(MOST_THREADS, os.cpu_count() or 1)


def _first_other(store: ObjectStore, piece: pa.Table) -> tuple[int, Member | None]:
    """Compare some rows of a list of members; return their count, and the first that differs."""
    columns = {name: piece["member" if name == "name" else name] for name in Member.__slots__}
    members = read_members(store, Members(pa.table(columns, schema=Members.schema())))
    for (member, body), expected in zip(members, piece["sha256"].to_pylist(), strict=True):
        if hashlib.sha256(body).hexdigest() != expected:
            return len(piece), member
    return len(piece), None


def _path(index: DatasetIndex) -> str:
    return f"{FOLDER}{index.source_digest}.json"
