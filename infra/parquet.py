"""Parquet: whole tables in memory, and files read a part at a time; page checksums throughout."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import StoreError
from infra.store import ObjectStore

# FileNotFoundError, of a file that is gone, is an OSError; the last two: names in a damaged footer.
READ_ERRORS: Final = (StoreError, OSError, pa.ArrowException, UnicodeDecodeError, KeyError)
"""What reading a Parquet file may raise: StoreError for a place that stays away, the others of a
file that is gone or damaged."""
READ_BYTES: Final = 8 << 20
"""Of a column at a time: a row group may be as large as its file."""


def parquet_bytes(table: pa.Table) -> bytes:
    """Write a table as Parquet with page checksums."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def read_parquet(body: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table, or some of its columns, with page checksums verified."""
    # Not pq.read_table: that reads on a thread of Arrow's, which may still hold Python's bytes when
    # the interpreter ends, and then ends the process with SIGABRT (seen in 7 of 100 on busy cores).
    file = pq.ParquetFile(pa.BufferReader(body), page_checksum_verification=True, pre_buffer=False)
    return file.read(columns=None if columns is None else list(columns), use_threads=False)


@contextmanager
def open_parquet(store: ObjectStore, key: str) -> Iterator[pq.ParquetFile]:
    """Open a file for a block, page checksums verified; READ_BYTES of a column are read at a time.

    Raises:
        READ_ERRORS: now, or when the block reads.
    """
    with store.open_input(key) as source:
        yield pq.ParquetFile(
            source, page_checksum_verification=True, pre_buffer=False, buffer_size=READ_BYTES
        )
