"""What killed writers leave in a store, which no reader and no listing shows.

In a directory files named `.writing-…`; in S3 multipart uploads that were neither completed nor
aborted, which are kept and billed.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.store.base import ObjectStore
from infra.store.folder import ASIDE, FolderStore

_ASIDE_NAME: Final = re.compile(rf"{re.escape(ASIDE)}[0-9a-f]{{16}}")


@dataclass(frozen=True, slots=True)
class Unfinished:
    """One object that somebody writes, or began to write and never will."""

    key: str
    """Of the file aside in a directory, of the object it would become in S3."""
    size_bytes: int
    since_s: float
    """When it was last written in a directory, when it was begun in S3: seconds since 1970."""
    upload_id: str = ""
    """Of the multipart upload, in S3."""


def list_unfinished(store: ObjectStore, prefix: str) -> list[Unfinished]:
    """List what is unfinished below a folder of a store, by key.

    Whether someone still writes it is for the caller to find out.

    Raises:
        StoreError: the store refuses, or stayed away.
    """
    if isinstance(store, FolderStore):
        found = list(_files_aside(Path(store.uri), prefix))
    elif store.uri.startswith("s3://"):
        from infra.store.s3_unfinished import list_uploads

        found = [
            Unfinished(item.key, item.size_bytes, item.since_s, item.upload_id)
            for item in list_uploads(store, prefix)
        ]
    else:
        found = []
    return sorted(found, key=lambda item: (item.key, item.upload_id))


def remove_unfinished(store: ObjectStore, item: Unfinished) -> None:
    """Remove what `list_unfinished` listed; whoever still writes it gets an error."""
    if item.upload_id:
        from infra.store.s3_unfinished import abort_upload

        abort_upload(store, item.key, item.upload_id)
    else:
        store.delete(item.key)


def _files_aside(root: Path, prefix: str) -> Iterator[Unfinished]:
    for parent, _, names in os.walk(root / prefix):
        for name in names:
            path = Path(parent, name)
            if not _ASIDE_NAME.fullmatch(name) or path.is_symlink():
                continue
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # finished meanwhile
            yield Unfinished(path.relative_to(root).as_posix(), status.st_size, status.st_mtime)
