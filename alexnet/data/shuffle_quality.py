"""How well are classes mixed? Entropy of the classes in what is read, and learned from, together.

A group of n rows of a uniform shuffle does not hold all classes equally often either, so every
figure stands beside that of the same labels shuffled uniformly and cut at the same places.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from alexnet.data.order import Ints, Order

SHUFFLES: Final = 5
"""Uniform shuffles that are averaged over: a handful, for shards may be few."""


@dataclass(frozen=True, slots=True)
class Mixing:
    """Entropy of the classes, in bits, over groups of rows."""

    num_groups: int
    mean_bits: float
    least_bits: float
    """Of the group that is mixed worst."""
    uniform_mean_bits: float
    uniform_least_bits: float

    @property
    def ratio(self) -> float:
        """The mean over that of a uniform shuffle; 1 where no rows have any entropy."""
        return self.mean_bits / self.uniform_mean_bits if self.uniform_mean_bits else 1.0


def mixing_of(labels: Ints, group_of: Ints, *, seed: int = 0) -> Mixing:
    """Compare the groups that rows lie in with those of a uniform shuffle.

    Args:
        labels: (rows,), not negative.
        group_of: (rows,), the number of each row's group, from 0, none empty.
        seed: of the shuffles.
    """
    rng = np.random.default_rng(seed)
    found = entropies(labels, group_of)
    uniform = [entropies(rng.permutation(labels), group_of) for _ in range(SHUFFLES)]
    return Mixing(
        num_groups=len(found),
        mean_bits=float(found.mean()),
        least_bits=float(found.min()),
        uniform_mean_bits=float(np.mean([bits.mean() for bits in uniform])),
        uniform_least_bits=float(np.mean([bits.min() for bits in uniform])),
    )


def entropies(labels: Ints, group_of: Ints) -> npt.NDArray[np.float64]:
    """Return the entropy of the classes in each group, in bits, (groups,)."""
    num_classes = int(labels.max()) + 1
    cells, counts = np.unique(group_of * num_classes + labels, return_counts=True)
    sizes = np.bincount(group_of)
    sums = np.bincount(cells // num_classes, weights=counts * np.log2(counts))
    return np.log2(sizes) - sums / sizes


def batch_of_rows(order: Order, epoch: int = 0) -> Ints:
    """Return the step of an epoch whose global batch has each row, rows counted over all shards."""
    starts = np.cumsum([0, *order.layout.shard_rows])
    steps = np.empty(order.layout.num_rows, np.int64)
    for step in range(order.steps_per_epoch):
        rows = order.batch(epoch, step)
        steps[starts[rows[:, 0]] + rows[:, 1]] = step
    return steps
