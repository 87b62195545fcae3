from collections.abc import Iterable, Sequence
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet.data.batches import Batch, Rows, batches_of
from alexnet.data.order import Layout, Order, share_bounds
from infra.errors import ServiceError

ORDER = Order(Layout(16, (163,)), seed=0, global_batch=32)
"""Six steps an epoch, the last of three rows."""


def rows_of(steps: Sequence[int], first: int = 0) -> Rows:
    """One row for each step named, numbered from first."""
    numbers = np.arange(first, first + len(steps), dtype=np.int64)
    pixels = np.broadcast_to(
        (numbers % 256).astype(np.uint8)[:, None, None, None], (*numbers.shape, 2, 2, 3)
    )
    return Rows(pixels, numbers % 10, numbers, numbers * 2, np.array(steps, np.int64))


def steps_of(first_step: int, stop_step: int, rank: int, world_size: int) -> list[int]:
    steps = []
    for step in range(first_step, stop_step):
        start, stop = share_bounds(ORDER.batch_rows(step % ORDER.steps_per_epoch), rank, world_size)
        steps += [step] * (stop - start)
    return steps


def cut_up(rows: Rows, sizes: Iterable[int]) -> list[Rows]:
    blocks, start = [], 0
    for size in sizes:
        blocks.append(rows.cut(start, start + size))
        start += size
    return [*blocks, rows.cut(start, len(rows))]


def batches(
    blocks: Iterable[Rows], stop_step: int, rank: int = 0, world_size: int = 1
) -> list[Batch]:
    found = batches_of(
        blocks, ORDER, first_step=0, stop_step=stop_step, rank=rank, world_size=world_size
    )
    return list(found)


@settings(max_examples=60, deadline=None)
@given(
    first_step=st.integers(0, 8),
    count=st.integers(0, 8),
    world_size=st.integers(1, 9),
    sizes=st.lists(st.integers(0, 50), max_size=8),
    data=st.data(),
)
def test_whatever_the_blocks_each_step_gets_its_share(
    first_step: int, count: int, world_size: int, sizes: list[int], data: st.DataObject
) -> None:
    rank, stop_step = data.draw(st.integers(0, world_size - 1)), first_step + count
    whole = rows_of(steps_of(first_step, stop_step, rank, world_size))
    found = list(
        batches_of(
            cut_up(whole, sizes),
            ORDER,
            first_step=first_step,
            stop_step=stop_step,
            rank=rank,
            world_size=world_size,
        )
    )
    assert [batch.step for batch in found] == list(range(first_step, stop_step))
    assert [batch.epoch for batch in found] == [batch.step // 6 for batch in found]
    assert [batch.batch_rows for batch in found] == [
        3 if batch.step % 6 == 5 else 32 for batch in found
    ]
    for batch in found:
        start, stop = share_bounds(batch.batch_rows, rank, world_size)
        assert len(batch.rows) == stop - start
        assert (batch.rows.steps == batch.step).all()
    for field in fields(Rows):
        if len(whole):
            parts = [getattr(batch.rows, field.name) for batch in found if len(batch.rows)]
            np.testing.assert_array_equal(np.concatenate(parts), getattr(whole, field.name))


def test_an_empty_share_is_an_empty_batch_even_without_blocks() -> None:
    order = Order(Layout(16, (2,)), seed=0, global_batch=2)
    found = list(batches_of([], order, first_step=0, stop_step=3, rank=0, world_size=3))
    assert [(len(batch.rows), batch.epoch, batch.batch_rows) for batch in found] == [
        (0, 0, 2),
        (0, 1, 2),
        (0, 2, 2),
    ]


def test_a_batch_within_one_block_is_a_view_and_one_across_two_is_joined() -> None:
    first, second = cut_up(rows_of(steps_of(0, 3, 0, 1)), [48])
    found = batches([first, second], 3)
    assert np.shares_memory(found[0].rows.images, first.images)
    assert not np.shares_memory(found[1].rows.images, first.images)
    assert found[1].rows.sample_ids.tolist() == list(range(32, 64))


def test_blocks_are_asked_for_only_when_they_are_needed() -> None:
    def blocks() -> Iterable[Rows]:
        yield rows_of([0] * 32)
        raise AssertionError("read too far ahead")

    found = batches_of(blocks(), ORDER, first_step=0, stop_step=2, rank=0, world_size=1)
    assert next(found).step == 0


@pytest.mark.parametrize(
    "steps",
    [
        [0] * 32 + [2] * 32,  # a step is missing
        [0] * 31 + [1] * 32,  # a row is missing
        [0] * 33 + [1] * 31,  # a row is too many
        [1] * 32 + [0] * 32,  # late
        [0] * 32 + [1] * 31,  # the end is missing
        [],
    ],
)
def test_rows_that_are_missing_or_out_of_order_are_refused(steps: list[int]) -> None:
    with pytest.raises(ServiceError, match=r"step [01] are missing or out of order") as caught:
        batches([rows_of(steps)], 2)
    assert "last checkpoint" in caught.value.remedy


def test_batches_before_a_gap_are_still_given() -> None:
    blocks = [rows_of([0] * 32 + [1] * 31 + [2])]
    found = batches_of(blocks, ORDER, first_step=0, stop_step=3, rank=0, world_size=1)
    assert next(found).step == 0
    with pytest.raises(ServiceError, match="step 1"):
        next(found)
