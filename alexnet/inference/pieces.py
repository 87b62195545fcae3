"""Pieces of what is asked about, and their images, read when they are needed.

Pieces are plain data and hold no image: millions of them fit into memory, and they cross processes.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import StoreError
from infra.store import ObjectStore, is_remote
from preprocessing.dataset.pixels import MAX_PIXELS

MAX_BYTES: Final = 4 * MAX_PIXELS
"""A larger file is refused unread: as many pixels as are allowed, uncompressed, are smaller."""
_READ_BYTES: Final = 8 << 20
"""Of a Parquet column at a time: a row group may be as large as its file."""
_ROWS_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class Piece:
    """One file that is an image, or consecutive rows of a Parquet file; or why it is neither."""

    store: ObjectStore
    key: str
    path: str
    """What it is called in answers: as it was named, or found in what was named."""
    size_bytes: int
    rows: tuple[int, int] | None = None
    """Of a Parquet file: start (inclusive) and stop (exclusive)."""
    column: str = ""
    """The one of them that holds images."""
    labelled: bool = False
    """Whether it has a column `label` of integers."""
    refused: str = ""
    """Why it cannot be read at all."""

    @property
    def count(self) -> int:
        """Images in it; one for what is refused, since it is listed."""
        return 1 if self.rows is None else self.rows[1] - self.rows[0]

    @property
    def uri(self) -> str:
        """Where the file lies, wherever the command was given."""
        return printable(f"{self.store.uri.rstrip('/')}/{self.key}")


class ImageFile(NamedTuple):
    """One image's bytes, or the reason why there are none."""

    path: str
    body: bytes
    reason: str
    uri: str = ""
    """Of its file, by which it is found again."""
    row: int | None = None
    """In that file, if it is Parquet."""
    label: int | None = None
    """As the Parquet file has it."""


def cut_pieces(pieces: Sequence[Piece], size: int) -> Iterator[list[Piece]]:
    """Cut pieces into runs of `size` images, in order; only the last has fewer. Pure."""
    run: list[Piece] = []
    room = size
    for piece in pieces:
        for part in _parts(piece, room, size):
            run.append(part)
            room -= part.count
            if not room:
                yield run
                run, room = [], size
    if run:
        yield run


def stream_pieces(pieces: Iterable[Piece]) -> Iterator[ImageFile | Piece]:
    """Yield every image in order: rows with their bytes, files as they are, for `read_file`.

    Files are left to the caller, who may read many at once.
    """
    for piece in pieces:
        if piece.rows is None:
            yield piece
        else:
            yield from _read_rows(piece)


def read_file(piece: Piece) -> ImageFile:
    """Read one file.

    Raises:
        StoreError: a remote place stayed away; on a disk it is this file's reason.
    """
    body, reason = _body_of(piece)
    return ImageFile(piece.path, body, reason, piece.uri)


def _body_of(piece: Piece) -> tuple[bytes, str]:
    if piece.refused:
        return b"", piece.refused
    if piece.size_bytes > MAX_BYTES:
        reason = f"it has {piece.size_bytes:,} bytes, and {MAX_BYTES:,} are the most"
        return b"", reason
    try:
        body = piece.store.read(piece.key)
    except FileNotFoundError:
        return b"", "it is gone"
    except StoreError as error:
        return b"", reason_of(piece, error)
    return body, "" if body else "it is empty"


def _parts(piece: Piece, room: int, size: int) -> Iterator[Piece]:
    """Cut a piece at `room` images, then at each further `size`."""
    if piece.rows is None:
        yield piece
        return
    start, stop = piece.rows
    while start < stop:
        end = min(start + room, stop)
        yield replace(piece, rows=(start, end))
        start, room = end, size


def _read_rows(piece: Piece) -> Iterator[ImageFile]:
    """Stream rows of a Parquet file; where it is damaged, the rows left have that as reason."""
    assert piece.rows is not None
    row, stop = piece.rows
    try:
        with opened(piece) as file:
            columns = [piece.column, *(["label"] if piece.labelled else [])]
            for value, *labels in _values(file, columns, row, stop):
                yield _row_of(piece, row, value, *labels)
                row += 1
    except READ_ERRORS as error:
        reason = reason_of(piece, error)
        for number in range(row, stop):
            yield ImageFile(f"{piece.path}#{number}", b"", reason, piece.uri, number)


def _values(
    file: pq.ParquetFile, columns: list[str], start: int, stop: int
) -> Iterator[tuple[Any, ...]]:
    first_row = 0
    groups: list[int] = []
    skip = 0
    for group in range(file.metadata.num_row_groups):
        num_rows = file.metadata.row_group(group).num_rows
        if first_row < stop and start < first_row + num_rows:
            skip = skip if groups else start - first_row
            groups.append(group)
        first_row += num_rows
    left = stop - start
    for batch in file.iter_batches(
        _ROWS_AT_ONCE, row_groups=groups, columns=columns, use_threads=False
    ):
        rows = batch.slice(skip, left)
        skip = max(0, skip - len(batch))
        left -= len(rows)
        yield from zip(*(rows[name].to_pylist() for name in columns), strict=True)
        if not left:
            return


def _row_of(piece: Piece, row: int, value: object, label: int | None = None) -> ImageFile:
    path = f"{piece.path}#{row}"
    if isinstance(value, dict):
        path = value.get("path") or path
        value = value["bytes"]
    body = value if isinstance(value, bytes) else b""
    reason = "" if body else "the row holds no bytes"
    return ImageFile(path, body, reason, piece.uri, row, label)


def printable(path: str) -> str:
    """Write bytes of a name that are no UTF-8 as backslash escapes, which every output can hold."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@contextmanager
def opened(piece: Piece) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file for a block, page checksums verified."""
    with piece.store.open_input(piece.key) as source:
        yield pq.ParquetFile(
            source, page_checksum_verification=True, pre_buffer=False, buffer_size=_READ_BYTES
        )


# FileNotFoundError, of a file that is gone, is an OSError; the last two: names in a damaged footer.
READ_ERRORS: Final = (OSError, pa.ArrowException, UnicodeDecodeError, KeyError, StoreError)


def reason_of(piece: Piece, error: BaseException) -> str:
    """Say in a line why a file cannot be read; an outage is no property of a file, and raised."""
    if isinstance(error, StoreError):
        if is_remote(piece.store):
            raise error
        return error.problem
    return f"it is no sound Parquet file: {str(error).partition(chr(10))[0]}"
