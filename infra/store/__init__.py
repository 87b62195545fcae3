"""Where objects live: one interface, one implementation a place.

That of S3 is imported when it is asked for: a registered model brings this code along, and needs no
client of S3 where it answers.
"""

from infra.store.base import ObjectInfo, ObjectStore, is_remote
from infra.store.folder import FolderStore
from infra.store.memory import MemoryStore
from infra.store.open import open_parent, open_store
from infra.store.range_file import RangeFile

__all__ = [
    "FolderStore",
    "MemoryStore",
    "ObjectInfo",
    "ObjectStore",
    "RangeFile",
    "is_remote",
    "open_parent",
    "open_store",
]
