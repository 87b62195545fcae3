"""A place for a trial: its own, and empty again afterwards."""

import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from infra.store.base import ObjectStore
from infra.store.folder import FolderStore


@contextmanager
def scratch_place(store: ObjectStore, name: str) -> Iterator[ObjectStore]:
    """Give the block a new folder of a store, named after what it is for; leave nothing of it."""
    place = store.child(f"{name}-{secrets.token_hex(4)}")
    try:
        yield place
    finally:
        with ThreadPoolExecutor(max_workers=16) as threads:
            list(threads.map(lambda info: place.delete(info.key), list(place.list())))
        if isinstance(place, FolderStore):
            shutil.rmtree(place.uri, ignore_errors=True)
