"""The sample log: which sample was trained on when, so that anyone can audit an epoch.

    <uri>/<run key>/attempt-0001/rank-00000/00000000-00000120.parquet

One row a sample; a file is complete or absent. Rows of attempt k whose global step is at or beyond
the start of a later attempt are superseded by that attempt's.
"""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alexnet.data.batches import Batch
from infra.store import ObjectStore

SCHEMA = pa.schema(
    [
        ("attempt", pa.int64()),
        ("epoch", pa.int64()),
        ("global_step", pa.int64()),
        ("rank", pa.int64()),
        ("world_size", pa.int64()),
        ("sample_id", pa.int64()),
    ]
)


class SampleLog:
    """One rank's rows of one attempt: gathered in memory, durable when `flush` returns."""

    def __init__(self, store: ObjectStore, *, attempt: int, rank: int, world_size: int) -> None:
        self._store = store.child(f"attempt-{attempt:04}/rank-{rank:05}")
        self._attempt, self._rank, self._world_size = attempt, rank, world_size
        self._batches: list[tuple[int, int, np.ndarray[tuple[int], np.dtype[np.int64]]]] = []

    def add(self, batch: Batch) -> None:
        """Note a batch that was trained on."""
        self._batches.append((batch.epoch, batch.step, np.array(batch.rows.sample_ids)))

    def flush(self) -> None:
        """Write what was noted since the last time, as one file named by its steps."""
        if not self._batches:
            return
        first, stop = self._batches[0][1], self._batches[-1][1] + 1
        body = io.BytesIO()
        pq.write_table(self._table(), body)
        self._store.write(f"{first:08}-{stop:08}.parquet", body.getvalue())
        self._batches.clear()

    def _table(self) -> pa.Table:
        counts = [len(ids) for _, _, ids in self._batches]
        rows = sum(counts)
        columns = {
            "attempt": np.full(rows, self._attempt),
            "epoch": np.repeat([epoch for epoch, _, _ in self._batches], counts),
            "global_step": np.repeat([step for _, step, _ in self._batches], counts),
            "rank": np.full(rows, self._rank),
            "world_size": np.full(rows, self._world_size),
            "sample_id": np.concatenate([ids for _, _, ids in self._batches]),
        }
        return pa.table(columns, schema=SCHEMA)
