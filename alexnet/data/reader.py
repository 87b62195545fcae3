"""A rank's rows in plan order: read row groups, decode, crop. For loader tasks: no torch, no Ray.

What to read is a `Stretch`, some steps in a row; everything else (which groups, which rows, which
crops) is computed here from the order, so that a plan of millions of images is a few numbers.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alexnet.data.batches import Ints, Rows
from alexnet.data.cuts import Cutter
from alexnet.data.order import Layout, Order, OrderKind
from alexnet.settings import ResizedCrop
from infra.store import ObjectStore, is_remote, open_store
from preprocessing.dataset.manifest import Manifest, open_dataset
from preprocessing.dataset.schema import ShardReader, encoded_column

OUTPUT_BLOCK_ROWS: Final = 256
"""Rows a block has: large enough that handing it over costs little (docs/architecture.md, 6)."""
STRETCH_ROWS: Final = 1024
"""Rows a task reads at least, so that it lasts several times the executor's tick of 0.1 s."""

_SHARDS_AT_ONCE: Final = 4
"""Of a remote store; each asks for several groups at once (`RangeFile.fetch`)."""

GroupKey = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Global steps first to stop of a training, all of one epoch."""

    first_step: int
    stop_step: int


@dataclass(frozen=True)
class ReadSpec:
    """Everything that determines what all ranks of a training read, small and picklable."""

    dataset_uri: str
    seed: int
    global_batch: int
    order_kind: OrderKind
    crop_px: int
    crop_sharing: int
    resized_crop: ResizedCrop | None = None


class ShareReader:
    """Produces the rows of any rank's share of any stretch of a training."""

    def __init__(self, spec: ReadSpec) -> None:
        self._crop_px = spec.crop_px
        self._store: ObjectStore = open_store(spec.dataset_uri)
        self._manifest = open_dataset(self._store)
        self._cutter = Cutter(
            self._manifest,
            seed=spec.seed,
            crop_px=spec.crop_px,
            crop_sharing=spec.crop_sharing,
            resized_crop=spec.resized_crop,
        )
        self.order = order_of(self._manifest, spec.seed, spec.global_batch, spec.order_kind)
        self._open_shard = lru_cache(maxsize=128)(self._open)

    def blocks(self, stretch: Stretch, *, rank: int, world_size: int) -> Iterator[Rows]:
        """Yield a rank's rows of a stretch in order, OUTPUT_BLOCK_ROWS at a time but the last.

        The images of a block are overwritten when the next one is asked for.

        Raises:
            ShardCorrupt, ImageRejected: stored bytes are damaged.
        """
        rows = self._rows(stretch, rank, world_size)
        while part := list(islice(rows, OUTPUT_BLOCK_ROWS)):
            yield self._decode(part)

    def _rows(self, stretch: Stretch, rank: int, world_size: int) -> Iterator["_Row"]:
        """Go window by window: what a window needs is read once and kept until it is done."""
        epoch, first = divmod(stretch.first_step, self.order.steps_per_epoch)
        stop = first + stretch.stop_step - stretch.first_step
        while first < stop:
            window_stop = min(stop, self.order.next_window(epoch, first))
            steps = range(first, window_stop)
            shares = [self.order.share(epoch, step, rank, world_size) for step in steps]
            groups = self._read_groups(np.concatenate([rows for rows, _ in shares]))
            for step, (rows, place) in zip(steps, shares, strict=True):
                yield from self._rows_of_step(groups, rows, place, epoch, step)
            first = window_stop

    def _read_groups(self, addresses: Ints) -> dict[GroupKey, "_Group"]:
        """Read every row group that the rows lie in."""
        size = self._manifest.rows_per_group
        wanted = np.unique(np.stack([addresses[:, 0], addresses[:, 1] // size], axis=1), axis=0)
        parts = [
            (shard, [int(group) for group in wanted[wanted[:, 0] == shard, 1]])
            for shard in map(int, np.unique(wanted[:, 0]))
        ]
        groups: dict[GroupKey, _Group] = {}
        # One shard after the other, a remote store's answers would be waited for in turn.
        with ThreadPoolExecutor(_SHARDS_AT_ONCE if is_remote(self._store) else 1) as threads:
            for part in threads.map(lambda part: self._read_shard(*part), parts):
                groups |= part
        return groups

    def _read_shard(self, shard: int, numbers: list[int]) -> dict[GroupKey, "_Group"]:
        size = self._manifest.rows_per_group
        table = self._open_shard(shard).read_groups(numbers)
        encoded, start = encoded_column(table), 0
        labels, ids = table["label"].to_numpy(), table["sample_id"].to_numpy()
        sizes = _sizes(table) if self._cutter.needs_sizes else None
        groups: dict[GroupKey, _Group] = {}
        for number in numbers:
            stop = start + min(size, self.order.layout.shard_rows[shard] - number * size)
            part = slice(start, stop)
            groups[shard, number] = _Group(
                encoded[part], labels[part], ids[part], None if sizes is None else sizes[part]
            )
            start = stop
        return groups

    def _rows_of_step(
        self, groups: dict[GroupKey, "_Group"], addresses: Ints, place: int, epoch: int, step: int
    ) -> Iterator["_Row"]:
        size, global_step = self._manifest.rows_per_group, self.order.global_step(epoch, step)
        cells = [(groups[int(s), int(r) // size], int(r) % size) for s, r in addresses]
        ids = np.array([group.sample_ids[i] for group, i in cells], np.int64)
        positions = np.arange(place, place + len(cells), dtype=np.int64)
        sizes = None
        if self._cutter.needs_sizes:
            sizes = np.array([group.sizes[i] for group, i in cells if group.sizes is not None])
        crops = self._cutter.draw(epoch, global_step, ids, positions, sizes)
        for (group, i), crop, position in zip(cells, crops.tolist(), positions, strict=True):
            yield _Row(group, i, crop, int(position), global_step)

    def _decode(self, rows: list["_Row"]) -> Rows:
        images = self._images[: len(rows)]
        for image, row in zip(images, rows, strict=True):
            image[:] = self._cutter.cut(row.group.encoded[row.index], row.crop)
        return Rows(
            images=images,
            labels=np.array([row.group.labels[row.index] for row in rows], np.int64),
            sample_ids=np.array([row.group.sample_ids[row.index] for row in rows], np.int64),
            positions=np.array([row.position for row in rows], np.int64),
            steps=np.array([row.step for row in rows], np.int64),
        )

    def _open(self, shard: int) -> ShardReader:
        shards = self._manifest.train.shards
        return ShardReader(self._store, shards[shard], sizes=self._cutter.needs_sizes)

    @cached_property
    def _images(self) -> npt.NDArray[np.uint8]:
        return np.empty((OUTPUT_BLOCK_ROWS, self._crop_px, self._crop_px, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class _Group:
    """The rows of one row group, encoded images as views of what was read, sizes if they differ."""

    encoded: list[npt.NDArray[np.uint8]]
    labels: Ints
    sample_ids: Ints
    sizes: Ints | None


@dataclass(frozen=True, slots=True)
class _Row:
    """One row to produce: which image, where to crop it, and its place in the training."""

    group: _Group
    index: int
    crop: Sequence[float]
    position: int
    step: int


def _sizes(table: pa.Table) -> Ints:
    """Return height and width of each row, (n, 2)."""
    return np.stack([table["height"].to_numpy(), table["width"].to_numpy()], axis=1).astype(
        np.int64
    )


def order_of(manifest: Manifest, seed: int, global_batch: int, kind: OrderKind) -> Order:
    """Return the order of a training on a dataset's train split."""
    rows = tuple(shard.num_rows for shard in manifest.train.shards)
    return Order(Layout(manifest.rows_per_group, rows), seed, global_batch, kind)


def plan_stretches(
    order: Order, *, first_step: int, stop_step: int, world_size: int
) -> list[Stretch]:
    """Cut global steps first to stop into stretches of whole windows, one a task.

    A rank's part of a stretch is STRETCH_ROWS or a little more; the first and last of an epoch,
    or of a resumed run, may be shorter. An epoch's last window may be long, if many shards end
    with a short group; one stretch has all of it, for each would read all its groups again.
    """
    per_epoch, last_start = order.steps_per_epoch, order.last_window * order.steps_per_window
    windows = -(-STRETCH_ROWS * world_size // (order.steps_per_window * order.global_batch))
    length = windows * order.steps_per_window
    stretches = []
    while first_step < stop_step:
        epoch, step = divmod(first_step, per_epoch)
        boundary = (step // length + 1) * length
        boundary = epoch * per_epoch + (boundary if boundary <= last_start else per_epoch)
        stretches.append(Stretch(first_step, min(boundary, stop_step)))
        first_step = stretches[-1].stop_step
    return stretches


@lru_cache(maxsize=4)
def open_reader(spec: ReadSpec) -> ShareReader:
    """Return this process's reader of a training, which keeps shards open between tasks.

    One for all ranks: a node's processes do tasks of all of its workers, and to open a dataset anew
    is to read its manifest and lists, and each shard's footer, once more.
    """
    return ShareReader(spec)
