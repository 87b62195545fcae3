"""One image in a hundred is broken: build, order and the cost of reading stay as they are."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jpeg_archives import NO_IMAGE, make_jpeg

from alexnet.data.in_process import read_batches
from alexnet.data.order import Order
from alexnet.data.reader import ReadSpec, order_of
from infra.store import FolderStore, MemoryStore
from preprocessing.building.commit import commit_dataset
from preprocessing.building.plan import plan_split
from preprocessing.building.render import RenderJob, render_shard
from preprocessing.dataset.labels import make_classes
from preprocessing.dataset.manifest import Manifest
from preprocessing.settings import PrepareSettings
from preprocessing.sources.members import Member, Members

COUNT, BROKEN, GROUP, BATCH = 600, 6, 8, 32


def build(folder: Path, broken: int) -> tuple[FolderStore, Manifest]:
    source, target = MemoryStore(), FolderStore(folder)
    bad = set(np.random.default_rng(5).choice(COUNT, broken, replace=False).tolist())
    images = [make_jpeg(i, 12, 10) for i in range(20)]
    bodies = [NO_IMAGE if i in bad else images[i % 20] for i in range(COUNT)]
    source.write("a.tar", b"".join(bodies))
    starts = np.cumsum([0, *map(len, bodies)])
    columns: dict[str, Any] = {
        "split": ["train"] * COUNT,
        "archive": ["a.tar"] * COUNT,
        "name": [f"{i}.jpg" for i in range(COUNT)],
        "start": starts[:-1],
        "size_bytes": np.diff(starts),
        "wnid": [f"n{i % 3}" for i in range(COUNT)],
        "sha256": [None] * COUNT,
    }
    assert tuple(columns) == Member.__slots__
    members = Members(pa.table(columns, schema=Members.schema()))
    options = PrepareSettings(stored_px=8, rows_per_group=GROUP, rows_per_shard=160)
    classes = make_classes({name: name for name in ("n0", "n1", "n2")})
    job = RenderJob(source=source, target=target, classes=classes, options=options)
    plan = plan_split(members, "train", seed=0, rows_per_shard=160)
    receipts = [render_shard(job, planned) for planned in plan]
    manifest = commit_dataset(job, plan, receipts, name="d", key="d", max_rejects=broken)
    return target, manifest


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> tuple[FolderStore, Manifest]:
    return build(tmp_path_factory.mktemp("dirty"), BROKEN)


def test_a_shard_has_one_short_group_at_most(dirty: tuple[FolderStore, Manifest]) -> None:
    store, manifest = dirty
    assert (manifest.train.count, manifest.num_rejects) == (COUNT - BROKEN, BROKEN)
    assert sum(bool(shard.holes) for shard in manifest.train.shards) >= 3
    for shard in manifest.train.shards:
        metadata = pq.read_metadata(io.BytesIO(store.read(shard.path)))
        rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        assert rows[:-1] == [GROUP] * (len(rows) - 1)
        assert len(rows) == -(-shard.num_rows // GROUP)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_an_epoch_has_every_good_image_once(
    dirty: tuple[FolderStore, Manifest], world_size: int
) -> None:
    store, manifest = dirty
    order = order_of(manifest, 1, BATCH, "reshuffled")
    seen: list[int] = []
    for rank in range(world_size):
        spec = ReadSpec(
            dataset_uri=store.uri,
            seed=1,
            global_batch=BATCH,
            order_kind="reshuffled",
            crop_px=8,
            crop_sharing=1,
        )
        for batch in read_batches(
            spec,
            first_step=0,
            stop_step=order.steps_per_epoch,
            rank=rank,
            world_size=world_size,
        ):
            seen += batch.rows.sample_ids.tolist()
    holes = {hole for shard in manifest.train.shards for hole in shard.holes}
    assert sorted(seen) == [i for i in range(COUNT) if i not in holes]


def test_reading_costs_as_much_as_without_holes(
    dirty: tuple[FolderStore, Manifest], tmp_path: Path
) -> None:
    """Row groups that are read in an epoch, by one reader and by four."""
    _, clean = build(tmp_path, 0)
    for world_size in (1, 4):
        costs = [
            groups_read(order_of(manifest, 1, BATCH, "reshuffled"), world_size)
            for manifest in (dirty[1], clean)
        ]
        # A short group a shard more, where the order has no room left to hide it.
        assert costs[0] <= costs[1] + len(clean.train.shards) * world_size


def groups_read(order: Order, world_size: int) -> int:
    """Count the groups that all ranks read, window by window."""
    count = 0
    for rank in range(world_size):
        step = 0
        while step < order.steps_per_epoch:
            stop = min(order.next_window(0, step), order.steps_per_epoch)
            rows = np.concatenate(
                [order.share(0, s, rank, world_size)[0] for s in range(step, stop)]
            )
            cells = np.stack([rows[:, 0], rows[:, 1] // GROUP], axis=1)
            count += len(np.unique(cells, axis=0))
            step = stop
    return count
