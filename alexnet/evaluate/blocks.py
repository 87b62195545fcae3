"""The fixed partition of a split into blocks of 64 rows, and the reading of one block.

Floating-point bits change with the shape of a batch. So what is computed together never depends
on how many workers there are.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alexnet.evaluate.scores import SCORE_BATCH_ROWS
from infra.store import ObjectStore
from preprocessing.dataset.manifest import Manifest, Split
from preprocessing.dataset.pixels import decode_square
from preprocessing.dataset.schema import ShardReader, encoded_column
from preprocessing.dataset.stored import ShapeName, stored_square


@dataclass(frozen=True, slots=True)
class RowRange:
    """Rows start (inclusive) to stop (exclusive) of one shard."""

    shard: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows of a split, in (shard, row) order."""

    ranges: tuple[RowRange, ...]

    @property
    def count(self) -> int:
        """Rows in all."""
        return sum(part.stop - part.start for part in self.ranges)


@dataclass(frozen=True, slots=True, eq=False)
class StoredRows:
    """Some rows as they are stored, by a manifest's shape and side."""

    encoded: list[npt.NDArray[np.uint8]]
    """Files: JPEG, binary PPM where the dataset is raw, or the originals' own."""
    labels: npt.NDArray[np.int64]
    sample_ids: npt.NDArray[np.int64]
    shape: ShapeName
    side_px: int

    def decode(self, side_px: int | None = None) -> npt.NDArray[np.uint8]:
        """Return the images' central squares, (n, side_px, side_px, 3).

        Args:
            side_px: where it is not the dataset's: for a network that was trained on images stored
                at another size. They are scaled as prediction scales a file.

        Raises:
            ImageRejected: the bytes are damaged.
        """
        if side_px is None or side_px == self.side_px:
            return np.stack(
                [stored_square(body, self.shape, self.side_px) for body in self.encoded]
            )
        return np.stack([decode_square(bytes(body), side_px) for body in self.encoded])


def plan_blocks(split: Split) -> tuple[Block, ...]:
    """Cut a split into blocks of SCORE_BATCH_ROWS, the last maybe fewer; some span two shards."""
    blocks: list[Block] = []
    parts: list[RowRange] = []
    room = SCORE_BATCH_ROWS
    for number, shard in enumerate(split.shards):
        start = 0
        while start < shard.num_rows:
            stop = min(start + room, shard.num_rows)
            parts.append(RowRange(number, start, stop))
            room -= stop - start
            start = stop
            if not room:
                blocks.append(Block(tuple(parts)))
                parts, room = [], SCORE_BATCH_ROWS
    return (*blocks, Block(tuple(parts))) if parts else tuple(blocks)


def place_of(split: Split, row: int) -> RowRange:
    """Return where the row of this number stands, counted over all shards."""
    for number, shard in enumerate(split.shards):
        if row < shard.num_rows:
            return RowRange(number, row, row + 1)
        row -= shard.num_rows
    raise IndexError("the split has fewer rows")


class BlockReader:
    """Reads blocks of the val split, by whole row groups; one shard is open at a time."""

    def __init__(self, store: ObjectStore, manifest: Manifest) -> None:
        self._store = store
        self._manifest = manifest
        self._open: tuple[int, ShardReader] | None = None

    def read(self, block: Block) -> StoredRows:
        """Read the rows of a block.

        Raises:
            ShardCorrupt: the bytes are damaged.
        """
        parts = [self._read_range(part) for part in block.ranges]
        return self._stored(
            [body for part in parts for body in part.encoded],
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.sample_ids for part in parts]),
        )

    def close(self) -> None:
        """Close the open shard."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _read_range(self, part: RowRange) -> StoredRows:
        size = self._manifest.rows_per_group
        first = part.start // size
        table = self._shard(part.shard).read_groups(range(first, -(-part.stop // size)))
        rows = slice(part.start - first * size, part.stop - first * size)
        return self._stored(
            encoded_column(table)[rows],
            table["label"].to_numpy()[rows],
            table["sample_id"].to_numpy()[rows],
        )

    def _stored(
        self,
        encoded: list[npt.NDArray[np.uint8]],
        labels: npt.NDArray[np.int64],
        sample_ids: npt.NDArray[np.int64],
    ) -> StoredRows:
        manifest = self._manifest
        return StoredRows(encoded, labels, sample_ids, manifest.shape, manifest.stored_px)

    def _shard(self, number: int) -> ShardReader:
        if self._open is None or self._open[0] != number:
            self.close()
            self._open = (number, ShardReader(self._store, self._manifest.val.shards[number]))
        return self._open[1]
