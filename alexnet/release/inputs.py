"""What is to be predicted: files, folders, Parquet and datasets become pieces, read when needed.

    a file, or each file of a folder    one piece, one image
    a Parquet file                      one piece, an image a row
    a dataset (a folder with a manifest)   a piece a shard of its val split

Pieces are plain data and hold no image: millions of them fit into memory, and they cross processes.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from alexnet.release.errors import InputRejected
from infra.errors import StoreError
from infra.store import FolderStore, ObjectStore, is_remote, open_store
from preprocessing.dataset.manifest import MANIFEST, open_dataset
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
    refused: str = ""
    """Why it cannot be read at all."""

    @property
    def count(self) -> int:
        """Images in it; one for what is refused, since it is listed."""
        return 1 if self.rows is None else self.rows[1] - self.rows[0]


class ImageFile(NamedTuple):
    """One image's bytes, or the reason why there are none."""

    path: str
    body: bytes
    reason: str


def find_pieces(names: Iterable[str]) -> list[Piece]:
    """Look up what was named, in order; a folder's files by name, hidden ones passed over.

    Raises:
        InputRejected: there is no such file, folder or dataset.
        DataError: a dataset is not whole.
        StoreError: a place cannot be read.
    """
    return [piece for name in names for piece in _pieces_of(name)]


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
    if piece.refused:
        return ImageFile(piece.path, b"", piece.refused)
    if piece.size_bytes > MAX_BYTES:
        reason = f"it has {piece.size_bytes:,} bytes, and {MAX_BYTES:,} are the most"
        return ImageFile(piece.path, b"", reason)
    try:
        body = piece.store.read(piece.key)
    except FileNotFoundError:
        return ImageFile(piece.path, b"", "it is gone")
    except StoreError as error:
        return ImageFile(piece.path, b"", _reason(piece, error))
    return ImageFile(piece.path, body, "" if body else "it is empty")


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


def _pieces_of(name: str) -> Iterator[Piece]:
    store = open_store(name)
    parent, key = _parent_of(store)
    info = parent.stat(key) if key else None
    if info is not None:
        yield from _file_pieces(parent, key, _printable(name), info.size_bytes)
    elif store.stat(MANIFEST) is not None:
        yield from _dataset_pieces(store, name)
    else:
        yield from _folder_pieces(store, name.rstrip("/") or "/")


def _parent_of(store: ObjectStore) -> tuple[ObjectStore, str]:
    """Return the store that an object at this URI would be in, and its key there ("" for none)."""
    if isinstance(store, FolderStore):
        path = Path(store.uri)
        return FolderStore(path.parent), "" if path.name == ".." else path.name
    bucket, slash, key = store.uri.removeprefix("s3://").partition("/")
    return open_store(f"s3://{bucket}"), key if slash else ""


def _file_pieces(store: ObjectStore, key: str, path: str, size_bytes: int) -> Iterator[Piece]:
    piece = Piece(store, key, path, size_bytes)
    yield _parquet_piece(piece) if path.lower().endswith(".parquet") else piece


def _dataset_pieces(store: ObjectStore, name: str) -> Iterator[Piece]:
    for shard in open_dataset(store).val.shards:
        path = _printable(f"{name.rstrip('/')}/{shard.path}")
        yield Piece(store, shard.path, path, shard.size_bytes, (0, shard.num_rows), "image")


def _folder_pieces(store: ObjectStore, name: str) -> Iterator[Piece]:
    found = False
    for info in store.list():
        if any(part.startswith(".") for part in info.key.split("/")):
            continue
        found = True
        path = _printable(f"{name}/{info.key}")
        yield from _file_pieces(store, info.key, path, info.size_bytes)
    if not found and isinstance(store, FolderStore) and Path(store.uri).is_dir():
        yield Piece(store, "", _printable(name), 0, refused="the folder holds no files")
    elif not found:
        raise InputRejected(
            f"there is no file or folder {_printable(name)}",
            remedy="name image files, folders of them, Parquet files or datasets that exist",
        )


def _printable(path: str) -> str:
    """Write bytes of a name that are no UTF-8 as backslash escapes, which every output can hold."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _parquet_piece(piece: Piece) -> Piece:
    try:
        with _opened(piece) as file:
            column = _image_column(file.schema_arrow)
            if not column:
                fields = ", ".join(file.schema_arrow.names)
                reason = f"it has neither a column `image` of bytes nor one binary column: {fields}"
                return replace(piece, refused=reason)
            return replace(piece, rows=(0, file.metadata.num_rows), column=column)
    except _READ_ERRORS as error:
        return replace(piece, refused=_reason(piece, error))


def _image_column(schema: pa.Schema) -> str:
    """Find the column of images: `image`, as Hugging Face has it or bytes, or the only binary one.

    "" if there is none.
    """
    if "image" in schema.names:
        kind = schema.field("image").type
        if _is_binary(kind) or (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0):
            return "image"
    binary = [field.name for field in schema if _is_binary(field.type)]
    return binary[0] if len(binary) == 1 else ""


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _read_rows(piece: Piece) -> Iterator[ImageFile]:
    """Stream rows of a Parquet file; where it is damaged, the rows left have that as reason."""
    assert piece.rows is not None
    row, stop = piece.rows
    try:
        with _opened(piece) as file:
            for value in _values(file, piece.column, row, stop):
                yield _row_of(piece, row, value)
                row += 1
    except _READ_ERRORS as error:
        reason = _reason(piece, error)
        for number in range(row, stop):
            yield ImageFile(f"{piece.path}#{number}", b"", reason)


def _values(file: pq.ParquetFile, column: str, start: int, stop: int) -> Iterator[object]:
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
        _ROWS_AT_ONCE, row_groups=groups, columns=[column], use_threads=False
    ):
        values = batch.column(0).slice(skip, left)
        skip = max(0, skip - len(batch))
        left -= len(values)
        yield from values.to_pylist()
        if not left:
            return


def _row_of(piece: Piece, row: int, value: object) -> ImageFile:
    path = f"{piece.path}#{row}"
    if isinstance(value, dict):
        path = value.get("path") or path
        value = value["bytes"]
    body = value if isinstance(value, bytes) else b""
    return ImageFile(path, body, "" if body else "the row holds no bytes")


@contextmanager
def _opened(piece: Piece) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file for a block, page checksums verified."""
    with piece.store.open_input(piece.key) as source:
        yield pq.ParquetFile(
            source, page_checksum_verification=True, pre_buffer=False, buffer_size=_READ_BYTES
        )


# FileNotFoundError, of a file that is gone, is an OSError; the last two: names in a damaged footer.
_READ_ERRORS: Final = (OSError, pa.ArrowException, UnicodeDecodeError, KeyError, StoreError)


def _reason(piece: Piece, error: BaseException) -> str:
    """Say in a line why a file cannot be read; an outage is no property of a file, and raised."""
    if isinstance(error, StoreError):
        if is_remote(piece.store):
            raise error
        return error.problem
    return f"it is no sound Parquet file: {str(error).partition(chr(10))[0]}"
