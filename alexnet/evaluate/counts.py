"""Integers summed over images: who is right at 1 and at 5, per class, and taken for what. Pure."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alexnet.evaluate.rows import ViewRows

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Sums over images. The integers add exactly, in any order; `loss_sum` in float64."""

    correct5: int
    """Right at 5, or at all classes where there are fewer."""
    loss_sum: float
    class_counts: Ints
    """(classes,) images of each class."""
    class_correct1: Ints
    class_correct5: Ints
    confusion: Ints
    """(classes, classes): true, predicted."""

    @property
    def count(self) -> int:
        """Images in all."""
        return int(self.class_counts.sum())

    @property
    def correct1(self) -> int:
        """Images whose best class is the true one."""
        return int(self.class_correct1.sum())

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            correct5=self.correct5 + other.correct5,
            loss_sum=self.loss_sum + other.loss_sum,
            class_counts=self.class_counts + other.class_counts,
            class_correct1=self.class_correct1 + other.class_correct1,
            class_correct5=self.class_correct5 + other.class_correct5,
            confusion=self.confusion + other.confusion,
        )


def count_rows(labels: Ints, rows: ViewRows, num_classes: int) -> Counts:
    """Sum up some images' results."""
    right1, right5 = labels[rows.rank < 1], labels[rows.rank < min(5, num_classes)]
    pairs = np.bincount(labels * num_classes + rows.predicted, minlength=num_classes**2)
    return Counts(
        correct5=len(right5),
        loss_sum=math.fsum(rows.loss),  # exact: the same for any order of the rows
        class_counts=np.bincount(labels, minlength=num_classes),
        class_correct1=np.bincount(right1, minlength=num_classes),
        class_correct5=np.bincount(right5, minlength=num_classes),
        confusion=pairs.reshape(num_classes, num_classes),
    )
