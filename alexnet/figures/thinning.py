"""Which of many things to show: ends kept, the rest evenly, a curve's peaks and dips among them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from infra.tracking.points import MetricPoint

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One number over a training, by ascending step."""

    steps: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.steps)


def curve_of(points: Iterable[MetricPoint]) -> Curve:
    """Order one metric's points by step; what is no finite number is left out."""
    ordered = sorted((point.step, point.value) for point in points)
    steps = np.array([step for step, _ in ordered], np.int64)
    values = np.array([value for _, value in ordered], np.float64)
    finite = np.isfinite(values)
    return Curve(steps[finite], values[finite])


def thinned(curve: Curve, at_most: int) -> Curve:
    """Keep at most so many points (four or more): the ends, and of each stretch least and greatest.

    Means would hide what one looks for in a curve of 45,000 points: a spike of a single step.
    """
    if len(curve) <= at_most:
        return curve
    stretches = np.array_split(np.arange(1, len(curve) - 1), at_most // 2 - 1)
    kept = {0, len(curve) - 1}
    for stretch in stretches:
        values = curve.values[stretch]
        kept |= {int(stretch[values.argmin()]), int(stretch[values.argmax()])}
    rows = sorted(kept)
    return Curve(curve.steps[rows], curve.values[rows])


def smoothed(curve: Curve, stretches: int) -> Curve:
    """Return the median of each of so many stretches, at its middle step."""
    parts = [part for part in np.array_split(np.arange(len(curve)), stretches) if len(part)]
    return Curve(
        np.array([curve.steps[part[len(part) // 2]] for part in parts], np.int64),
        np.array([np.median(curve.values[part]) for part in parts], np.float64),
    )


def evenly(items: Sequence[Item], at_most: int) -> list[Item]:
    """Choose at most so many (two or more): the first, the last, and evenly between them."""
    if len(items) <= at_most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (at_most - 1))] for i in range(at_most)]
