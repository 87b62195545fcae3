import numpy as np
import pytest

from alexnet.data.order import Layout, Order
from alexnet.data.shuffle_quality import batch_of_rows, entropies, mixing_of

LABELS = np.repeat(np.arange(100), 64)
"""100 classes of 64 rows, class by class."""


def test_entropy_is_that_of_the_counts() -> None:
    labels = np.array([0, 0, 1, 1, 5, 5, 5, 5, 0, 1, 2, 5])
    groups = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    assert entropies(labels, groups).tolist() == [1.0, 0.0, 2.0]


def test_rows_sorted_by_class_are_told_from_shuffled_ones() -> None:
    groups = np.arange(len(LABELS)) // 64
    by_class = mixing_of(LABELS, groups)
    assert (by_class.mean_bits, by_class.least_bits, by_class.ratio) == (0.0, 0.0, 0.0)
    assert by_class.num_groups == 100
    mixed = mixing_of(np.random.default_rng(7).permutation(LABELS), groups)
    assert mixed.ratio == pytest.approx(1.0, abs=0.005)
    # Of 64 rows of 100 equal classes: below log2(64) = 6, for some occur twice.
    assert 5.3 < mixed.uniform_mean_bits < 5.7
    assert mixed.least_bits <= mixed.mean_bits


def test_half_mixed_rows_lie_in_between() -> None:
    """Shuffled only among ten classes at a time, as a shuffle buffer would."""
    rng = np.random.default_rng(7)
    parts = [rng.permutation(part) for part in LABELS.reshape(10, -1)]
    found = mixing_of(np.concatenate(parts), np.arange(len(LABELS)) // 64)
    assert 0.5 < found.ratio < 0.65


def test_one_class_has_nothing_to_mix() -> None:
    assert mixing_of(np.zeros(8, np.int64), np.arange(8) // 4).ratio == 1.0


def test_every_row_is_in_the_batch_that_the_order_says() -> None:
    order = Order(Layout(4, (10, 7)), seed=3, global_batch=4)
    steps = batch_of_rows(order)
    starts = (0, 10)
    for step in range(order.steps_per_epoch):
        rows = sorted(starts[shard] + row for shard, row in order.batch(0, step).tolist())
        assert np.flatnonzero(steps == step).tolist() == rows
