"""A part of a stored object as a seekable file."""

import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from infra.errors import StoreError
from infra.store.base import ObjectStore, is_remote

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_LOCAL_READ_AHEAD_BYTES: Final = 4096  # a header; the disk seeks for nothing
_REMOTE_READ_AHEAD_BYTES: Final = 8 << 20  # a request costs as much as some megabytes
_REQUESTS_AT_ONCE: Final = 16


class RangeFile(io.RawIOBase):
    """Bytes start to stop of a stored object as a seekable file, read ahead in one buffer.

    A read returns fewer bytes than asked for at the end only. What lies near is opened once: to
    open it for every read took two thirds of the walk over an archive's headers.

    Args:
        store: where the object is.
        key: which one.
        start: the file's first byte (inclusive).
        stop: its end (exclusive).
        read_ahead_bytes: what a read asks for at least; by default what suits the place.
    """

    def __init__(
        self,
        store: ObjectStore,
        key: str,
        start: int,
        stop: int,
        *,
        read_ahead_bytes: int | None = None,
    ) -> None:
        super().__init__()
        self._store, self._key = store, key
        self._start, self._size = start, stop - start
        self._position = 0
        self._buffer, self._buffer_start = b"", 0
        self._fetched: dict[int, bytes] = {}
        self._is_remote = is_remote(store)
        self._near: pa.NativeFile | None = None
        default = _REMOTE_READ_AHEAD_BYTES if self._is_remote else _LOCAL_READ_AHEAD_BYTES
        self._read_ahead = default if read_ahead_bytes is None else read_ahead_bytes

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def close(self) -> None:
        """Close what was opened."""
        if self._near is not None:
            self._near.close()
        super().close()

    def tell(self) -> int:
        """Return the position, counted from the range's start."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; positions past the end are allowed and read as empty."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def fetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Read some ranges (start, stop) of the file at once, and keep them until `forget`.

        Reads that lie in one of them need no request.
        """
        wanted = list(ranges)
        with ThreadPoolExecutor(max_workers=min(_REQUESTS_AT_ONCE, len(wanted) or 1)) as threads:
            bodies = threads.map(lambda part: self._read_range(*part), wanted)
            self._fetched = {part[0]: body for part, body in zip(wanted, bodies, strict=True)}

    def forget(self) -> None:
        """Let go of what was fetched."""
        self._fetched = {}

    def readinto(self, target: "WriteableBuffer") -> int:
        """Fill a buffer from the position on."""
        view = memoryview(target).cast("B")
        count = max(0, min(len(view), self._size - self._position))
        if not count:
            return 0
        body, body_start = self._holding(count)
        offset = self._position - body_start
        piece = body[offset : offset + count]
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def _holding(self, count: int) -> tuple[bytes, int]:
        """Return bytes that hold `count` from the position on, and where they begin."""
        for start, body in ((self._buffer_start, self._buffer), *self._fetched.items()):
            if 0 <= self._position - start <= len(body) - count:
                return body, start
        stop = min(self._position + max(count, self._read_ahead), self._size)
        self._buffer, self._buffer_start = self._read_range(self._position, stop), self._position
        return self._buffer, self._buffer_start

    def _read_range(self, start: int, stop: int) -> bytes:
        if self._is_remote:
            return self._store.read_range(self._key, self._start + start, self._start + stop)
        if self._near is None:
            self._near = self._store.open_input(self._key)
        try:
            return self._near.read_at(stop - start, self._start + start)
        except OSError as error:
            raise StoreError(
                f"{self._store.uri}: cannot read {self._key}: {error}",
                remedy="check the disk, and run again",
            ) from error
