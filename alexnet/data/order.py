"""Stage 6, order: pure; (seed, epoch, step) → the rows of that global batch, and a rank's share.

The only state of the data is (epoch, step): any batch is computed without the ones before it.

An epoch is built from whole row groups, the unit of reading:

1. the full groups in a keyed permutation, the short ones (one a shard at most) after them;
2. cut into windows whose rows are a multiple of the global batch, so no batch straddles two;
3. inside a window each group's rows are permuted and the groups interleaved by relative position,
   so that every batch takes the same number of rows (±1) from each group, and from the first k;
4. a batch is sorted by the group's place in the window and cut into nearly equal runs, one a rank,
   so that a rank reads its own groups and hardly any other. Where neighbours are to be blended
   (kind "paired"), each two groups' rows alternate first: else nearly all pairs would come from
   one group, and so an image's partners from the same 64 for the life of the dataset.

Rows are (shard, row in the shard). What a batch holds depends on the dataset, the seed, the epoch,
the step and the global batch; never on the number of ranks. See architecture section 5.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import lcm
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from alexnet.counter_rng import permutation, permutations, stream_key

Ints = npt.NDArray[np.int64]
OrderKind = Literal["reshuffled", "paired", "fixed"]
"""Another order every epoch; so too, with neighbours of different groups; that of epoch 0."""

WINDOW_ROWS: Final = 2048
"""Rows that a window has at least: enough groups to mix, few enough to hold their JPEG bytes."""
WINDOW_BATCHES: Final = 8
"""Batches that a window has at least.

Every border between two ranks splits a group, which both then read. With eight batches of 32 rows
a rank or more, a window has four groups a rank, and all ranks together read at most 1.25 times
what there is.
"""


@dataclass(frozen=True)
class Layout:
    """How the rows of a split lie in its files: the only thing the order knows of the data."""

    rows_per_group: int
    shard_rows: tuple[int, ...]
    """Rows of each shard; all its row groups are full but the last."""

    @cached_property
    def groups(self) -> Ints:
        """Every row group as (shard, first row, rows), shape (num_groups, 3)."""
        parts = []
        for shard, rows in enumerate(self.shard_rows):
            first = np.arange(0, rows, self.rows_per_group, dtype=np.int64)
            size = np.minimum(self.rows_per_group, rows - first)
            parts.append(np.stack([np.full_like(first, shard), first, size], axis=1))
        return np.concatenate(parts) if parts else np.empty((0, 3), np.int64)

    @property
    def num_rows(self) -> int:
        """Rows of the split."""
        return sum(self.shard_rows)


@dataclass(frozen=True)
class Order:
    """The order of one training: a layout, a seed, a global batch."""

    layout: Layout
    seed: int
    global_batch: int
    kind: OrderKind = "reshuffled"

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch, the last one smaller when the rows do not divide."""
        return -(-self.layout.num_rows // self.global_batch)

    def batch_rows(self, step: int) -> int:
        """Rows of the global batch at a step (0-based) of an epoch."""
        return min(self.global_batch, self.layout.num_rows - step * self.global_batch)

    def rows_before(self, global_step: int) -> int:
        """Count the rows of all batches before a global step."""
        epoch, step = divmod(global_step, self.steps_per_epoch)
        return epoch * self.layout.num_rows + step * self.global_batch

    @cached_property
    def window_groups(self) -> int:
        """Full groups in a window: its rows are the least multiple of both sizes that suffices."""
        unit = lcm(self.layout.rows_per_group, self.global_batch)
        least = max(WINDOW_ROWS, WINDOW_BATCHES * self.global_batch)
        return unit * -(-least // unit) // self.layout.rows_per_group

    @property
    def steps_per_window(self) -> int:
        """Batches of a window; the last window of an epoch takes what remains."""
        return self.window_groups * self.layout.rows_per_group // self.global_batch

    def global_step(self, epoch: int, step: int) -> int:
        """Count a step of an epoch over all epochs, 0-based."""
        return epoch * self.steps_per_epoch + step

    def batch(self, epoch: int, step: int) -> Ints:
        """Return the rows of a global batch as (shard, row), shape (batch_rows, 2)."""
        window, rows = _window_of(self, epoch, step)
        start = (step - window * self.steps_per_window) * self.global_batch
        batch = rows[start : start + self.batch_rows(step)]
        batch = batch[np.argsort(batch[:, 0], kind="stable")]
        return (_alternate(batch) if self.kind == "paired" else batch)[:, 1:]

    def share(self, epoch: int, step: int, rank: int, world_size: int) -> tuple[Ints, int]:
        """Return a rank's part of a batch, shape (n, 2), and its first row's place in the batch.

        n differs by at most two between ranks, as pairs stay together, and may be zero.
        """
        start, stop = share_bounds(self.batch_rows(step), rank, world_size)
        return self.batch(epoch, step)[start:stop], start

    def next_window(self, epoch: int, step: int) -> int:
        """Return the first step of the window after the one a step lies in, or the epoch's end."""
        window, rows = _window_of(self, epoch, step)
        return window * self.steps_per_window + -(-len(rows) // self.global_batch)

    @cached_property
    def last_window(self) -> int:
        """The number of an epoch's last window, which takes what remains, short groups included."""
        sizes = self.layout.groups[:, 2]
        num_windows = int((sizes == self.layout.rows_per_group).sum()) // self.window_groups
        exact = num_windows * self.window_groups == len(sizes)
        return max(0, num_windows - 1 if exact else num_windows)


def share_bounds(batch_rows: int, rank: int, world_size: int) -> tuple[int, int]:
    """Return the half-open run of a batch's rows that is a rank's: start, stop.

    Rows 2i and 2i + 1 come to the same rank, so that what is done to pairs of neighbours (mixing)
    needs no other rank's images, and does not depend on how many there are.
    """
    pairs = -(-batch_rows // 2)
    start, stop = pairs * rank // world_size, pairs * (rank + 1) // world_size
    return min(2 * start, batch_rows), min(2 * stop, batch_rows)


def _window_of(order: Order, epoch: int, step: int) -> tuple[int, Ints]:
    if not 0 <= step < order.steps_per_epoch:
        raise IndexError(f"step {step} of an epoch of {order.steps_per_epoch}")
    epoch = 0 if order.kind == "fixed" else epoch
    window = min(step // order.steps_per_window, order.last_window)
    return window, _window_rows(order, epoch, window)


def _alternate(batch: Ints) -> Ints:
    """Let the rows of groups 2k and 2k + 1 alternate; (n, 3), sorted by the group's place.

    A border between ranks then splits two groups, not one. Less is not to be had: of pairs that
    cross from group to group, those before and those after a border have two in common.
    """
    places = batch[:, 0]
    within = np.arange(len(places)) - np.searchsorted(places, places)
    return batch[np.lexsort((places, within, places // 2))]


@lru_cache(maxsize=4)
def _epoch_groups(order: Order, epoch: int) -> Ints:
    groups = order.layout.groups
    groups = groups[permutation(len(groups), stream_key(order.seed, "groups", epoch))]
    short = groups[:, 2] < order.layout.rows_per_group
    return np.concatenate([groups[~short], groups[short]])


@lru_cache(maxsize=8)
def _window_rows(order: Order, epoch: int, window: int) -> Ints:
    """Rows of a window in order, as (place of the group, shard, row), shape (rows, 3)."""
    groups = _epoch_groups(order, epoch)
    start = window * order.window_groups
    is_last = window == order.last_window
    members = groups[start : None if is_last else start + order.window_groups]
    shards, firsts, sizes = members.T
    # All groups at once: one at a time took numpy 40 us each, for every rank those of all ranks.
    rows_before = np.cumsum(sizes) - sizes
    place = np.repeat(np.arange(len(members)), sizes)
    index = np.arange(len(place)) - rows_before[place]
    streams = [
        stream_key(order.seed, "rows", epoch, int(shard), int(first))
        for shard, first in zip(shards, firsts, strict=True)
    ]
    rows = firsts[place] + permutations(sizes, streams)
    # Each group is offset by the batch rows that the groups before it take: so the first k groups
    # give every batch the same number of rows (±1), and a rank's run lies in the same groups in
    # every batch. Ties broken by place instead: 16 ranks read batches of 24 2.7x.
    offsets = -order.global_batch * rows_before % len(place) / len(place)
    sequence = np.lexsort((place, (index + offsets[place]) / sizes[place]))
    return np.stack([place, shards[place], rows], axis=1)[sequence]
