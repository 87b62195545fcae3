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
from alexnet.data.reader import ReadSpec, open_reader
from infra.errors import DataError
from infra.store import FolderStore

pytestmark = [
    pytest.mark.ray,
    # Ray's own, when it makes its context.
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning:ray.data.context"),
]

TWO_TASKS = LoaderResources(cpus_per_task=0.5, num_tasks=2, at_home=True)


@pytest.fixture
def spec(training_data: Any) -> ReadSpec:
    """Epochs of 63 steps; the last batch has 16 rows. No share divides a block of 256."""
    return ReadSpec(
        dataset_uri=training_data.store.uri,
        seed=4,
        global_batch=40,
        order_kind="reshuffled",
        crop_px=40,
        crop_sharing=1,
    )


def load(
    spec: ReadSpec,
    first_step: int,
    stop_step: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    resources: LoaderResources = TWO_TASKS,
) -> list[Batch]:
    batches = load_batches(
        spec,
        open_reader(spec).order,
        resources,
        first_step=first_step,
        stop_step=stop_step,
        rank=rank,
        world_size=world_size,
    )
    return list(batches)


def assert_as_in_process(spec: ReadSpec, first_step: int, stop_step: int, **share: int) -> None:
    loaded = list(load(spec, first_step, stop_step, **share))
    expected = list(read_batches(spec, first_step=first_step, stop_step=stop_step, **share))
    assert [b.step for b in loaded] == [b.step for b in expected]
    for ours, theirs in zip(loaded, expected, strict=True):
        assert (ours.epoch, ours.batch_rows) == (theirs.epoch, theirs.batch_rows)
        for name in ("labels", "sample_ids", "positions", "steps", "images"):
            a, b = getattr(ours.rows, name), getattr(theirs.rows, name)
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_ray_data_gives_the_batches_of_one_plain_process(ray_local: Any, spec: ReadSpec) -> None:
    assert_as_in_process(spec, 17, 130)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_each_of_three_ranks_gets_its_share(ray_local: Any, spec: ReadSpec, rank: int) -> None:
    assert_as_in_process(replace(spec, crop_sharing=32), 40, 80, rank=rank, world_size=3)


@pytest.mark.parametrize(("at_home", "part"), [(True, 0.125), (False, math.inf)])
def test_ranks_share_the_object_store_of_the_node_they_read_on(
    ray_local: Any, spec: ReadSpec, at_home: bool, part: float
) -> None:
    resources = replace(TWO_TASKS, at_home=at_home, ranks_here=4)
    load(spec, 17, 130, resources=resources)
    limit = DataContext.get_current().execution_options.resource_limits.object_store_memory
    assert limit == pytest.approx(part * ray.cluster_resources()["object_store_memory"])


def test_a_share_may_be_empty(ray_local: Any, spec: ReadSpec) -> None:
    """The last batch of an epoch, step 499, has one row, which is rank 3's."""
    small = replace(spec, global_batch=5)
    batches = load(small, 498, 502, rank=1, world_size=4)
    assert [len(batch.rows) for batch in batches] == [2, 0, 2, 2]
    assert_as_in_process(small, 490, 510, rank=1, world_size=4)


def test_a_rank_may_have_no_row_at_all(ray_local: Any, spec: ReadSpec) -> None:
    batches = load(replace(spec, global_batch=2), 1240, 1260, rank=0, world_size=3)
    assert [len(batch.rows) for batch in batches] == [0] * 20


def test_a_damaged_shard_is_named(
    ray_local: Any, spec: ReadSpec, training_data: Any, tmp_path: Path
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
    ray_local: Any, spec: ReadSpec, training_data: Any, tmp_path: Path
) -> None:
    copy = FolderStore(tmp_path)
    for info in training_data.store.list():
        copy.write(info.key, training_data.store.read(info.key))
    elsewhere = replace(spec, dataset_uri=copy.uri)
    open_reader(elsewhere)
    copy.delete("train/part-2.parquet")
    with pytest.raises(DataError, match=r"train/part-2\.parquet is missing"):
        load(elsewhere, 0, 63)
