"""What the system asks of a place that holds objects: a directory, memory, S3.

Objects are whole or absent: no reader ever sees half of one. The only atomic decision is
`create`, which is what every commit, lease and attempt is built on.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import IO, Protocol

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One stored object, as a listing shows it."""

    key: str
    size_bytes: int
    version: str
    """Changes when the object is written anew: an mtime in ns, an ETag."""
    written_s: float = field(default=0.0, compare=False)
    """When it came to this place: seconds since 1970; 0 in memory."""


class ObjectStore(Protocol):
    """Objects by key ("a/b/c", never absolute, never `..`) below one URI. Picklable.

    Every method raises StoreError when the place itself fails.
    """

    @property
    def uri(self) -> str:
        """Where this store lives: an absolute path or a URI; `open_store` takes it."""
        ...

    def child(self, prefix: str) -> "ObjectStore":
        """Return the store of the keys below a prefix."""
        ...

    def with_deadline(self, deadline_s: float) -> "ObjectStore":
        """Return the same place, where a call that fails is tried again for at most so long."""
        ...

    def read(self, key: str) -> bytes:
        """Return a whole object; FileNotFoundError when there is none."""
        ...

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Return bytes start (inclusive) to stop (exclusive); fewer at the object's end."""
        ...

    def open_input(self, key: str) -> pa.NativeFile:
        """Open an object for random reads; the caller closes it."""
        ...

    def write(self, key: str, body: bytes) -> None:
        """Put an object, replacing any."""
        ...

    def open_output(self, key: str) -> AbstractContextManager[IO[bytes]]:
        """Write an object piece by piece; it exists only when the block ends without an error."""
        ...

    def create(self, key: str, body: bytes) -> bool:
        """Put an object if there is none under this key; say whether this call did it.

        False also when the object there is identical: then nothing was lost either.
        """
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """List every object below a prefix, by key order."""
        ...

    def stat(self, key: str) -> ObjectInfo | None:
        """Describe one object, or None."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; no error when there is none."""
        ...


def is_remote(store: ObjectStore) -> bool:
    """Whether each read is a request over a network."""
    return not store.uri.startswith(("/", "memory:"))
