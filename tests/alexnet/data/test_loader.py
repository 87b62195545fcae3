import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.data import DataContext

from alexnet.data.batches import Batch
from alexnet.data.in_process import read_batches
from alexnet.data.loader import LoaderResources, load_batches
from alexnet.data.reader import ShareSpec, open_reader
from infra.errors import DataError
from infra.store import FolderStore

pytestmark = [
    pytest.mark.ray,
    # Ray's own, when it makes its context.
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning:ray.data.context"),
]

TWO_TASKS = LoaderResources(cpus_per_task=0.5, num_tasks=2, at_home=True)


@pytest.fixture
def spec(training_data: Any) -> ShareSpec:
    """Epochs of 63 steps; the last batch has 16 rows. No share divides a block of 256."""
    return ShareSpec(
        dataset_uri=training_data.store.uri,
        seed=4,
        global_batch=40,
        order_kind="reshuffled",
        crop_px=40,
        crop_sharing=1,
        rank=0,
        world_size=1,
    )


def load(spec: ShareSpec, first_step: int, stop_step: int) -> list[Batch]:
    order = open_reader(spec).order
    batches = load_batches(spec, order, TWO_TASKS, first_step=first_step, stop_step=stop_step)
    return list(batches)


def assert_as_in_process(spec: ShareSpec, first_step: int, stop_step: int) -> None:
    loaded = load(spec, first_step, stop_step)
    expected = list(read_batches(spec, first_step=first_step, stop_step=stop_step))
    assert [b.step for b in loaded] == [b.step for b in expected]
    for ours, theirs in zip(loaded, expected, strict=True):
        assert (ours.epoch, ours.batch_rows) == (theirs.epoch, theirs.batch_rows)
        for name in ("labels", "sample_ids", "positions", "steps", "images"):
            a, b = getattr(ours.rows, name), getattr(theirs.rows, name)
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_ray_data_gives_the_batches_of_one_plain_process(ray_local: Any, spec: ShareSpec) -> None:
    assert_as_in_process(spec, 17, 130)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_each_of_three_ranks_gets_its_share(ray_local: Any, spec: ShareSpec, rank: int) -> None:
    assert_as_in_process(replace(spec, rank=rank, world_size=3, crop_sharing=32), 40, 80)


@pytest.mark.parametrize(("at_home", "part"), [(True, 0.125), (False, math.inf)])
def test_ranks_share_the_object_store_of_the_node_they_read_on(
    ray_local: Any, spec: ShareSpec, at_home: bool, part: float
) -> None:
    resources = replace(TWO_TASKS, at_home=at_home, ranks_here=4)
    order = open_reader(spec).order
    list(load_batches(spec, order, resources, first_step=17, stop_step=130))
    limit = DataContext.get_current().execution_options.resource_limits.object_store_memory
    assert limit == pytest.approx(part * ray.cluster_resources()["object_store_memory"])


def test_a_share_may_be_empty(ray_local: Any, spec: ShareSpec) -> None:
    """The last batch of an epoch, step 499, has one row, which is rank 3's."""
    share = replace(spec, global_batch=5, rank=1, world_size=4)
    assert [len(batch.rows) for batch in load(share, 498, 502)] == [2, 0, 2, 2]
    assert_as_in_process(share, 490, 510)


def test_a_rank_may_have_no_row_at_all(ray_local: Any, spec: ShareSpec) -> None:
    share = replace(spec, global_batch=2, rank=0, world_size=3)
    assert [len(batch.rows) for batch in load(share, 1240, 1260)] == [0] * 20


def test_a_damaged_shard_is_named(
    ray_local: Any, spec: ShareSpec, training_data: Any, tmp_path: Path
) -> None:
    copy = FolderStore(tmp_path)
    for info in training_data.store.list():
        copy.write(info.key, training_data.store.read(info.key))
    body = bytearray(copy.read("train/part-1.parquet"))
    body[len(body) // 2] ^= 0x01
    copy.write("train/part-1.parquet", bytes(body))
    with pytest.raises(DataError, match=r"train/part-1\.parquet is damaged") as caught:
        load(replace(spec, dataset_uri=copy.uri), 0, 63)
    assert "alexnet prepare" in caught.value.remedy
    assert caught.value.exit_code == 3


def test_a_missing_shard_is_named(
    ray_local: Any, spec: ShareSpec, training_data: Any, tmp_path: Path
) -> None:
    copy = FolderStore(tmp_path)
    for info in training_data.store.list():
        copy.write(info.key, training_data.store.read(info.key))
    share = replace(spec, dataset_uri=copy.uri)
    order = open_reader(share).order
    copy.delete("train/part-2.parquet")
    with pytest.raises(DataError, match=r"train/part-2\.parquet is missing"):
        list(load_batches(share, order, TWO_TASKS, first_step=0, stop_step=63))
