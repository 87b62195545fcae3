"""The columns of an index: one row a member, 1.28 million of them in some 100 MB."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from preprocessing.dataset.manifest import SplitName as SplitName

_TEXT: Final = ("split", "archive", "name", "wnid", "sha256")
_NUMBERS: Final = ("start", "size_bytes")
_IDENTITY: Final = ("split", "archive", "name", "start", "size_bytes", "wnid")
"""Columns of which the digest is taken, in this order."""


@dataclass(frozen=True, slots=True)
class Member:
    """One image file: bytes start (inclusive) to start + size_bytes of an archive."""

    split: SplitName
    archive: str
    name: str
    start: int
    size_bytes: int
    wnid: str
    sha256: str | None = None
    """Hex, of its bytes, where we wrote the archive ourselves; None where it is first read."""


@dataclass(frozen=True, slots=True)
class Members:
    """Members as columns named like the fields of Member. Picklable."""

    table: pa.Table

    @staticmethod
    def schema() -> pa.Schema:
        """Return the columns' types."""
        kinds = {name: pa.string() for name in _TEXT} | {name: pa.int64() for name in _NUMBERS}
        return pa.schema([(name, kinds[name]) for name in Member.__slots__])

    def __len__(self) -> int:
        return self.table.num_rows

    def __iter__(self) -> Iterator[Member]:
        for batch in self.table.to_batches(max_chunksize=1024):
            yield from (Member(**row) for row in batch.to_pylist())

    def of_split(self, split: SplitName) -> "Members":
        """Return the members of one split, in the same order."""
        return Members(self.table.filter(pc.equal(self.table["split"], split)))

    def take(self, rows: npt.NDArray[np.int64]) -> "Members":
        """Return some rows, in the order given."""
        return Members(self.table.take(rows))

    def names(self) -> list[str]:
        """Return every member's name, in order."""
        return self.table["name"].to_pylist()

    def digest(self) -> str:
        """Hex SHA-256 of the content, in order; knows nothing of places and times."""
        digest = hashlib.sha256(str(len(self)).encode())
        for name in _IDENTITY:
            column = self.table[name]
            digest.update(f"\0{name}\0".encode())
            if name in _TEXT:
                digest.update("\0".join(column.to_pylist()).encode())
            else:
                digest.update(column.to_numpy().astype("<i8").tobytes())
        return digest.hexdigest()
