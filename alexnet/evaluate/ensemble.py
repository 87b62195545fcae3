"""Several networks as one: the weighted average of their probabilities, and a search of weights.

What is averaged is what evaluations keep, probabilities rounded to float16. Weights are whole
parts, so that every weighted sum of them is exact in float64: counts depend neither on the order
of the members nor on the machine. Pure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from alexnet.evaluate.rows import ViewRows

GRID: Final = 20
"""Steps of a searched weight, from 0 to 1 by 0.05: as the release's `avg-valid.py`."""
MAX_PARTS: Final = 1 << 28
"""Sum of a mixture's parts: float16 below 1 are multiples of 2^-24, float64 has 53 bits."""
_FLOOR: Final = 2.0**-25
"""What a probability of 0 counts as in a loss: float16 rounds to 0 what is smaller."""
_ROWS: Final = 1024
"""Images that are compared at once: with 1,000 classes and 5 members 40 MB."""

Parts = tuple[int, ...]
"""A member's weight is its part of the sum."""
Probabilities = Sequence[npt.NDArray[np.float16]]
"""A member each, (n, classes), of the same images in the same order."""


def parts_of(weights: Sequence[Fraction]) -> Parts:
    """Turn weights into whole parts, of any sum.

    Raises:
        ValueError: one is negative, all are 0, or they have too many digits to be kept exactly.
    """
    if any(weight < 0 for weight in weights) or not any(weights):
        raise ValueError("weights are 0 or more, and not all 0")
    common = math.lcm(*(weight.denominator for weight in weights))
    whole = [int(weight * common) for weight in weights]
    parts = tuple(part // math.gcd(*whole) for part in whole)
    if sum(parts) > MAX_PARTS:
        raise ValueError("weights have too many digits: write four or so")
    return parts


@dataclass(frozen=True, slots=True)
class Tally:
    """What a mixture gets right of some images."""

    count: int
    correct1: int
    correct5: int
    """Right at 5, or at all classes where there are fewer."""
    loss: float
    """Mean of -ln p of the true class; p below 2^-25 counts as that."""

    @property
    def cost(self) -> tuple[int, int, float]:
        """What the search makes small: errors at 5, then at 1, then the loss."""
        return self.count - self.correct5, self.count - self.correct1, self.loss


@dataclass(frozen=True, slots=True, eq=False)
class Rivals:
    """All that weights can move: classes that some member ranks at or above the true one.

    Where every member gives a class less than the true one, so does every mixture. Of 1,000
    classes a few remain, so that a mixture is tallied in milliseconds.
    """

    num_classes: int
    own: npt.NDArray[np.float64]
    """(members, n) probability of the true class."""
    rows: npt.NDArray[np.int64]
    """(pairs,) of which image."""
    leads: npt.NDArray[np.float64]
    """(members, pairs) by how much a rival stands above the true class; exact."""
    lower: npt.NDArray[np.bool_]
    """(pairs,) whether the rival wins a tie: its label is lower."""

    @classmethod
    def of(cls, probabilities: Probabilities, labels: npt.NDArray[np.int64]) -> Self:
        """Find the rivals of each image's true class; `labels` is (n,)."""
        found = [
            _rivals_of([p[start : start + _ROWS] for p in probabilities], labels, start)
            for start in range(0, len(labels), _ROWS)
        ]
        own = [p[np.arange(len(labels)), labels].astype(np.float64) for p in probabilities]
        return cls(
            num_classes=probabilities[0].shape[1],
            own=np.stack(own),
            rows=np.concatenate([rows for rows, _, _ in found]),
            leads=np.concatenate([leads for _, leads, _ in found], axis=1),
            lower=np.concatenate([lower for _, _, lower in found]),
        )

    def of_images(self, chosen: npt.NDArray[np.int64]) -> Self:
        """Return those of some images only, (k,) ascending row numbers."""
        place = np.full(self.own.shape[1], -1)
        place[chosen] = np.arange(len(chosen))
        kept = place[self.rows] >= 0
        return type(self)(
            num_classes=self.num_classes,
            own=self.own[:, chosen],
            rows=place[self.rows[kept]],
            leads=self.leads[:, kept],
            lower=self.lower[kept],
        )

    def ranks(self, parts: Parts) -> npt.NDArray[np.int64]:
        """Count the classes that stand before each image's true one, (n,), in a mixture."""
        lead = np.array(parts, np.float64) @ self.leads
        before = (lead > 0) | ((lead == 0) & self.lower)
        return np.bincount(self.rows[before], minlength=self.own.shape[1])

    def losses(self, parts: Parts) -> npt.NDArray[np.float64]:
        """Return -ln p of each image's true class, (n,)."""
        share = np.array(parts, np.float64) @ self.own / sum(parts)
        return -np.log(np.maximum(share, _FLOOR))

    def tally(self, parts: Parts) -> Tally:
        """Count what a mixture gets right; at least one image."""
        ranks = self.ranks(parts)
        return Tally(
            count=len(ranks),
            correct1=int((ranks < 1).sum()),
            correct5=int((ranks < min(5, self.num_classes)).sum()),
            loss=math.fsum(self.losses(parts)) / len(ranks),
        )


def _rivals_of(
    probabilities: Probabilities, labels: npt.NDArray[np.int64], start: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    labels = labels[start : start + len(probabilities[0])]
    exact = np.stack([p.astype(np.float64) for p in probabilities])
    leads = exact - exact[:, np.arange(len(labels)), labels][:, :, None]
    near: npt.NDArray[np.bool_] = np.any(leads >= 0, axis=0)
    near[np.arange(len(labels)), labels] = False
    rows, classes = np.nonzero(near)
    return rows + start, leads[:, rows, classes], classes < labels[rows]


def search_weights(rivals: Rivals) -> Parts:
    """Search the weights with the least error at 5; ties by the error at 1, then by the loss.

    From equal weights: each member in turn, in the order given, takes the weight of the grid that
    is best while the others stay as they are, until a whole round moves none. So the result is
    never worse than equal weights. It fits the images it was searched on: judge it by others.

    Source: the release's `avg-valid.py`: by coordinates, step 0.05, judged by top-5. Where it
    starts and how ties are broken is ours.
    """
    parts = [GRID // 2] * len(rivals.own)
    best = rivals.tally(tuple(parts)).cost
    moved = True
    while moved:
        moved = False
        for member in range(len(parts)):
            for part in range(GRID + 1):
                tried = (*parts[:member], part, *parts[member + 1 :])
                cost = rivals.tally(tried).cost if any(tried) else best
                if cost < best:
                    best, parts, moved = cost, list(tried), True
    return parts_of([Fraction(part) for part in parts])


def mix(
    probabilities: Probabilities, labels: npt.NDArray[np.int64], parts: Parts, rivals: Rivals
) -> ViewRows:
    """Average the members: what an evaluation would keep of a network that gives the average.

    `top5` and `rank` are of the exact average, which is then rounded to float16.
    """
    top5, rounded = [], []
    for start in range(0, len(labels), _ROWS):
        total = np.zeros((len(labels[start : start + _ROWS]), rivals.num_classes))
        for part, of_member in zip(parts, probabilities, strict=True):
            total += part * of_member[start : start + _ROWS].astype(np.float64)
        best = np.argsort(-total, axis=1, kind="stable")[:, :5]  # ties: the lower class
        top5.append(best.astype(np.int32))
        rounded.append((total / sum(parts)).astype(np.float16))
    return ViewRows(
        top5=np.concatenate(top5),
        rank=rivals.ranks(parts).astype(np.int32),
        loss=rivals.losses(parts),
        probabilities=np.concatenate(rounded),
    )
