"""Where objects live: one interface, one implementation a place."""

from infra.store.base import ObjectInfo, ObjectStore, is_remote
from infra.store.folder import FolderStore
from infra.store.memory import MemoryStore
from infra.store.open import open_store
from infra.store.range_file import RangeFile
from infra.store.s3 import S3Store

__all__ = [
    "FolderStore",
    "MemoryStore",
    "ObjectInfo",
    "ObjectStore",
    "RangeFile",
    "S3Store",
    "is_remote",
    "open_store",
]
