"""The reference store: a dictionary. What the others do is held against it."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pyarrow as pa

from infra.store.base import ObjectInfo


class MemoryStore:
    """Objects in this process; children share them. Not picklable: it is for tests."""

    def __init__(self) -> None:
        self._prefix = ""
        self._objects: dict[str, tuple[bytes, int]] = {}
        self._lock = threading.Lock()

    @property
    def uri(self) -> str:
        """A label; it cannot be opened again."""
        return f"memory://{self._prefix}"

    def child(self, prefix: str) -> "MemoryStore":
        """Return the same objects, below a prefix."""
        child = MemoryStore()
        child._prefix = f"{self._prefix}{prefix.strip('/')}/"
        child._objects, child._lock = self._objects, self._lock
        return child

    def with_deadline(self, deadline_s: float) -> "MemoryStore":
        """Return this store: nothing is tried again."""
        return self

    def read(self, key: str) -> bytes:
        """Return a whole object."""
        try:
            return self._objects[self._prefix + key][0]
        except KeyError:
            raise FileNotFoundError(key) from None

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Return bytes start to stop."""
        return self.read(key)[start:stop]

    def open_input(self, key: str) -> pa.NativeFile:
        """Open an object for random reads."""
        return pa.BufferReader(self.read(key))

    def write(self, key: str, body: bytes) -> None:
        """Put an object."""
        with self._lock:
            self._put(key, body)

    @contextmanager
    def open_output(self, key: str) -> Iterator[IO[bytes]]:
        """Write an object piece by piece."""
        buffer = io.BytesIO()
        yield buffer
        self.write(key, buffer.getvalue())

    def create(self, key: str, body: bytes) -> bool:
        """Put an object if there is none."""
        with self._lock:
            if self._prefix + key in self._objects:
                return False
            self._put(key, body)
            return True

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """List objects below a prefix."""
        start = self._prefix + prefix
        for key in sorted(self._objects):
            if key.startswith(start):
                body, version = self._objects[key]
                yield ObjectInfo(key.removeprefix(self._prefix), len(body), str(version))

    def stat(self, key: str) -> ObjectInfo | None:
        """Describe one object."""
        found = self._objects.get(self._prefix + key)
        return None if found is None else ObjectInfo(key, len(found[0]), str(found[1]))

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._objects.pop(self._prefix + key, None)

    def _put(self, key: str, body: bytes) -> None:
        full_key = self._prefix + key
        version = self._objects[full_key][1] + 1 if full_key in self._objects else 1
        self._objects[full_key] = (bytes(body), version)
