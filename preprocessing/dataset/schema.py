"""The Arrow schema of a shard, and how its Parquet files are written and read.

`image` and `label` are as Hugging Face's image datasets have them, metadata included, so that
`datasets.load_dataset("parquet", …)` opens a shard as it is.
"""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import StoreError
from infra.store import ObjectStore, RangeFile, is_remote
from preprocessing.dataset.manifest import Shard
from preprocessing.errors import ShardCorrupt

# The first two could be empty by their type, and never are: Hugging Face's datasets take no others
# for an Image and a ClassLabel.
FIELDS = (
    pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    pa.field("label", pa.int64()),
    pa.field("sample_id", pa.int64(), nullable=False),
    pa.field("wnid", pa.string(), nullable=False),
    pa.field("height", pa.int32(), nullable=False),
    pa.field("width", pa.int32(), nullable=False),
)
_COLUMNS_READ = ("image.bytes", "label", "sample_id")
_SIZES = ("height", "width")
_FOOTER_BYTES = 64 << 10
"""What Arrow reads first of a file: of a shard's end, nearly always the whole footer."""


def shard_schema(class_names: Sequence[str]) -> pa.Schema:
    """Build the schema of every shard of a dataset with these classes, in label order."""
    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": list(class_names)},
        "sample_id": {"_type": "Value", "dtype": "int64"},
        "wnid": {"_type": "Value", "dtype": "string"},
        "height": {"_type": "Value", "dtype": "int32"},
        "width": {"_type": "Value", "dtype": "int32"},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(FIELDS, metadata=metadata)


def open_shard_writer(sink: IO[bytes] | io.RawIOBase, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a writer whose every option is pinned: the same rows give the same bytes."""
    return pq.ParquetWriter(
        sink,
        schema,
        version="2.6",
        compression="NONE",  # JPEG does not shrink
        use_dictionary=False,
        write_statistics=["label", "sample_id"],
        data_page_version="1.0",
        data_page_size=1 << 30,  # one page a column chunk: a row group is the unit of reading
        write_page_checksum=True,
        store_schema=True,
    )


class ShardReader:
    """Random access to the rows of one shard, page checksums verified. Close it after use.

    Args:
        sizes: read the columns height and width too.

    Raises:
        ShardCorrupt: it is missing or damaged, or has not the rows and columns it should have.
        StoreError: the system cannot read it.
    """

    def __init__(self, store: ObjectStore, shard: Shard, *, sizes: bool = False) -> None:
        self._columns = [*_COLUMNS_READ, *(_SIZES if sizes else ())]
        self._shard = shard
        self._where = f"{store.uri}/{shard.path}"
        self._remote: RangeFile | None = None
        with _corruption_named(self._where):
            self._source = self._open(store)
            self._file = pq.ParquetFile(
                self._source, page_checksum_verification=True, pre_buffer=False
            )
            self._check()

    def read_groups(self, groups: Sequence[int]) -> pa.Table:
        """Read whole row groups, in the order given.

        Returns:
            Columns image.bytes, label, sample_id; height and width if they were asked for.

        Raises:
            ShardCorrupt: the bytes are damaged.
            StoreError: the system cannot read them.
        """
        with _corruption_named(self._where), self._fetched(groups):
            return self._file.read_row_groups(
                list(groups), columns=self._columns, use_threads=False
            )

    @contextmanager
    def _fetched(self, groups: Sequence[int]) -> Iterator[None]:
        """Have a remote shard's groups at hand for a moment: many shards are open at once."""
        if self._remote is None:
            yield
            return
        self._remote.fetch(self._bytes_of(group) for group in groups)
        try:
            yield
        finally:
            self._remote.forget()

    def _open(self, store: ObjectStore) -> pa.NativeFile:
        if not is_remote(store):
            return store.open_input(self._shard.path)
        # The footer, in one request; then row groups, each whole and many at once: Arrow by itself
        # would ask for a column at a time, and wait for each.
        self._remote = RangeFile(
            store, self._shard.path, 0, self._shard.size_bytes, read_ahead_bytes=0
        )
        self._remote.fetch(
            [(max(0, self._shard.size_bytes - _FOOTER_BYTES), self._shard.size_bytes)]
        )
        return pa.PythonFile(self._remote, mode="r")

    def _bytes_of(self, group: int) -> tuple[int, int]:
        """Return where the columns that are read lie, from the first to the last."""
        row_group = self._file.metadata.row_group(group)
        columns = [row_group.column(i) for i in range(row_group.num_columns)]
        read = [column for column in columns if column.path_in_schema in self._columns]
        start = min(column.data_page_offset for column in read)
        stop = max(column.data_page_offset + column.total_compressed_size for column in read)
        return start, stop

    def _check(self) -> None:
        metadata = self._file.metadata
        if metadata.num_rows != self._shard.num_rows:
            raise pa.ArrowInvalid(
                f"it has {metadata.num_rows} rows, the manifest names {self._shard.num_rows}"
            )
        there = {metadata.schema.column(i).path for i in range(metadata.num_columns)}
        for name in self._columns:
            if name not in there:
                raise pa.ArrowInvalid(f"it has no column {name}")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._source.close()


def encoded_column(table: pa.Table) -> list[npt.NDArray[np.uint8]]:
    """View the encoded image of each row of a table that `read_groups` returned, without a copy."""
    views: list[npt.NDArray[np.uint8]] = []
    for chunk in table.column("image").chunks:
        column = chunk.field("bytes")
        offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset :]
        data = np.frombuffer(column.buffers()[2], np.uint8)
        views.extend(data[offsets[i] : offsets[i + 1]] for i in range(len(column)))
    return views


# The last two: names in a damaged footer.
_ARROW_ERRORS = (OSError, pa.ArrowException, UnicodeDecodeError, KeyError)


class _corruption_named:
    """Say which shard an error of Arrow's comes from, and whether its bytes or its place is bad."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FileNotFoundError):
            problem = f"{self._where} is missing"
        elif isinstance(error, OSError) and error.errno is not None:
            # Arrow gives a number to what the system said, and none to what it found in the bytes.
            raise StoreError(
                f"{self._where} cannot be read: {error}",
                remedy="check the disk or the network behind it, and run again",
            ) from error
        elif isinstance(error, _ARROW_ERRORS):
            problem = f"{self._where} is damaged: {error}"
        else:
            return
        raise ShardCorrupt(
            problem,
            remedy="make it anew with the recipe and settings it was prepared with:"
            " `alexnet prepare RECIPE --repair`",
        ) from error
