import io
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from alexnet.data.batches import Batch
from alexnet.data.crops import draw_crops, draw_resized_crops, draw_shared_crops
from alexnet.data.in_process import read_batches
from alexnet.data.order import Layout, Order
from alexnet.data.reader import (
    OUTPUT_BLOCK_ROWS,
    STRETCH_ROWS,
    ReadSpec,
    ShareReader,
    Stretch,
    open_reader,
    order_of,
    plan_stretches,
)
from alexnet.settings import ResizedCrop
from infra.store import FolderStore
from preprocessing.dataset.stored import decode_stored
from preprocessing.errors import ShardCorrupt

SIDE_PX, BATCH = 40, 40
Pixels = npt.NDArray[np.uint8]


@pytest.fixture
def spec(training_data: Any) -> ReadSpec:
    """Epochs of 63 steps in windows of 28, 28 and 7; the last batch has 16 rows."""
    return ReadSpec(
        dataset_uri=training_data.store.uri,
        seed=4,
        global_batch=BATCH,
        order_kind="reshuffled",
        crop_px=SIDE_PX,
        crop_sharing=1,
    )


@pytest.fixture(scope="module")
def stored(training_data: Any) -> dict[int, tuple[int, Pixels]]:
    """Label and decoded image by sample id, read without any code of ours but the decoder."""
    found = {}
    for shard in training_data.manifest.train.shards:
        for row in pq.read_table(io.BytesIO(training_data.store.read(shard.path))).to_pylist():
            found[row["sample_id"]] = (row["label"], decode_stored(row["image"]["bytes"]))
    return found


def read(spec: ReadSpec, first_step: int, stop_step: int, **share: int) -> list[Batch]:
    return list(read_batches(spec, first_step=first_step, stop_step=stop_step, **share))


def same(batch: Batch, other: Batch) -> bool:
    return (batch.epoch, batch.step, batch.batch_rows) == (
        other.epoch,
        other.step,
        other.batch_rows,
    ) and all(
        np.array_equal(getattr(batch.rows, name), getattr(other.rows, name))
        for name in ("labels", "sample_ids", "positions", "steps", "images")
        if len(batch.rows) or len(other.rows)
    )


def test_rows_are_those_of_the_order(spec: ReadSpec, training_data: Any, stored: Any) -> None:
    shards = training_data.manifest.train.shards
    order = order_of(training_data.manifest, 4, BATCH, "reshuffled")
    assert (order.steps_per_epoch, order.steps_per_window, order.last_window) == (63, 52, 1)
    for batch in read(spec, 60, 66):
        expected = [
            int(shards[shard].sample_ids()[row])
            for shard, row in order.batch(batch.step // 63, batch.step % 63)
        ]
        assert batch.rows.sample_ids.tolist() == expected
        assert batch.rows.labels.tolist() == [stored[i][0] for i in expected]
        assert batch.rows.positions.tolist() == list(range(len(expected)))


def test_an_epoch_reads_every_sample_once_and_no_hole(spec: ReadSpec, stored: Any) -> None:
    ids = np.concatenate([batch.rows.sample_ids for batch in read(spec, 63, 126)])
    assert sorted(ids) == sorted(stored)
    assert not {5, 6, 700, 2200} & set(ids.tolist())


@pytest.mark.parametrize("sharing", [1, 32])
def test_images_are_the_drawn_crops_of_what_is_stored(
    spec: ReadSpec, stored: Any, sharing: int
) -> None:
    for batch in read(replace(spec, crop_sharing=sharing), 61, 65):
        rows = batch.rows
        size = {"stored_px": (48, 48), "crop_px": SIDE_PX}
        if sharing == 1:
            crops = draw_crops(seed=4, epoch=batch.epoch, sample_ids=rows.sample_ids, **size)
        else:
            crops = draw_shared_crops(
                seed=4, step=batch.step, positions=rows.positions, sharing=sharing, **size
            )
            assert (crops[:32] == crops[0]).all()
        for image, sample_id, (y, x) in zip(rows.images, rows.sample_ids, crops, strict=True):
            whole = stored[int(sample_id)][1]
            np.testing.assert_array_equal(image, whole[y : y + SIDE_PX, x : x + SIDE_PX])


def test_resized_crops_are_the_drawn_parts_scaled(spec: ReadSpec, stored: Any) -> None:
    resized = ResizedCrop(min_area=0.3)
    for batch in read(replace(spec, resized_crop=resized), 61, 65):
        rows = batch.rows
        parts = draw_resized_crops(
            seed=4,
            epoch=batch.epoch,
            sample_ids=rows.sample_ids,
            stored_px=(48, 48),
            resized=resized,
        )
        for image, sample_id, (top, left, height, width) in zip(
            rows.images, rows.sample_ids, parts, strict=True
        ):
            whole = Image.fromarray(stored[int(sample_id)][1])
            expected = whole.transform(
                (SIDE_PX, SIDE_PX),
                Image.Transform.EXTENT,
                (left, top, left + width, top + height),
                Image.Resampling.BILINEAR,
            )
            # Without antialiasing, so only about the same.
            difference = np.abs(np.asarray(expected, int) - image.astype(int))
            assert difference[2:-2, 2:-2].mean() < 6


def test_resuming_anywhere_gives_the_rest_of_the_whole(spec: ReadSpec) -> None:
    whole = read(spec, 0, 70)
    for first_step in (1, 13, 28, 40, 62, 63, 69):
        assert all(map(same, read(spec, first_step, 70), whole[first_step:]))


@pytest.mark.parametrize("sharing", [1, 32])
def test_any_number_of_ranks_reads_the_same_batches(spec: ReadSpec, sharing: int) -> None:
    """With 20 ranks the last batch of the epoch, of 16, leaves some empty."""

    def union(world_size: int) -> dict[tuple[int, int], tuple[int, bytes]]:
        found = {}
        for rank in range(world_size):
            shared = replace(spec, crop_sharing=sharing)
            for batch in read(shared, 50, 65, rank=rank, world_size=world_size):
                for sample_id, position, image in zip(
                    batch.rows.sample_ids, batch.rows.positions, batch.rows.images, strict=True
                ):
                    key = (batch.step, int(sample_id))
                    assert key not in found
                    found[key] = (int(position), image.tobytes())
        return found

    whole = union(1)
    assert len(whole) == 12 * BATCH + 16 + 2 * BATCH
    assert all(union(world_size) == whole for world_size in (2, 3, 20))


def test_a_rank_without_rows_gets_empty_batches(spec: ReadSpec) -> None:
    batches = read(replace(spec, global_batch=2), 0, 5, rank=0, world_size=3)
    assert [len(batch.rows) for batch in batches] == [0] * 5


def test_blocks_are_full_but_the_last(spec: ReadSpec) -> None:
    blocks = ShareReader(spec).blocks(Stretch(63, 63 + 20), rank=0, world_size=1)
    sizes = [len(rows) for rows in blocks]
    assert sizes == [OUTPUT_BLOCK_ROWS] * 3 + [20 * BATCH - 3 * OUTPUT_BLOCK_ROWS]


def test_in_process_batches_stay_what_they_are(spec: ReadSpec) -> None:
    """The reader reuses its buffer; who keeps a batch must not see the next one in it."""
    batches = read_batches(spec, first_step=0, stop_step=28)
    first = next(batches)
    images = first.rows.images.copy()
    for _ in batches:
        np.testing.assert_array_equal(first.rows.images, images)


def damaged_copy(training_data: Any, folder: Path, damage: Callable[[bytearray], None]) -> str:
    copy = FolderStore(folder)
    for info in training_data.store.list():
        copy.write(info.key, training_data.store.read(info.key))
    body = bytearray(copy.read("train/part-1.parquet"))
    damage(body)
    copy.write("train/part-1.parquet", bytes(body))
    return copy.uri


def flip_a_byte(body: bytearray) -> None:
    body[len(body) // 2] ^= 0x01


def overwrite_the_footer(body: bytearray) -> None:
    body[-100:] = bytes(100)


@pytest.mark.parametrize("damage", [flip_a_byte, overwrite_the_footer])
def test_a_damaged_shard_is_named(
    spec: ReadSpec, training_data: Any, tmp_path: Path, damage: Callable[[bytearray], None]
) -> None:
    uri = damaged_copy(training_data, tmp_path, damage)
    with pytest.raises(ShardCorrupt, match=r"train/part-1\.parquet is damaged") as caught:
        read(replace(spec, dataset_uri=uri), 0, 63)
    assert "alexnet prepare" in caught.value.remedy


orders = st.builds(
    Order,
    layout=st.builds(
        Layout,
        rows_per_group=st.sampled_from([16, 64]),
        shard_rows=st.lists(st.integers(0, 3000), min_size=1, max_size=8).filter(any).map(tuple),
    ),
    seed=st.just(0),
    global_batch=st.integers(4, 200),
)


@settings(max_examples=100, deadline=None)
@given(orders, st.integers(0, 400), st.integers(0, 400), st.integers(1, 9))
def test_stretches_cover_every_step_once_and_cut_no_epoch_and_no_window(
    order: Order, first_step: int, count: int, world_size: int
) -> None:
    stop_step = first_step + count
    stretches = plan_stretches(
        order, first_step=first_step, stop_step=stop_step, world_size=world_size
    )
    steps = [s for stretch in stretches for s in range(stretch.first_step, stretch.stop_step)]
    assert steps == list(range(first_step, stop_step))
    per_epoch = order.steps_per_epoch
    for stretch in stretches:
        assert stretch.first_step // per_epoch == (stretch.stop_step - 1) // per_epoch
        for border in {stretch.first_step, stretch.stop_step} - {first_step, stop_step}:
            at = border % per_epoch
            assert at == 0 or order.next_window(0, at - 1) == at


def test_a_stretch_lasts_long_enough_for_each_rank() -> None:
    order = Order(Layout(64, (8960,) * 9), seed=0, global_batch=128)
    for world_size in (1, 3, 8):
        stretches = plan_stretches(
            order, first_step=0, stop_step=order.steps_per_epoch, world_size=world_size
        )
        rows = [(s.stop_step - s.first_step) * 128 // world_size for s in stretches[:-1]]
        assert all(STRETCH_ROWS <= count <= 2 * STRETCH_ROWS for count in rows)


def test_a_long_last_window_is_one_stretch() -> None:
    """Shards of 90 rows all end with a short group, and all of those are in the last window."""
    order = Order(Layout(64, (90,) * 200), seed=0, global_batch=32)
    last_start = order.last_window * order.steps_per_window
    assert order.steps_per_epoch - last_start > 2 * order.steps_per_window
    for world_size in (1, 3):
        stretches = plan_stretches(
            order, first_step=0, stop_step=2 * order.steps_per_epoch, world_size=world_size
        )
        ends = [stretch.stop_step % order.steps_per_epoch for stretch in stretches]
        assert ends.count(0) == 2
        assert max(ends) <= last_start
        inside = plan_stretches(
            order,
            first_step=last_start + 1,
            stop_step=order.steps_per_epoch,
            world_size=world_size,
        )
        assert inside == [Stretch(last_start + 1, order.steps_per_epoch)]


def test_a_process_opens_a_dataset_once_for_all_ranks(spec: ReadSpec) -> None:
    """A node's processes read for all of its workers in turn, each task with a copy of the spec."""
    assert open_reader(pickle.loads(pickle.dumps(spec))) is open_reader(spec)
    assert open_reader(replace(spec, seed=5)) is not open_reader(spec)
