"""A Parquet file of features that says whose they are: written and read a row group at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from alexnet.inference.features import features_schema
from infra.commit import Frozen, Sha256, parse_receipt
from infra.errors import DataError, StoreError
from infra.parquet import READ_ERRORS, open_parquet
from infra.store import ObjectStore

GROUP_BYTES: Final = 16 << 20
"""Of features in a row group: what is in memory at a time, 1024 rows of the network of 2012."""
_KEY: Final = b"alexnet.features"


class FeaturesHeader(Frozen):
    """Whose features a file holds; in the metadata of its schema."""

    schema_version: Literal[1] = 1
    model: str
    """As it was called when they were computed."""
    model_digest: Sha256
    """`TrainedNetwork.digest`: what decides whether others are comparable."""
    network: str
    step: int
    layer: str
    width: int
    """Numbers an image."""


class FeaturesWriter:
    """Writes tables of `features_schema` in row groups of about GROUP_BYTES."""

    def __init__(self, file: pq.ParquetWriter, width: int) -> None:
        self._file = file
        self._rows_per_group = max(1, GROUP_BYTES // (4 * width))
        self._waiting: list[pa.Table] = []
        self.num_rows = 0

    def add(self, table: pa.Table) -> None:
        """Take in more rows."""
        self._waiting.append(table)
        self.num_rows += len(table)
        if sum(map(len, self._waiting)) >= self._rows_per_group:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if any(map(len, self._waiting)):
            self._file.write_table(pa.concat_tables(self._waiting))
        self._waiting.clear()


@contextmanager
def features_writer(
    store: ObjectStore, name: str, header: FeaturesHeader
) -> Iterator[FeaturesWriter]:
    """Give the block a writer of a file that exists only if the block ends without an error."""
    described = {_KEY: header.to_bytes()}
    schema = features_schema(header.width).with_metadata(described)
    with (
        store.open_output(name) as sink,
        pq.ParquetWriter(
            sink,
            schema,
            compression="zstd",  # after a ReLU most are 0
            use_dictionary=["uri", "path"],
            write_statistics=False,
            write_page_checksum=True,
        ) as file,
    ):
        writer = FeaturesWriter(file, header.width)
        yield writer
        writer.flush()


class FeaturesFile:
    """Features that were written before.

    Raises:
        DataError: it is damaged, or another version's.
    """

    def __init__(self, store: ObjectStore, name: str, header: FeaturesHeader) -> None:
        self._store = store
        self._name = name
        self.header = header

    @property
    def uri(self) -> str:
        """Where it lies."""
        return f"{self._store.uri}/{self._name}"

    def tables(self) -> Iterator[pa.Table]:
        """Yield its rows in order, GROUP_BYTES of them at a time at most."""
        rows = max(1, GROUP_BYTES // (4 * self.header.width))
        with _opened(self._store, self._name) as file:
            for batch in file.iter_batches(rows, use_threads=False):
                yield pa.Table.from_batches([batch])

    def num_rows(self) -> int:
        """Count its rows, without reading them."""
        with _opened(self._store, self._name) as file:
            return int(file.metadata.num_rows)


def open_features(store: ObjectStore, name: str) -> FeaturesFile | None:
    """Open a file of features, or return None where there is none, or something else.

    Raises:
        DataError: features of another version.
    """
    if not name.lower().endswith(".parquet") or store.stat(name) is None:
        return None
    with _opened(store, name) as file:
        described = (file.schema_arrow.metadata or {}).get(_KEY)
    if described is None:
        return None
    header = parse_receipt(
        FeaturesHeader,
        described,
        f"what {store.uri}/{name} says of its features",
        raised=DataError,
        remedy="write them anew with `alexnet features`",
    )
    return FeaturesFile(store, name, header)


@contextmanager
def _opened(store: ObjectStore, name: str) -> Iterator[pq.ParquetFile]:
    try:
        with open_parquet(store, name) as file:
            yield file
    except StoreError:
        raise
    except READ_ERRORS as error:
        raise DataError(
            f"{store.uri}/{name} is no sound Parquet file: {str(error).partition(chr(10))[0]}",
            remedy="write it anew, or name another",
        ) from error
