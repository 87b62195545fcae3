"""Stage 3 of 11, plan: which member goes into which shard, in which order. Pure.

A sample's id is its place in the order of sha256(seed/split/name): it depends on the names in the
split and the seed, not on how an archive happens to be ordered.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from preprocessing.sources.members import Members, SplitName


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedShard:
    """The members of one shard in the order of their sample ids, start to stop (exclusive)."""

    split: SplitName
    number: int
    num_shards: int
    start: int
    members: Members

    @property
    def stop(self) -> int:
        """One past the last sample id."""
        return self.start + len(self.members)

    @property
    def path(self) -> str:
        """Where the shard's file goes, below the dataset's folder."""
        return f"{self.split}/part-{self.number:05}-of-{self.num_shards:05}.parquet"

    @property
    def receipt_path(self) -> str:
        """Where its receipt goes while the dataset is being built."""
        return f"_build/{self.split}-{self.number:05}.json"


def plan_split(
    members: Members, split: SplitName, *, seed: int, rows_per_shard: int
) -> tuple[PlannedShard, ...]:
    """Cut the keyed order of one split's members into shards; all but the last are full.

    Args:
        members: of any splits, with names that are unique in each.
    """
    return tuple(iter_shards(members, split, seed=seed, rows_per_shard=rows_per_shard))


def iter_shards(
    members: Members, split: SplitName, *, seed: int, rows_per_shard: int, first: int = 0
) -> Iterator[PlannedShard]:
    """Plan as `plan_split` does, from shard `first` on: each one's members are taken when asked."""
    ours = members.of_split(split)
    order = keyed_order(ours.names(), f"{seed}/{split}")
    starts = range(0, len(order), rows_per_shard)
    for number in range(first, len(starts)):
        start = starts[number]
        yield PlannedShard(
            split=split,
            number=number,
            num_shards=len(starts),
            start=start,
            members=ours.take(order[start : start + rows_per_shard]),
        )


def keyed_order(names: Sequence[str], key: str) -> npt.NDArray[np.int64]:
    """Positions in `names` by ascending sha256(key/name): a permutation."""
    digests = b"".join(hashlib.sha256(f"{key}/{name}".encode()).digest() for name in names)
    words = np.frombuffer(digests, dtype=">u8").reshape(-1, 4)
    return np.lexsort((words[:, 3], words[:, 2], words[:, 1], words[:, 0])).astype(np.int64)
