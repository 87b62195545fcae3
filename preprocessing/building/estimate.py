"""What a build will take, from its index and a sample of its images, before anything is made."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from infra.lease import LeaseTimings
from infra.store import MemoryStore
from infra.store.s3_upload import PART_BYTES
from preprocessing.building.plan import PlannedShard
from preprocessing.building.render import RenderJob, render_shard
from preprocessing.settings import PrepareSettings
from preprocessing.sources.dataset_index import DatasetIndex
from preprocessing.sources.members import Members, SplitName

SAMPLE: Final = 192
"""Images of each split that are rendered: their mean is known to some percent, in seconds."""
_PUTS_A_SHARD: Final = 2
"""Its sums, and its receipt."""
_REQUESTS_A_BEAT: Final = 2
"""Of the lease: the beat is written, and the claims are listed, at the price of a write."""
_PUTS_AT_THE_END: Final = 6
"""Classes, statistics, members, rejects, the note of the source, the manifest."""
_MEMBER_BYTES: Final = 55
"""A row of the list of members: names, places and a digest, compressed."""
_SUM_BYTES: Final = 3 * 8
"""A pixel's sums beside a shard of train: three channels of 64 bits."""
_DIGEST_BYTES: Final = 32
"""A member's SHA-256 beside its shard."""


@dataclass(frozen=True, slots=True)
class SplitEstimate:
    """What one split will be."""

    num_images: int
    num_shards: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a build will take. Of a sample, so within some percent."""

    train: SplitEstimate
    val: SplitEstimate
    read_bytes: int
    """Of images; the archives' headers were read for the index already."""
    written_bytes: int
    """Shards, their sums in `_build/`, and lists."""
    core_hours: float
    """Of cores like this machine's."""
    read_requests: int
    """If the archives lie in an object store: a range an image."""
    write_requests: int
    """If the dataset goes to an object store: what is put, and the lists that cost as much."""
    num_sampled: int
    num_rejected: int
    """Of the sample."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """What the rendering of a sample gave."""

    count: int
    rejected: int
    stored_bytes: int
    cpu_s: float

    @property
    def bytes_an_image(self) -> float:
        """Stored bytes an image, rejects counted in."""
        return self.stored_bytes / max(1, self.count)

    @property
    def cpu_an_image(self) -> float:
        """Seconds of a core an image."""
        return self.cpu_s / max(1, self.count)


def estimate_build(index: DatasetIndex, prepare: PrepareSettings) -> Estimate:
    """Render a sample in this process and reckon from it what all will take.

    Raises:
        ArchiveMissing, ArchiveCorrupt: a member of the sample cannot be read.
    """
    train, val = (render_sample(index, prepare, split, SAMPLE) for split in ("train", "val"))
    cores = prepare.parallelism or os.cpu_count() or 1
    return reckon(index.members, prepare, train, val, cores=cores)


def render_sample(
    index: DatasetIndex, prepare: PrepareSettings, split: SplitName, size: int
) -> Sampled:
    """Render members of a split, evenly spaced in the index: from all archives and classes."""
    members = index.members.of_split(split)
    if not len(members):
        return Sampled(0, 0, 0, 0.0)
    rows = np.unique(np.linspace(0, len(members) - 1, min(size, len(members))).astype(np.int64))
    planned = PlannedShard(split=split, number=0, num_shards=1, start=0, members=members.take(rows))
    job = RenderJob(
        source=index.store, target=MemoryStore(), classes=index.classes, options=prepare
    )
    started_s = time.process_time()
    receipt = render_shard(job, planned)
    return Sampled(
        count=len(rows),
        rejected=len(receipt.rejects),
        stored_bytes=receipt.shard.size_bytes,
        cpu_s=time.process_time() - started_s,
    )


def reckon(
    members: Members,
    prepare: PrepareSettings,
    train_sample: Sampled,
    val_sample: Sampled,
    *,
    cores: int,
) -> Estimate:
    """Extend samples to all members. Pure.

    Args:
        cores: that render at a time; they decide how often the lease's heart beats.
    """
    train = _split(members, "train", prepare, train_sample)
    val = _split(members, "val", prepare, val_sample)
    count = train.num_images + val.num_images
    cpu_s = train.num_images * train_sample.cpu_an_image + val.num_images * val_sample.cpu_an_image
    beats = round(cpu_s / cores / LeaseTimings().beat_s)
    shards = train.num_shards + val.num_shards
    sums = train.num_shards * prepare.stored_px**2 * _SUM_BYTES
    written = train.size_bytes + val.size_bytes + sums + count * (_MEMBER_BYTES + _DIGEST_BYTES)
    return Estimate(
        train=train,
        val=val,
        read_bytes=int(members.table["size_bytes"].to_numpy().sum()),
        written_bytes=written,
        core_hours=cpu_s / 3600,
        read_requests=count,
        write_requests=shards * _PUTS_A_SHARD
        + _puts(train, prepare)
        + _puts(val, prepare)
        + _PUTS_AT_THE_END
        + beats * _REQUESTS_A_BEAT,
        num_sampled=train_sample.count + val_sample.count,
        num_rejected=train_sample.rejected + val_sample.rejected,
    )


def _split(
    members: Members, split: SplitName, prepare: PrepareSettings, sampled: Sampled
) -> SplitEstimate:
    count = len(members.of_split(split))
    size_bytes = round(count * sampled.bytes_an_image)
    return SplitEstimate(count, -(-count // prepare.rows_per_shard), size_bytes)


def _puts(split: SplitEstimate, prepare: PrepareSettings) -> int:
    """Count the requests that write shards: one, or as many as parts and two more."""
    per_image = split.size_bytes / max(1, split.num_images)
    full, rest = divmod(split.num_images, prepare.rows_per_shard)
    sizes: Sequence[tuple[int, int]] = ((full, prepare.rows_per_shard), (1 if rest else 0, rest))
    puts = 0
    for times, rows in sizes:
        parts = -(-round(rows * per_image) // PART_BYTES)
        puts += times * (parts + 2 if parts > 1 else 1)
    return puts
