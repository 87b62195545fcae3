"""Parts of what is asked about, and their images, read when they are needed.

Parts are plain data and hold no image: millions of them fit into memory, and they cross processes.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import pyarrow.parquet as pq

from infra.errors import StoreError
from infra.parquet import READ_ERRORS, open_parquet
from infra.store import ObjectStore, is_remote
from preprocessing.dataset.pixels import MAX_PIXELS

MAX_BYTES: Final = 4 * MAX_PIXELS
"""A larger file is refused unread: as many pixels as are allowed, uncompressed, are smaller."""
_ROWS_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class InputPart:
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


def cut_parts(parts: Sequence[InputPart], size: int) -> Iterator[list[InputPart]]:
    """Cut parts into runs of `size` images, in order; only the last has fewer. Pure."""
    run: list[InputPart] = []
    room = size
    for part in parts:
        for cut in _cuts(part, room, size):
            run.append(cut)
            room -= cut.count
            if not room:
                yield run
                run, room = [], size
    if run:
        yield run


def stream_parts(parts: Iterable[InputPart]) -> Iterator[ImageFile | InputPart]:
    """Yield every image in order: rows with their bytes, files as they are, for `read_file`.

    Files are left to the caller, who may read many at once.
    """
    for part in parts:
        if part.rows is None:
            yield part
        else:
            yield from _read_rows(part)


def read_file(part: InputPart) -> ImageFile:
    """Read one file.

    Raises:
        StoreError: a remote place stayed away; on a disk it is this file's reason.
    """
    body, reason = _body_of(part)
    return ImageFile(part.path, body, reason, part.uri)


def _body_of(part: InputPart) -> tuple[bytes, str]:
    if part.refused:
        return b"", part.refused
    if part.size_bytes > MAX_BYTES:
        reason = f"it has {part.size_bytes:,} bytes, and {MAX_BYTES:,} are the most"
        return b"", reason
    try:
        body = part.store.read(part.key)
    except FileNotFoundError:
        return b"", "it is gone"
    except StoreError as error:
        return b"", reason_of(part, error)
    return body, "" if body else "it is empty"


def _cuts(part: InputPart, room: int, size: int) -> Iterator[InputPart]:
    """Cut a part at `room` images, then at each further `size`."""
    if part.rows is None:
        yield part
        return
    start, stop = part.rows
    while start < stop:
        end = min(start + room, stop)
        yield replace(part, rows=(start, end))
        start, room = end, size


def _read_rows(part: InputPart) -> Iterator[ImageFile]:
    """Stream rows of a Parquet file; where it is damaged, the rows left have that as reason."""
    assert part.rows is not None
    row, stop = part.rows
    try:
        with open_parquet(part.store, part.key) as file:
            columns = [part.column, *(["label"] if part.labelled else [])]
            for value, *labels in _values(file, columns, row, stop):
                yield _row_of(part, row, value, *labels)
                row += 1
    except READ_ERRORS as error:
        reason = reason_of(part, error)
        for number in range(row, stop):
            yield ImageFile(f"{part.path}#{number}", b"", reason, part.uri, number)


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


def _row_of(part: InputPart, row: int, value: object, label: int | None = None) -> ImageFile:
    path = f"{part.path}#{row}"
    if isinstance(value, dict):
        path = value.get("path") or path
        value = value["bytes"]
    body = value if isinstance(value, bytes) else b""
    reason = "" if body else "the row holds no bytes"
    return ImageFile(path, body, reason, part.uri, row, label)


def printable(path: str) -> str:
    """Write bytes of a name that are no UTF-8 as backslash escapes, which every output can hold."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def reason_of(part: InputPart, error: BaseException) -> str:
    """Say in a line why a file cannot be read; an outage is no property of a file, and raised."""
    if isinstance(error, StoreError):
        if is_remote(part.store):
            raise error
        return error.problem
    return f"it is no sound Parquet file: {str(error).partition(chr(10))[0]}"
