import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alexnet.data.batches import Batch, Rows
from alexnet.train.sample_log import SCHEMA, SampleLog
from infra.errors import StoreError
from infra.store import FolderStore, MemoryStore, ObjectStore


def batch(step: int, ids: list[int]) -> Batch:
    numbers = np.array(ids, np.int64)
    images = np.zeros((len(ids), 1, 1, 3), np.uint8)
    rows = Rows(images, numbers, numbers, numbers, np.full_like(numbers, step))
    return Batch(rows, epoch=step // 3, step=step, batch_rows=4)


def open_log(store: ObjectStore, rank: int = 1) -> SampleLog:
    return SampleLog(store, attempt=2, rank=rank, world_size=3)


def read(store: ObjectStore, key: str) -> pa.Table:
    return pq.read_table(io.BytesIO(store.read(key)))


def test_a_row_a_sample_says_when_and_by_whom_it_was_trained_on(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    log = open_log(store)
    log.add(batch(2, [7, 5]))
    log.add(batch(3, [9]))
    assert list(store.list()) == []
    log.flush()
    (info,) = store.list()
    assert info.key == "attempt-0002/rank-00001/00000002-00000004.parquet"
    table = read(store, info.key)
    assert table.schema == SCHEMA
    assert table.column_names == [
        "attempt",
        "epoch",
        "global_step",
        "rank",
        "world_size",
        "sample_id",
    ]
    assert [list(row.values()) for row in table.to_pylist()] == [
        [2, 0, 2, 1, 3, 7],
        [2, 0, 2, 1, 3, 5],
        [2, 1, 3, 1, 3, 9],
    ]


def test_each_flush_writes_what_came_since_the_last(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    log = open_log(store)
    for step in range(4):
        log.add(batch(step, [step]))
        if step == 1:
            log.flush()
    log.flush()
    log.flush()
    tables = [read(store, info.key) for info in store.list()]
    assert [info.key[-25:] for info in store.list()] == [
        "00000000-00000002.parquet",
        "00000002-00000004.parquet",
    ]
    assert pa.concat_tables(tables)["sample_id"].to_pylist() == [0, 1, 2, 3]


def test_ranks_and_attempts_write_apart() -> None:
    store = MemoryStore()
    for rank in range(3):
        log = open_log(store, rank)
        log.add(batch(0, [rank]))
        log.flush()
    assert len(list(store.list())) == 3


def test_empty_shares_are_steps_without_rows() -> None:
    store = MemoryStore()
    log = open_log(store)
    log.add(batch(0, []))
    log.add(batch(1, []))
    log.flush()
    (info,) = store.list()
    assert info.key.endswith("00000000-00000002.parquet")
    assert read(store, info.key).num_rows == 0


def test_ids_are_kept_though_the_batch_goes_away() -> None:
    store = MemoryStore()
    log = open_log(store)
    noted = batch(0, [1, 2])
    log.add(noted)
    noted.rows.sample_ids[:] = 0
    log.flush()
    (info,) = store.list()
    assert read(store, info.key)["sample_id"].to_pylist() == [1, 2]


def test_a_file_is_complete_or_absent_and_a_failed_flush_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "attempt-0002").write_text("in the way")
    store = FolderStore(tmp_path)
    log = open_log(store)
    log.add(batch(0, [1, 2]))
    with pytest.raises((StoreError, FileNotFoundError)):
        log.flush()
    (tmp_path / "attempt-0002").unlink()
    assert list(store.list()) == []
    log.flush()
    (info,) = store.list()
    assert read(store, info.key)["sample_id"].to_pylist() == [1, 2]
