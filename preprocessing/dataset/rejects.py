"""The rejects of a dataset, as its folder lists them: a row an image that could not be used."""

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from infra.commit import read_object
from infra.parquet import read_parquet
from infra.store import ObjectStore
from preprocessing.dataset.manifest import Manifest, Reject

_REJECT_SCHEMA: Final = pa.schema(
    [
        ("split", pa.string()),
        ("sample_id", pa.int64()),
        ("archive", pa.string()),
        ("member", pa.string()),
        ("start", pa.int64()),
        ("size_bytes", pa.int64()),
        ("reason", pa.string()),
        ("first_bytes", pa.string()),
    ]
)


def rejects_table(rejects: Sequence[Reject]) -> pa.Table:
    """Return rejects as columns named like the fields of Reject."""
    return pa.Table.from_pylist([item.model_dump() for item in rejects], schema=_REJECT_SCHEMA)


def read_rejects(store: ObjectStore, manifest: Manifest) -> list[Reject]:
    """Read the rejects of a committed dataset."""
    return parse_rejects(read_object(store, manifest.rejects))


def parse_rejects(body: bytes) -> list[Reject]:
    """Read the rows of `rejects_table`, from Parquet."""
    return [Reject(**row) for row in read_parquet(body).to_pylist()]
