"""Where objects live: one interface, one implementation a place."""

from infra.store.base import ObjectInfo, ObjectStore
from infra.store.folder import FolderStore
from infra.store.memory import MemoryStore
from infra.store.open import open_store

__all__ = ["FolderStore", "MemoryStore", "ObjectInfo", "ObjectStore", "open_store"]
