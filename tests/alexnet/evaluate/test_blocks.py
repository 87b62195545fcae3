from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexnet.evaluate.blocks import BlockReader, place_of, plan_blocks
from alexnet.evaluate.scores import SCORE_BATCH_ROWS
from preprocessing.dataset.manifest import Shard, Split


@given(st.lists(st.integers(0, 200), max_size=6))
def test_every_row_is_in_one_block_in_order(rows: list[int]) -> None:
    shards = tuple(
        Shard(path=f"{i}", size_bytes=1, sha256="0" * 64, start=0, stop=count)
        for i, count in enumerate(rows)
    )
    blocks = plan_blocks(Split(shards=shards))
    assert [block.count for block in blocks[:-1]] == [SCORE_BATCH_ROWS] * (len(blocks) - 1)
    found = [
        (part.shard, row)
        for block in blocks
        for part in block.ranges
        for row in range(part.start, part.stop)
    ]
    assert found == [(shard, row) for shard, count in enumerate(rows) for row in range(count)]


def test_blocks_are_read_across_shards_and_groups(tiny_training: Any) -> None:
    manifest = tiny_training.manifest
    blocks = plan_blocks(manifest.val)
    assert [block.count for block in blocks] == [64, 64, 22]
    reader = BlockReader(tiny_training.store, manifest)
    ids = np.concatenate([reader.read(block).sample_ids for block in blocks])
    images = reader.read(blocks[1]).decode()
    reader.close()
    assert ids.tolist() == [i for i in range(152) if i not in (3, 40)]
    assert images.shape == (64, 48, 48, 3)


@pytest.mark.parametrize(
    ("row", "place"), [(0, (0, 0)), (98, (0, 98)), (99, (1, 0)), (149, (1, 50))]
)
def test_rows_are_counted_over_all_shards(
    tiny_training: Any, row: int, place: tuple[int, int]
) -> None:
    found = place_of(tiny_training.manifest.val, row)
    assert (found.shard, found.start, found.stop) == (*place, place[1] + 1)


def test_a_row_behind_the_last_has_no_place(tiny_training: Any) -> None:
    with pytest.raises(IndexError):
        place_of(tiny_training.manifest.val, 150)
