import time
from pathlib import Path

import pytest

from infra.store import FolderStore, MemoryStore
from preprocessing.building.commit import commit_dataset
from preprocessing.building.estimate import Sampled, estimate_build, reckon
from preprocessing.building.render import RenderJob, render_shard
from preprocessing.prepare import plan_dataset
from preprocessing.settings import DatasetSettings, PrepareSettings
from preprocessing.sources.members import Member, Members
from preprocessing.sources.source import read_index

MIB = 1 << 20


def members_of(num_train: int, num_val: int) -> Members:
    import pyarrow as pa

    splits = ["train"] * num_train + ["val"] * num_val
    rows = [Member(split, "a.tar", f"{i}", 100 * i, 100, "n1") for i, split in enumerate(splits)]  # type: ignore[arg-type]
    columns = {name: [getattr(row, name) for row in rows] for name in Member.__slots__}
    return Members(pa.table(columns, schema=Members.schema()))


def test_a_sample_is_extended_to_all_images() -> None:
    prepare = PrepareSettings(rows_per_shard=640)
    train = Sampled(count=10, rejected=1, stored_bytes=10 * MIB // 16, cpu_s=0.36)
    val = Sampled(count=10, rejected=0, stored_bytes=20_000, cpu_s=0.72)
    found = reckon(members_of(1500, 50), prepare, train, val, cores=2)
    assert (found.train.num_shards, found.train.size_bytes) == (3, 1500 * MIB // 16)
    assert (found.val.num_shards, found.val.size_bytes) == (1, 100_000)
    # Beside the shards, three images of sums, of train; then lists and digests of members.
    beside = found.written_bytes - found.train.size_bytes - found.val.size_bytes
    assert 3 * 256 * 256 * 3 * 8 < beside < 3 * 256 * 256 * 3 * 8 + 1550 * 100
    assert found.core_hours == pytest.approx((1500 * 0.036 + 50 * 0.072) / 3600)
    assert (found.read_bytes, found.read_requests) == (155_000, 1550)
    # Two shards of 40 MiB are three parts each and two more requests, one of 13.75 MiB and the
    # small one are one each; sums and receipts of four; six files at the end. Two cores take
    # 28.8 s: the lease's heart beats six times, and looks as often.
    assert found.write_requests == 2 * (3 + 2) + 1 + 1 + 4 * 2 + 6 + 6 * 2
    assert (found.num_sampled, found.num_rejected) == (20, 1)


def test_without_a_val_split_nothing_is_divided_by_nothing() -> None:
    found = reckon(
        members_of(5, 0), PrepareSettings(), Sampled(5, 0, 500, 0.1), Sampled(0, 0, 0, 0.0), cores=1
    )
    assert (found.val.num_images, found.val.num_shards, found.val.size_bytes) == (0, 0, 0)


@pytest.mark.parametrize("options", [{}, {"shape": "original"}, {"encoding": "raw"}])
def test_bytes_come_out_as_estimated(
    shared_data: Path, tmp_path: Path, options: dict[str, str]
) -> None:
    dataset = DatasetSettings(archives=str(shared_data / "ilsvrc-mini"))
    prepare = PrepareSettings(stored_px=32, rows_per_shard=8960, **options)  # type: ignore[arg-type]
    index = read_index(dataset, prepare, FolderStore(tmp_path))
    found = estimate_build(index, prepare)
    target = MemoryStore()
    job = RenderJob(source=index.store, target=target, classes=index.classes, options=prepare)
    plan = plan_dataset(index, prepare)
    (val,) = (planned for planned in plan if planned.split == "val")
    started_s = time.process_time()
    made = render_shard(job, val).shard.size_bytes
    cpu_an_image = (time.process_time() - started_s) / len(val.members)
    assert found.val.size_bytes == pytest.approx(made, rel=0.1)
    assert found.num_sampled == 384
    # How near it comes is a benchmark's matter (benchmarks.preprocessing.speed).
    estimated = found.core_hours * 3600 / (found.train.num_images + found.val.num_images)
    assert 0.2 < estimated / cpu_an_image < 5


def test_all_that_is_written_comes_out_as_estimated(shared_data: Path, tmp_path: Path) -> None:
    """Sums and lists are a quarter of it, when shards are as small as these."""
    dataset = DatasetSettings(archives=str(shared_data / "ilsvrc-mini"))
    prepare = PrepareSettings(stored_px=32, rows_per_shard=64, max_rejects=1)
    index = read_index(dataset, prepare, FolderStore(tmp_path))
    found = estimate_build(index, prepare)
    target = MemoryStore()
    job = RenderJob(source=index.store, target=target, classes=index.classes, options=prepare)
    plan = plan_dataset(index, prepare)
    receipts = [render_shard(job, planned) for planned in plan]
    commit_dataset(job, plan, receipts, name="d", key="d", max_rejects=1)
    written = {info.key: info.size_bytes for info in target.list()}
    shards = sum(size for key, size in written.items() if key.endswith(".parquet") and "/" in key)
    assert found.train.size_bytes + found.val.size_bytes == pytest.approx(shards, rel=0.1)
    assert sum(written.values()) > 1.2 * shards
    assert found.written_bytes == pytest.approx(sum(written.values()), rel=0.1)
